"""What the state database keeps, as values; `core.store` is the protocol that reads and writes them.

Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from syncd.core.model import Action, Change, Counts, Hold, MaybeOwner, Outcome, Owner, Side, SideCounts
from syncd.core.order_ranges import Coverage, OrderRanges


class Lease(NamedTuple):
    """The right to work on one link until `expires_at`, proved by a fencing number that only grows."""

    link_id: int
    link: str
    holder: str
    fence: int
    expires_at: float


class Pause(NamedTuple):
    """The last word on a link's pause: by whom, when, until when (None: until `resume`), and why.

    Of a link that was resumed, `until` is when that was.
    """

    by: str = ""
    at: float = 0.0
    until: float | None = None
    comment: str = ""


class Decision(NamedTuple):
    """What a person decided.

    Args:
        link: The link's name.
        kind: resolve, apply, undo, rebase, pause, resume.
        said: What exactly, in a word or two: `crm`, `table` or `retry` for resolve; else as the command line had it.
        by: User and host.
        at: When, in seconds since the epoch.
        comment: Why, in the person's words; may be empty.
        order_id: The order it was about, for resolve.
        run: The run that was named, for apply and undo.
    """

    link: str
    kind: str
    said: str
    by: str
    at: float
    comment: str = ""
    order_id: int | None = None
    run: int | None = None


class PortalNames(NamedTuple):
    """What the portal calls owners and their types, as far as that is known.

    Args:
        titles: The titles of deals, invoices and items.
        types: The names of owner types, in the portal's own language.
    """

    titles: Mapping[Owner, str] = {}
    types: Mapping[int, str] = {}


NAMELESS = PortalNames()


class LinkRow(NamedTuple):
    """A link's row. `fingerprint` names the ends its agreed state belongs to; `generation` grows with each rebase.

    parked is empty, or why scheduled passes are suspended until a person or a changed fact decides. portal and
    member_id are the address and the lasting id of the portal that the agreed state is about, empty while not known.
    `paused` says what was ordered last; ask `is_paused`, since a pause may have an end. coverage is when each part of
    the link was last covered; None before a pass has covered all of it.
    """

    id: int
    name: str
    generation: int
    fingerprint: str
    paused: bool
    parked: str
    created_at: float
    portal: str = ""
    member_id: str = ""
    pause: Pause = Pause()
    coverage: Coverage | None = None

    def is_paused(self, now: float) -> bool:
        """Given seconds since the epoch, return whether scheduled passes are paused then."""
        return self.paused and (self.pause.until is None or now < self.pause.until)


class BindingRow(NamedTuple):
    """One order in the local database: the CRM as last completely listed, and the agreed state. None is unbound."""

    order_id: int
    crm_type: int | None
    crm_id: int | None
    agreed_type: int | None
    agreed_id: int | None

    @property
    def listed(self) -> MaybeOwner:
        """The owner in the CRM's last complete listing."""
        return None if self.crm_type is None or self.crm_id is None else Owner(self.crm_type, self.crm_id)

    @property
    def agreed(self) -> MaybeOwner:
        """The owner that both sides agreed on last."""
        return None if self.agreed_type is None or self.agreed_id is None else Owner(self.agreed_type, self.agreed_id)


class BindingUpdate(NamedTuple):
    """New values for one order's `binding` row; a row whose values are all None is deleted."""

    order_id: int
    crm: MaybeOwner
    agreed: MaybeOwner


class GuardHit(NamedTuple):
    """A guard that refused: its name, the side, its limit and the actual number, both in the limit's own unit."""

    name: str
    side: Side | None
    limit: float
    actual: float


class Absence(NamedTuple):
    """An order that a side does not show, whose remove on the other side waits since then for its second look."""

    order_id: int
    side: Side
    since: float


Tally: TypeAlias = dict[tuple[Side, Action, Outcome], int]
"""How many changes of a run there are, by side, action and outcome."""


class LastDay(NamedTuple):
    """What syncd did to a link in the last 24 hours, no matter who asked for it.

    Args:
        agreed: Agreed bindings before the first run of these 24 hours; None where there was none.
        moved, removed: The moves and removes that were made since, or perhaps were (uncertain), by side.
        in_parts: What passes over only some orders have written since the whole link was last covered, by side: parts
            of what one pass would have written (`guards.evaluate`).
        reverted: The orders of which passes have put back what syncd had replaced, by the side that was written. The
            guards let few of them through, so they are few.
    """

    agreed: int | None
    moved: Mapping[Side, int]
    removed: Mapping[Side, int]
    in_parts: Mapping[Side, SideCounts] = {}
    reverted: Mapping[Side, Collection[int]] = {}


class Written(NamedTuple):
    """One applied write of an order: what it replaced (what was really found there, where that is known), and when.

    before_rebase: it was made for an earlier generation of the link.
    """

    order_id: int
    side: Side
    before: MaybeOwner
    after: MaybeOwner
    at: float
    before_rebase: bool = False


class KnownRun(NamedTuple):
    """What is known outside the state database of the last run of a link that changed it.

    Args:
        state: The identity of the database.
        run: The run's number.
        started_at: When it began.
        finished_at: When it ended; None where it was still under way when this was noted.
        link: The link's name; empty where that is not noted.
        where: The database's address without credentials; empty where that is not noted.
    """

    state: str
    run: int
    started_at: float
    finished_at: float | None
    link: str = ""
    where: str = ""


SLICE = "slice "
"""How `RunRow.part` begins where a pass covered the slice whose turn it was."""

FINGERPRINT = "fingerprint"
"""The guard that refuses a link whose configuration points elsewhere than its agreed state was made for."""


@dataclass(frozen=True, slots=True)
class StoredChange:
    """A change with its place in the audit.

    Args:
        id: Unique and growing over all runs.
        run: The run it belongs to.
        change: What was planned.
        outcome: What became of it.
        error: Code and text of a failure, or empty.
        at: When the outcome was recorded (or, while intended, when the intent was).
        found: What was really there when it was written, where `found_known`.
        batch: The request it was sent in last, numbered within the run; the writes of one request are sent in the
            order of their ids. None: it was never about to be sent, or before syncd kept this.
        sends: How often it was about to be sent.
    """

    id: int
    run: int
    change: Change
    outcome: Outcome
    error: str = ""
    at: float = 0.0
    found: MaybeOwner = None
    found_known: bool = False
    batch: int | None = None
    sends: int = 0

    @property
    def before(self) -> MaybeOwner:
        """The owner that was there before: what was really found, where that is known, else what was expected."""
        return self.found if self.found_known else self.change.before


class ChangeOutcome(NamedTuple):
    """What became of one stored change, to be recorded with what it does to the agreed state.

    update is the order's new `binding` values, or None where they do not move.
    """

    change_id: int
    outcome: Outcome
    error: str = ""
    found: MaybeOwner = None
    found_known: bool = False
    update: BindingUpdate | None = None


@dataclass(frozen=True, slots=True)
class StoredHold:
    """An open hold with its decision.

    decision is "", "crm", "table" or "retry". sticky holds were made by an event (a refused order, an overwritten
    value, an undo, flapping) and last while the facts stay as they were; the others are derived anew by each diff.
    """

    hold: Hold
    sticky: bool
    decision: str = ""
    run: int = 0


class Attempt(NamedTuple):
    """How often a write of this order has failed in a row, and when it may be tried again; 0: none."""

    order_id: int
    failures: int
    next_at: float = 0.0
    error: str = ""


@dataclass(slots=True)
class RunRow:
    """One run.

    kind: pass, plan, apply, undo, rebase, rename (rebase --same-portal).
    state: running, planned, applied, partial, refused, failed, incomplete.
    origin: schedule, command, trigger, signal. source: for `apply` the stored plan's run, for `undo` the undone run,
    for a pass that found an earlier plan still refused, and stored none, that plan's run.
    operating: the operating seconds the portal's busiest method stood at when the run ended (`Usage.operating`).
    conditional: whether the portal's batches carried the conditions of writes (`Usage.conditional`); None: not asked.
    covers: the orders it covers; None: all of the link's. Of very many ranges only the span from first to last is kept
    once the run is over, unless its plan can still be applied. part: the same in words, such as "slice 3 of 12".
    """

    id: int
    link: str
    link_id: int
    kind: str
    state: str
    origin: str = "command"
    source: int | None = None
    started_at: float = 0.0
    finished_at: float | None = None
    digest: str = ""
    first_sync: bool = False
    counts: Counts = field(default_factory=Counts)
    guards: list[GuardHit] = field(default_factory=list)
    error: str = ""
    requests: int = 0
    calls: int = 0
    seconds: float = 0.0
    spent_by: int | None = None
    operating: float = 0.0
    conditional: bool | None = None
    covers: OrderRanges | None = None
    part: str = ""

    @property
    def plan(self) -> int:
        """The run that holds the plan this one speaks of: itself, but for a pass that found another still refused."""
        return self.source if self.kind == "pass" and self.source is not None else self.id

    @property
    def waits_for_apply(self) -> bool:
        """Whether it holds a plan that has not been applied yet; the plan may have grown too old."""
        is_plan = self.kind in {"plan", "undo", "pass"} and self.state in {"planned", "refused"}
        return is_plan and self.plan == self.id and self.spent_by is None and not self.points_elsewhere

    @property
    def serves_schedule(self) -> bool:
        """Whether it was a pass over all orders, or over the slice whose turn it was."""
        return self.kind == "pass" and (self.covers is None or self.part.startswith(SLICE))

    @property
    def points_elsewhere(self) -> bool:
        """Whether it was refused because the link points elsewhere than its agreed state was made for."""
        return any(hit.name == FINGERPRINT for hit in self.guards)


class Request(NamedTuple):
    """Something another process asked of the daemon: kind is trigger; orders are those it is about, None for all."""

    id: int
    link: str
    kind: str
    by: str
    created_at: float
    orders: OrderRanges | None = None


class Reached(NamedTuple):
    """How far a run has got: what it does now, in the engine's words, how much of that is done, and of how much."""

    stage: str
    done: int = 0
    expected: int | None = None


class LeaseRow(NamedTuple):
    """Who holds a link's lease, for `status` and for the sentence that turns another process away.

    `reached` is as of the last time the lease was renewed; None before the holder has said anything.
    """

    link: str
    holder: str
    fence: int
    acquired_at: float
    expires_at: float
    reached: Reached | None = None
