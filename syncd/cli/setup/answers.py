"""What `syncd init` has to know, and the files it writes from that."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from syncd.config.endpoints import parse_database_url
from syncd.config.model import Settings
from syncd.config.problems import sentences
from syncd.config.render import filled
from syncd.config.values import Values
from syncd.errors import ConfigError, UsageError

CREDENTIALS = "credentials"
"""The folder beside the configuration that secrets go to, each in a file of its own."""


@dataclass(slots=True)
class Answers:
    """Everything a first configuration needs.

    Args:
        link: The link's name.
        webhook: The URL of the portal's webhook; a secret.
        webhook_file: A file that holds it already, which the configuration is to name.
        table_url: The URL of the table's database; perhaps a secret.
        table_url_file: Likewise.
        table: The table's name.
        columns: As `columns` takes it.
        deleted, touched: Optional columns.
        direction, schedule, state: As their keys take them.
    """

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
    state: str = "sqlite:///syncd.db"


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
        Settings.model_validate({"state": {"url": answers.state}, "links": {answers.link: link}})
    except ValidationError as error:
        problems = sentences(error, Values())
    if problems:  # raised out here so that no cause, which carries the input, hangs on it
        raise ConfigError("That is not a configuration; nothing was written.", problems=tuple(problems))


def owner_types(answers: Answers) -> list[int]:
    """Given the answers, return the owner types in scope: the constant one, or deals."""
    constant = answers.columns.get("owner_type_id")
    return [constant] if isinstance(constant, int) else [2]


def write(answers: Answers, path: Path) -> list[Path]:
    """Write the configuration, and each secret to a file of its own; return all files, the configuration first.

    Raises:
        UsageError: One of the files is there already; nothing was written.
        ConfigError: They cannot be written.
    """
    secrets = dict(_secrets(answers, path.parent))
    for file in (path, *secrets):
        if file.exists():
            raise UsageError(
                f"{file} is there already, and `syncd init` never overwrites; nothing was written.",
                hint="Name another file with --config, or move this one away.",
            )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for file, secret in secrets.items():
            file.parent.mkdir(mode=0o700, exist_ok=True)
            _create(file, secret + "\n", 0o600)
        _create(path, filled(answers.link, _chosen(answers, path.parent)), 0o644)
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be written: {error.strerror}.") from None
    return [path, *secrets]


def _secrets(answers: Answers, folder: Path) -> Iterator[tuple[Path, str]]:
    if answers.webhook_file is None:
        yield folder / CREDENTIALS / f"{answers.link}-webhook", answers.webhook
    if answers.table_url_file is None and is_secret(answers.table_url):
        yield folder / CREDENTIALS / f"{answers.link}-database", answers.table_url


def is_secret(url: str) -> bool:
    """Given a database URL, return whether it holds a password, or may hold one in its arguments."""
    parts = parse_database_url(url)
    return bool(parts.password or parts.query)


def _chosen(answers: Answers, folder: Path) -> dict[str, Any]:
    at = f"links.{answers.link}"
    chosen: dict[str, Any] = {
        "state.url": answers.state,
        f"{at}.direction": answers.direction,
        f"{at}.on_conflict": "hold",
        f"{at}.first_sync": "ask",
        f"{at}.owner_types": owner_types(answers),
        f"{at}.portal.webhook_file": _named(answers.webhook_file, folder) or f"{CREDENTIALS}/{answers.link}-webhook",
        f"{at}.table.name": answers.table,
        f"{at}.table.columns": answers.columns,
    }
    if answers.schedule:
        chosen[f"{at}.schedule"] = answers.schedule
    if answers.table_url_file is not None or is_secret(answers.table_url):
        named = _named(answers.table_url_file, folder) or f"{CREDENTIALS}/{answers.link}-database"
        chosen[f"{at}.table.url_file"] = named
    else:
        chosen[f"{at}.table.url"] = answers.table_url
    for key, value in (("deleted", answers.deleted), ("touched", answers.touched)):
        if value:
            chosen[f"{at}.table.{key}"] = value
    return chosen


def _named(file: Path | None, folder: Path) -> str:
    """A file as the configuration names it: beside itself where it lies there, else by its whole path."""
    if file is None:
        return ""
    whole = file.absolute()
    beside = folder.absolute()
    return str(whole.relative_to(beside)) if whole.is_relative_to(beside) else str(whole)


def _create(path: Path, text: str, mode: int) -> None:
    """Create a file that must not be there yet, readable by nobody it is not meant for, not even for a moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
