"""The store in memory: passes the same contract suite as the SQL one, and is fast enough for a rule machine."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar

from syncd.core.model import Action, Change, Counts, HoldKind, Outcome, Reason, Side, SideCounts
from syncd.core.order_keys import KeyRow
from syncd.core.order_ranges import Coverage, OrderRange, OrderRanges
from syncd.core.plan import REVERTS_WITHIN, is_revert
from syncd.core.ports import Clock
from syncd.core.records import (
    Absence,
    Attempt,
    BindingRow,
    BindingUpdate,
    ChangeOutcome,
    Decision,
    LastDay,
    Lease,
    LeaseRow,
    LinkRow,
    Pause,
    Reached,
    Request,
    RunRow,
    StoredChange,
    StoredHold,
    Tally,
    Written,
)
from syncd.engine.report import tally
from syncd.errors import LeaseHeld, LeaseLost, SyncdError, UsageError

T = TypeVar("T")


class MemoryStore:
    """See `syncd.core.store.Store`. One object is the database of all engines that are given it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.name = "the state in memory"
        self._links: list[LinkRow] = []
        self._leases: dict[str, LeaseRow] = {}
        self._locks: dict[str, tuple[str, int]] = {}
        self._locked: set[tuple[str, int]] = set()
        self._bindings: dict[int, dict[int, BindingRow]] = {}
        self._runs: dict[int, RunRow] = {}
        self._numbers = 0
        self._changes: dict[int, tuple[int, StoredChange]] = {}
        self._holds: list[tuple[int, StoredHold, float | None]] = []
        self._decided_at: dict[int, float] = {}
        self._decisions: list[Decision] = []
        self._attempts: dict[int, dict[int, Attempt]] = {}
        self._absences: dict[int, dict[int, Absence]] = {}
        self._order_keys: dict[int, dict[int, KeyRow]] = {}
        self._requests: dict[int, tuple[Request, bool]] = {}
        self._budgets: dict[str, dict[str, tuple[float, float, float]]] = {}
        self._tokens: dict[str, dict[str, Any]] = {}

    def bury(self, holder: str) -> None:
        """The process of this holder is gone, and its locks with it: its leases may be taken over at once."""
        self._locks = {link: lock for link, lock in self._locks.items() if lock[0] != holder}

    def at_work(self, link: str) -> str:
        """Return who has this link's lease, where nobody else can take it now; otherwise nothing."""
        row = self._leases.get(link)
        return row.holder if row is not None and row.expires_at > self._clock.now() else ""

    def rob(self, link: str) -> None:
        """Somebody else has taken this link's lease over, has done something, and is gone again."""
        row = self._leases[link]
        self._leases[link] = row._replace(holder="", fence=row.fence + 1)

    # ------------------------------------------------------------------- link

    async def link(self, name: str, fingerprint: str) -> LinkRow:
        return await self.find_link(name) or self._make_link(name, 1, fingerprint, self._clock.now())

    async def identity(self) -> str:
        return self.name

    async def find_link(self, name: str) -> LinkRow | None:
        return next((row for row in reversed(self._links) if row.name == name), None)

    async def keep_portal(self, lease: Lease, fingerprint: str, portal: str, member_id: str) -> LinkRow:
        self._prove(lease)
        row = self._links[lease.link_id - 1]
        self._links[lease.link_id - 1] = row._replace(fingerprint=fingerprint, portal=portal, member_id=member_id)
        return self._links[lease.link_id - 1]

    async def rebase(self, lease: Lease, fingerprint: str, now: float) -> LinkRow:
        self._prove(lease)
        old = await self.find_link(lease.link)
        assert old is not None
        self._release_holds(lease.link_id, {stored.hold.order_id for _, stored in self._open(lease.link_id)}, now)
        made = self._make_link(lease.link, old.generation + 1, fingerprint, now)
        if not old.paused:
            return made
        await self.set_paused(lease.link, paused=True, pause=old.pause)
        return self._links[-1]

    async def set_paused(self, name: str, *, paused: bool, pause: Pause = Pause()) -> None:  # noqa: B008 - a constant
        if await self.find_link(name) is None:
            raise UsageError(f"The state database does not know a link {name} yet.")
        self._links = [row._replace(paused=paused, pause=pause) if row.name == name else row for row in self._links]

    async def set_coverage(self, lease: Lease, coverage: Coverage) -> None:
        self._prove(lease)
        self._links = [row._replace(coverage=coverage) if row.id == lease.link_id else row for row in self._links]

    async def set_parked(self, lease: Lease, reason: str) -> None:
        self._prove(lease)
        self._links = [row._replace(parked=reason) if row.id == lease.link_id else row for row in self._links]

    def _make_link(self, name: str, generation: int, fingerprint: str, now: float) -> LinkRow:
        row = LinkRow(len(self._links) + 1, name, generation, fingerprint, paused=False, parked="", created_at=now)
        self._links.append(row)
        return row

    def _generations(self, name: str) -> set[int]:
        return {row.id for row in self._links if row.name == name}

    # ------------------------------------------------------------------ lease

    async def acquire(self, link: LinkRow, holder: str, ttl: float, now: float) -> Lease:
        row = self._leases.get(link.name, LeaseRow(link.name, "", 0, 0.0, 0.0))
        dead = link.name not in self._locks and (link.name, row.fence) in self._locked
        if row.holder and row.expires_at > now and not dead:
            raise LeaseHeld(f"Link {link.name} is being worked on by {row.holder}.")
        if max(self._generations(link.name)) != link.id:
            raise LeaseHeld(f"Link {link.name} was rebased by another process a moment ago.")
        self._leases[link.name] = LeaseRow(link.name, holder, row.fence + 1, now, now + ttl)
        lease = Lease(link.id, link.name, holder, row.fence + 1, now + ttl)
        self._lock(lease)
        return lease

    async def renew(self, lease: Lease, ttl: float, now: float, reached: Reached | None = None) -> Lease:
        self._prove(lease)
        row = self._leases[lease.link]
        self._leases[lease.link] = row._replace(expires_at=now + ttl, reached=reached or row.reached)
        self._lock(lease)
        return lease._replace(expires_at=now + ttl)

    async def release(self, lease: Lease) -> None:
        row = self._leases.get(lease.link)
        if row is not None and (row.holder, row.fence) == (lease.holder, lease.fence):
            self._leases[lease.link] = row._replace(holder="")
        if self._locks.get(lease.link) == (lease.holder, lease.fence):
            del self._locks[lease.link]

    async def leases(self) -> list[LeaseRow]:
        return sorted(row for row in self._leases.values() if row.holder)

    def _lock(self, lease: Lease) -> None:
        """A lock beside the row proves that its holder lives; who cannot get it has the lease all the same."""
        if self._locks.get(lease.link, (lease.holder, 0))[0] == lease.holder:
            self._locks[lease.link] = (lease.holder, lease.fence)
            self._locked.add((lease.link, lease.fence))

    def _prove(self, lease: Lease) -> None:
        row = self._leases.get(lease.link)
        if row is None or (row.holder, row.fence) != (lease.holder, lease.fence):
            raise LeaseLost(f"The lease of link {lease.link} ended or was taken over by another process.")

    # ---------------------------------------------------------------- binding

    async def boundaries(self, link_id: int, every: int, ranges: Sequence[OrderRange] = ()) -> list[int]:
        bound = sorted(row.order_id for row in self._bindings.get(link_id, {}).values() if row.crm_id is not None)
        return [
            order
            for inside in ranges or [OrderRange(1)]
            for order in [one for one in bound if inside.first <= one <= inside.last][every - 1 :: every]
        ]

    async def bindings_of(self, link_id: int, orders: Sequence[int]) -> list[BindingRow]:
        rows = self._bindings.get(link_id, {})
        return [rows[order] for order in sorted(orders) if order in rows]

    async def newest_order(self, link_id: int, number: int) -> int | None:
        known = sorted(self._bindings.get(link_id, {}))
        return known[-number] if len(known) >= number else None

    async def active_orders(self, link_id: int, since: float, limit: int) -> list[int]:
        absent = sorted(self._absences.get(link_id, {}).values(), key=lambda one: (-one.since, -one.order_id))
        runs = {row.id for row in self._runs.values() if row.link_id == link_id and row.started_at >= since}
        written = sorted(
            (row for _, row in self._changes.values() if row.run in runs and row.change.side is not None),
            key=lambda row: (-row.run, str(row.change.side), -row.id),
        )
        orders = [*(one.order_id for one in absent), *(row.change.order_id for row in written)]
        return list(dict.fromkeys(orders))[:limit]

    async def bindings(self, link_id: int, after: int, upto: int | None, limit: int | None = None) -> list[BindingRow]:
        rows = self._bindings.get(link_id, {}).values()
        return sorted(row for row in rows if row.order_id > after and (upto is None or row.order_id <= upto))[:limit]

    async def agreed_count(self, link_id: int) -> int:
        return sum(row.agreed_id is not None for row in self._bindings.get(link_id, {}).values())

    async def observed(self, lease: Lease, updates: Iterable[BindingUpdate]) -> None:
        self._prove(lease)
        self._store_bindings(lease.link_id, updates)

    async def agree(self, lease: Lease, run: int, changes: Iterable[tuple[Change, BindingUpdate]]) -> None:
        self._prove(lease)
        for change, update in changes:
            self._add_change(lease.link_id, run, change, Outcome.APPLIED, self._clock.now())
            self._move(lease.link_id, update)

    def _move(self, link_id: int, update: BindingUpdate) -> None:
        self._store_bindings(link_id, [update])
        self._absences.get(link_id, {}).pop(update.order_id, None)

    def _store_bindings(self, link_id: int, updates: Iterable[BindingUpdate]) -> None:
        rows = self._bindings.setdefault(link_id, {})
        for order_id, crm, agreed in updates:
            if crm is None and agreed is None:
                rows.pop(order_id, None)
            else:
                rows[order_id] = BindingRow(order_id, *(crm or (None, None)), *(agreed or (None, None)))

    # -------------------------------------------------------------------- run

    async def start_run(self, lease: Lease, kind: str, origin: str, now: float, source: int | None = None) -> int:
        self._prove(lease)
        number = self._numbers = self._numbers + 1
        self._runs[number] = RunRow(
            number, lease.link, lease.link_id, kind, "running", origin, source=source, started_at=now
        )
        return number

    async def save_plan(self, lease: Lease, run: int, changes: Sequence[Change]) -> list[int]:
        self._prove(lease)
        return [self._add_change(lease.link_id, run, change, Outcome.PLANNED, 0.0) for change in changes]

    async def drop_run(self, lease: Lease, run: int) -> None:
        self._prove(lease)
        del self._runs[run]

    async def finish_run(self, lease: Lease, row: RunRow) -> None:
        self._prove(lease)
        old = self._runs[row.id]
        self._runs[row.id] = replace(
            _copied(row),
            link=old.link,
            link_id=old.link_id,
            kind=old.kind,
            origin=old.origin,
            started_at=old.started_at,
            spent_by=old.spent_by or row.spent_by,
        )

    async def spend(self, lease: Lease, run: int, by: int) -> bool:
        self._prove(lease)
        if self._runs[run].spent_by is not None or self._runs[run].link_id != lease.link_id:
            return False
        for row in self._runs.values():
            if run in {row.id, row.plan}:
                row.spent_by = by
        return True

    async def run(self, run: int) -> RunRow | None:
        row = self._runs.get(run)
        return None if row is None else _copied(row)

    async def runs(self, link: str | None, limit: int, before: int | None = None) -> list[RunRow]:
        rows = [
            row
            for row in self._runs.values()
            if (link is None or row.link == link) and (before is None or row.id < before)
        ]
        return [_copied(row) for row in sorted(rows, key=lambda row: -row.id)[:limit]]

    async def completed(self, link_id: int) -> bool:
        return any(
            row.link_id == link_id
            and row.kind in {"pass", "apply"}
            and row.state in {"applied", "partial"}
            and not row.error
            and row.covers is None
            for row in self._runs.values()
        )

    async def changes(self, run: int, after: int = 0, limit: int | None = None) -> list[StoredChange]:
        found = [row for _, row in self._changes.values() if row.run == run and row.id > after]
        return [row for row in found if row.change.action is not Action.AGREE][:limit]

    async def tally(self, run: int) -> Tally:
        return tally(await self.changes(run))

    async def history(
        self, link: str, order_id: int, limit: int = 200, before: int | None = None
    ) -> list[StoredChange]:
        generations = self._generations(link)
        return [
            row
            for link_id, row in self._changes.values()
            if link_id in generations and row.change.order_id == order_id and (before is None or row.id < before)
        ][-limit:]

    async def past_holds(self, link: str, order_id: int) -> list[tuple[StoredHold, float | None]]:
        generations = self._generations(link)
        return [
            (stored, released)
            for link_id, stored, released in self._holds
            if link_id in generations and stored.hold.order_id == order_id
        ]

    def _add_change(self, link_id: int, run: int, change: Change, outcome: Outcome, at: float) -> int:
        number = len(self._changes) + 1
        self._changes[number] = (link_id, StoredChange(number, run, change, outcome, at=at))
        return number

    # ---------------------------------------------------------------- journal

    async def intend(self, lease: Lease, changes: Sequence[int], now: float, batch: int) -> None:
        self._prove(lease)
        self._check_known(lease, changes)
        for number in changes:
            link_id, row = self._changes[number]
            intended = replace(row, outcome=Outcome.INTENDED, at=now, batch=batch, sends=row.sends + 1)
            self._changes[number] = (link_id, intended)

    async def record(
        self,
        lease: Lease,
        run: int,
        outcomes: Sequence[ChangeOutcome],
        *,
        now: float,
        holds: Sequence[StoredHold] = (),
        attempts: Sequence[Attempt] = (),
    ) -> None:
        self._prove(lease)
        self._check_known(lease, [outcome.change_id for outcome in outcomes])
        for number, outcome, error, found, found_known, update in outcomes:
            link_id, row = self._changes[number]
            self._changes[number] = (
                link_id,
                replace(row, outcome=outcome, error=error, at=now, found=found, found_known=found_known),
            )
            if update is not None:
                self._move(link_id, update)
        self._open_holds(lease.link_id, run, holds, now)
        for failure in attempts:
            if failure[1]:
                self._attempts.setdefault(lease.link_id, {})[failure.order_id] = failure
            else:
                self._attempts.get(lease.link_id, {}).pop(failure.order_id, None)

    async def open_intents(self, link_id: int) -> list[StoredChange]:
        return [row for link, row in self._changes.values() if link == link_id and row.outcome is Outcome.INTENDED]

    async def answered_siblings(self, link_id: int) -> list[StoredChange]:
        requests = {(one.run, one.change.side, one.batch) for one in await self.open_intents(link_id)}
        return [
            row
            for _, row in self._changes.values()
            if row.batch is not None
            and (row.run, row.change.side, row.batch) in requests
            and row.outcome in {Outcome.APPLIED, Outcome.ALREADY}
        ]

    async def last_day(self, link_id: int, since: float, in_parts_since: float) -> LastDay:
        planned = [
            row
            for row in self._runs.values()
            if row.link_id == link_id
            and row.started_at >= since
            and row.digest
            and (row.covers is None or row.counts.whole is not None)
        ]
        first = min(planned, key=lambda row: (row.started_at, row.id), default=None)
        counted = Counter(
            (row.change.action, row.change.side)
            for generation in self._all_generations(link_id)
            for row in self._of(generation, since, {Outcome.APPLIED, Outcome.UNCERTAIN})
            if row.change.side is not None
        )
        moved, removed = ({side: counted[action, side] for side in Side} for action in (Action.MOVE, Action.REMOVE))
        agreed = None if first is None else first.counts.agreed_of_link
        in_parts = self._in_parts(link_id, in_parts_since)
        return LastDay(agreed, moved, removed, in_parts, self._reverted(link_id, since))

    def _reverted(self, link_id: int, since: float) -> dict[Side, set[int]]:
        """Return the orders of which passes since then have put back what syncd had replaced, by the side written."""
        found: dict[Side, set[int]] = {}
        passes = {row.id: row for row in self._runs.values() if row.kind == "pass" and row.started_at >= since}
        earlier: list[StoredChange] = []
        applied = chain.from_iterable(self._applied(one, 0.0) for one in self._all_generations(link_id))
        for one in sorted(applied, key=lambda kept: kept.id):
            side = one.change.side
            counts = passes[one.run].counts if one.run in passes else Counts()
            asked_for = one.change.reason in {Reason.RESOLVED_CRM, Reason.RESOLVED_TABLE}
            if side is not None and counts.of(side).reverts and not asked_for:
                lately = [
                    Written(kept.change.order_id, kept.change.side, kept.before, kept.change.after, kept.at)
                    for kept in earlier
                    if kept.change.side is not None
                    and kept.change.order_id == one.change.order_id
                    and kept.at >= one.at - REVERTS_WITHIN
                ]
                if is_revert(one.change, lately):
                    found.setdefault(side, set()).add(one.change.order_id)
            earlier.append(one)
        return found

    def _in_parts(self, link_id: int, since: float) -> dict[Side, SideCounts]:
        found: dict[Side, SideCounts] = {}
        for row in self._runs.values():
            part = row.covers is not None and row.kind == "pass" and row.digest
            if row.link_id != link_id or row.started_at < since or not part:
                continue
            for side in Side:
                written = SideCounts()
                for one in (kept for _, kept in self._changes.values() if kept.run == row.id):
                    if one.change.side is side and one.outcome is Outcome.APPLIED:
                        written.count(one.change.action)
                if row.counts.of(side).total:
                    found[side] = found.get(side, SideCounts()).plus(written)
        return found

    async def written(self, link_id: int, orders: Sequence[int], since: float) -> list[Written]:
        asked = set(orders)
        found = [
            (row, generation != link_id)
            for generation in self._all_generations(link_id)
            for row in self._applied(generation, since)
            if row.change.order_id in asked
        ]
        found.sort(key=lambda one: (one[0].change.order_id, one[0].id))
        return [
            Written(row.change.order_id, row.change.side, row.before, row.change.after, row.at, before_rebase=earlier)
            for row, earlier in found
            if row.change.side is not None
        ]

    def _all_generations(self, link_id: int) -> set[int]:
        return self._generations(self._links[link_id - 1].name)

    def _applied(self, link_id: int, since: float) -> Iterable[StoredChange]:
        return self._of(link_id, since, {Outcome.APPLIED})

    def _of(self, link_id: int, since: float, outcomes: Collection[Outcome]) -> Iterable[StoredChange]:
        return (
            row
            for link, row in self._changes.values()
            if link == link_id and row.outcome in outcomes and row.at >= since
        )

    def _check_known(self, lease: Lease, numbers: Sequence[int]) -> None:
        if any(number not in self._changes or self._changes[number][0] != lease.link_id for number in numbers):
            raise SyncdError(f"The journal of link {lease.link} does not know all changes.")

    # --------------------------------------------------------------- absences

    async def absence_counts(self, link_id: int, ranges: OrderRanges | None = None) -> dict[Side, tuple[int, float]]:
        rows = self._bindings.get(link_id, {})
        waiting = [
            one
            for one in self._absences.get(link_id, {}).values()
            if one.order_id in rows
            and rows[one.order_id].agreed_id is not None
            and (ranges is None or one.order_id in ranges)
        ]
        since = {side: [one.since for one in waiting if one.side is side] for side in Side}
        return {side: (len(times), min(times)) for side, times in since.items() if times}

    async def absences(self, link_id: int, orders: Sequence[int]) -> dict[int, Absence]:
        waiting = self._absences.get(link_id, {})
        return {order: waiting[order] for order in orders if order in waiting}

    async def note_absences(self, lease: Lease, side: Side, orders: Sequence[int], since: float) -> None:
        self._prove(lease)
        waiting = self._absences.setdefault(lease.link_id, {})
        waiting.update({order: Absence(order, side, since) for order in orders})

    async def forget_absences(self, lease: Lease, side: Side, orders: Sequence[int] | None = None) -> None:
        self._prove(lease)
        waiting = self._absences.get(lease.link_id, {})
        for one in list(waiting.values()):
            if one.side is side and (orders is None or one.order_id in orders):
                del waiting[one.order_id]

    # ------------------------------------------------------------- order keys

    async def orders_by_key(self, link_id: int, keys: Sequence[str]) -> list[tuple[str, int]]:
        known = self._order_keys.get(link_id, {}).values()
        return [(row.key, row.order_id) for row in known if row.key in set(keys)]

    async def order_keys(self, link_id: int, orders: Sequence[int]) -> list[KeyRow]:
        known = self._order_keys.get(link_id, {})
        return [known[order] for order in dict.fromkeys(orders) if order in known]

    async def unknown_keys(self, link_id: int) -> list[KeyRow]:
        return [row for row in self._order_keys.get(link_id, {}).values() if row.order_id < 0]

    async def save_keys(self, lease: Lease, learned: Sequence[KeyRow], gone: Sequence[int] = ()) -> None:
        self._prove(lease)
        known = self._order_keys.setdefault(lease.link_id, {})
        for order in gone:
            known.pop(order, None)
        known.update({row.order_id: row for row in learned})

    # ------------------------------------------------------------------ holds

    async def holds(
        self, link_id: int, *, kind: HoldKind | None = None, after: int | None = None, limit: int | None = None
    ) -> list[StoredHold]:
        found = [
            stored
            for _, stored in self._open(link_id)
            if kind in {None, stored.hold.kind} and (after is None or stored.hold.order_id > after)
        ]
        return sorted(found, key=lambda stored: stored.hold.order_id)[:limit]

    async def set_holds(
        self, lease: Lease, run: int, *, opened: Sequence[StoredHold], released: Sequence[int], now: float
    ) -> None:
        self._prove(lease)
        self._release_holds(lease.link_id, set(released), now)
        self._open_holds(lease.link_id, run, opened, now)

    async def decide(
        self, link_id: int, orders: Sequence[int], decision: str, now: float, *, notes: Sequence[Decision] = ()
    ) -> int:
        self._decisions += notes
        asked = set(orders)
        found = [(place, stored) for place, stored in self._open(link_id) if stored.hold.order_id in asked]
        for place, stored in found:
            self._holds[place] = (link_id, replace(stored, decision=decision), None)
            self._decided_at[place] = now
        return len(found)

    async def note(self, decision: Decision) -> None:
        self._decisions.append(decision)

    async def decisions(
        self, link: str, *, order_id: int | None = None, run: int | None = None, limit: int = 200
    ) -> list[Decision]:
        of_link = [one for one in self._decisions if one.link == link]
        of_order = [one for one in of_link if order_id is None or one.order_id == order_id]
        return [one for one in of_order if run is None or one.run == run][-limit:]

    async def attempts(self, link_id: int, orders: Sequence[int] | None = None) -> dict[int, Attempt]:
        known = self._attempts.get(link_id, {})
        return {order: known[order] for order in sorted(known) if orders is None or order in orders}

    def _began(self, run: int) -> float:
        return self._runs[run].started_at if run in self._runs else math.inf

    def _open(self, link_id: int) -> list[tuple[int, StoredHold]]:
        return [
            (place, stored)
            for place, (link, stored, released) in enumerate(self._holds)
            if link == link_id and released is None
        ]

    def _release_holds(self, link_id: int, orders: set[int], now: float) -> None:
        for place, stored in self._open(link_id):
            if stored.hold.order_id in orders:
                self._holds[place] = (link_id, stored, now)

    def _open_holds(self, link_id: int, run: int, opened: Sequence[StoredHold], now: float) -> None:
        standing = {stored.hold.order_id: (place, stored) for place, stored in self._open(link_id)}
        for wanted in opened:
            hold = wanted.hold
            place, old = standing.get(hold.order_id, (-1, None))
            if old is None or old.hold.kind is not hold.kind:
                self._release_holds(link_id, {hold.order_id}, now)
                new = replace(wanted, hold=replace(hold, since=hold.since or now), run=run)
                self._holds.append((link_id, new, None))
                continue
            same = (old.hold.facts, old.hold.seen) == (hold.facts, hold.seen)
            unseen = same and self._decided_at.get(place, 0.0) > self._began(run)
            kept = replace(
                wanted,
                hold=replace(hold, since=old.hold.since),
                decision=wanted.decision or (old.decision if unseen else ""),
                run=run,
            )
            if replace(kept, run=old.run) != old:
                self._holds[place] = (link_id, kept, None)

    # ------------------------------------------------ requests, token, budget

    async def post_request(self, link: str, kind: str, by: str, now: float, orders: OrderRanges | None = None) -> int:
        number = len(self._requests) + 1
        self._requests[number] = (Request(number, link, kind, by, now, orders), False)
        return number

    async def open_requests(self, links: Sequence[str]) -> list[Request]:
        return [request for request, served in self._requests.values() if request.link in links and not served]

    async def close_requests(self, lease: Lease, requests: Sequence[int], now: float) -> None:
        self._prove(lease)
        served = [self._requests[number][0] for number in requests if number in self._requests]
        self._requests |= {one.id: (one, True) for one in served if one.link == lease.link}

    async def budget(self, portal: str) -> dict[str, tuple[float, float, float]]:
        return dict(self._budgets.get(portal, {}))

    async def set_budget(self, portal: str, budget: Mapping[str, tuple[float, float, float]]) -> None:
        self._budgets.setdefault(portal, {}).update(budget)

    async def token(self, portal: str) -> dict[str, Any] | None:
        return copy.deepcopy(self._tokens.get(portal))

    async def swap_token(self, portal: str, expected_refresh: str | None, token: Mapping[str, Any]) -> bool:
        stored = self._tokens.get(portal, {}).get("refresh_token")
        if expected_refresh is not None and stored != expected_refresh:
            return False
        self._tokens[portal] = copy.deepcopy(dict(token))
        return True

    async def aclose(self) -> None:
        """Nothing to close."""


def _copied(row: RunRow) -> RunRow:
    """Given a run, return it as a database would: sharing nothing that changes."""
    copied = _twin(row)
    copied.counts = _twin(row.counts)
    copied.counts.crm, copied.counts.table = _twin(row.counts.crm), _twin(row.counts.table)
    copied.guards = list(row.guards)
    return copied


def _twin(one: T) -> T:
    """Given a dataclass with slots, return a copy with the same values; `dataclasses.replace` takes ten times as long."""
    made = object.__new__(type(one))
    for name in type(one).__slots__:  # type: ignore[attr-defined]
        setattr(made, name, getattr(one, name))
    return made
