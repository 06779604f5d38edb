"""A sandbox portal in a process of its own, so that a client's CPU is the client's; tells what it saw when asked to end.

    python -m tests.benchmarks.portal_server '{"rows": 1000, "latency": "none", "limits": true, "change": "delete", ...}'

Prints the webhook URL and the certificate's path as one JSON line, then waits for its standard input to close, and prints
one JSON line of statistics.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from syncd.sandbox import Latencies, Limits, SandboxPortal, SandboxServer

LATENCIES = {
    "none": Latencies(),
    "documented": Latencies.documented(),
    # What OFFSET and COUNT cost a database that finds 3 million index rows a second; nothing else costs anything.
    "scanned": Latencies(scan=0.00033),
}

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

    def __call__(self, method: str, _params: Mapping[str, Any], _request: int) -> None:
        if method != "crm.orderentity.list":
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


async def serve(options: dict[str, Any]) -> None:
    rows = options["rows"]
    owners = max(1, rows // options.get("orders_per_owner", 1))
    portal = SandboxPortal(
        ((order, 2, order % owners + 1) for order in range(1, rows + 1)),
        orders=range(1, 2_000_000),
        latencies=LATENCIES[options.get("latency", "none")],
        limits=Limits.standard() if options.get("limits", True) else None,
        unstable_ties=options.get("change") == "ties",
    )
    meanwhile = None
    if options.get("change") in {"delete", "insert", "churn", "move"}:
        meanwhile = Meanwhile(portal, options["change"], rows // 50)
        portal.before_call(meanwhile)
    async with SandboxServer(portal, tls=options.get("tls", False)) as server:
        bundle = ""
        if options.get("tls"):
            with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
                file.write(server.ca_pem)
                bundle = file.name
        print(json.dumps({"url": server.webhook_url, "port": server.port, "ca": bundle}), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        stats = portal.stats
        lasting = Path(options["lasting"])
        lasting.write_text(json.dumps(sorted(meanwhile.lasting if meanwhile else range(1, rows + 1))))
        adds = [written for written in stats.writes if written.method == "crm.orderentity.add"]
        print(
            json.dumps(
                {
                    "requests": stats.requests,
                    "refused": stats.refused,
                    "calls": sum(count for method, count in stats.calls.items() if method != "batch"),
                    "method_seconds": round(sum(stats.method_seconds.values()), 1),
                    "added": len(adds),
                    "twice": len(adds) - len({written.order_id for written in adds}),
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
