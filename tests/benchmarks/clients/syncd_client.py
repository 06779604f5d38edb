"""syncd's portal client: `list` reads all bindings, `N` binds N new orders as the engine does."""

import asyncio
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import anyio._backends._asyncio  # noqa: F401  # httpx would import it at its first connection
import structlog

from syncd.config.model import PortalSettings
from syncd.core.model import Action, Owner, Scope
from syncd.core.ports import Effect, Write
from syncd.obs.clock import SystemClock
from syncd.portal.hosts import Hosts
from syncd.portal.opening import open_portal

URL, JOB, OUT = sys.argv[1], sys.argv[2], Path(sys.argv[3])


async def read(portal):
    orders = []
    async for rows in portal.listing([], Scope(frozenset({2})), lambda *_: None):
        if JOB != "count":
            orders += [row[0] for row in rows]
    return orders


async def add(portal, number):
    todo = [Write(order, None, Owner(2, 1)) for order in range(1_000_000, 1_000_000 + number)]
    ahead = None
    while todo:
        await asyncio.sleep(portal.wait_for(Action.ADD))
        size = portal.batch_size(todo)
        batch, todo = todo[:size], todo[size:]
        if ahead is None:
            await portal.read([write.order_id for write in batch])
        following = [write.order_id for write in todo[: portal.batch_size(todo)]] if todo else []
        answer = await portal.write(batch, following)
        ahead = answer.read
        todo += [write for write, told in zip(batch, answer.results, strict=True) if told.effect is Effect.NOT_SENT]
    return []


async def main():
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    hosts = Hosts(SystemClock(), runtime_dir=Path(tempfile.mkdtemp()))
    portal = open_portal(PortalSettings(webhook=URL, rate_share=1.0), link="bench", hosts=hosts)
    began = time.perf_counter()
    orders = await (add(portal, int(JOB)) if JOB.isdigit() else read(portal))
    wall = time.perf_counter() - began
    await portal.aclose()
    OUT.write_text(json.dumps(orders))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss // 1024}))


asyncio.run(main())
