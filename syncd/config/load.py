"""Loads the configuration: merges all sources, completes database URLs, and reports all problems at once.

The sentences about problems never repeat a value, since it may be a secret.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from syncd.config import keys, sources
from syncd.config.fields import LENIENT, PARTS, SecretMissing, TableProblem
from syncd.config.model import Settings
from syncd.config.service_places import service_places
from syncd.config.service_settings import DEFAULT_STATE
from syncd.config.sources import DEFAULT, Origin, Values, did_you_mean
from syncd.config.urls import SERVERS, count_from, database_kind, is_host, sqlite_file
from syncd.errors import ConfigError

_SENTENCES = {
    "missing": "is required",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "is too large",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be a string",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """The effective settings and their origins.

    Args:
        settings: The settings, with the secrets that `_file` keys name.
        path: The configuration file.
        origins: The origin of each value that is not a default, by dotted key.
        missing: A sentence for each secret that is missing or cannot be read. The settings lack these secrets.
    """

    settings: Settings
    path: Path
    origins: Mapping[str, Origin]
    missing: tuple[str, ...] = ()

    def origin(self, key: str) -> Origin:
        """Given a dotted key such as `links.shop.schedule`, return the origin of its value."""
        return self.origins.get(key, DEFAULT)

    def require_secrets(self) -> None:
        """Check that no secret is missing.

        Raises:
            ConfigError: Lists the missing secrets.
        """
        if self.missing:
            raise _unusable(self.path, self.missing, _where_secrets_are(self.path))


def load(
    path: Path | None,
    environ: Mapping[str, str],
    flags: Mapping[str, Any] | None = None,
    *,
    searched: Sequence[Path] = sources.SEARCHED,
    secrets: bool = True,
    text: str | None = None,
) -> Loaded:
    """Read, merge and check the configuration.

    Args:
        path: The file of `--config`; None takes `$SYNCD_CONFIG`, or searches the default places.
        environ: The environment: `SYNCD_SECTION__KEY`, `SYNCD_CONFIG`, `CREDENTIALS_DIRECTORY`.
        flags: Values of the command line, by dotted key (`log.level`); None for a flag that is not given.
        searched: The default places.
        secrets: Whether missing secrets of links are errors; those of the state database always are.
        text: The content that the file will have; None reads the file.

    Returns:
        The settings. Flags win over the environment, then credentials, the file, and defaults.

    Raises:
        ConfigError: Lists all problems, without any secret.
    """
    file = sources.find_file(path, environ, searched)
    values = Values()
    sources.read_file(file, values, text, named=path is not None or bool(environ.get(sources.CONFIG)))
    sources.read_credentials(file, environ, values)
    sources.read_environment(environ, values)
    sources.read_flags(flags or {}, values)
    sources.read_secret_files(values, file.parent)
    join_parts(values)
    place_sqlite_files(values, file.parent, Path())
    settings = _validated(values)
    if settings is None or values.problems:
        hint = _where_secrets_are(file) if values.missing else ""
        raise _unusable(file, (*values.missing, *values.problems), hint)
    origins = MappingProxyType({keys.dotted(key): origin for key, origin in values.origins.items()})
    loaded = Loaded(settings, file, origins, tuple(values.missing))
    if secrets:
        loaded.require_secrets()
    return loaded


def _unusable(file: Path, problems: Sequence[str], hint: str) -> ConfigError:
    count = len(problems)
    return ConfigError(
        f"The configuration {file} has {count} problems." if count > 1 else f"The configuration {file} has a problem.",
        hint=hint or "syncd config example shows every key and what it means.",
        problems=tuple(problems),
    )


def _where_secrets_are(file: Path) -> str:
    """Return the hint for missing secrets of a service; empty for other configurations."""
    service = service_places(file)
    if service is None or not service.credentials.is_dir():
        return ""
    if os.geteuid() != 0:
        return f"Only root may read the credentials of {service.unit}: run the command with sudo."
    return (
        f"Put each secret into a file in {service.credentials} that is named by its key, with __ for each dot: "
        f"links__shop__portal__webhook. Secrets of drop-ins are found only while {service.unit} runs."
    )


def _validated(values: Values) -> Settings | None:
    """Return the settings, without missing secrets; None if there are other problems."""
    try:
        return Settings.model_validate(values.tree)
    except ValidationError as error:
        values.missing += _missing_secrets(error, values)
    try:
        settings = Settings.model_validate(values.tree, context=LENIENT)
    except ValidationError as error:
        values.problems += validation_messages(error, values)
        return None
    return settings


def _homes(values: Values) -> Iterator[keys.Path]:
    """Yield the paths of the tables that name a database."""
    yield ("state",)
    links = values.tree.get("links")
    for name in links if isinstance(links, dict) else ():
        yield ("links", name, "table")


def join_parts(values: Values) -> None:
    """Set the URL of each database that is given in parts. The parts are not percent-encoded."""
    for home in _homes(values):
        table = keys.value_at(values.tree, home)
        if not isinstance(table, dict) or not PARTS & table.keys():
            continue
        problem = _problem_of_parts(table)
        if problem:
            values.problems.append(f"{keys.dotted(home)}: {problem}")
        else:
            first = next(key for key in table if key in PARTS)
            values.put((*home, "url"), _url(table), values.origins[*home, first])


def _problem_of_parts(table: dict[str, Any]) -> str:
    for key in ("url", "url_file"):
        if key in table:
            given = ", ".join(sorted(PARTS & table.keys()))
            return f"{given} given together with {key}; keep one way to name the database"
    missing = [key for key in ("host", "database") if not table.get(key)]
    return f"needs {' and '.join(missing)}, since the database is given in parts" if missing else ""


def _url(table: dict[str, Any]) -> str:
    port = table.get("port")
    by_port = (name for name, server in SERVERS.items() if str(port) == str(server.port))
    kind = table.get("kind") or next(by_port, "postgresql")
    user, password = (quote(str(table.get(key) or ""), safe="") for key in ("user", "password"))
    who = f"{user}:{password}@" if password else f"{user}@" if user else ""
    host = str(table["host"])
    host = host if is_host(host) else "unusable"  # reported by the check of the key
    options = {str(name): str(value) for name, value in (table.get("options") or {}).items()}
    if host.startswith("/"):  # the folder, or the file, of a socket
        server = SERVERS.get(database_kind(str(kind)))
        options["host" if server is None else server.socket] = host
        host = ""
    host = f"[{host}]" if ":" in host else host
    where = f"{host}:{port}" if port and host else host
    query = f"?{urlencode(options)}" if options else ""
    return f"{kind}://{who}{where}/{quote(str(table['database']), safe='')}{query}"


def place_sqlite_files(values: Values, folder: Path, here: Path) -> None:
    """Resolve relative paths of SQLite databases against the configuration's folder.

    Args:
        values: The values of all sources, with secret files read.
        folder: The configuration's folder.
        here: The current directory, which older versions resolved them against.
    """
    state = ("state", "url")
    if not isinstance(keys.value_at(values.tree, ("state",)) or {}, dict):
        return  # reported by the check of the key
    if keys.value_at(values.tree, state) is None and keys.value_at(values.tree, ("state", "url_file")) is None:
        values.put(state, DEFAULT_STATE, DEFAULT)
    for path in ((*home, "url") for home in _homes(values)):
        url = keys.value_at(values.tree, path)
        placed = count_from(url, folder) if isinstance(url, str) else url
        if placed == url:
            continue
        if path == state and (problem := _misplaced(url, placed, here)):
            values.problems.append(f"{keys.dotted(path)}: {problem}{values.origin_note(path)}")
        values.put(path, placed, values.origins[path])


def _misplaced(url: str, placed: str, here: Path) -> str:
    """Return the problem if the state database exists only where older versions looked for it; else an empty text."""
    old, new = sqlite_file(url), sqlite_file(placed)
    if old is None or new is None or new.exists() or not (here / old).exists():
        return ""
    return (
        f"is relative to the folder of the configuration, where there is no {new}, but the current directory has one, "
        f"{(here / old).absolute()}. Write the absolute path of the right one"
    )


def validation_messages(error: ValidationError, values: Values) -> list[str]:
    """Return a sentence with its key for each of pydantic's errors."""
    return [_sentence(detail, values) for detail in error.errors(include_url=False)]


def _missing_secrets(error: ValidationError, values: Values) -> list[str]:
    """Return the sentences of those errors that are missing secrets."""
    return [_sentence(detail, values) for detail in error.errors(include_url=False) if _is_missing_secret(detail)]


def _is_missing_secret(detail: ErrorDetails) -> bool:
    return isinstance(detail.get("ctx", {}).get("error"), SecretMissing)


def _sentence(detail: ErrorDetails, values: Values) -> str:
    path = tuple(str(part) for part in detail["loc"])
    context: dict[str, Any] = detail.get("ctx", {})
    kind = detail["type"]
    if isinstance(context.get("error"), TableProblem):
        path = path[:-1]
    if path[-1] == "[key]":
        return _bad_name(path[:-1])
    if kind == "extra_forbidden":
        return f"{keys.dotted(path)}: unknown key{_where_instead(path)}{values.origin_note(path)}"
    if kind == "value_error":
        text = str(context["error"])
    elif kind == "enum":
        text = _choice(context["expected"], detail["input"])
    elif kind in {"too_short", "too_long"}:
        text = _length(context, kind)
    elif kind in _SENTENCES:
        text = _SENTENCES[kind].format_map(context)
    else:
        text = detail["msg"]
    return f"{keys.dotted(path)}: {text}{values.origin_note(path)}"


def _bad_name(path: keys.Path) -> str:
    *table, name = path
    if table == ["links"]:
        return f"links.{name}: a link's name is made of letters, digits, _ and -"
    return f"{keys.dotted(table)}: has a key that is not a name"


def _choice(expected: str, given: object) -> str:
    """Return the sentence with the choices. The value is compared with them, but not repeated."""
    words = expected.replace("'", "")
    near = did_you_mean(given, words.replace(" or ", ", ").split(", ")) if isinstance(given, str) else ""
    return f"must be {words}{near}"


def _length(context: dict[str, Any], kind: str) -> str:
    wanted = context["min_length"] if kind == "too_short" else context["max_length"]
    return f"must have at {'least' if kind == 'too_short' else 'most'} {wanted} item{'s' * (wanted != 1)}"


def _where_instead(path: keys.Path) -> str:
    near = did_you_mean(path[-1], keys.known_keys(path[:-1]))
    if near and not keys.tables_with(path[-1]):
        return near
    link = path[1] if path[0] == "links" and len(path) > 1 else "NAME"
    nearest_first = sorted(keys.tables_with(path[-1]), key=lambda home: home[:1] != path[:1])
    homes = [keys.dotted([link if part == "*" else part for part in home]) for home in nearest_first]
    return f"; it belongs in [{'] or ['.join(homes)}]" if homes and all(homes) else near
