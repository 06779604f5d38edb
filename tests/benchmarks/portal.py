"""`make bench`, first part: syncd's portal client beside the public ones, on the sandbox, in one run.

Each client is a process of its own, and so is the portal. "missed" are orders that were bound before, during and after
the reading and that the client did not return.

What costs a client work is measured alone; what it spends waiting (for the request limit, for the portal) is measured
side by side afterwards, so that the whole takes minutes and not an hour.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.measuring import ROOT, Client, measure, median, table

HERE = Path(__file__).parent / "clients"
PEERS = ROOT / ".venv-peers"
PYTHON = str(PEERS / "bin" / "python")

SYNCD = Client("syncd", (sys.executable, str(HERE / "syncd_client.py")))
SYNCD10 = Client("syncd, writers = 10", (*SYNCD.command, "10"))
KNOWN = Client("syncd, listed before", (*SYNCD.command, "--known"))
FLOOR = Client("floor: proves nothing", (sys.executable, str(HERE / "floor_client.py")))
TOLD = Client("floor, told the range", (*FLOOR.command, "--known"))
FAST = Client("fast_bitrix24", (PYTHON, str(HERE / "fast_bitrix24_client.py")))
SLOW = Client("fast_bitrix24, slow()", (*FAST.command, "--slow"))
PYSDK = Client("b24pysdk", (PYTHON, str(HERE / "b24pysdk_client.py")), tls=True)
JSSDK = Client(
    "b24jssdk",
    ("node", str(HERE / "b24jssdk_client.mjs")),
    tls=True,
    needs=PEERS / "node_modules" / "@bitrix24" / "b24jssdk",
)
READERS = (SYNCD, FAST, PYSDK, JSSDK)
WRITERS = (SYNCD, FAST, SLOW, PYSDK, JSSDK)
SIDE_WRITERS = (SYNCD, SYNCD10, FAST, SLOW, PYSDK)

TIMES = 5
"""How often a reading without latency is measured; each client in turn, then again."""
RACES = 9
"""How often edits are raced; the edits of all races count together. One race has only some 160, and three of them came to
anything from 0.9 to 2.2 % replaced, of 1.4 % in twelve."""
SIDE_BY_SIDE = 8

READ = {"wall": "wall s", "requests": "requests", "calls": "list calls", "method_seconds": "method s", "refused": "refused", "cpu": "client CPU s", "missed": "missed", "doubled": "doubled"}  # fmt: skip
ADD = {"wall": "wall s", "requests": "requests", "calls": "calls", "method_seconds": "method s", "refused": "refused", "added": "added", "twice": "sent twice", "cpu": "client CPU s"}  # fmt: skip

RACE = {
    "wall": "wall s",
    "raced": "edits inside requests",
    "replaced": "replaced",
    "permille": "replaced, per thousand",
}
RACERS = {
    "everywhere": "each write with its condition",
    "whole-values": "the old way: read right before, a list before each write",
}

WHAT = {
    "none": "no latency at all",
    "scanned": "no latency but for OFFSET and COUNT (0.33 s a million rows walked over)",
    "documented": "documented latencies",
}
SIZES = (2_500, 20_000, 100_000)
READINGS = [*((rows, "none") for rows in SIZES), (100_000, "scanned"), *((rows, "documented") for rows in SIZES)]
CHANGES = ("delete", "insert", "churn", "move", "ties")

ABSENT = "left out: not installed here (b24jssdk needs node and npm)"
MINUTES = "left out: 2,001 requests at two a second, 16 minutes"
QUICK = "left out: takes minutes"


@dataclass
class Sheet:
    """One table: what is measured, with whom, and what came of it by client."""

    title: str
    columns: dict[str, str]
    job: str
    options: dict[str, Any]
    clients: tuple[Client, ...] = READERS
    times: int = 1
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    def waits(self, client: Client) -> bool:
        """Whether this client mostly waits here: for the portal, or for its own limiter."""
        if self.job != "list":
            return True
        # One request after another: both wait for the portal, and the one with a page a request for its limiter.
        latency = self.options.get("latency", "none") != "none"
        return (client is JSSDK and self.options["rows"] > 2_500) or (client in {PYSDK, JSSDK} and latency)

    def left_out(self, client: Client, *, quick: bool) -> str:
        """Why a client is not measured here; empty when it is."""
        if not client.here:
            return ABSENT
        if client is JSSDK and self.options["rows"] == 100_000:
            return MINUTES
        return QUICK if quick and self.waits(client) and self.columns is READ else ""

    def measure(self, client: Client) -> dict[str, Any]:
        return measure(client, self.job, **self.options)

    def text(self) -> str:
        return table(self.title, [self.rows[client.name] for client in self.clients], self.columns)


def sheets(*, quick: bool) -> dict[Any, Sheet]:
    """Return everything that is compared, by (rows, latency), kind of change, or number of adds."""
    made: dict[Any, Sheet] = {}
    for rows, latency in READINGS:
        title = f"Reading {rows:,} bindings, {WHAT[latency]}"
        clients = (*READERS, FLOOR, KNOWN, TOLD) if rows == 100_000 else READERS
        made[rows, latency] = Sheet(title, READ, "list", {"rows": rows, "latency": latency}, clients, times=TIMES)
    for change in CHANGES:
        title = f"Reading 5,000 bindings under 33 concurrent changes: {change}"
        options = {"rows": 5_000, "change": change, "orders_per_owner": 120 if change == "ties" else 1}
        made[change] = Sheet(title, READ, "list", options)
    made[7_500] = Sheet("7,500 adds, no latency", ADD, "7500", {"rows": 1_000}, WRITERS)
    if not quick:
        documented = {"rows": 1_000, "latency": "documented"}
        made[500] = Sheet("500 adds, documented latencies", ADD, "500", documented, (*SIDE_WRITERS, JSSDK))
        made["both"] = Sheet("500 adds and 500 moves, documented latencies", ADD, "both500", documented, SIDE_WRITERS)
    return made


def fill(made: list[Sheet], *, quick: bool) -> None:
    """Measure all clients on all sheets."""
    waiting: list[tuple[Sheet, Client]] = []
    for sheet in made:
        working = []
        for client in sheet.clients:
            reason = sheet.left_out(client, quick=quick)
            if reason:
                sheet.rows[client.name] = {"client": client.name, "remark": reason}
            elif sheet.waits(client):
                waiting.append((sheet, client))
            else:
                working.append(client)
        runs = [[sheet.measure(client) for client in working] for _ in range(sheet.times)]
        sheet.rows |= {one[0]["client"]: median(list(one)) for one in zip(*runs, strict=True)}
        print(f"measured: {sheet.title}", flush=True)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        measured = pool.map(lambda one: one[0].measure(one[1]), waiting)
        for (sheet, client), row in zip(waiting, measured, strict=True):
            sheet.rows[client.name] = row


def race() -> tuple[str, float]:
    """Measure what edits inside requests come to, with conditions and without; return the table, and the worst share.

    Each call is raced at a chance in proportion to its documented time, by an edit of one of the orders of its request.
    """
    cases = [(job, references) for job in ("500", "move500") for references in RACERS]
    options: dict[str, Any] = {"rows": 1_000, "latency": "documented", "race": 1.0}
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        measured = list(pool.map(lambda case: measure(SYNCD, case[0], references=case[1], **options), cases * RACES))
    rows = [_together(measured[number :: len(cases)]) for number in range(len(cases))]
    for (job, references), row in zip(cases, rows, strict=True):
        row["client"] = f"{'moves' if job.startswith('move') else 'binds'}: {RACERS[references]}"
        row["permille"] = round(1000 * row["replaced"] / row["raced"]) if row["raced"] else 0
    conditional = [row for (_, references), row in zip(cases, rows, strict=True) if references == "everywhere"]
    share = sum(row["replaced"] for row in conditional) / sum(row["raced"] for row in conditional)
    return table("Edits that hit an order inside the request that is to write it", rows, RACE), share


def _together(races: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what some races came to together; the time is that of the middle one."""
    return median(races) | {what: sum(race[what] for race in races) for what in ("raced", "replaced")}


def run(*, quick: bool) -> tuple[str, list[tuple[str, float, float]]]:
    """Measure all clients; return the tables, and (mark, reached, at most)."""
    made = sheets(quick=quick)
    fill(list(made.values()), quick=quick)
    raced, share = race() if not quick else ("", 0.0)
    print(raced, flush=True)
    for sheet in made.values():
        print(sheet.text(), flush=True)
    small, large = (measure(SYNCD, "count", rows=rows, limits=False)["peak"] for rows in (1_000, 1_000_000))
    return "\n".join([_in_words(made), *(sheet.text() for sheet in made.values()), raced]), [
        *_reading_marks(made),
        *([] if quick else [*_writing_marks(made), ("edits inside requests that are replaced", share, 0.02)]),
        *((f"under {change}: missed", made[change].rows["syncd"]["missed"], 0) for change in CHANGES),
        ("7,500 adds: refused", made[7_500].rows["syncd"]["refused"], 1),
        ("7,500 adds: lost or sent twice", _unsound(made[7_500].rows["syncd"], 7_500), 0),
        ("1,000,000 rows: MB above listing 1,000", large - small, 40),
    ]


def _ratio(made: dict[Any, Sheet], key: Any, what: str) -> float:
    rows = made[key].rows
    return float(rows["syncd"][what] / rows["fast_bitrix24"][what])


def _in_words(made: dict[Any, Sheet]) -> str:
    free, paid = (_ratio(made, (100_000, latency), "wall") for latency in ("none", "scanned"))
    plain = made[100_000, "documented"].rows
    first = plain["syncd"]["wall"] / plain[TOLD.name]["wall"]
    return f"""\
100,000 bindings take syncd {free:.2f} times as long as fast_bitrix24 where nothing on the portal costs anything, so that
both only send, decode and (syncd) prove; and {paid:.2f} times as long where the portal's database has to walk over the rows
before an OFFSET, and over all of them for a COUNT, at three million rows a second. Real portals do: offset pages get dearer
the further they are.

Readings of clients that send requests side by side are the medians of {TIMES}, the clients taking turns, and the worst of them
for refused, missed and doubled. Clients that send one request after another and mostly wait (b24pysdk and b24jssdk with latency, b24jssdk wherever
it needs more than 50 requests), and all adds, are measured afterwards, side by side. b24jssdk spends two requests a second
on one page each, so its 100,000 are left out.

The floor is a throwaway reader: windows of 50 order ids in 40 requests at once, nothing proved. What it cannot know is how
far the ids go. So it asks for the largest one first, as syncd's first listing of a portal asks for both ends and the count.
That request costs either 0.3 s and more before all others. From the second pass on syncd knows every 50th order of the last
listing, and all its requests leave at once ("listed before"). A floor that is told the range stands beside that. Beside this
one, a first listing with documented latencies takes {first:.2f} times as long: that is its first request.

The portal lets 480 s of one method pass in ten minutes. 7,500 adds of 0.33 s would take anybody 50 minutes; with latencies
it is 500. fast_bitrix24 writes as its documentation begins, and inside `slow()`, as it advises after server errors.

Edits inside requests: a write takes 0.369 s by the documentation, its list and its `add`. 0.039 s of them lie between the look of
the list and the effect of the `add` (a call is taken to have its effect within 0.01 s). So of the edits that hit one of a
request's n orders, one in 9.5 n is expected to be replaced: 0.8 % with 13 orders, more in the small requests at the beginning and
at the end. A bind with two lists has 0.078 s of 0.408 s between: one in 5.2 n.
"""


def _reading_marks(made: dict[Any, Sheet]) -> list[tuple[str, float, float]]:
    plain = made[100_000, "documented"].rows
    marks: list[tuple[str, float, float]] = [
        ("100,000 with latencies: wall / the floor's", plain["syncd"]["wall"] / plain[FLOOR.name]["wall"], 1.15),
        (
            "the same, both told the range: wall / the floor's",
            plain[KNOWN.name]["wall"] / plain[TOLD.name]["wall"],
            1.15,
        ),
        ("100,000, OFFSET and COUNT paid: wall / fast_bitrix24's", _ratio(made, (100_000, "scanned"), "wall"), 0.35),
        ("100,000, no latency at all: requests", made[100_000, "none"].rows["syncd"]["requests"], 45),
        ("20,000 with latencies: wall / fast_bitrix24's", _ratio(made, (20_000, "documented"), "wall"), 0.5),
        (
            "20,000 with latencies: method time / fast_bitrix24's",
            _ratio(made, (20_000, "documented"), "method_seconds"),
            0.7,
        ),
    ]
    for rows, latency in READINGS:
        mine = made[rows, latency].rows["syncd"]
        marks += [(f"{rows:,}, {WHAT[latency]}: missed + refused", mine["missed"] + mine["refused"], 0)]
    return marks


def _writing_marks(made: dict[Any, Sheet]) -> list[tuple[str, float, float]]:
    """500 adds and 500 moves: as shipped beside the best serial client, and with ten writers beside ten batches."""
    rows = made["both"].rows
    mine, ten, fast = rows[SYNCD.name], rows[SYNCD10.name], rows[FAST.name]
    serial = min(rows[SLOW.name]["wall"], rows[PYSDK.name]["wall"])
    return [
        ("500 adds and 500 moves: wall / the best serial client's", mine["wall"] / serial, 0.35),
        ("with writers = 10: wall / fast_bitrix24's", ten["wall"] / fast["wall"], 1.35),
        ("500 adds and 500 moves: lost or sent twice", _unsound(mine, 1000) + _unsound(ten, 1000), 0),
        ("500 adds and 500 moves: refused", mine["refused"] + ten["refused"], 0),
        (
            "500 adds and 500 moves: method time of add / fast_bitrix24's",
            max(mine["add_seconds"], ten["add_seconds"]) / fast["add_seconds"],
            1,
        ),
    ]


def _unsound(row: dict[str, Any], asked: int) -> int:
    return int(asked - row["added"] + row["twice"])
