"""libpq, through psycopg: its options, and what it shows of a server that refuses a connection."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from syncd.config.urls import plain
from syncd.db import ErrorKind
from syncd.db.backend import CONNECT_SECONDS
from syncd.db.options import (
    OptionError,
    Options,
    describe_exposure,
    is_local,
    once,
    readable_file,
    unknown_option,
    whole_number,
    yes_or_no,
)

MODULE = "psycopg"

# A pooler refuses a client with one code for everything, 08P01, and is never translated (PgBouncer's sources).
_POOLER = "08P01"
_POOLER_SAYS = {
    "no such database": "3D000",
    "no such user": "28P01",
    "authentication failed": "28P01",
    "password": "28P01",
    "not allowed": "28000",
    "login rejected": "28000",
    "unsupported startup parameter": "22023",
}
_NOT_READY = "57P03"

# libpq's own messages, before a server has answered or about a server that it will not use.
_OWN_WORDS = {
    ' value: "': ErrorKind.OPTION,  # invalid channel_binding value: "maybe"
    "invalid integer value": ErrorKind.OPTION,
    "invalid port number": ErrorKind.OPTION,
    "does not support SSL": ErrorKind.OPTION,
    "SSL error": ErrorKind.OPTION,
    "certificate": ErrorKind.OPTION,
    "no password supplied": ErrorKind.REFUSED,
    "channel binding": ErrorKind.REFUSED,
    "requested a cleartext password": ErrorKind.CLEARTEXT,
    "authentication method requirement": ErrorKind.REFUSED,
}
# A server's messages in English, for when its code cannot be found out.
_SERVER_WORDS = {
    "password authentication failed": ErrorKind.REFUSED,
    "pg_hba.conf": ErrorKind.REFUSED,
    "not permitted to log in": ErrorKind.REFUSED,
    'role "': ErrorKind.REFUSED,
    "does not exist": ErrorKind.NO_DATABASE,
    "invalid value": ErrorKind.OPTION,
}
# libpq puts two blanks after the severity of a server's message, in any language.
_SERVER_SAYS = re.compile(r"(?:failed|error): [^\s:]+(?: [^\s:]+)*:  ")
_TRACED = re.compile(r'ErrorResponse\t.*? C "([0-9A-Z]{5})"')

_FILES = ("sslcert", "sslkey", "sslrootcert", "sslcrl", "passfile")
_NUMBERS = ("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count")
_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# Other programs' names of modes; managed hosts use MySQL's for every database.
_OTHER_MODES = {
    "disabled": "disable", "preferred": "prefer", "required": "require", "verifyca": "verify-ca",
    "verifyidentity": "verify-full", "verifyfull": "verify-full",
}  # fmt: skip
_SCHEMA = ("schema", "currentschema", "searchpath")
# Settings of other programs' pools and statements. They change nothing here: syncd prepares no statements.
_NOTHING_HERE = ("pgbouncer", "connectionlimit", "poolsize", "pooltimeout", "statementcachesize", "preparethreshold")


def options_of(url: sa.URL) -> Options:
    """Given a URL, return its options as libpq takes them.

    The names that MySQL, JDBC and Prisma have for TLS, schema and pools are understood, too.

    Raises:
        OptionError: It does not know one, or cannot use its value.
    """
    from psycopg.pq import Conninfo  # noqa: PLC0415 - the driver, which is an extra

    known = {plain(name): name for name in (one.keyword.decode() for one in Conninfo.get_defaults())}
    texts: dict[str, str | Sequence[str]] = {
        name: value for name, value in url.query.items() if name in {"host", "port"}
    }
    for name, value in once(url, many=("host", "port")).items():
        same = plain(name)
        if same == "sslmode":
            texts["sslmode"] = _mode(name, value)
        elif same in {"ssl", "usessl", "tls"} and value.lower() not in _MODES:
            texts.setdefault("sslmode", "require" if yes_or_no(name, value) else "disable")
        elif same in {"ssl", "usessl", "tls"}:
            texts.setdefault("sslmode", value.lower())
        elif same in _SCHEMA:
            texts["options"] = f"{texts.get('options', '')} -csearch_path={_escaped(value)}".strip()
        elif same in known:
            texts[known[same]] = _checked(known[same], name, value)
        elif same not in _NOTHING_HERE:
            raise unknown_option(name, MODULE, sorted(known.values()))
    if "require_auth" in known.values() and _keeps_password(url, texts):
        texts.setdefault("require_auth", "!password")
    return Options(texts, {})


def _keeps_password(url: sa.URL, texts: Mapping[str, str | Sequence[str]]) -> bool:
    """Return whether a password must not be sent in the clear: the server is remote, and does not have to prove itself.

    Variables of libpq's own environment count as well. The file of a service has options of its own.
    """

    def values_of(option: str) -> Sequence[str]:
        value = texts.get(option) or os.environ.get(f"PG{option.upper().replace('_', '')}", "")
        return value.split(",") if isinstance(value, str) else value

    if any(values_of("service")) or any(values_of("require_auth")):
        return False
    # An option `host` replaces the URL's own host.
    named = [url.host] if url.host and "host" not in texts else values_of("host")
    hosts = [*named, *values_of("hostaddr")]
    modes = values_of("sslmode")
    verified = "verify-full" in modes or ("system" in values_of("sslrootcert") and not any(modes))
    return not verified and not all(map(is_local, hosts))


def exposure(connection: Any) -> str:
    """Given a connection of the driver, see `Backend.exposure`."""
    libpq = connection.pgconn
    host = connection.info.host
    if is_local(host) and is_local(connection.info.hostaddr):
        return ""
    mode = next((one.val for one in libpq.info if one.keyword == b"sslmode"), None)
    return describe_exposure(
        host,
        encrypted=bool(libpq.ssl_in_use),
        proved=mode == b"verify-full",
        remedy="sslmode=verify-full with the server's sslrootcert",
    )


def _mode(name: str, value: str) -> str:
    mode = _OTHER_MODES.get(plain(value), value.lower())
    if mode not in _MODES:
        raise OptionError(f"its option {name} sets sslmode of libpq, which takes one of: {', '.join(_MODES)}")
    return mode


def _checked(option: str, name: str, value: str) -> str:
    if option in _NUMBERS:
        return str(whole_number(name, value))
    if option in _FILES and not (option == "sslrootcert" and value == "system"):
        return readable_file(name, value)
    return value


def _escaped(value: str) -> str:
    """A blank ends an option of the server, unless it follows a backslash."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def kind_without_code(words: str) -> ErrorKind:
    """Given the message of an error without SQLSTATE, return its kind. libpq's own messages are never translated."""
    from_server = bool(_SERVER_SAYS.search(words))
    meant = _SERVER_WORDS if from_server else _OWN_WORDS | _SERVER_WORDS
    return next(
        (kind for said, kind in meant.items() if said in words),
        ErrorKind.NOT_READY if from_server else ErrorKind.UNREACHABLE,
    )


def refusal_code(error: BaseException, arguments: Mapping[str, Any]) -> str:
    """Given an error at connecting without SQLSTATE, return that of the server's refusal; empty if no server answered.

    libpq does not return the code, so it connects once more while it traces the protocol.

    Args:
        error: As psycopg raised it.
        arguments: What psycopg was called with.
    """
    if not _SERVER_SAYS.search(str(error)):
        return ""
    state = _refused_with(arguments)
    if state != _POOLER:
        return state
    words = str(error)
    return next((code for said, code in _POOLER_SAYS.items() if said in words), _NOT_READY)


def _refused_with(arguments: Mapping[str, Any]) -> str:
    """Connect once more as the driver did; return the SQLSTATE of the server's refusal, or an empty text."""
    from psycopg import Error, pq  # noqa: PLC0415 - the driver, which is an extra
    from psycopg.conninfo import make_conninfo  # noqa: PLC0415 - as above

    known = {one.keyword.decode() for one in pq.Conninfo.get_defaults()}
    given = {name: value for name, value in arguments.items() if name in known}
    # In memory only: the trace contains a password that is sent in the clear.
    descriptor = os.memfd_create("syncd", os.MFD_CLOEXEC)
    try:
        with suppress(Error, OSError):
            connection = pq.PGconn.connect_start(make_conninfo(**given).encode())
            try:
                connection.trace(descriptor)
                _connect(connection, float(given.get("connect_timeout") or CONNECT_SECONDS))
                connection.untrace()
            finally:
                connection.finish()
        text = os.pread(descriptor, 65536, 0).decode(errors="replace")
    finally:
        os.close(descriptor)
    states = _TRACED.findall(text)
    return states[-1] if states else ""


def _connect(connection: Any, seconds: float) -> None:
    from psycopg import pq  # noqa: PLC0415 - the driver, which is an extra

    while True:
        status = connection.connect_poll()
        if status not in {pq.PollingStatus.READING, pq.PollingStatus.WRITING}:
            return
        reading = [connection.socket] if status == pq.PollingStatus.READING else []
        writing = [connection.socket] if status == pq.PollingStatus.WRITING else []
        if not any(select.select(reading, writing, [], seconds)):
            return
