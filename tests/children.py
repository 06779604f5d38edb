"""Processes that tests start. None outlives its limit.

A test that reads what a child prints waits for the child. A child that hangs would hang the test, and a background job
of CI would hang for ever with it: so each child is killed when its time is over, and the test fails with what it read.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from typing import Any

LIMIT = 300.0
"""Seconds a child may live. The longest of a test needs a fifth of it on a quiet machine."""


class Child(subprocess.Popen[str]):
    """A child with a limit; otherwise a `Popen` of text.

    Args:
        argv: The command.
        limit: Seconds after which it is killed.
        options: As `Popen` takes them.
    """

    def __init__(self, argv: Sequence[str], *, limit: float = LIMIT, **options: Any) -> None:
        super().__init__(argv, **({"text": True} | options))
        self._limit = threading.Timer(limit, self.kill)
        self._limit.daemon = True
        self._limit.start()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, which comes at the limit at the latest."""
        code = super().wait(timeout)
        self._limit.cancel()
        return code

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        code = super().poll()
        if code is not None:
            self._limit.cancel()
        return code
