"""Where values come from: the file, the credentials directory, the environment, flags; lowest first."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from syncd.config import keys
from syncd.config.values import Origin, Source, Values
from syncd.errors import ConfigError

SEARCHED = (Path("syncd.toml"), Path("/etc/syncd/syncd.toml"))
_PREFIX = "SYNCD_"
_SEPARATOR = "__"
_LARGEST_SECRET = 64 * 1024


def find_file(named: Path | None, environ: Mapping[str, str], searched: Sequence[Path] = SEARCHED) -> Path:
    """Return the configuration file: the one named by flag or `$SYNCD_CONFIG`, else the first that exists.

    Raises:
        ConfigError: The named file does not exist, or there is none.
    """
    by = "--config"
    if named is None and environ.get("SYNCD_CONFIG"):
        named, by = Path(environ["SYNCD_CONFIG"]), "SYNCD_CONFIG"
    if named is not None:
        if not named.exists():
            raise ConfigError(f"There is no file {named}, which {by} names.", hint="syncd init writes one.")
        return named
    for path in searched:
        if path.exists():
            return path
    places = ", ".join(map(str, searched))
    raise ConfigError(
        f"There is no configuration: neither --config nor $SYNCD_CONFIG is given, and none of these exists: {places}.",
        hint="syncd init writes one; syncd demo needs none.",
    )


def read_file(path: Path, values: Values) -> None:
    """Put the values of a TOML file.

    Raises:
        ConfigError: It cannot be read, or is not TOML. Nothing else is worth checking then.
    """
    problem = ""
    tree: dict[str, Any] = {}
    try:
        tree = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 text (at byte {error.start})"
    except ValueError as error:  # TOMLDecodeError, or an integer of thousands of digits
        problem = f"is not valid TOML: {error}"
    if problem:  # raised out here so that no cause, which carries the file's text, hangs on it
        raise ConfigError(f"The configuration {path} cannot be used.", problems=(f"{path}: {problem}",))
    for key, value in tree.items():
        values.put((key,), value, Origin(Source.FILE, str(path)))


def read_credentials(environ: Mapping[str, str], values: Values) -> None:
    """Put the values of `$CREDENTIALS_DIRECTORY`: a file `links__shop__portal__webhook` for each.

    Files whose names hold no `__` are other people's, and left alone.
    """
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return
    try:
        files = sorted(file for file in Path(directory).iterdir() if _SEPARATOR in file.name)
    except OSError as error:
        values.problems.append(f"{directory}: the credentials directory cannot be read: {error.strerror}")
        return
    for file in files:
        origin = Origin(Source.CREDENTIAL, file.name)
        try:
            _put_text(file.name, read_secret(file), origin, values)
        except ValueError as error:
            values.problems.append(f"{file.name}: {error} ({origin})")


def read_environment(environ: Mapping[str, str], values: Values) -> None:
    """Put the values of the variables `SYNCD_SECTION__KEY`.

    Variables without `__` are no settings: `SYNCD_CONFIG`, or what Kubernetes says about a service named syncd.
    """
    for name in sorted(environ):
        if name.startswith(_PREFIX) and _SEPARATOR in name:
            _put_text(name.removeprefix(_PREFIX), environ[name], Origin(Source.ENVIRONMENT, name), values)


def read_flags(flags: Mapping[str, Any], values: Values) -> None:
    """Put values given as flags, by dotted key: `log.level` is what `--log-level` said."""
    for key, value in flags.items():
        if value is not None:
            flag = "--" + key.replace(".", "-").replace("_", "-")
            values.put(tuple(key.split(".")), value, Origin(Source.FLAG, flag))


def read_secret_files(values: Values, directory: Path) -> None:
    """Put each secret whose `_file` key is given, and take that key away. Relative paths count from `directory`."""
    for path in list(values.origins):
        secret, name = keys.twin(path), keys.value_at(values.tree, path)
        if secret is None or not path[-1].endswith("_file") or secret in values.origins or not isinstance(name, str):
            continue
        file = directory / name
        try:
            text = read_secret(file)
        except ValueError as error:
            # The name is not repeated: a secret may have been pasted here in place of one.
            counts = "" if Path(name).is_absolute() else f"; relative names count from {directory.absolute()}"
            values.problems.append(f"{keys.dotted(path)}: the file it names {error}{counts}{values.blame(path)}")
            continue
        values.remove(path)
        values.put(secret, text, Origin(Source.SECRET_FILE, str(file)))


def read_secret(file: Path) -> str:
    """Given a file, return its text without white space at the end.

    Raises:
        ValueError: It cannot be read, is no text, is empty or is too large; the sentence does not name the file.
    """
    try:
        with file.open("rb") as opened:
            raw = opened.read(_LARGEST_SECRET + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    text = raw.decode(errors="replace").rstrip()
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
    """A name that leads to no key; carries the ready sentence."""


def _resolve(parts: list[str], tree: Mapping[str, Any]) -> keys.Path:
    """Given the parts of a name, whatever their case, return the key they lead to."""
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

    A variable's name can hold neither lower case by custom nor `-` at all, so both are matched loosely; a link's name
    may itself hold `__`.
    """
    links = tree.get("links")
    names = list(links) if isinstance(links, dict) else []
    for length in range(len(parts), 0, -1):
        wanted = _loosely(_SEPARATOR.join(parts[:length]))
        found = [name for name in names if _loosely(name) == wanted]
        if len(found) > 1:
            raise _NotASetting(f"links.{found[0]}: the name means {' and '.join(found)} alike; set it in the file")
        if found:
            return found[0], parts[length:]
    raise _unknown(("links", parts[0].lower()), names, "the file has no such link")


def _loosely(name: str) -> str:
    return name.upper().replace("-", "_")


def _unknown(path: keys.Path, candidates: Sequence[str], what: str = "unknown key") -> _NotASetting:
    return _NotASetting(f"{keys.dotted(path)}: {what}{did_you_mean(path[-1], candidates)}")


def did_you_mean(key: str, candidates: Sequence[str]) -> str:
    """Given a misspelt name, return `; did you mean …?`, or nothing where none of the candidates is near."""
    near = get_close_matches(key, candidates, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _typed(text: str, annotation: Any) -> Any:
    """Given a text and what its key asks for, return lists and tables as such; pydantic turns the rest."""
    if keys.is_collection(annotation):
        return _parsed(text)
    if annotation == str | int and text.isascii() and text.isdigit():
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
        return text  # refused by the key itself, which knows what it wants
