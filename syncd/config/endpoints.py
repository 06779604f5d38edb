"""What the addresses in the configuration name: portals, databases and listening sockets.

Nothing here connects. Sentences of errors never repeat an address, since nearly every one of them holds a secret.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

# The grammar of sqlalchemy.engine.make_url, kept here so that reading the configuration does not import SQLAlchemy;
# a test compares the two.
_DATABASE_URL = re.compile(
    r"""
    (?P<dialect>\w+)(?:\+(?P<driver>[\w+]+))?://
    (?:(?P<username>[^:/]*)(?::(?P<password>[^@]*))?@)?
    (?:(?:\[(?P<ipv6>[^/?]+)\]|(?P<host>[^/:?]+))?(?::(?P<port>\d*))?)?
    (?:/(?P<database>[^?]*))?
    (?:\?(?P<query>.*))?
    """,
    re.VERBOSE,
)
_DEFAULT_PORTS = {"postgresql": 5432, "mysql": 3306}
_WEB_PORTS = {"http": 80, "https": 443}
# Query arguments that say where the database is; everything else is how to talk to it.
_PLACE = ("host", "port", "dbname", "unix_socket", "service")
_WEBHOOK_PATH = re.compile(r"/rest/\d+/[^/\s]+/?")
_WEBHOOK_WITH_METHOD = re.compile(r"/rest/\d+/[^/\s]+/[\w.]+/?")


class DatabaseUrl(NamedTuple):
    """The parts of a SQLAlchemy URL that matter before anything connects. An absent text is empty."""

    dialect: str
    driver: str
    username: str
    password: str
    host: str
    port: int | None
    database: str
    query: tuple[tuple[str, str], ...]

    @property
    def is_memory(self) -> bool:
        """Whether this is an SQLite database that vanishes with the process."""
        return self.dialect == "sqlite" and (self.database in {"", ":memory:"} or ("mode", "memory") in self.query)


def parse_database_url(url: str) -> DatabaseUrl:
    """Given a SQLAlchemy URL, return its parts.

    Raises:
        ValueError: It is not one.
    """
    match = _DATABASE_URL.fullmatch(url)
    if match is None:
        raise ValueError("is not a SQLAlchemy URL; write dialect://user:password@host/database")
    if match["dialect"] == "postgres":
        raise ValueError("is not a SQLAlchemy URL; write postgresql:// instead of postgres://")
    return DatabaseUrl(
        dialect=match["dialect"],
        driver=match["driver"] or "",
        username=unquote(match["username"] or ""),
        password=unquote(match["password"] or ""),
        host=match["host"] or match["ipv6"] or "",
        port=int(match["port"]) if match["port"] else None,
        database=unquote(match["database"] or ""),
        query=tuple(parse_qsl(match["query"] or "")),
    )


def database_identity(url: str) -> str:
    """Given a SQLAlchemy URL, return which database it names, free of credentials, driver and connection options.

    A relative SQLite path counts from the current directory, as it does for SQLAlchemy.
    """
    parts = parse_database_url(url)
    dialect = "mysql" if parts.dialect == "mariadb" else parts.dialect
    if dialect == "sqlite":
        plain = parts.database and not parts.is_memory and not parts.database.startswith("file:")
        return f"sqlite:///{Path(parts.database).absolute() if plain else parts.database}"
    place = "&".join(f"{name}={value}" for name, value in sorted(parts.query) if name in _PLACE)
    port = parts.port or _DEFAULT_PORTS.get(dialect)
    address = (parts.host.lower() or ("" if place else "localhost")) + (f":{port}" if port else "")
    return f"{dialect}://{address}/{parts.database}" + (f"?{place}" if place else "")


def check_webhook(url: str) -> None:
    """Given the URL of an inbound webhook, check its form (bitrix24-rest.md 1.1).

    Raises:
        ValueError: It is not `https://HOST/rest/USER/CODE/`; http:// is accepted only to this machine.
    """
    parts = _split_web(url)
    if parts.query or parts.fragment or not _WEBHOOK_PATH.fullmatch(parts.path):
        if _WEBHOOK_WITH_METHOD.fullmatch(parts.path):
            raise ValueError("ends with a method's name; leave that off: https://HOST/rest/USER/CODE/")
        raise ValueError("must be the URL of an inbound webhook: https://HOST/rest/USER/CODE/")


def web_origin(url: str) -> str:
    """Given a server's address, with or without https://, return it as `https://host[:port]`.

    Raises:
        ValueError: It has a path, or is not https:// (or http:// to this machine).
    """
    parts = _split_web(url if "://" in url else f"https://{url}")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("must be an address without a path, such as https://example.bitrix24.com")
    return f"{parts.scheme}://{web_host(url)}"


def web_host(url: str) -> str:
    """Given a web address, return its host in lower case, with the port where it is not the scheme's own."""
    parts = urlsplit(url if "://" in url else f"https://{url}")
    host = (parts.hostname or "").rstrip(".")
    named = f"[{host}]" if ":" in host else host
    return named if parts.port in {None, _WEB_PORTS.get(parts.scheme)} else f"{named}:{parts.port}"


def check_web_url(url: str) -> None:
    """Given any http:// or https:// address, check its form.

    Raises:
        ValueError: It is something else, or holds a password before the host.
    """
    _split_web(url, plain_http=True)


def parse_listen(text: str) -> tuple[str, int]:
    """Given `host:port` (an IPv6 host in brackets), return both; port 0 lets the system choose.

    Raises:
        ValueError: It is not that.
    """
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not host or (":" in host and not bracketed) or not re.fullmatch(r"\d{1,5}", port, re.ASCII) or int(port) > 65535:
        raise ValueError("must be host:port, such as 127.0.0.1:9464 or [::1]:9464")
    return host, int(port)


class _WebParts(NamedTuple):
    scheme: str
    path: str
    query: str
    fragment: str


def _split_web(url: str, *, plain_http: bool = False) -> _WebParts:
    parts = _urlsplit(url)
    if parts is None or not parts.hostname or re.search(r"\s", url):
        raise ValueError("must be a web address, such as https://example.bitrix24.com/")
    if parts.username is not None:
        raise ValueError("must not hold a user name or a password before the host")
    if parts.scheme != "https" and not (parts.scheme == "http" and (plain_http or _is_loopback(parts.hostname))):
        raise ValueError("must begin with https://; http:// is accepted only to this machine")
    return _WebParts(parts.scheme, parts.path, parts.query, parts.fragment)


def _urlsplit(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return None
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
