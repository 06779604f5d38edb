"""`make bench`, third part: how soon edits of recent orders reach the other side of a large link.

A daemon looks after 300,000 bindings as docs/how-to/large-portals.md advises, on a sandbox with the documented latencies
and budget. For ten minutes somebody edits recent orders, on either side in turn, some with a hint. Each edit's latency is
the time until the other side has it. No orders are unbound: many removes at once wait for a second look on purpose.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.scale import ROOT, child, fill
from tests.children import Child
from tests.system.shop import free_port

ROWS, RECENT, SLICES = 300_000, 2_000, 12
SECONDS = 600.0
"""How long somebody edits."""
APART = 2.0
"""Seconds between two edits, on average."""
AFTERWARDS = 45.0
"""Seconds that the last edits have to arrive."""
TOKEN = "a-token-of-the-benchmark"
CONFIG = """
[state]
url = "{state}"
[web]
listen = "127.0.0.1:{port}"
[links.shop]
first_sync = "auto"
schedule = "5m"
slices = {slices}
recent = {{ orders = {recent}, every = "20s" }}
hook_token_file = "token"
[links.shop.portal]
webhook = "{webhook}"
[links.shop.table]
url = "{table}"
name = "order_bindings"
columns = {{ order_id = "order_id", owner_type_id = 2, owner_id = "deal_id" }}
"""
LOG = """
PRAGMA journal_mode = WAL;
CREATE TABLE log (order_id BIGINT, deal_id BIGINT, at REAL);
CREATE TRIGGER inserted AFTER INSERT ON order_bindings
BEGIN INSERT INTO log VALUES (NEW.order_id, NEW.deal_id, (julianday('now') - 2440587.5) * 86400.0); END;
CREATE TRIGGER updated AFTER UPDATE ON order_bindings
BEGIN INSERT INTO log VALUES (NEW.order_id, NEW.deal_id, (julianday('now') - 2440587.5) * 86400.0); END;
"""
PUT = "INSERT INTO order_bindings VALUES (?, ?) ON CONFLICT (order_id) DO UPDATE SET deal_id = excluded.deal_id"


@dataclass(frozen=True)
class Edit:
    """One edit: the order, its new owner, the side it is made on, whether a hint follows, when it was made."""

    order: int
    owner: int
    side: str
    hinted: bool
    at: float


@dataclass
class Shop:
    """The portal, the table, and somebody who edits both."""

    folder: Path
    portal: subprocess.Popen[str]
    webhook: str
    port: int = field(default_factory=free_port)

    @property
    def table(self) -> Path:
        return self.folder / "table.db"

    def tell(self, **said: Any) -> None:
        """Tell the portal's process something."""
        assert self.portal.stdin is not None
        self.portal.stdin.write(json.dumps(said) + "\n")
        self.portal.stdin.flush()

    def edit(self, order: int, owner: int, side: str, *, hinted: bool) -> Edit:
        """Edit an order on one side."""
        if side == "crm":
            self.tell(bind=[order, owner])
        else:
            with closing(sqlite3.connect(self.table, timeout=30)) as connection, connection:
                connection.execute(PUT, (order, owner))
        made = Edit(order, owner, side, hinted, time.time())
        if hinted:
            self._hint(order)
        return made

    def _hint(self, order: int) -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/hooks/shop",
            json.dumps({"orders": [order]}).encode(),
            {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=10).close()

    def configure(self) -> Path:
        """Write the daemon's configuration."""
        token = self.folder / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        path = self.folder / "syncd.toml"
        path.write_text(
            CONFIG.format(
                state=f"sqlite:///{self.folder / 'state.db'}",
                table=f"sqlite:///{self.table}",
                webhook=self.webhook,
                port=self.port,
                slices=SLICES,
                recent=RECENT,
            )
        )
        return path


def edits(shop: Shop, seconds: float) -> list[Edit]:
    """Edit recent orders, each once, for so long; return what was done."""
    dice = random.Random(7)
    # New orders push older ones out of the newest meanwhile.
    known = dice.sample(range(ROWS - RECENT // 2 + 1, ROWS + 1), RECENT // 2)
    made: list[Edit] = []
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        number = len(made)
        order = ROWS + number if number % 5 == 4 else known.pop()
        made.append(shop.edit(order, 10**6 + number, "crm" if number % 2 else "table", hinted=number % 3 == 0))
        time.sleep(max(0.0, began + APART * (number + dice.random() + 0.5) - time.monotonic()))
    return made


def latencies(made: list[Edit], arrived: dict[tuple[str, int, int], float]) -> dict[bool, list[float]]:
    """Return how long each edit took to arrive, ascending, by whether there was a hint; infinity for never."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for one in made:
        there = ("table" if one.side == "crm" else "crm", one.order, one.owner)
        found[one.hinted].append(arrived.get(there, float("inf")) - one.at)
    return {hinted: sorted(seconds) for hinted, seconds in found.items()}


def percentile(ascending: list[float], share: float) -> float:
    """Return the smallest value that so large a share of all does not exceed."""
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))]


@contextmanager
def portal_of(folder: Path, limit: float) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a portal without latency; yield its process and its webhook."""
    options = {"rows": ROWS, "lasting": str(folder / "lasting"), "adds": True}
    process = Child(
        [sys.executable, "-m", "tests.benchmarks.portal_server", json.dumps(options)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=limit,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())["url"]
    finally:
        process.kill()


@contextmanager
def daemon_of(shop: Shop, limit: float) -> Iterator[subprocess.Popen[str]]:
    """Run the daemon, once it answers."""
    config = shop.configure()
    with (shop.folder / "daemon.log").open("w") as log:
        process = Child(
            [sys.executable, "-m", "syncd.cli.main", "--config", str(config), "--log-format", "json", "run"],
            cwd=shop.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, limit=limit,
        )  # fmt: skip
        try:
            _wait_for(shop.port)
            yield process
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        finally:
            process.kill()


def measure(folder: Path, seconds: float) -> tuple[dict[bool, list[float]], dict[str, Any]]:
    """Return the latencies, and what the portal and the daemon needed."""
    with portal_of(folder, seconds + 900) as (portal, webhook):
        shop = Shop(folder, portal, webhook)
        _begin(shop)
        with daemon_of(shop, seconds + 600) as daemon:
            made = edits(shop, seconds)
            time.sleep(AFTERWARDS)
            peak = _peak(daemon.pid)
        said, _ = portal.communicate(timeout=120)
    told = json.loads(said.splitlines()[-1])
    return latencies(made, _arrived(shop, told["adds"])), told | {"peak": peak}


def _begin(shop: Shop) -> None:
    """Bring both sides into step once, at a portal that does not let anybody wait."""
    fill(f"sqlite:///{shop.table}", ROWS)
    with closing(sqlite3.connect(shop.table)) as connection:
        connection.executescript(LOG)
    state = f"sqlite:///{shop.folder / 'state.db'}"
    first = child(job="pass", webhook=shop.webhook, table=f"sqlite:///{shop.table}", state=state)
    assert first["in_step"] == ROWS, first
    shop.tell(latency="documented")


def _arrived(shop: Shop, adds: list[tuple[int, int, float]]) -> dict[tuple[str, int, int], float]:
    """Return when each value came to each side first."""
    found = {("crm", order, owner): at for order, owner, at in reversed(adds)}
    with closing(sqlite3.connect(shop.table)) as connection:
        for order, owner, at in connection.execute("SELECT order_id, deal_id, at FROM log ORDER BY rowid DESC"):
            found["table", order, owner] = at
    return found


def _peak(process: int) -> int:
    """The most memory a process had, in MB."""
    return int(Path(f"/proc/{process}/status").read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) // 1024


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=10).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def run(*, seconds: float = SECONDS) -> tuple[str, list[tuple[str, float, float]]]:
    """Measure; return the table, and (mark, reached, at most)."""
    with tempfile.TemporaryDirectory() as folder:
        found, needed = measure(Path(os.environ.get("FOLDER_OF_EDITS", folder)), seconds)
    plain, hinted = found[False], found[True]
    title = f'{ROWS:,} bindings, `recent = {{ orders = {RECENT:,}, every = "20s" }}`, `slices = {SLICES}` at `5m`'
    lines = [
        f"### {title}, documented latencies",
        "",
        "| edits of recent orders, on either side in turn | edits | median s | 99 % within s | slowest s |",
        "|---|---:|---:|---:|---:|",
    ]
    for what, seconds_ in (("without a hint", plain), ("with a hint", hinted)):
        cells = [percentile(seconds_, 0.5), percentile(seconds_, 0.99), seconds_[-1]]
        lines.append(f"| {what} | {len(seconds_)} | " + " | ".join(f"{one:.1f}" for one in cells) + " |")
    told = (
        f"In the busiest ten minutes listing took {needed['listing_most']:.0f} s of the portal's operating time. The daemon sent "
        f"{needed['requests']:,} requests, {needed['refused']:,} of which were refused, and had at most "
        f"{needed['peak']} MB of memory."
    )
    lines += ["", told, ""]
    page = "\n".join(lines)
    print(page, flush=True)
    return page, [
        (f"{ROWS:,} bindings: recent edits arrive, s at the 99th percentile", percentile(plain, 0.99), 30),
        (f"{ROWS:,} bindings: recent edits with a hint arrive, s at the 99th percentile", percentile(hinted, 0.99), 5),
        (f"{ROWS:,} bindings: operating time of listing in the busiest ten minutes, s", needed["listing_most"], 240),
    ]


if __name__ == "__main__":
    run(seconds=float(os.environ.get("SECONDS_OF_EDITS", SECONDS)))
