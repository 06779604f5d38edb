"""A sandbox portal in a process of its own, so that a client's CPU is the client's; prints what it saw when it ends.

    python -m tests.benchmarks.portal_server '{"rows": 1000, "latency": "none", "limits": true, "change": "delete", ...}'

Prints the webhook URL and the certificate's path as one JSON line, obeys the lines of its standard input until that is
closed, and prints one JSON line of statistics. A line is a JSON object: `{"bind": [order, owner]}` does what somebody does
in the portal's pages, `{"latency": "documented"}` changes how long the portal works from now on,
and begins to count its requests anew.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from syncd.sandbox import Fault, FaultRule, Latencies, PortalLimits, References, SandboxPortal, SandboxServer
from syncd.sandbox.execution import FIRST_OWNER
from syncd.sandbox.php import PhpArray

LATENCIES = {
    "none": Latencies(),
    "documented": Latencies.documented(),
    # What OFFSET and COUNT cost a database that finds 3 million index rows a second; nothing else costs anything.
    "scanned": Latencies(scan=0.00033),
}

LIST, ADD = "crm.orderentity.list", "crm.orderentity.add"
WINDOW = 600
"""Seconds that the portal's budget is for."""

CHANGES = 33
"""Concurrent changes of a kind, as in peers.md 4."""


class Meanwhile:
    """Other people, who change bindings while a client reads them: evenly over its list calls."""

    def __init__(self, portal: SandboxPortal, kind: str, calls: int) -> None:
        self._portal = portal
        self._kind = kind
        self._every = max(1, calls // (CHANGES + 1))
        self._seen = 0
        self._done = 0
        self._orders = sorted(portal.bindings)
        self.lasting = set(self._orders)
        """Orders that were bound before, during and after the reading: a reader must have them all."""

    def __call__(self, method: str, _params: PhpArray, _request: int) -> None:
        if method != LIST:
            return
        self._seen += 1
        if self._seen % self._every == 0 and self._done < CHANGES:
            self._done += 1
            self._change()

    def _change(self) -> None:
        # The victims stand at the beginning, where offset paging shifts everything after them.
        order = self._orders[self._done]
        fresh = self._orders[-1] + self._done
        if self._kind in {"delete", "churn"}:
            self._portal.unbind(order)
            self.lasting.discard(order)
        if self._kind in {"insert", "churn"}:
            self._portal.add_order(fresh)
            # A new order of an old deal comes in at the beginning, one of a new deal at the end.
            self._portal.bind(fresh, 2, 1 if self._kind == "insert" else 10**7)
        if self._kind == "move":
            self._portal.bind(order, 2, 10**7)


class ListingTime:
    """The method time of listing, by the second.

    Args:
        portal: The portal.
    """

    def __init__(self, portal: SandboxPortal) -> None:
        self._portal = portal
        self._sums: list[float] = []

    async def run(self) -> None:
        """Note how much there has been, until cancelled."""
        began = time.monotonic()
        while True:
            self._sums.append(self._portal.stats.method_seconds[LIST])
            await asyncio.sleep(began + len(self._sums) - time.monotonic())

    def most(self) -> float:
        """Return the most there has been in any ten minutes."""
        sums = [*self._sums, self._portal.stats.method_seconds[LIST]]
        return max(now - sums[max(0, at - WINDOW)] for at, now in enumerate(sums))


def obey(portal: SandboxPortal, lines: Iterable[str]) -> None:
    """Do what each line says, until there are no more."""
    for line in lines:
        said = json.loads(line)
        if "bind" in said:
            order, owner = said["bind"]
            portal.bind(order, 2, owner)
        if "latency" in said:
            portal.latencies = LATENCIES[said["latency"]]
            portal.stats.requests = portal.stats.refused = 0


async def serve(options: dict[str, Any]) -> None:
    rows = options["rows"]
    owners = max(1, rows // options.get("orders_per_owner", 1))
    portal = SandboxPortal(
        ((order, 2, order % owners + 1) for order in range(1, rows + 1)),
        orders=range(1, 2_000_000),
        latencies=LATENCIES[options.get("latency", "none")],
        limits=PortalLimits.standard() if options.get("limits", True) else None,
        unstable_ties=options.get("change") == "ties",
    )
    if options.get("references"):
        portal.references = References(options["references"])
    if options.get("race"):
        portal.faults.add(FaultRule(Fault.RACE, times=None, probability=options["race"]))
    meanwhile = None
    if options.get("change") in {"delete", "insert", "churn", "move"}:
        meanwhile = Meanwhile(portal, options["change"], rows // 50)
        portal.before_call(meanwhile)
    bundle = ""
    async with SandboxServer(portal, tls=options.get("tls", False)) as server:
        if options.get("tls"):
            file = Path(options["lasting"]).with_suffix(".pem")  # in the folder of the measurement, which is removed
            file.write_text(server.ca_pem)
            bundle = str(file)
        print(json.dumps({"url": server.webhook_url, "port": server.port, "ca": bundle}), flush=True)
        listing = ListingTime(portal)
        watching = asyncio.create_task(listing.run())
        await asyncio.to_thread(obey, portal, sys.stdin)
        watching.cancel()
        stats = portal.stats
        lasting = Path(options["lasting"])
        lasting.write_text(json.dumps(sorted(meanwhile.lasting if meanwhile else range(1, rows + 1))))
        adds = [written for written in stats.writes if written.method == ADD]
        print(
            json.dumps(
                {
                    "requests": stats.requests,
                    "refused": stats.refused,
                    "calls": sum(count for method, count in stats.calls.items() if method != "batch"),
                    "method_seconds": round(sum(stats.method_seconds.values()), 1),
                    "add_seconds": round(stats.method_seconds[ADD], 1),
                    "listing_most": listing.most(),
                    "adds": [(one.order_id, one.after and one.after[1], one.at) for one in adds]
                    if options.get("adds")
                    else [],
                    "added": len(adds),
                    "twice": len(adds) - len({written.order_id for written in adds}),
                    "raced": len(portal.raced),
                    "replaced": sum(
                        written.before is not None and written.before[1] >= FIRST_OWNER for written in adds
                    ),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
