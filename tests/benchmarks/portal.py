"""`make bench`, first part: syncd's portal client beside the public ones, on the sandbox, in one run.

Each client is a process of its own, and so is the portal. "missed" are orders that were bound before, during and after
the reading and that the client did not return.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PEERS = ROOT / ".venv-peers" / "bin" / "python"


@dataclass(frozen=True)
class Client:
    """A client: its name, how it is started, whether it insists on https."""

    name: str
    command: tuple[str, ...]
    tls: bool = False

    @property
    def here(self) -> bool:
        return Path(self.command[0]).exists()


SYNCD = Client("syncd", (sys.executable, str(HERE / "clients/syncd_client.py")))
CLIENTS = (
    SYNCD,
    Client("fast_bitrix24", (str(PEERS), str(HERE / "clients/fast_bitrix24_client.py"))),
    Client("b24pysdk", (str(PEERS), str(HERE / "clients/b24pysdk_client.py")), tls=True),
)


def measure(client: Client, job: str, *, timeout: float = 600, **options: Any) -> dict[str, Any]:
    """Run one client on a fresh portal; return what it and the portal say."""
    with tempfile.TemporaryDirectory() as folder:
        lasting, out = Path(folder) / "lasting", Path(folder) / "out"
        portal = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.portal_server",
             json.dumps({**options, "tls": client.tls, "lasting": str(lasting)})],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert portal.stdout is not None
        told = json.loads(portal.stdout.readline())
        environment = {**os.environ, "REQUESTS_CA_BUNDLE": told["ca"]} if told["ca"] else None
        try:
            done = subprocess.run(
                [*client.command, told["url"], job, str(out)],
                capture_output=True, text=True, timeout=timeout, check=False, env=environment, cwd=ROOT,
            )  # fmt: skip
            said = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {"problem": done.stderr[-300:]}
        except subprocess.TimeoutExpired:
            said = {"problem": f"not done in {timeout:.0f} s"}
        stats, _ = portal.communicate(timeout=60)
        result = {"client": client.name, **json.loads(stats.splitlines()[-1]), **said}
        if job == "list" and out.exists():
            read = json.loads(out.read_text())
            result["missed"] = len(set(json.loads(lasting.read_text())) - set(read))
            result["doubled"] = len(read) - len(set(read))
        return result


def table(title: str, rows: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """Given results, return a Markdown table."""

    def cell(row: dict[str, Any], key: str) -> str:
        value = row.get(key, "")
        return f"{value:.2f}" if isinstance(value, float) else str(value)

    lines = [f"### {title}", "", "| client | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [
        f"| {row['client']} | " + " | ".join(cell(row, key) for key in columns) + (" |" if not row.get("problem") else f" | ({row['problem']})")
        for row in rows
    ]  # fmt: skip
    return "\n".join([*lines, ""])


READ = {"wall": "wall s", "requests": "requests", "calls": "list calls", "method_seconds": "method s", "refused": "refused", "cpu": "client CPU s", "missed": "missed", "doubled": "doubled"}  # fmt: skip
ADD = {"wall": "wall s", "requests": "requests", "refused": "refused", "added": "added", "twice": "sent twice", "cpu": "client CPU s"}  # fmt: skip


WHAT = {
    "none": "no latency at all",
    "scanned": "no latency but for OFFSET and COUNT (0.33 s a million rows walked over)",
    "documented": "documented latencies",
}
READINGS = (
    (2_500, "none"),
    (20_000, "none"),
    (100_000, "none"),
    (100_000, "scanned"),
    (2_500, "documented"),
    (20_000, "documented"),
)


def run(*, quick: bool) -> tuple[str, list[tuple[str, float, float]]]:
    """Measure all clients; return the tables, and (mark, reached, at most)."""
    clients = [client for client in CLIENTS if client.here]
    parts: list[str] = []
    marks: list[tuple[str, float, float]] = []

    def show(title: str, rows: list[dict[str, Any]], columns: dict[str, str]) -> dict[str, dict[str, Any]]:
        parts.append(table(title, rows, columns))
        print(parts[-1], flush=True)
        return {row["client"]: row for row in rows}

    for rows, latency in READINGS:
        slow = {"b24pysdk"} if quick and latency != "none" and rows > 2_500 else set()
        measured = [measure(one, "list", rows=rows, latency=latency) for one in clients if one.name not in slow]
        what = WHAT[latency]
        by = show(f"Reading {rows:,} bindings, {what}", measured, READ)
        mine, theirs = by["syncd"], by["fast_bitrix24"]
        if (rows, latency) == (100_000, "scanned"):
            marks += [("100,000, OFFSET and COUNT paid: wall / fast_bitrix24's", mine["wall"] / theirs["wall"], 0.35)]
            marks += [("100,000, OFFSET and COUNT paid: requests", mine["requests"], 45)]
        if (rows, latency) == (20_000, "documented"):
            marks += [("20,000 with latencies: wall / fast_bitrix24's", mine["wall"] / theirs["wall"], 0.5)]
            ratio = mine["method_seconds"] / theirs["method_seconds"]
            marks += [("20,000 with latencies: method time / fast_bitrix24's", ratio, 0.70)]
        marks += [(f"{rows:,}, {what}: missed + refused", mine["missed"] + mine["refused"], 0)]
    for change in ("delete", "insert", "churn", "move", "ties"):
        per_owner = 120 if change == "ties" else 1
        measured = [measure(one, "list", rows=5_000, change=change, orders_per_owner=per_owner) for one in clients]
        by = show(f"Reading 5,000 bindings under 33 concurrent changes: {change}", measured, READ)
        marks += [(f"under {change}: missed", by["syncd"]["missed"], 0)]
    measured = [measure(one, "7500", rows=1_000) for one in clients]
    by = show("7,500 adds, no latency", measured, ADD)
    marks += [("7,500 adds: refused", by["syncd"]["refused"], 1)]
    marks += [("7,500 adds: lost or sent twice", 7_500 - by["syncd"]["added"] + by["syncd"]["twice"], 0)]
    small, large = (measure(SYNCD, "count", rows=rows, limits=False)["peak"] for rows in (1_000, 1_000_000))
    marks += [("1,000,000 rows: MB above listing 1,000", large - small, 40)]
    return "\n".join(parts), marks
