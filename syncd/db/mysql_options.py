"""PyMySQL's options: those of a URL, TLS among them, and what a connection shows of its own safety."""

from __future__ import annotations

import ssl
from inspect import signature
from typing import Any

import sqlalchemy as sa

from syncd.config.urls import plain
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

MODULE = "pymysql"

CLEARTEXT = 1_000_000
"""The number of our own error for a server that asks for the password in the clear; servers use smaller ones."""
_CLEARTEXT = "enablecleartextplugin"

_MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
_BY_MODE = {plain(mode): mode for mode in _MODES} | {
    "disable": "DISABLED", "prefer": "PREFERRED", "allow": "PREFERRED", "require": "REQUIRED",
    "verifyfull": "VERIFY_IDENTITY",
}  # fmt: skip
_FILES = {
    "sslca": "ca", "sslrootcert": "ca", "sslcert": "cert", "sslkey": "key", "sslcapath": "capath",
    "sslcipher": "cipher",
}  # fmt: skip
_NUMBERS = ("connect_timeout", "read_timeout", "write_timeout", "max_allowed_packet")
_TEXTS = ("charset", "collation", "unix_socket", "bind_address", "program_name", "init_command", "sql_mode")
_OTHER_NAMES = {"socket": "unix_socket", "applicationname": "program_name", "characterencoding": "charset"}
_NOTHING_HERE = ("connectionlimit", "poolsize", "pooltimeout", "useunicode", "allowpublickeyretrieval")


def options_of(url: sa.URL) -> Options:
    """Given a URL, return its options as PyMySQL takes them.

    The names that MySQL, libpq and JDBC have for TLS are understood, too.

    Raises:
        OptionError: It does not know one, or cannot use its value.
    """
    given = once(url)
    texts: dict[str, str] = {}
    values: dict[str, Any] = {}
    for name, value in given.items():
        same = plain(name)
        if same in _FILES or same in {_CLEARTEXT, "sslmode", "ssl", "usessl", "requiressl", "tls", "sslcheckhostname"}:
            continue
        own = _OTHER_NAMES.get(same) or next((one for one in (*_NUMBERS, *_TEXTS) if plain(one) == same), "")
        if own in _NUMBERS:
            values[own] = whole_number(name, value)
        elif own == "charset":
            texts[own] = _charset(name, value)
        elif own:
            values[own] = value
        elif same not in _NOTHING_HERE:
            raise unknown_option(name, MODULE, _known())
    tls = _tls(given)
    allowed = any(plain(name) == _CLEARTEXT and yes_or_no(name, value) for name, value in given.items())
    verified = bool(tls.get("ssl", {}).get("verify_mode"))
    if not (allowed or verified or is_local("" if values.get("unix_socket") else url.host or "")):
        values["auth_plugin_map"] = dict.fromkeys(("mysql_clear_password", "dialog"), _Refusal)
    return Options(texts, values | tls)


class _Refusal:
    """Replaces the plug-ins that send the password in the clear.

    PyMySQL would send it to any server that asks, over any connection.
    """

    def __init__(self, _connection: object) -> None:
        """Take the driver's connection."""

    def authenticate(self, _packet: object) -> object:
        """Send nothing."""
        from pymysql.err import OperationalError  # noqa: PLC0415 - the driver, which is an extra

        raise OperationalError(CLEARTEXT, "the server requested a cleartext password")


def exposure(connection: Any) -> str:
    """Given a connection of the driver, see `Backend.exposure`."""
    host = connection.host
    if is_local("" if connection.unix_socket else host):
        return ""
    socket = connection._sock  # noqa: SLF001 - the only place that shows it
    tls = socket.context if isinstance(socket, ssl.SSLSocket) else None
    return describe_exposure(
        host,
        encrypted=tls is not None,
        proved=tls is not None and tls.verify_mode is ssl.CERT_REQUIRED and tls.check_hostname,
        remedy="ssl-mode=VERIFY_IDENTITY with the server's ssl-ca",
    )


def _known() -> list[str]:
    from pymysql.connections import Connection  # noqa: PLC0415 - the driver, which is an extra

    return [*{*signature(Connection.__init__).parameters} & {*_NUMBERS, *_TEXTS}, "ssl_mode", "ssl_ca", "ssl_cert"]


def _charset(name: str, value: str) -> str:
    from pymysql.charset import charset_by_name  # noqa: PLC0415 - the driver, which is an extra

    known = {"utf-8": "utf8mb4"}.get(value.lower(), value)
    try:
        found = charset_by_name(known)
    except KeyError:
        found = None
    if found is None:
        raise OptionError(f"its option {name} sets charset of pymysql, which does not know that character set")
    return known


def _tls(given: dict[str, str]) -> dict[str, Any]:
    """Given all options of a URL, return the driver's arguments for TLS. Without any, it uses TLS if the server can."""
    files = {
        own: value if own == "cipher" else _file(own, name, value)
        for name, value in given.items()
        if (own := _FILES.get(plain(name)))
    }
    mode = _tls_mode(given, "VERIFY_IDENTITY" if "ca" in files or "capath" in files else "REQUIRED" if files else "")
    if not mode or mode == "PREFERRED":
        return {}
    if mode == "DISABLED":
        return {"ssl_disabled": True}
    # A named certificate authority is used, as by MySQL's own programs.
    verify = mode != "REQUIRED" or "ca" in files or "capath" in files
    if verify and not {"ca", "capath"} & files.keys():
        paths = ssl.get_default_verify_paths()
        files |= {name: at for name, at in (("ca", paths.cafile), ("capath", paths.capath)) if at}
    return {"ssl": {**files, "check_hostname": mode == "VERIFY_IDENTITY", "verify_mode": verify}}


def _tls_mode(given: dict[str, str], mode: str) -> str:
    for name, value in given.items():
        same = plain(name)
        if same == "sslmode":
            if plain(value) not in _BY_MODE:
                raise OptionError(f"its option {name} takes one of: {', '.join(_MODES)}")
            mode = _BY_MODE[plain(value)]
        elif same in {"ssl", "usessl", "requiressl", "tls"}:
            asked = _asked(name, value)
            mode = mode if asked and mode else asked or "DISABLED"
        elif same == "sslcheckhostname" and not yes_or_no(name, value) and mode == "VERIFY_IDENTITY":
            mode = "VERIFY_CA"
    return mode


def _asked(name: str, value: str) -> str:
    """Given true or false, or the JSON of Node's drivers, return the mode it asks for; empty for none."""
    if value.strip().startswith("{"):
        return "REQUIRED" if "false" in value else "VERIFY_IDENTITY"
    if plain(value) in {"skipverify", "preferred"}:
        return "REQUIRED"
    return "REQUIRED" if yes_or_no(name, value) else ""


def _file(own: str, name: str, value: str) -> str:
    return value if own == "capath" else readable_file(name, value)
