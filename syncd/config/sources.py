"""The sources of values, lowest first: the file, the credentials directory, the environment, flags; then secret files.

Their values are kept raw, nested as in the file, each with its origin.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, get_args

from syncd.config import keys
from syncd.config.file_trust import refuse_untrusted
from syncd.config.service_places import service_places
from syncd.errors import ConfigError

SEARCHED = (Path("syncd.toml"), Path("/etc/syncd/syncd.toml"))
_PREFIX = "SYNCD_"
CONFIG = "SYNCD_CONFIG"
_OF_OTHERS = re.compile(r"SYNCD_(TEST_\w+|(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)\w*)?))")
"""Variables of Kubernetes for services whose names begin with syncd, and those of syncd's tests."""
_SEPARATOR = "__"
_BYTE_ORDER_MARK = "\ufeff"
"""What editors of Windows write before the text; to a secret, it would be a character of it that nobody sees."""
_LARGEST_SECRET = 64 * 1024
_FROM_FOLDER = "syncd_"
"""The prefix that systemd gives to the files of a folder: `LoadCredential=syncd:/etc/syncd/credentials`."""


class Source(StrEnum):
    """The kinds of sources."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    CREDENTIAL = "credential"
    FILE = "file"
    SECRET_FILE = "secret file"  # noqa: S105 the name of a source, not a secret
    DEFAULT = "default"


class Origin(NamedTuple):
    """The origin of a value: its source, and the name of the flag, variable, credential or file."""

    source: Source
    name: str = ""

    def __str__(self) -> str:
        return f"{self.source} {self.name}" if self.name else str(self.source)


DEFAULT = Origin(Source.DEFAULT)


@dataclass(slots=True)
class Values:
    """The merged values of all sources.

    Args:
        tree: Nested tables, for the validation of the settings.
        origins: The origin of each value that is not a table.
        problems: Sentences about problems of the sources themselves, each with its key.
        missing: Sentences about secrets that could not be read. Commands that do not need them continue.
    """

    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[keys.Path, Origin] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def put(self, path: keys.Path, value: Any, origin: Origin) -> None:
        """Set a value, over those of lower sources.

        A secret also replaces a lower source's `_file` key for it, and vice versa, so that each source can use either
        form. Both in one source are kept, and refused later.
        """
        if isinstance(value, dict) and value:
            if origin.source is not Source.FILE:
                self.remove(path)
            for key, inner in value.items():
                self.put((*path, key), inner, origin)
            return
        other = keys.counterpart(path)
        if other is not None and self.origins.get(other, origin).source is not origin.source:
            self.remove(other)
        self.remove(path)
        table = self.tree
        for part in path[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                return  # a lower source has a plain value instead of a table, which is reported later
        table[path[-1]] = value
        self.origins[path] = origin

    def remove(self, path: keys.Path) -> None:
        """Remove a value or a whole table."""
        table = keys.value_at(self.tree, path[:-1])
        if isinstance(table, dict):
            table.pop(path[-1], None)
        for known in [known for known in self.origins if known[: len(path)] == path]:
            del self.origins[known]

    def origin_note(self, path: keys.Path) -> str:
        """Given the path of a value or of something in it, return ` (environment SYNCD_X)` or the like.

        Empty for values of the configuration file.
        """
        for length in range(len(path), 0, -1):
            origin = self.origins.get(path[:length])
            if origin is not None and origin.source is not Source.FILE:
                return f" ({origin})"
        return ""


def find_file(named: Path | None, environ: Mapping[str, str], searched: Sequence[Path] = SEARCHED) -> Path:
    """Return the configuration file: the one named by flag or `$SYNCD_CONFIG`, else the first that exists.

    Raises:
        ConfigError: The named file does not exist, no file exists, or the one that was found is not trusted.
    """
    by = "--config"
    if named is None and environ.get(CONFIG):
        named, by = Path(environ[CONFIG]), CONFIG
    if named is not None:
        if not _exists(named):
            raise ConfigError(f"There is no file {named}, which {by} names.", hint="syncd init writes one.")
        return named
    for path in searched:
        if _exists(path):
            refuse_untrusted(path)
            return path
    places = ", ".join(map(str, searched))
    raise ConfigError(
        f"There is no configuration: neither --config nor $SYNCD_CONFIG is given, and none of these exists: {places}.",
        hint="syncd init writes one; syncd demo needs none.",
    )


def _exists(path: Path) -> bool:
    """Return whether a file exists.

    Raises:
        ConfigError: This user may not read its folder.
    """
    try:
        path.stat()
    except PermissionError:
        hint = "Run the command with sudo, or as a user who may read it."
        raise ConfigError(f"This user may not look into {path.parent}, so {path} was not read.", hint=hint) from None
    except OSError:
        return False
    return True


def read_file(path: Path, values: Values, text: str | None = None, *, named: bool = True) -> None:
    """Add the values of a TOML file.

    Args:
        path: The file.
        values: They are added to these.
        text: The content that the file will have; None reads it.
        named: The operator named the file. Otherwise the opened file is checked again (see `file_trust`).

    Raises:
        ConfigError: It cannot be read, is not TOML, or is not trusted. Nothing else is checked then.
    """
    problem = ""
    tree: dict[str, Any] = {}
    try:
        tree = tomllib.loads((_text_of(path, named=named) if text is None else text).removeprefix(_BYTE_ORDER_MARK))
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 text (at byte {error.start})"
    except ValueError as error:  # TOMLDecodeError, or an integer of thousands of digits
        problem = f"is not valid TOML: {error}"
    if problem:  # raised here so that it has no cause, which would carry the file's text
        raise ConfigError(f"The configuration {path} cannot be used.", problems=(f"{path}: {problem}",))
    for key, value in tree.items():
        values.put((key,), value, Origin(Source.FILE, str(path)))


def _text_of(path: Path, *, named: bool) -> str:
    with path.open("rb") as file:
        if not named:
            refuse_untrusted(path, opened=os.fstat(file.fileno()))
        return file.read().decode()


def read_credentials(file: Path, environ: Mapping[str, str], values: Values) -> None:
    """Add the values of credentials: a file `links__shop__portal__webhook` for each.

    They are in `$CREDENTIALS_DIRECTORY`. Without it, a configuration in /etc/syncd has those of its service: the loaded
    ones, and over them the files that these are made from, which may be newer. A user who may not read the service's
    folders gets none of them.

    Files without `__` in their names belong to other programs and are ignored.
    """
    named = environ.get("CREDENTIALS_DIRECTORY")
    service = None if named else service_places(file)
    folders = [Path(named)] if named else [] if service is None else [service.loaded, service.credentials]
    for folder in folders:
        try:
            found = sorted(one for one in folder.iterdir() if _SEPARATOR in one.name)
        except OSError as error:
            if named:
                values.problems.append(f"{folder}: the credentials directory cannot be read: {error.strerror}")
            continue
        for one in found:
            if not named and not os.access(one, os.R_OK, effective_ids=True):
                continue
            name = one.name.removeprefix(_FROM_FOLDER)
            origin = Origin(Source.CREDENTIAL, name)
            try:
                _put_text(name, read_secret(one), origin, values)
            except ValueError as error:
                values.problems.append(f"{name}: {error} ({origin})")


def read_environment(environ: Mapping[str, str], values: Values) -> None:
    """Add the values of the variables `SYNCD_SECTION__KEY`.

    Other variables with this prefix are errors, unless syncd itself or Kubernetes sets them: they are misspelt, and
    would silently have no effect.
    """
    for name in sorted(environ):
        if not name.startswith(_PREFIX):
            continue
        if _SEPARATOR in name:
            _put_text(name.removeprefix(_PREFIX), environ[name], Origin(Source.ENVIRONMENT, name), values)
        elif name != CONFIG and not _OF_OTHERS.fullmatch(name):
            values.problems.append(f"{name}: is not a variable of syncd{_variable_meant(name, values.tree)}")


def _variable_meant(name: str, tree: Mapping[str, Any]) -> str:
    """Given a misspelt variable, return a hint: most often `_` is written instead of `__`."""
    links = tree.get("links")
    paths = keys.plain_keys(list(links) if isinstance(links, dict) else [])
    known = ["CONFIG", *(_SEPARATOR.join(map(_loosely, path)) for path in paths)]
    typed = name.removeprefix(_PREFIX).upper()
    near = [one for one in known if one.replace(_SEPARATOR, "_") == typed] or get_close_matches(typed, known, n=1)
    return f"; did you mean {_PREFIX}{near[0]}?" if near else "; SYNCD_SECTION__KEY sets a key"


def read_flags(flags: Mapping[str, Any], values: Values) -> None:
    """Add the values of flags, by dotted key: `log.level` is the value of `--log-level`."""
    for key, value in flags.items():
        if value is not None:
            flag = "--" + key.replace(".", "-").replace("_", "-")
            values.put(tuple(key.split(".")), value, Origin(Source.FLAG, flag))


def read_secret_files(values: Values, directory: Path) -> None:
    """Replace each `_file` key by the secret in its file. Relative paths count from `directory`."""
    for path in list(values.origins):
        secret, name = keys.counterpart(path), keys.value_at(values.tree, path)
        if secret is None or not path[-1].endswith("_file") or secret in values.origins or not isinstance(name, str):
            continue
        file = directory / name
        try:
            text = read_secret(file)
        except ValueError as error:
            # The name is not repeated, since it may be a secret that was pasted here.
            counts = "" if Path(name).is_absolute() else f"; relative names count from {directory.absolute()}"
            problem = f"{keys.dotted(path)}: the file it names {error}{counts}{values.origin_note(path)}"
            # Every command opens the state database, but not every one needs the other secrets.
            (values.problems if path[0] == "state" and path[-1] != "key_file" else values.missing).append(problem)
            continue
        values.remove(path)
        values.put(secret, text, Origin(Source.SECRET_FILE, str(file)))


def read_secret(file: Path) -> str:
    """Given a file, return its text without a byte order mark, and without white space at the end.

    Raises:
        ValueError: It cannot be read, is not text, is empty or too large. The sentence does not name the file.
    """
    try:
        with file.open("rb") as opened:
            raw = opened.read(_LARGEST_SECRET + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    text = raw.decode(errors="replace").removeprefix(_BYTE_ORDER_MARK).rstrip()
    if len(raw) > _LARGEST_SECRET:
        raise ValueError(f"is larger than {_LARGEST_SECRET // 1024} KiB, so it is hardly one secret")
    if "\ufffd" in text:
        raise ValueError("is not UTF-8 text")
    if not text:
        raise ValueError("is empty")
    return text


def _put_text(name: str, text: str, origin: Origin, values: Values) -> None:
    try:
        path = _resolve(name.split(_SEPARATOR), values.tree)
    except _NotASetting as error:
        values.problems.append(f"{error} ({origin})")
    else:
        values.put(path, _typed(text, keys.annotation_at(path)), origin)


class _NotASetting(Exception):
    """A name that is not a key; its text is the sentence for the operator."""


def _resolve(parts: list[str], tree: Mapping[str, Any]) -> keys.Path:
    """Given the parts of a name in any case, return the path of its key."""
    path: keys.Path = ()
    while parts:
        annotation = keys.annotation_at(path)
        if keys.table_of(annotation) is not None:
            key, parts = parts[0].lower(), parts[1:]
            if key not in keys.known_keys(path):
                raise _unknown((*path, key), keys.known_keys(path))
        elif path == ("links",):
            key, parts = _resolve_link(parts, tree)
        elif keys.values_of(annotation) is not None:
            key, parts = _SEPARATOR.join(parts).lower(), []
        else:
            raise _unknown((*path, parts[0].lower()), [])
        path = (*path, key)
    if keys.table_of(keys.annotation_at(path)) is not None or path == ("links",):
        raise _NotASetting(f"{keys.dotted(path)}: is a table; name one of its keys")
    return path


def _resolve_link(parts: list[str], tree: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Given what follows `LINKS__`, return the link of the file it names, and the rest.

    Names of variables have no lower case by convention and cannot have `-`, so both are matched loosely. A link's name
    may contain `__`.
    """
    links = tree.get("links")
    names = list(links) if isinstance(links, dict) else []
    for length in range(len(parts), 0, -1):
        wanted = _loosely(_SEPARATOR.join(parts[:length]))
        found = [name for name in names if _loosely(name) == wanted]
        if len(found) > 1:
            raise _NotASetting(f"links.{found[0]}: the name matches {' and '.join(found)}; set it in the file")
        if found:
            return found[0], parts[length:]
    raise _unknown(("links", parts[0].lower()), names, "the file has no such link")


def _loosely(name: str) -> str:
    return name.upper().replace("-", "_")


def _unknown(path: keys.Path, candidates: Sequence[str], what: str = "unknown key") -> _NotASetting:
    return _NotASetting(f"{keys.dotted(path)}: {what}{did_you_mean(path[-1], candidates)}")


def did_you_mean(key: str, candidates: Sequence[str]) -> str:
    """Given a misspelt name, return `; did you mean …?`, or an empty text if no candidate is similar."""
    near = get_close_matches(key, candidates, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _typed(text: str, annotation: Any) -> Any:
    """Given a text and the annotation of its key, parse lists, tables and numbers; pydantic converts the rest."""
    if keys.is_collection(annotation) or (keys.may_be_collection(annotation) and text.lstrip()[:1] in {"[", "{"}):
        return _parsed(text)
    if {str, int} <= set(get_args(annotation)) and text.isascii() and text.isdigit():
        return int(text)
    return text


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, KeyError):
        return text  # reported by the check of the key
