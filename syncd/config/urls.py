"""The URLs of the configuration, checked and parsed: portals with their webhooks, databases, listening sockets.

Nothing here connects. Error sentences never repeat a URL, since nearly every one contains a secret.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

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
_WEB_PORTS = {"http": 80, "https": 443}


class ServerKind(NamedTuple):
    """A kind of database server: its default port, and the URL option that names a socket instead of a host."""

    port: int
    socket: str


SERVERS = {"postgresql": ServerKind(5432, "host"), "mysql": ServerKind(3306, "unix_socket")}
"""The kinds of servers, by the names of `database_kind`."""
_OTHER_NAMES = {"mariadb": "mysql"}
DATABASES = frozenset({"sqlite", *SERVERS, *_OTHER_NAMES})
"""The kinds of databases that a URL may name."""

# Query arguments that identify the database; the others are connection options.
_PLACE = ("host", "port", "dbname", "unix_socket", "service")


class DatabaseUrl(NamedTuple):
    """The parts of a SQLAlchemy URL. Absent texts are empty."""

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
        return self.dialect == "sqlite" and self.database in {"", ":memory:"}


def parse_database_url(url: str) -> DatabaseUrl:
    """Given a SQLAlchemy URL, return its parts.

    Raises:
        ValueError: It is not one.
    """
    match = _DATABASE_URL.fullmatch(url)
    if match is None:
        raise ValueError(
            "is not a SQLAlchemy URL; write dialect://user:password@host/database, and in a user or password @ as %40, "
            ": as %3A, / as %2F"
        )
    if match["dialect"] == "postgres":
        raise ValueError("is not a SQLAlchemy URL; write postgresql:// instead of postgres://")
    if match["dialect"] == "sqlite":
        _check_sqlite(match)
    torn = any("@" in (match[part] or "") for part in ("username", "host", "database", "query"))
    if match["dialect"] != "sqlite" and (torn or re.search(r"\?\w+=", match["password"] or "")):
        # Part of a password or an option, which must not be shown as a host, a database or an option.
        raise ValueError(
            "cannot be parsed: in a user, password or option write @ as %40, or give the database in parts "
            "(host, user, password_file, database)"
        )
    if match["port"] and int(match["port"]) > 65535:
        raise ValueError("names a port above 65535")
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


def _check_sqlite(match: re.Match[str]) -> None:
    """Check that an SQLite URL names a file by its path and has no parts that SQLite does not know.

    Raises:
        ValueError: It does not.
    """
    if any(match[part] for part in ("username", "password", "host", "ipv6", "port")):
        raise ValueError(
            "is a URL of SQLite, which has no users and no hosts; write sqlite:///file.db, or for an absolute path "
            "sqlite:////folder/file.db"
        )
    if unquote(match["database"] or "").startswith("file:"):
        raise ValueError(
            "names its file as file:…; write the path itself, sqlite:///file.db or sqlite:////folder/file.db, and "
            "add ?mode=ro if it is only read"
        )


def plain(name: str) -> str:
    """Given an option's name, return the form that all of its spellings share: ssl-mode, ssl_mode, sslMode."""
    return name.replace("-", "").replace("_", "").lower()


def database_kind(name: str) -> str:
    """Given the kind of database in a URL, return its canonical name."""
    return _OTHER_NAMES.get(name, name)


def database_identity(url: str) -> str:
    """Given a SQLAlchemy URL, return the identity of its database, without credentials, driver and connection options.

    The SQLite paths of a loaded configuration are absolute; a relative one counts from the current directory here.
    """
    parts = parse_database_url(url)
    dialect = database_kind(parts.dialect)
    if dialect == "sqlite":
        file = sqlite_file(url)
        return f"sqlite:///{parts.database if file is None else file.absolute()}"
    place = "&".join(f"{name}={value}" for name, value in sorted(parts.query) if name in _PLACE)
    port = parts.port or (SERVERS[dialect].port if dialect in SERVERS else None)
    address = (parts.host.lower() or ("" if place else "localhost")) + (f":{port}" if port else "")
    return f"{dialect}://{address}/{parts.database}" + (f"?{place}" if place else "")


def sqlite_file(url: str) -> Path | None:
    """Given a SQLAlchemy URL, return the file of an SQLite database as written; None for other databases.

    Raises:
        ValueError: It is not a SQLAlchemy URL.
    """
    parts = parse_database_url(url)
    return Path(parts.database) if parts.dialect == "sqlite" and not parts.is_memory else None


def count_from(url: str, folder: Path) -> str:
    """Given a SQLAlchemy URL, return it with a relative SQLite path resolved against a folder; others unchanged."""
    try:
        file = sqlite_file(url)
    except ValueError:
        return url  # reported by the check of the key
    if file is None or file.is_absolute():
        return url
    scheme, _, rest = url.partition(":///")
    _, question, query = rest.partition("?")
    return f"{scheme}:///{quote(str(folder.absolute() / file))}{question}{query}"


def web_origin(url: str) -> str:
    """Given a server's address, with or without https://, return it as `https://host[:port]`.

    Raises:
        ValueError: It has a path, or is not https:// (or http:// to this machine).
    """
    parts = check_https(url if "://" in url else f"https://{url}")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("must be an address without a path, such as https://example.bitrix24.com")
    return f"{parts.scheme}://{web_host(url)}"


def origin_of(url: str) -> str:
    """Given an address that credentials may be sent to, return its `https://host[:port]`.

    Raises:
        ValueError: See `check_https`.
    """
    return f"{check_https(url).scheme}://{web_host(url)}"


def web_host(url: str) -> str:
    """Given a web address, return its host in lower case, with the port unless it is the scheme's default."""
    parts = urlsplit(url if "://" in url else f"https://{url}")
    host = (parts.hostname or "").rstrip(".")
    named = f"[{host}]" if ":" in host else host
    return named if parts.port in {None, _WEB_PORTS.get(parts.scheme)} else f"{named}:{parts.port}"


def is_loopback(url: str) -> bool:
    """Given a web address, return whether it is on this machine."""
    return is_loopback_host(urlsplit(url).hostname or "")


def is_host(text: str) -> bool:
    """Return whether a text is the name or address of a database server, or the path of its socket."""
    if text.startswith("/"):
        return True
    if ":" not in text:
        return not set(text) & set("/@?#[]\\ \t\r\n")
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback_host(host: str) -> bool:
    """Given a host's name or address, return whether it is this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_web_url(url: str) -> None:
    """Given any http:// or https:// address, check its form.

    Raises:
        ValueError: It is something else, or holds a password before the host.
    """
    check_https(url, plain_http=True)


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


class WebParts(NamedTuple):
    """The parts of a checked web address."""

    scheme: str
    path: str
    query: str
    fragment: str


def check_https(url: str, *, plain_http: bool = False) -> WebParts:
    """Given a web address that a secret may be sent to, return its parts.

    Raises:
        ValueError: It is not https:// (or http:// to this machine, or anywhere with `plain_http`).
    """
    parts = _urlsplit(url)
    if parts is None or not parts.hostname or re.search(r"\s", url):
        raise ValueError("must be a web address, such as https://example.bitrix24.com/")
    if parts.username is not None:
        raise ValueError("must not hold a user name or a password before the host")
    if parts.scheme != "https" and not (parts.scheme == "http" and (plain_http or is_loopback(url))):
        raise ValueError("must begin with https://; http:// is accepted only to this machine")
    return WebParts(parts.scheme, parts.path, parts.query, parts.fragment)


def _urlsplit(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if it is not a number
    except ValueError:
        return None
    return parts


_PATH: Final = re.compile(r"/rest/(?P<user>\d+)/(?P<code>[^/\s]+)/?")
_WITH_METHOD: Final = re.compile(r"/rest/\d+/[^/\s]+/[\w.]+/?")
_WITHOUT_USER: Final = re.compile(r"/rest/[^/\s]+/?")


@dataclass(frozen=True, slots=True)
class InboundWebhook:
    """An inbound webhook (portal.md 1.1).

    Args:
        origin: `https://host[:port]`.
        user: The id of the user it acts for.
        code: The secret.
    """

    origin: str
    user: str
    code: str = field(repr=False)

    @property
    def host(self) -> str:
        """The host, with the port unless it is the scheme's default."""
        return web_host(self.origin)

    @property
    def path(self) -> str:
        """The path that methods are appended to; it contains the secret."""
        return f"/rest/{self.user}/{self.code}/"


def parse_webhook(url: str) -> InboundWebhook:
    """Given the URL of an inbound webhook, return its parts.

    Raises:
        ValueError: It is not `https://HOST/rest/USER/CODE/`; http:// is accepted only to this machine.
    """
    url = url.strip()
    parts = check_https(url)
    match = _PATH.fullmatch(parts.path)
    if match is None or parts.query or parts.fragment:
        if _WITH_METHOD.fullmatch(parts.path):
            raise ValueError("ends with a method's name; leave that off: https://HOST/rest/USER/CODE/")
        if _WITHOUT_USER.fullmatch(parts.path):
            raise ValueError("lacks the user's id or the code: https://HOST/rest/USER/CODE/")
        raise ValueError("must be the URL of an inbound webhook: https://HOST/rest/USER/CODE/")
    return InboundWebhook(origin_of(url), match["user"], match["code"])
