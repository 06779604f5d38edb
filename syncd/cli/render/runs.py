"""Lists of runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from syncd.cli.screen import Block, Line, Table
from syncd.core.records import RunRow
from syncd.engine import words

TONES = {"applied": "good", "planned": "", "partial": "warn", "refused": "bad", "failed": "bad", "incomplete": "bad"}


def runs(rows: Sequence[RunRow], now: float) -> Iterator[Block]:
    """Given runs, newest first, yield one line for each."""
    if not rows:
        yield Line("There are no runs yet.")
        return
    yield Table(
        [
            [
                str(row.id),
                row.link,
                words.run_kind(row).lower(),
                row.state + (f", by {row.spent_by}" if row.spent_by is not None else ""),
                words.moment(row.started_at)[5:],
                words.span((row.finished_at or now) - row.started_at),
                what(row),
            ]
            for row in rows
        ],
        heads=["run", "link", "kind", "state", "began", "took", "what"],
        tones=[TONES.get(row.state, "") for row in rows],
        toned=3,
        right=frozenset({0}),
    )


def what(row: RunRow) -> str:
    """Given a run, return in a few words what it came to."""
    parts = [
        f"{name} {done.total:,}" for name, done in (("CRM", row.counts.crm), ("table", row.counts.table)) if done.total
    ]
    if row.counts.holds:
        parts.append(f"held {row.counts.holds:,}")
    if row.state == "refused":
        parts.append("refused by " + words.listed(list(dict.fromkeys(hit.name for hit in row.guards))))
    elif row.error:
        parts.append(row.error)
    return ", ".join(parts) or "nothing to do"
