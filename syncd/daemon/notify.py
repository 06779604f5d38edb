"""The sd_notify protocol: what the service manager is told (sd_notify(3)). Outside systemd it does nothing."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping


class Notifier:
    """Sends state changes to `$NOTIFY_SOCKET`.

    Args:
        environ: The environment of the process.
        pid: This process, compared with `$WATCHDOG_PID`.
    """

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # A leading @ stands for a name in Linux's abstract namespace, which begins with a zero byte.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        microseconds = environ.get("WATCHDOG_USEC", "")
        for_us = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        self.watchdog = int(microseconds) / 1e6 if microseconds.isdigit() and for_us else 0.0
        """Seconds within which a pet is expected; 0 when nobody waits for any."""
        self._status = ""

    @property
    def listening(self) -> bool:
        """Whether a service manager is there to listen."""
        return bool(self._address)

    def send(self, **fields: str | int) -> None:
        """Send assignments such as READY=1. A manager that does not listen is no reason to stop."""
        if not self._address:
            return
        message = "\n".join(f"{name}={value}" for name, value in fields.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.settimeout(1.0)
            out.sendto(message.encode(), self._address)

    def ready(self) -> None:
        """The service is up (again)."""
        self.send(READY=1)

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`; sent only when it differs from the last."""
        if text != self._status:
            self._status = text
            self.send(STATUS=text.replace("\n", " "))

    def reloading(self) -> None:
        """The configuration is being read again; `ready` ends this."""
        self.send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def stopping(self) -> None:
        """The service is on its way down."""
        self.send(STOPPING=1)

    def pet(self) -> None:
        """All is sound."""
        self.send(WATCHDOG=1)

    def extend(self, seconds: float) -> None:
        """Starting or stopping takes longer: wait at least this many seconds from now."""
        self.send(EXTEND_TIMEOUT_USEC=int(seconds * 1e6))
