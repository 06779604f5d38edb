"""The secrets among the settings: masked in the effective values, and listed for the redaction of logs and messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus, urlsplit

from pydantic import BaseModel, SecretStr

from syncd.config import keys
from syncd.config.load import Loaded
from syncd.config.model import Settings
from syncd.config.render import toml_value
from syncd.config.schedule import Cron, Interval
from syncd.config.urls import parse_database_url, parse_webhook, web_host

MASK = "***"
# Query arguments of database URLs that are never secret. All others are masked.
HARMLESS = frozenset(
    {
        "host", "hostaddr", "port", "dbname", "sslmode", "ssl-mode", "charset", "service", "unix_socket", "mode", "uri",
        "require_auth", "enable_cleartext_plugin", "application_name", "connect_timeout",
    }
)  # fmt: skip


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
    query = "&".join(f"{name}={value if name in HARMLESS else MASK}" for name, value in parts.query)
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
    for secret in [parts.password, *(value for name, value in parts.query if name not in HARMLESS)]:
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
    if path[-2:-1] == ("options",) and path[-1] not in HARMLESS:
        return MASK
    if isinstance(value, Interval | Cron):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, bool | int | float | list) else str(value)
