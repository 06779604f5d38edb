"""`make soak`: thousands of seeded lives, and what they came to.

    python -m tests.simulation.soak --lives 10000 [--first 0] [--report docs/simulation.md] [--keep broken-lives]
    python -m tests.simulation.soak --play broken-lives/seed-17.scenario

A life that breaks a promise is printed as a scenario file that repeats it, as short as it could be made, and kept in the
folder; the exit code is then 1. Ctrl-C (SIGTERM likewise) ends it early, with the page of what was played.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import FrameType

import structlog

from tests.simulation.chaos import Chaos, shrunk, text
from tests.simulation.life import play
from tests.simulation.scenario import parse

PAGE = """# Simulated lives

Made by `make soak` (`python -m tests.simulation.soak --lives {lives} --first {first}`). Each life is one link with outside
writers on both sides, faults of the portal, the table and the state database, crashes at any step, clocks that jump, a
second process, leases taken over, a person who decides holds, applies and undoes plans and rebases the link, and what
ordinary life does besides: backups are restored, tables reloaded, rows hidden, keys broken, values set that stood there
before. Every act is checked against what it may do (`tests/simulation/witness.py`), against an independent reckoning of the
guards (`volumes.py`), and the end state against the audit (`judge.py`). The promise that is judged: what an outside writer set
last and nobody asked to change is there, or held, or part of a refused plan, or waits for a second look.

## What happened

| | |
|---|---:|
| lives | {lives:,} |
| passes, plans, applied plans, plans to undo, rebases | {runs:,} |
| of these refused by a guard, ended by an incomplete listing, failed otherwise | {refused:,}, {incomplete:,}, {failed:,} |
| passes that the schedule asked for, an hour apart | {ticks:,} |
| outside edits, of which at any step of syncd's | {edits:,}, {during:,} |
| of these values that had stood there before | {again:,} |
| of these duplicate, unreadable or deselected rows, owners that do not exist, deleted orders, emptied tables | {odd:,} |
| backups of a side restored, of the state database restored, state databases lost | {restored:,}, {state_back:,}, {forgotten:,} |
| reloads, and the parts they came in | {reloads:,}, {parts:,} |
| rows hidden from everybody; rows with keys that cannot be read, or are another order's | {hidden:,}, {keys:,} |
| triggers that change another row in a write of syncd's | {triggers:,} |
| rows that were there before their orders, rows that the database refused for a while | {early:,}, {childless:,} |
| odd rows in the portal, steady streams of new bindings during a listing | {strange:,}, {streams:,} |
| orders that all this shook without anybody's wish | {shaken:,} |
| passes of another link in the same state database | {mart:,} |
| faults of the portal and the table | {faults:,} |
| requests executed up to a minute late | {late:,} |
| crashes | {crashes:,} |
| calls of the state database that failed | {stateless:,} |
| leases taken over, second processes turned away | {robbed:,}, {visits:,} |
| clocks set, by up to four months back or forth | {clocks:,} |
| decisions of a person; orders that one let go | {decided:,}; {let_go:,} |

## What it came to

| | |
|---|---:|
| **lost updates that are not recorded as holds** (property 15) | **{p15}** |
| **unrecorded overwrites** (16) | **{p16}** |
| **runs that wrote after an incomplete listing (18) or a refusal (29), or more than a run may (19)** | **{silent}** |
| **lives that did not converge** (14, 26, 27) | **{rest}** |
| **values destroyed that nobody asked to change** (31) | **{p31}** |
| **removals without their second look, or while a key could not be read** (32) | **{p32}** |
| **days in which passes did more than one plan may** (33) | **{p33}** |
| **restores that passes followed beyond `max_reverts`** (34) | **{p34}** |
| **sentences of the audit that the sides' logs contradict** (35) | **{p35}** |
| **writes over a value they were not planned for** (36) | **{p36}** |
| **orders still held though what they waited for is there** (37) | **{p37}** |
| other promises broken: scope (10), agreed state (17), `plan` (22), `apply` (23), lease (24), audit (25) | {other} |

## What is not promised, and how often it happened

| | |
|---|---:|
| values that went with an upheaval, no more than the guards let through | {upset:,} |
| likewise, in a plan that was refused and that a person applied | {approved:,} |
| writes executed and not answered, undone by somebody without a trace, and made again | {unseen:,} |
| somebody set the very value that syncd was about to write | {coincided:,} |
| writes executed after the state database that noted them was lost or replaced by an older one | {outlived:,} |
| values overwritten by a race in a portal without conditions, seen, and held | {held:,} |
| orders agreed on a value that one side had moved on from while it was written to the other one | {moved:,} |

A request is one step in these lives, and nobody edits inside it. How many of such edits are replaced, with conditions and
the old way, is measured on a portal whose commands take time:
[benchmarks](benchmarks.md#edits-that-hit-an-order-inside-the-request-that-is-to-write-it).

See [guarantees](guarantees.md) for why.
"""

ODD = ("double", "garble", "nameless", "deselect", "delete", "wipe", "nowhere")
FAULTS = ("lose", "busy", "incomplete", "omit", "away", "denied", "poison", "zombie")
EDITS = ("crm", "table", "overtake", *ODD)


def main() -> int:
    """Play lives, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lives", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--keep", type=Path, default=Path("broken-lives"))
    parser.add_argument("--play", type=Path)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    if options.play is not None:
        return again(options.play)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    soak = Soak(options.first, options.keep)
    with suppress(KeyboardInterrupt):
        for _ in range(options.lives):
            if ended:
                break
            soak.play_one()
    page = soak.page()
    if options.report is not None:
        options.report.write_text(page)
    print(page)
    return 1 if soak.broken else 0


ended: list[int] = []
"""The signals that asked for the end: what is raised here may be lost in a callback of somebody's."""


def _end(number: int, _frame: FrameType | None) -> None:
    ended.append(number)
    raise KeyboardInterrupt


def again(path: Path) -> int:
    """Play the life in a file once more."""
    life = asyncio.run(play(parse(path.read_text(), path.stem)))
    print("\n".join(map(str, life.broken)) or "every promise was kept")
    return 1 if life.broken else 0


class Soak:
    """Lives, one after the other, and what they came to.

    Args:
        first: The first seed.
        keep: Where the scenario files of broken lives go.
    """

    def __init__(self, first: int, keep: Path) -> None:
        self.broken: Counter[int] = Counter()
        self._first = self._next = first
        self._keep = keep
        self._happened: Counter[str] = Counter()
        self._unseen = 0

    def play_one(self) -> None:
        """Play the life of the next seed; write down one that breaks a promise."""
        chaos = Chaos(self._next)
        life = asyncio.run(chaos.run())
        self._happened += life.witness.happened
        self._unseen += life.unseen
        self.broken.update({one.promise for one in life.broken})
        if life.broken:
            self._keep.mkdir(parents=True, exist_ok=True)
            path = self._keep / f"seed-{self._next}.scenario"
            path.write_text(text(asyncio.run(shrunk(chaos.lines)), life.broken))
            print(f"seed {self._next} breaks a promise: {path}\n{path.read_text()}", flush=True)
        self._next += 1

    def page(self) -> str:
        """Return what was played, as a page."""
        happened, broken = self._happened, self.broken

        def total(*names: str) -> int:
            return sum(happened[name] + happened[f"{name} meanwhile"] for name in names)

        return PAGE.format(
            lives=self._next - self._first,
            first=self._first,
            runs=total("pass", "tick", "plan", "apply", "undo", "rebase"),
            refused=happened["run refused"],
            incomplete=happened["run incomplete"],
            failed=happened["run failed"],
            edits=total(*EDITS),
            during=sum(happened[f"{name} meanwhile"] for name in EDITS),
            odd=total(*ODD),
            faults=total(*FAULTS),
            late=total("zombie"),
            crashes=happened["crash"],
            stateless=happened["stateless meanwhile"],
            robbed=happened["rob meanwhile"],
            visits=happened["visit meanwhile"],
            clocks=total("clock"),
            let_go=happened["let go"],
            decided=sum(count for name, count in happened.items() if name.startswith("decided")),
            ticks=total("tick"),
            again=happened["set again"],
            restored=total("restore") - happened["the state went back"],
            state_back=happened["the state went back"],
            forgotten=total("forget"),
            reloads=total("reload"),
            parts=total("loaded"),
            hidden=total("hide"),
            keys=total("unkey", "clash"),
            triggers=total("trigger"),
            early=total("early"),
            childless=total("childless"),
            strange=total("odd"),
            streams=total("stream"),
            shaken=sum(count for name, count in happened.items() if name.startswith("orders shaken")),
            mart=total("mart"),
            p15=broken[15],
            p16=broken[16],
            silent=broken[18] + broken[19] + broken[29],
            **{f"p{promise}": broken[promise] for promise in range(31, 38)},
            upset=_sum(happened, "upset by", "within the guards"),
            approved=_sum(happened, "upset by", "approved"),
            coincided=happened["somebody set the very value that syncd was to write"],
            rest=broken[14] + broken[26] + broken[27],
            other=sum(broken[promise] for promise in (10, 17, 22, 23, 24, 25)),
            held=happened["overwritten, held"],
            outlived=happened["outlived its state"],
            unseen=self._unseen,
            moved=happened["agreed as one side moved on"],
        )


def _sum(happened: Counter[str], begin: str, end: str) -> int:
    return sum(count for name, count in happened.items() if name.startswith(begin) and name.endswith(end))


if __name__ == "__main__":
    sys.exit(main())
