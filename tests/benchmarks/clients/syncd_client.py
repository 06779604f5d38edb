"""syncd's portal client: `list` reads all bindings, `N` binds N new orders, `moveN` moves N, `bothN` does both, as the engine does.

With `--known`, it is given every 50th order of the last listing, as every pass but a link's first is.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import anyio._backends._asyncio  # noqa: F401  # httpx would import it at its first connection
import structlog
from pydantic import SecretStr

from syncd.config.model import PortalSettings
from syncd.core.model import Action, Owner, Scope
from syncd.core.pacing import ConcurrencyLimit
from syncd.core.ports import Effect, Write, WriteResult
from syncd.obs.clock import SystemClock
from syncd.portal.client import BitrixPortal
from syncd.portal.factory import open_portal
from syncd.portal.hosts import Hosts

*OPTIONS, URL, JOB, out = sys.argv[1:]
OUT, ROWS = Path(out), 1_000
KNOWN = range(50, 100_001, 50) if "--known" in OPTIONS else ()
WRITERS = next((int(one) for one in OPTIONS if one.isdigit()), 4)


async def read(portal: BitrixPortal) -> list[int]:
    orders: list[int] = []
    async for listed in portal.listing(KNOWN, Scope(frozenset({2})), lambda *_: None):
        if JOB != "count":
            orders += [row[0] for row in listed.rows]
    return orders


def writes() -> list[Write]:
    """What is to be written: N new orders, or as many moves of the first orders that are bound; or both."""
    number = int("".join(filter(str.isdigit, JOB)))
    adds = [Write(order, None, Owner(2, 1)) for order in range(1_000_000, 1_000_000 + number)]
    moves = [Write(order, Owner(2, order % ROWS + 1), Owner(2, 10**6)) for order in range(1, number + 1)]
    return moves + adds if JOB.startswith("both") else adds if JOB.isdigit() else moves


async def write(portal: Any) -> None:
    """Write as the engine does: so many batches side by side, two at first, one more for each quiet round."""
    todo, limit = writes(), ConcurrencyLimit(WRITERS)
    under_way: dict[asyncio.Future[list[WriteResult]], list[Write]] = {}
    while todo or under_way:
        while todo and len(under_way) < limit.current:
            await asyncio.sleep(portal.wait_for(Action.ADD))
            size = min(portal.batch_size(todo), limit.share(len(todo)))
            batch, todo = todo[:size], todo[size:]
            under_way[asyncio.ensure_future(portal.write(batch))] = batch
            await asyncio.sleep(0)
        done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            told = zip(under_way.pop(task), task.result(), strict=True)
            todo += [write for write, one in told if one.effect is Effect.NOT_SENT]
            limit.quiet()


async def main(folder: str) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    hosts = Hosts(SystemClock(), runtime_dir=Path(folder))
    portal = open_portal(PortalSettings(webhook=SecretStr(URL), rate_share=1.0), link="bench", hosts=hosts)
    began = time.perf_counter()
    orders = await read(portal) if JOB in {"list", "count"} else []
    if JOB not in {"list", "count"}:
        await read(portal)  # as a pass does, which is how bound orders become known
        began = time.perf_counter()
        await write(portal)
    wall = time.perf_counter() - began
    await portal.aclose()
    OUT.write_text(json.dumps(orders))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss // 1024}))


with tempfile.TemporaryDirectory() as made:
    asyncio.run(main(made))
