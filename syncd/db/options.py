"""The options after the `?` of a database URL: which ones a driver knows, and how it takes them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from syncd.config.urls import is_loopback_host


class OptionError(ValueError):
    """An option of a URL cannot be used. The text is the end of a sentence, without the option's value."""


class Options(NamedTuple):
    """The options of a URL: texts that stay in the URL, and values that are arguments of the call that connects."""

    texts: Mapping[str, str | Sequence[str]]
    values: Mapping[str, Any]


def unknown_option(name: str, driver: str, known: Sequence[str]) -> OptionError:
    """Given an option that a driver does not know, and those it knows, return the error; it names the most similar."""
    near = get_close_matches(name.lower(), known, n=1)
    return OptionError(
        f"the driver {driver} does not know the option {name}" + (f"; did you mean {near[0]}?" if near else "")
    )


def readable_file(name: str, value: str) -> str:
    """Given an option that names a file, return the file's path.

    Raises:
        OptionError: The file does not exist, or may not be read.
    """
    path = Path(value).expanduser()
    if not path.is_file():
        raise OptionError(f"the file that its option {name} names does not exist")
    if not os.access(path, os.R_OK):
        raise OptionError(f"the file that its option {name} names may not be read")
    return str(path)


def whole_number(name: str, value: str) -> int:
    """Given the value of an option that takes a number, return the number.

    Raises:
        OptionError: It is not a whole number.
    """
    if not (value.isascii() and value.isdigit()):
        raise OptionError(f"its option {name} takes a whole number")
    return int(value)


def yes_or_no(name: str, value: str) -> bool:
    """Given the value of an option that takes true or false, return which it is.

    Raises:
        OptionError: It is neither.
    """
    known = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if value.lower() not in known:
        raise OptionError(f"its option {name} takes true or false")
    return known[value.lower()]


def once(url: sa.URL, *, many: Sequence[str] = ()) -> dict[str, str]:
    """Given a URL, return its options, except those of `many`, which alone may be given more than once.

    Raises:
        OptionError: Another one is given more than once.
    """
    found: dict[str, str] = {}
    for name, value in url.query.items():
        if name in many:
            continue
        if not isinstance(value, str):
            raise OptionError(f"its option {name} is given more than once")
        found[name] = value
    return found


def is_local(host: str) -> bool:
    """Given a server's host name, return whether what is sent to it stays on this machine: a socket, or loopback."""
    return not host or host.startswith(("/", "@")) or is_loopback_host(host)


def describe_exposure(host: str, *, encrypted: bool, proved: bool, remedy: str) -> str:
    """Return how a third party could read or change what is sent to a server, as a sentence; empty if none can.

    Args:
        host: The server, which is not on this machine.
        encrypted: Whether the connection is.
        proved: Whether the server has proved by its certificate that it is this host.
        remedy: The options that prevent it.
    """
    if encrypted and proved:
        return ""
    if encrypted:
        how = f"encrypted, but the server does not prove that it is {host}: a third party can pretend to be it"
    else:
        how = "not encrypted: a third party can read and change what is sent"
    return f"the connection to {host} is {how}; {remedy} prevents that"
