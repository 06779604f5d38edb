"""The answers that `syncd init` needs, and the files it writes from them."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from syncd.config.load import load, validation_messages
from syncd.config.model import Settings
from syncd.config.render import initial_config, initial_link
from syncd.config.service_places import ServicePlaces, service_places
from syncd.config.service_settings import DEFAULT_STATE
from syncd.config.sources import Values
from syncd.config.urls import count_from, parse_database_url
from syncd.errors import ConfigError, UsageError

CREDENTIALS = "credentials"
"""The folder beside the configuration that secrets go to, each in a file of its own."""


@dataclass(slots=True)
class Answers:
    """Everything a link needs.

    Args:
        path: The configuration, which relative SQLite paths count from.
        adds: The configuration is there already, and gets another link.
        link: The link's name.
        webhook: The URL of the portal's webhook; a secret.
        webhook_file: A file that holds it already, which the configuration is to name.
        table_url: The URL of the table's database; perhaps a secret.
        table_url_file: Likewise.
        table: The table's name.
        columns: As `columns` takes it.
        deleted, touched: Optional columns.
        direction, schedule: As their keys take them.
        owner_type_names: The owner types that the portal names, by number.
        state: The URL of the state database; empty for the default of this place.
        state_file: A file that holds it, which the configuration is to name.
    """

    path: Path = Path("syncd.toml")
    adds: bool = False
    link: str = "shop"
    webhook: str = field(default="", repr=False)
    webhook_file: Path | None = None
    table_url: str = field(default="", repr=False)
    table_url_file: Path | None = None
    table: str = ""
    columns: dict[str, str | int] = field(default_factory=dict)
    deleted: str = ""
    touched: str = ""
    direction: str = "two-way"
    schedule: str = "5m"
    owner_type_names: dict[int, str] = field(default_factory=dict)
    state: str = field(default="", repr=False)
    state_file: Path | None = None

    @property
    def service(self) -> ServicePlaces | None:
        """The service that the configuration is for, if it lies in /etc/syncd."""
        return service_places(self.path)

    @property
    def state_url(self) -> str:
        """The URL of the state database: the one that was given, or the place of this configuration's own."""
        return self.state or (DEFAULT_STATE if self.service is None else self.service.state_url)


def reachable(answers: Answers) -> str:
    """Given the answers, return the table's URL as it means something before the configuration is there."""
    return count_from(answers.table_url, answers.path.parent)


def check(answers: Answers) -> None:
    """Make sure that the answers are a configuration.

    Raises:
        ConfigError: They are not, with every problem.
    """
    link: dict[str, Any] = {
        "direction": answers.direction,
        "owner_types": owner_types(answers),
        "portal": {"webhook": answers.webhook},
        "table": {"url": answers.table_url, "name": answers.table, "columns": answers.columns}
        | {key: value for key, value in (("deleted", answers.deleted), ("touched", answers.touched)) if value},
    }
    if answers.schedule:
        link["schedule"] = answers.schedule
    problems: list[str] = []
    try:
        Settings.model_validate({"state": {"url": answers.state_url}, "links": {answers.link: link}})
    except ValidationError as error:
        problems = validation_messages(error, Values())
    if problems:  # raised out here so that no cause, which carries the input, hangs on it
        raise ConfigError("That is not a configuration; nothing was written.", problems=tuple(problems))


def owner_types(answers: Answers) -> list[int]:
    """Given the answers, return the owner types in scope: the constant one, or deals."""
    constant = answers.columns.get("owner_type_id")
    return [constant] if isinstance(constant, int) else [2]


def obstacle(answers: Answers) -> str:
    """Given the answers so far, return which file of their link exists already; empty if none does."""
    return next((f"{file} is there already" for file in secret_files(answers).values() if file.exists()), "")


def write(answers: Answers) -> list[Path]:
    """Write the configuration, and each secret to a file of its own; return all files, the configuration first.

    Raises:
        UsageError: One of the files is there already; nothing was written.
        ConfigError: They cannot be written, or the configuration would be none; nothing was written.
    """
    path = answers.path
    secrets = dict(_secrets(answers))
    for file in (*secrets, *([] if answers.adds else [path])):
        if file.exists():
            raise UsageError(
                f"{file} already exists, and `syncd init` never overwrites; nothing was written.",
                hint="Name another file with --config, or move this one away.",
            )
    written: list[Path] = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for file, secret in secrets.items():
            file.parent.mkdir(mode=0o700, exist_ok=True)
            _create(file, secret + "\n")
            written.append(file)
        if answers.adds:
            _append(path.resolve(), initial_link(answers.link, _chosen(answers)))
        else:
            _create(path, initial_config(answers.link, _chosen(answers)), beside=answers.service is not None)
    except OSError as error:
        _take_back(written)
        raise ConfigError(f"{error.filename} cannot be written: {error.strerror}; nothing was written.") from None
    except ConfigError:
        _take_back(written)
        raise
    return [path, *secrets]


def secret_files(answers: Answers) -> dict[str, Path]:
    """Given the answers, return the file of each secret, by its key, whether it is needed or not.

    A service gets its secrets as credentials, which are files named by the keys they set; elsewhere a key names them.
    """
    at = f"links.{answers.link}"
    service, folder = answers.service, answers.path.parent / CREDENTIALS
    if service is not None:
        named = (f"{at}.portal.webhook", f"{at}.table.url", "state.url")
        return {key: service.credentials / key.replace(".", "__") for key in named}
    return {
        f"{at}.portal.webhook": folder / f"{answers.link}-webhook",
        f"{at}.table.url": folder / f"{answers.link}-database",
    }


def is_secret(url: str) -> bool:
    """Given a database URL, return whether it holds a password, or may hold one in its arguments."""
    parts = parse_database_url(url)
    return bool(parts.password or parts.query)


def _secrets(answers: Answers) -> Iterator[tuple[Path, str]]:
    """Yield the files of secrets to write; a secret that is in a file already stays there, where that can be read."""
    files, stays = secret_files(answers), answers.service is None
    at = f"links.{answers.link}"
    if not (stays and answers.webhook_file):
        yield files[f"{at}.portal.webhook"], answers.webhook
    if not (stays and answers.table_url_file) and is_secret(answers.table_url):
        yield files[f"{at}.table.url"], answers.table_url
    if not stays and is_secret(answers.state_url):
        yield files["state.url"], answers.state_url


def _chosen(answers: Answers) -> dict[str, Any]:
    """Return what the configuration says, by dotted key. Credentials are not named in it."""
    at = f"links.{answers.link}"
    is_service = answers.service is not None
    chosen: dict[str, Any] = {
        f"{at}.direction": answers.direction,
        f"{at}.on_conflict": "hold",
        f"{at}.first_sync": "ask",
        f"{at}.owner_types": owner_types(answers),
        f"{at}.table.name": answers.table,
        f"{at}.table.columns": answers.columns,
    }
    if answers.schedule:
        chosen[f"{at}.schedule"] = answers.schedule
    for key, value in (("deleted", answers.deleted), ("touched", answers.touched)):
        if value:
            chosen[f"{at}.table.{key}"] = value
    plain = {f"{at}.table.url": answers.table_url, "state.url": answers.state_url}
    in_files = {
        f"{at}.portal.webhook": (answers.webhook_file, f"{answers.link}-webhook", True),
        f"{at}.table.url": (answers.table_url_file, f"{answers.link}-database", is_secret(answers.table_url)),
        "state.url": (answers.state_file, "", False),
    }
    for key, (file, name, hidden) in in_files.items():
        if is_service and (hidden or is_secret(plain[key])):
            continue
        if not is_service and (hidden or file is not None):
            chosen[f"{key}_file"] = _named(file, answers.path.parent) or f"{CREDENTIALS}/{name}"
        else:
            chosen[key] = plain[key]
    return chosen


def _named(file: Path | None, folder: Path) -> str:
    """A file as the configuration names it: beside itself where it lies there, else by its whole path."""
    if file is None:
        return ""
    whole = file.absolute()
    beside = folder.absolute()
    return str(whole.relative_to(beside)) if whole.is_relative_to(beside) else str(whole)


def _create(path: Path, text: str, *, beside: bool = False) -> None:
    """Create a file that must not exist yet, with the final permissions from the start.

    With `beside`, the group of its folder may read it: a service reads its configuration so.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        if beside:
            os.fchown(descriptor, -1, path.parent.stat().st_gid)
            os.fchmod(descriptor, 0o640)
        file.write(text)


def _append(path: Path, text: str) -> None:
    """Append to the configuration: a power cut leaves the file as it was, or whole; what was in it stays as it was.

    Raises:
        ConfigError: The whole would be no configuration.
    """
    before, info = path.read_text(encoding="utf-8"), path.stat()
    whole = f"{before}{'' if before.endswith(chr(10)) else chr(10)}\n{text}"
    load(path, os.environ, secrets=False, text=whole)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchown(descriptor, info.st_uid, info.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(info.st_mode) & 0o640)
            file.write(whole)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _take_back(files: list[Path]) -> None:
    for file in files:
        with suppress(OSError):
            file.unlink()
