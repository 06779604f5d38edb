"""The configuration as text: example file, reference page and JSON Schema, and the effective values without secrets.

All are made from the settings' classes. The secrets are listed for the redaction of logs and messages, too.

`python -m syncd.config.render example|reference|schema` prints one of them.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus, urlsplit

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from syncd.config import keys
from syncd.config.fields import CommentedOut, Kind
from syncd.config.load import Loaded
from syncd.config.model import Settings
from syncd.config.schedule import Cron, Interval
from syncd.config.urls import parse_database_url, parse_webhook, plain, web_host

_EXAMPLE_HEAD = """\
# syncd's configuration, with every key there is. Lines behind a # show the default, or an example where there is none.
#
# syncd looks for it at --config, $SYNCD_CONFIG, ./syncd.toml and /etc/syncd/syncd.toml. Precedence, highest
# first: flags; the environment (SYNCD_STATE__URL, SYNCD_LINKS__SHOP__PORTAL__WEBHOOK); files in
# $CREDENTIALS_DIRECTORY (state__url, links__shop__portal__webhook); this file; defaults.
# Relative file names count from the folder of this file.
"""
_INITIAL_HEAD = """\
# syncd's configuration, written by `syncd init`. Lines behind a # show the default, or an example where there is none.
# `syncd check` checks it, and `syncd config show` shows the effective values.
"""
_REFERENCE_HEAD = """\
# Configuration

<!-- Made from the settings' classes: python -m syncd.config.render reference > docs/reference/configuration.md -->

syncd reads one TOML file, the first of: the one `--config` names, the one `$SYNCD_CONFIG` names, `./syncd.toml`,
`/etc/syncd/syncd.toml`. `syncd config example` prints a commented one, `syncd config schema` its JSON Schema, and
`syncd config show` the effective values and their origins.

A value comes from the first of these that has it:

1. flags of the command line (`--log-level`, `--log-format`);
2. the environment: `SYNCD_` and the key with `__` for each dot, as in `SYNCD_STATE__URL` or
   `SYNCD_LINKS__SHOP__PORTAL__WEBHOOK`. Upper and lower case do not matter, `-` in a link's name is written `_`, and
   the link must be one of the file's. Lists and tables are written as JSON or TOML. Any other variable that begins with
   `SYNCD_` is an error;
3. the credentials directory (`$CREDENTIALS_DIRECTORY`, which systemd sets; point it at `/run/secrets` in a
   container): a file `links__shop__portal__webhook` holds the value of that key. If the variable is not set, a
   configuration in `/etc/syncd` has the credentials of its service: the files in `/etc/syncd/credentials`
   (`/etc/syncd/NAME.credentials` for `NAME.toml`), and those that a running service was started with;
4. the file;
5. defaults.

Unknown keys are errors, and all errors are reported at once. A key `X_file` names a file that holds the secret `X`;
white space at its end does not count. Relative paths, also those of SQLite URLs, count from the folder of the
configuration file.

Durations are written with units: `30s`, `5m`, `1h30m`, `1d`. Cron expressions have five fields and follow
the rules of cron(8), in the time zone `daemon.timezone`.
"""
_COLUMNS = "| key | type | default | meaning |\n|---|---|---|---|\n"
_WIDTH = 118


class Key(NamedTuple):
    """One key of a table, for the pages."""

    name: str
    default: Any
    required: bool
    meaning: str
    example: Any
    commented: bool
    kind: str


class ConfigTable(NamedTuple):
    """One table of the configuration: its heading, such as `links.NAME.portal`, its description, and its keys."""

    heading: str
    meaning: str
    keys: list[Key]
    commented: bool


def tables() -> list[ConfigTable]:
    """Return every table of the configuration, in the order of the file."""
    return list(_tables("", Settings, "shop"))


def example(link: str = "shop") -> str:
    """Given a link's name, return the commented example file."""
    blocks = [_EXAMPLE_HEAD]
    for table in _tables("", Settings, link):
        mark = "# " if table.commented else ""
        lines = [*_comment(table.meaning), f"{mark}[{table.heading}]"]
        for key in table.keys:
            lines += _comment(key.meaning)
            lines.append(f"{'# ' if key.commented else ''}{key.name} = {toml_value(key.example)}")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def initial_config(link: str, chosen: Mapping[str, Any]) -> str:
    """Given a link's name and values by dotted key, return the file with only these keys not commented out."""
    return "\n".join([_INITIAL_HEAD, *_initial_tables(link, chosen)])


def initial_link(link: str, chosen: Mapping[str, Any]) -> str:
    """Given the same, return only the tables of the link, to append to a file."""
    return "\n".join(_initial_tables(link, chosen, below=f"links.{link}"))


def _initial_tables(link: str, chosen: Mapping[str, Any], *, below: str = "") -> Iterator[str]:
    for table in _tables("", Settings, link):
        if not table.heading.startswith(below):
            continue
        inside = {key.name: f"{table.heading}.{key.name}" for key in table.keys}
        mark = "# " if table.commented and chosen.keys().isdisjoint(inside.values()) else ""
        lines = [*_comment(table.meaning), f"{mark}[{table.heading}]"]
        for key in table.keys:
            given = inside[key.name] in chosen
            lines += _comment(key.meaning)
            value = toml_value(chosen[inside[key.name]] if given else key.example)
            lines.append(f"{'' if given else '# '}{key.name} = {value}")
        yield "\n".join(lines) + "\n"


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the configuration file."""
    made = Settings.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | made | {"title": "syncd configuration"}


def reference() -> str:
    """Return the reference page in Markdown."""
    blocks = [_REFERENCE_HEAD]
    for table in _tables("", Settings, "NAME"):
        rows = "".join(
            f"| `{key.name}` | {key.kind} | {_default(key)} | {key.meaning.replace('|', chr(92) + '|')} |\n"
            for key in table.keys
        )
        blocks.append(f"## `[{table.heading}]`\n\n{table.meaning}\n\n{_COLUMNS}{rows}")
    return "\n".join(blocks)


def toml_value(value: Any) -> str:
    """Given a value, return it as TOML writes it on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) and value.is_integer() else str(value)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_toml_key(name)} = {toml_value(one)}" for name, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _tables(heading: str, model: type[BaseModel], link: str, *, commented: bool = False) -> Iterator[ConfigTable]:
    own = [_key(name, field) for name, field in model.model_fields.items() if not _is_table(field)]
    if own:
        yield ConfigTable(heading, inspect.cleandoc(model.__doc__ or ""), own, commented)
    for name, field in model.model_fields.items():
        annotation, inner = field.annotation, f"{heading}.{name}".lstrip(".")
        links = keys.values_of(annotation) if heading == "" else None
        if links is not None:
            inner, annotation = f"{inner}.{link}", links
        table = keys.table_of(annotation)
        if table is not None:
            yield from _tables(inner, table, link, commented=commented or (heading != "" and field.default is None))


def _is_table(field: FieldInfo) -> bool:
    values = keys.values_of(field.annotation)
    return keys.table_of(field.annotation) is not None or (values is not None and keys.table_of(values) is not None)


def _key(name: str, field: FieldInfo) -> Key:
    default = field.get_default(call_default_factory=True) if not field.is_required() else None
    return Key(
        name=name,
        default=default,
        required=field.is_required(),
        meaning=field.description or "",
        example=field.examples[0] if field.examples else default,
        commented=any(isinstance(one, CommentedOut) for one in field.metadata),
        kind=_kind(field),
    )


def _kind(field: FieldInfo) -> str:
    kind = keys.bare(field.annotation)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return ", ".join(f"`{member}`" for member in kind)
    if kind is bool:
        return "`true`, `false`"
    return _named(field.metadata) or _named(getattr(_without_none(field.annotation), "__metadata__", ()))


def _named(metadata: Any) -> str:
    return next((one.name for one in metadata if isinstance(one, Kind)), "")


def _without_none(annotation: Any) -> Any:
    return next((one for one in getattr(annotation, "__args__", ()) if one is not type(None)), annotation)


def _default(key: Key) -> str:
    if key.required:
        return "required"
    if key.default is None or key.default == {}:
        return ""
    value = key.default.get_secret_value() if isinstance(key.default, SecretStr) else key.default
    return f"`{toml_value(value)}`"


def _comment(text: str) -> list[str]:
    return [
        f"# {line}".rstrip()
        for paragraph in text.split("\n\n")
        for line in textwrap.wrap(" ".join(paragraph.split()), _WIDTH, break_on_hyphens=False)
    ]


def _toml_key(name: str) -> str:
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else json.dumps(name, ensure_ascii=False)


# ---------------------------------- the effective values, without their secrets

MASK = "***"
# Query arguments of database URLs that are never secret, in the form of `plain`. All others are masked.
_HARMLESS = frozenset(
    {
        "host", "hostaddr", "port", "dbname", "sslmode", "ssl", "usessl", "requiressl", "tls", "charset", "service",
        "unixsocket", "mode", "uri", "requireauth", "enablecleartextplugin", "applicationname", "connecttimeout",
        "targetsessionattrs", "gssencmode", "channelbinding",
    }
)  # fmt: skip


def _is_harmless(option: str) -> bool:
    return plain(option) in _HARMLESS


def mask_url(url: str) -> str:
    """Given a web or database URL, return it without passwords, webhook codes, and other parts that may be secret."""
    scheme, found, _ = url.partition("://")
    if not found:
        return MASK
    if scheme in {"http", "https"}:
        user = re.match(r"/rest/\d+/", urlsplit(url).path)
        return f"{scheme}://{web_host(url)}{user[0] if user else '/'}{MASK}"
    parts = parse_database_url(url)
    who = parts.username + (f":{MASK}" if parts.password else "") + "@" if parts.username or parts.password else ""
    host = f"[{parts.host}]" if ":" in parts.host else parts.host
    port = f":{parts.port}" if parts.port else ""
    path = f"/{parts.database}" if parts.database else ""
    query = "&".join(f"{name}={value if _is_harmless(name) else MASK}" for name, value in parts.query)
    return f"{scheme}://{who}{host}{port}{path}" + (f"?{query}" if query else "")


def secret_values(settings: Settings) -> Iterator[str]:
    """Given settings, yield each secret in the forms in which it may appear in a text."""
    yield from _of_database(settings.state.url.get_secret_value())
    if settings.state.key is not None:
        yield settings.state.key.get_secret_value()
    if settings.web.password is not None:
        yield settings.web.password.get_secret_value()
    if settings.notify.webhook is not None:
        yield from _of_web(settings.notify.webhook.get_secret_value())
    if settings.notify.apprise is not None:
        for url in settings.notify.apprise.get_secret_value().split():
            yield url.partition("://")[2] or url
    for link in settings.links.values():
        if link.ping is not None:
            yield from _of_web(link.ping.get_secret_value())
        if link.hook_token is not None:
            yield link.hook_token.get_secret_value()
        if link.portal.webhook is not None:
            yield parse_webhook(link.portal.webhook.get_secret_value()).code
        if link.portal.oauth is not None and link.portal.oauth.client_secret is not None:
            yield link.portal.oauth.client_secret.get_secret_value()
        if link.table.url is not None:
            yield from _of_database(link.table.url.get_secret_value())


def _of_database(url: str) -> Iterator[str]:
    parts = parse_database_url(url)
    for secret in [parts.password, *(value for name, value in parts.query if not _is_harmless(name))]:
        if secret:
            yield from dict.fromkeys((secret, quote_plus(secret), quote(secret, safe="")))


def _of_web(url: str) -> Iterator[str]:
    parts = urlsplit(url)
    secret = parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")
    if secret:
        yield secret


class Shown(NamedTuple):
    """An effective value: its dotted key, the value for JSON with secrets masked, and its origin as text."""

    key: str
    value: Any
    origin: str


def effective(loaded: Loaded) -> list[Shown]:
    """Return the effective values. Keys that are not given and have no default are left out."""
    return [
        Shown(keys.dotted(path), value, str(loaded.origin(keys.dotted(path))))
        for path, value in _values((), loaded.settings)
    ]


def show(loaded: Loaded) -> str:
    """Return the effective values as lines `key = value  # origin`."""
    shown = effective(loaded)
    lines = [f"{one.key} = {toml_value(one.value)}" for one in shown]
    width = min(max(map(len, lines)), 78)
    return "".join(f"{line:<{width}}  # {one.origin}\n" for line, one in zip(lines, shown, strict=True))


def _values(path: keys.Path, value: Any) -> Iterator[tuple[keys.Path, Any]]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _values((*path, name), getattr(value, name))
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _values((*path, name), inner)
    elif value is not None:
        yield path, _plain(path, value)


def _plain(path: keys.Path, value: Any) -> Any:
    if isinstance(value, SecretStr):
        return mask_url(value.get_secret_value()) if path[-1] in {"url", "webhook"} else MASK
    if path[-2:-1] == ("options",) and not _is_harmless(path[-1]):
        return MASK
    if isinstance(value, Interval | Cron):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, bool | int | float | list) else str(value)


def page(name: str) -> str:
    """Given `example`, `reference` or `schema`, return the text of that page."""
    if name == "schema":
        return json.dumps(schema(), indent=2) + "\n"
    return {"example": example, "reference": reference}[name]()


if __name__ == "__main__":
    sys.stdout.write(page(sys.argv[1]))
