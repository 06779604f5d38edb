"""`make soak`: thousands of seeded lives, and what they came to.

    python -m tests.simulation.soak --lives 10000 [--first 0] [--report docs/simulation.md]

A life that breaks a promise is printed with the command that plays it again; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from pathlib import Path

import structlog

from tests.simulation.chaos import live

PAGE = """# Simulated lives

Made by `make soak` (`python -m tests.simulation.soak --lives {lives} --first {first}`). Each life is one link with outside
writers on both sides, faults, crashes at random steps, a second process and a person who decides holds, applies and
undoes plans; what is promised is checked at its end (`tests/simulation/chaos.py`).

| | |
|---|---:|
| lives | {lives:,} |
| passes, plans, applied plans, undone runs | {runs:,} |
| outside edits, of which while syncd waited for an answer | {edits:,}, {during:,} |
| faults | {faults:,} |
| crashes | {crashes:,} |
| second processes at the same time | {second:,} |
| decisions of a person | {decided:,} |
| **lost updates that are not recorded as holds** | **{broken}** |
| **runs that wrote after an incomplete listing or a refusal** | **{broken}** |
| **lives that did not converge** | **{broken}** |
| values overwritten inside a request whose answer was lost, or unbound right after a crash | {unseen:,} |

The last line is what [guarantees](guarantees.md) do not promise: `add` is unconditional, and when its answer is lost, so
is the list that would have told what it replaced; and "unbound" has no identity.
"""


def main() -> int:
    """Play lives, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lives", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    happened: Counter[str] = Counter()
    broken = unseen = 0
    for seed in range(options.first, options.first + options.lives):
        life = asyncio.run(live(seed))
        happened += life.happened
        unseen += life.unseen
        if life.broken:
            broken += 1
            print(f"seed {seed}: {'; '.join(life.broken)}")
            print(f"  again: python -m tests.simulation.soak --first {seed} --lives 1")

    def total(prefix: str) -> int:
        return sum(count for name, count in happened.items() if name.startswith(prefix))

    page = PAGE.format(
        lives=options.lives,
        first=options.first,
        runs=sum(happened[act] for act in ("pass", "plan", "apply", "undo")),
        edits=happened["outside edit"],
        during=total("edit during"),
        faults=total("fault"),
        crashes=happened["crash"],
        second=happened["second process"],
        decided=total("decided"),
        broken=broken,
        unseen=unseen,
    )
    if options.report is not None:
        options.report.write_text(page)
    print(page)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
