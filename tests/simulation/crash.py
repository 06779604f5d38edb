"""Proxies that stop a process dead before or after any single call to the outside world."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any


class Crash(BaseException):
    """The process is gone: nothing of it runs any more, so every later call through the same `Steps` crashes too."""


class Steps:
    """Counts the calls of one process to its ports; `stop_at` names the step at which it dies (0: never).

    `meanwhile` is called at every step, with its name: what others do while this process waits for an answer.
    """

    def __init__(self, stop_at: int = 0, meanwhile: Callable[[str], None] | None = None) -> None:
        self.meanwhile = meanwhile
        self.taken = 0
        self.dead = False
        self.stop_at = stop_at
        self.names: list[str] = []

    def step(self, name: str) -> None:
        if not self.dead:
            self.taken += 1
            self.names.append(name)
            self.dead = self.taken == self.stop_at
            if self.meanwhile is not None and not self.dead:
                self.meanwhile(name)
        if self.dead:
            raise Crash(name)

    def die(self, name: str) -> None:
        """The process dies now."""
        self.dead = True
        raise Crash(name)


class Forks(Steps):
    """Steps of a process that lives on, while at each of them a copy of its world is kept, as if it had died there.

    Args:
        copied: Returns the world, as bytes. What comes after a step depends on nothing else, so each state of the world
            is kept once, with the first step that finds it.
    """

    def __init__(self, copied: Callable[[], bytes]) -> None:
        super().__init__()
        self._copied = copied
        self.worlds: dict[bytes, tuple[int, str]] = {}

    def step(self, name: str) -> None:
        self.worlds.setdefault(self._copied(), (self.taken + 1, name))
        super().step(name)


PURE = {"usage", "batch_size", "wait_for", "now", "monotonic", "random"}
"""Calls that touch nothing outside: dying there is dying at the next step."""


class Mortal:
    """Wraps a port so that each of its calls is two steps: before its effect, and after it."""

    def __init__(self, port: Any, name: str, steps: Steps) -> None:
        self._port = port
        self._name = name
        self._steps = steps

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._port, attribute)
        if attribute in PURE or not callable(value):
            return value
        label = f"{self._name}.{attribute}"
        if attribute == "listing":
            return self._listing(value, label)
        if attribute == "snapshot":
            return self._snapshot(value, label)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._steps.step(f"{label} before")
            result = value(*args, **kwargs)
            if inspect.isawaitable(result):
                result = await result
            self._steps.step(f"{label} after")
            return result

        return call

    def _listing(self, value: Any, label: str) -> Any:
        async def rows(*args: Any, **kwargs: Any) -> Any:
            self._steps.step(f"{label} before")
            async for chunk in value(*args, **kwargs):
                self._steps.step(f"{label} chunk")
                yield chunk
            self._steps.step(f"{label} after")

        return rows

    def _snapshot(self, value: Any, label: str) -> Any:
        @asynccontextmanager
        async def read(*args: Any, **kwargs: Any) -> Any:
            self._steps.step(f"{label} before")
            async with value(*args, **kwargs) as snapshot:
                self._steps.step(f"{label} after")
                yield snapshot

        return read
