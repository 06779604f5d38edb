"""One measured process of `tests.benchmarks.scale`: a pass, or merely listing the portal and reading the table.

python -m tests.benchmarks.scale_child '{"job": "pass", "webhook": ..., "table": ..., "state": ...}'
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

import structlog

from syncd.config.model import PortalSettings, Settings
from syncd.config.portal_and_table import PortalPlan
from syncd.core.model import Scope
from syncd.engine import reconcile as engine
from syncd.engine.covering import Portion
from syncd.obs.clock import SystemClock
from syncd.portal.factory import open_portal
from syncd.portal.hosts import Hosts
from syncd.wiring import open_app_context


def settings(options: dict[str, Any]) -> Settings:
    link = {
        "first_sync": "auto",
        "verify_owners": False,
        "portal": {"webhook": options["webhook"], "plan": "box"},
        "table": {
            "url": options["table"],
            "name": options.get("name", "order_bindings"),
            "columns": {options.get("key", "order_id"): "order_id", "owner_type_id": 2, "owner_id": "deal_id"},
        },
        "guards": {"max_removes": 10**6, "max_removes_per_day": 10**7, "max_moves": 10**6},
    }
    return Settings.model_validate({"state": {"url": options["state"]}, "links": {"shop": link}})


async def one_pass(options: dict[str, Any]) -> dict[str, Any]:
    async with open_app_context(settings(options)) as place, place.link("shop") as link:
        report = await engine.reconcile(link)
        row = report.row
        return {"state": row.state, "error": row.error, "in_step": row.counts.in_step, "requests": row.requests,
                "changes": len(report.changes), "listing": row.seconds}  # fmt: skip


async def recent_pass(options: dict[str, Any]) -> dict[str, Any]:
    """A pass over the 2,000 newest orders; its CPU is the pass's own, without the process's beginning."""
    async with open_app_context(settings(options)) as place, place.link("shop") as link:
        link.recent_orders = 2000
        before = time.process_time()
        report = await engine.reconcile(link, origin="recent", portion=Portion(recent=True))
        row = report.row
        return {"state": row.state, "error": row.error, "in_step": row.counts.in_step, "requests": row.requests,
                "changes": len(report.changes), "listing": row.seconds, "calls": row.calls,
                "own cpu": time.process_time() - before}  # fmt: skip


async def merely(options: dict[str, Any]) -> dict[str, Any]:
    """The floor: the same libraries list the portal and read the table, and nothing is done with the rows."""
    import sqlalchemy as sa

    settings_ = PortalSettings(webhook=options["webhook"], plan=PortalPlan.BOX)
    listed = 0
    with tempfile.TemporaryDirectory() as folder:
        portal = open_portal(settings_, link="floor", hosts=Hosts(SystemClock(), runtime_dir=Path(folder)))
        async for chunk in portal.listing([], Scope(frozenset({2})), lambda *_: None):
            listed += len(chunk.rows)
        await portal.aclose()
    read = 0
    engine_ = sa.create_engine(options["table"])
    with engine_.connect().execution_options(yield_per=10_000) as connection:
        query = sa.text("SELECT order_id, deal_id FROM order_bindings ORDER BY order_id")
        for rows in connection.execute(query).partitions():
            read += len(rows)
    engine_.dispose()
    return {"state": "floor", "in_step": min(listed, read)}


async def many_links(options: dict[str, Any]) -> dict[str, Any]:
    """200 links of 1,000 bindings in one process, eight of them at a time, as the daemon has them."""
    plain = settings(options).model_dump(mode="python")
    link = plain["links"].pop("shop")
    for number in range(options["links"]):
        table = {**link["table"], "name": f"order_bindings_{number}"}
        plain["links"][f"shop{number}"] = {**link, "table": table}
    lanes = asyncio.Semaphore(8)
    async with open_app_context(Settings.model_validate(plain)) as place:

        async def one(name: str) -> int:
            async with lanes, place.link(name) as link_:
                return (await engine.reconcile(link_)).row.counts.in_step

        in_step = sum(await asyncio.gather(*(one(name) for name in plain["links"])))
    return {"state": "applied", "in_step": in_step}


def peak() -> int:
    """The most memory the process had, in MB; `ru_maxrss` would count its parent's before the exec, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def main() -> None:
    options = json.loads(sys.argv[1])
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    job = {"pass": one_pass, "recent": recent_pass, "floor": merely, "links": many_links}[options["job"]]
    began = time.perf_counter()
    result = asyncio.run(job(options))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result |= {
        "wall": time.perf_counter() - began,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": peak(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
