"""How a notification gets to somebody: a JSON POST, or a program with the JSON on its standard input."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from syncd import __version__

TIMEOUT: Final = 10.0
"""Seconds a webhook may take to answer."""
COMMAND_TIMEOUT: Final = 30.0


class Undelivered(Exception):
    """A notification did not get through; the text says why, and never where to (an address holds a secret)."""


class Courier(Protocol):
    """One way to somebody."""

    way: str

    async def deliver(self, notice: Mapping[str, Any]) -> None:
        """Deliver a notification.

        Raises:
            Undelivered: It was not taken.
        """
        ...


class Webhook:
    """Posts notifications as JSON. Redirects are refused: a POST that becomes a GET tells nobody anything.

    Args:
        url: The address; a secret.
        timeout: Seconds to wait for it.
    """

    way = "webhook"

    def __init__(self, url: str, *, timeout: float = TIMEOUT) -> None:
        self._url = url
        self._timeout = timeout
        self._opener = urllib.request.build_opener(_NoRedirect)

    async def deliver(self, notice: Mapping[str, Any]) -> None:
        """See `Courier`."""
        await asyncio.to_thread(self._post, json.dumps(notice).encode())

    def _post(self, body: bytes) -> None:
        headers = {"Content-Type": "application/json", "User-Agent": f"syncd/{__version__}"}
        request = urllib.request.Request(self._url, body, headers, method="POST")  # noqa: S310 - http(s), by the settings
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                answer.read(1024)
        except urllib.error.HTTPError as error:
            with error:
                raise Undelivered(f"it answered {error.code}") from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise Undelivered(f"it could not be reached ({type(reason).__name__})") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


class Command:
    """Runs a program, without a shell, with the notification on its standard input.

    Args:
        argv: The program and its arguments.
        timeout: Seconds after which it is killed.
    """

    way = "command"

    def __init__(self, argv: Sequence[str], *, timeout: float = COMMAND_TIMEOUT) -> None:
        self._argv = list(argv)
        self._timeout = timeout

    async def deliver(self, notice: Mapping[str, Any]) -> None:
        """See `Courier`."""
        try:
            child = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            raise Undelivered(f"it could not be started ({error.strerror})") from None
        try:
            async with asyncio.timeout(self._timeout):
                await child.communicate(json.dumps(notice).encode())
        except TimeoutError:
            raise Undelivered(f"it was killed after {self._timeout:g} s") from None
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode:
            raise Undelivered(f"it ended with {child.returncode}")
