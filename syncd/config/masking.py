"""Which settings are secrets: shown masked, and handed to whoever masks them wherever else they turn up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote_plus, urlsplit

from syncd.config.endpoints import parse_database_url, web_host
from syncd.config.model import Settings

MASK = "***"
# Query arguments of database URLs that say where and how, never who: everything else is masked.
_HARMLESS = frozenset({"host", "port", "dbname", "sslmode", "charset", "service", "unix_socket", "mode", "uri"})


def mask_url(url: str) -> str:
    """Given a web or database URL, return it without passwords, a webhook's code, or anything that might be one."""
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
    query = "&".join(f"{name}={value if name in _HARMLESS else MASK}" for name, value in parts.query)
    return f"{scheme}://{who}{host}{port}{path}" + (f"?{query}" if query else "")


def secret_values(settings: Settings) -> Iterator[str]:
    """Given settings, return each secret in them as it might turn up in a text, for redaction to remember."""
    yield from _of_database(settings.state.url.get_secret_value())
    if settings.notify.webhook is not None:
        yield from _of_web(settings.notify.webhook.get_secret_value())
    for link in settings.links.values():
        if link.portal.webhook is not None:
            yield link.portal.webhook.get_secret_value().rstrip("/").rpartition("/")[2]
        if link.portal.oauth is not None and link.portal.oauth.client_secret is not None:
            yield link.portal.oauth.client_secret.get_secret_value()
        if link.table.url is not None:
            yield from _of_database(link.table.url.get_secret_value())


def _of_database(url: str) -> Iterator[str]:
    parts = parse_database_url(url)
    for secret in [parts.password, *(value for name, value in parts.query if name not in _HARMLESS)]:
        if secret:
            yield from dict.fromkeys((secret, quote_plus(secret)))


def _of_web(url: str) -> Iterator[str]:
    parts = urlsplit(url)
    secret = parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else "")
    if secret:
        yield secret
