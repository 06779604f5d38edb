"""One client measured on a portal of its own, and results as a Markdown table."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.children import Child

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Client:
    """A client: its name, how it is started, whether it insists on https, what must be there for it."""

    name: str
    command: tuple[str, ...]
    tls: bool = False
    needs: Path = ROOT

    @property
    def here(self) -> bool:
        return shutil.which(self.command[0]) is not None and self.needs.exists()


def measure(client: Client, job: str, *, timeout: float = 600, **options: Any) -> dict[str, Any]:
    """Run one client on a fresh portal; return what it and the portal say."""
    with tempfile.TemporaryDirectory() as folder:
        lasting, out = Path(folder) / "lasting", Path(folder) / "out"
        portal = Child(
            [sys.executable, "-m", "tests.benchmarks.portal_server",
             json.dumps({**options, "tls": client.tls, "lasting": str(lasting)})],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=timeout + 120,
        )  # fmt: skip
        assert portal.stdout is not None
        told = json.loads(portal.stdout.readline())
        trusted = {"REQUESTS_CA_BUNDLE": told["ca"], "NODE_EXTRA_CA_CERTS": told["ca"]} if told["ca"] else {}
        try:
            done = subprocess.run(
                [*client.command, told["url"], job, str(out)],
                capture_output=True, text=True, timeout=timeout, check=False, env={**os.environ, **trusted}, cwd=ROOT,
            )  # fmt: skip
            said = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {"remark": done.stderr[-300:]}
        except subprocess.TimeoutExpired:
            said = {"remark": f"not done in {timeout:.0f} s"}
        stats, _ = portal.communicate(timeout=60)
        result = {"client": client.name, **json.loads(stats.splitlines()[-1]), **said}
        if job == "list" and out.exists():
            read = json.loads(out.read_text())
            result["missed"] = len(set(json.loads(lasting.read_text())) - set(read))
            result["doubled"] = len(read) - len(set(read))
        return result


def median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Given several runs of one client, return the one of median wall time, with the worst of what none may do."""
    worst: dict[str, Any] = {
        key: max(run[key] for run in runs) for key in ("missed", "doubled", "refused") if key in runs[0]
    }
    return {**sorted(runs, key=lambda run: run.get("wall", float("inf")))[len(runs) // 2], **worst}


def table(title: str, rows: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """Given results, return a Markdown table; with remarks if there are any."""
    columns = {"client": "client", **columns}
    if any(row.get("remark") for row in rows):
        columns["remark"] = "remark"
    lines = [f"### {title}", "", _line(columns.values()), "|---" * len(columns) + "|"]
    lines += [_line(_cell(row.get(key, "")) for key in columns) for row in rows]
    return "\n".join([*lines, ""])


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else " ".join(str(value).split()).replace("|", "/")
