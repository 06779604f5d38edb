"""How many frames and files a pass of `syncd reconcile` is deep when it sends a request.

Run as a program in a process of its own, with the tree to be measured on its path. A task has no caller, so each keeps
the stack that it was made on: what is counted is who called whom, over all tasks, from `main()` to httpx.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import httpx

WRITES = ("orderentity.add", "orderentity.deletebyfilter")
"""Methods that write; they are commands of batches, so their names are in the bodies of requests."""


class Step(NamedTuple):
    """A call on the way, by the file and the name of the function."""

    file: str
    function: str


class Walk:
    """Stacks at the first request and at the first request that writes, the outermost call first."""

    def __init__(self, package: Path) -> None:
        self._package = str(package)
        self._makers: dict[int, list[Step]] = {}
        self._kept: list[asyncio.Task[Any]] = []
        self.stacks: dict[str, list[Step]] = {}

    def watch(self) -> None:
        """Hook into the making of tasks and into httpx, for the rest of this process."""
        make = asyncio.BaseEventLoop.create_task
        send = httpx.AsyncClient.send

        def create_task(loop: asyncio.BaseEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any) -> Any:
            maker = self._stack()
            task = make(loop, coroutine, **options)
            self._makers[id(task)] = maker
            self._kept.append(task)  # its id must not be used again
            return task

        async def sent(client: httpx.AsyncClient, request: httpx.Request, **options: Any) -> httpx.Response:
            self._note(request)
            return await send(client, request, **options)

        _replace(asyncio.BaseEventLoop, "create_task", create_task)
        _replace(httpx.AsyncClient, "send", sent)

    def _note(self, request: httpx.Request) -> None:
        self.stacks.setdefault("request", self._stack())
        text = (str(request.url) + request.content.decode("utf-8", "replace")).lower()
        if any(write in text for write in WRITES):
            self.stacks.setdefault("write", self._stack())

    def _stack(self) -> list[Step]:
        """Return the calls from `main()` to here that are the package's own."""
        frame: FrameType | None = sys._getframe(2)
        steps: list[Step] = []
        while frame is not None:
            if frame.f_code.co_filename.startswith(self._package):
                steps.append(Step(frame.f_code.co_filename[len(self._package) + 1 :], frame.f_code.co_name))
            if frame.f_code.co_name == "_run" and frame.f_code.co_filename.endswith("asyncio/events.py"):
                break
            frame = frame.f_back
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        outer = self._makers.get(id(task), []) if task is not None and frame is not None else []
        return outer + steps[::-1]


def _replace(owner: type, name: str, function: Callable[..., Any]) -> None:
    setattr(owner, name, function)


def walk(package: Path, config: str) -> dict[str, list[Step]]:
    """Run `syncd reconcile` in this process; return the stacks of its first request and of its first write."""
    from syncd.cli.main import main

    watched = Walk(package)
    watched.watch()
    with contextlib.redirect_stdout(sys.stderr):
        main(["--config", config, "reconcile"])
    return watched.stacks


if __name__ == "__main__":
    print(json.dumps(walk(Path(sys.argv[1]).resolve(), sys.argv[2])))
