"""What a witness hears of one act of syncd, and what it takes down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from syncd.core.guards import GuardLimits
from syncd.core.model import Owner, Side
from syncd.core.records import StoredChange, StoredHold
from syncd.core.store import Store
from syncd.engine.report import Report
from tests.simulation.causality import FINE, Reading, Upset


class Broken(NamedTuple):
    """A promise that was not kept: its number, and what happened."""

    promise: int
    sentence: str

    def __str__(self) -> str:
        return f"{self.sentence} (property {self.promise})"


class Written(NamedTuple):
    """One write on a side, by syncd or by somebody else.

    late says that its request had been given up before. upset says what is wrong with it, unless a race explains it: the
    judge asks the audit. absent_for: how many seconds before it passes could first read the order as absent from the other
    side. asked: a person had asked for it. act: what kind of act wrote it.
    """

    side: Side
    order: int
    before: Reading
    after: Reading
    ours: bool
    late: bool = False
    upset: Upset = FINE
    absent_for: float = 0.0
    asked: bool = False
    act: str = ""


@dataclass(slots=True)
class Records:
    """What the state database says between two acts."""

    generation: int = 0
    agreed: dict[int, Owner] = field(default_factory=dict)
    holds: dict[int, StoredHold] = field(default_factory=dict)
    intents: int = 0
    last_run: int = 0


async def read_records(store: Store, name: str = "shop") -> Records:
    """Read what the state database says of the link."""
    row = await store.find_link(name)
    if row is None:
        return Records()
    agreed = {one.order_id: one.agreed for one in await store.bindings(row.id, 0, None) if one.agreed is not None}
    holds = {stored.hold.order_id: stored for stored in await store.holds(row.id)}
    runs = await store.runs(name, 1)
    return Records(row.id, agreed, holds, len(await store.open_intents(row.id)), runs[0].id if runs else 0)


@dataclass(slots=True)
class Act:
    """One act of syncd, as it went.

    Args:
        kind: pass, plan, apply, undo, rebase.
        report: What it came to; None where its process died, or it was turned away.
        names: The steps it took.
        robbed_at: How many steps it had taken when its lease was taken over; -1 is never.
        planned: For `apply`: the changes of the stored plan.
        late: Requests of earlier runs were still under way when it began.
        foreign: The configuration named other ends than the agreed state was made for.
        limits: The guards' limits.
        began: When it began, in seconds that never go back; `wall`: by the clock that people set.
        rows: How many bindings the larger side has.
        keyless: The table had rows without a readable order id all the while.
    """

    kind: str
    report: Report | None
    names: Sequence[str]
    robbed_at: int = -1
    planned: Sequence[StoredChange] = ()
    late: bool = False
    foreign: bool = False
    limits: GuardLimits = field(default_factory=GuardLimits)
    began: float = 0.0
    wall: float = 0.0
    keyless: bool = False
    rows: int = 0
