"""The store in memory: passes the same contract suite as the SQL one, and is fast enough for a rule machine."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from syncd.core.model import Action, Change, MaybeOwner, Outcome, Side
from syncd.core.ports import Clock
from syncd.core.records import (
    Attempt,
    BindingRow,
    BindingUpdate,
    ChangeOutcome,
    Lease,
    LeaseRow,
    LinkRow,
    Request,
    RunRow,
    StoredChange,
    StoredHold,
)
from syncd.errors import LeaseHeld, LeaseLost, SyncdError, UsageError


class MemoryStore:
    """See `syncd.core.store.Store`. One object is the database of all engines that are given it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._links: list[LinkRow] = []
        self._leases: dict[str, LeaseRow] = {}
        self._locks: dict[str, tuple[str, int]] = {}
        self._locked: set[tuple[str, int]] = set()
        self._bindings: dict[int, dict[int, BindingRow]] = {}
        self._runs: dict[int, RunRow] = {}
        self._changes: dict[int, tuple[int, StoredChange]] = {}
        self._holds: list[tuple[int, StoredHold, float | None]] = []
        self._decided_at: dict[int, float] = {}
        self._attempts: dict[int, dict[int, Attempt]] = {}
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

    async def find_link(self, name: str) -> LinkRow | None:
        return next((row for row in reversed(self._links) if row.name == name), None)

    async def rebase(self, lease: Lease, fingerprint: str, now: float) -> LinkRow:
        self._prove(lease)
        old = await self.find_link(lease.link)
        assert old is not None
        self._release_holds(lease.link_id, {stored.hold.order_id for _, stored in self._open(lease.link_id)}, now)
        return self._make_link(lease.link, old.generation + 1, fingerprint, now, paused=old.paused)

    async def set_paused(self, name: str, *, paused: bool) -> None:
        if await self.find_link(name) is None:
            raise UsageError(f"The state database does not know a link {name} yet.")
        self._links = [row._replace(paused=paused) if row.name == name else row for row in self._links]

    async def set_parked(self, lease: Lease, reason: str) -> None:
        self._prove(lease)
        self._links = [row._replace(parked=reason) if row.id == lease.link_id else row for row in self._links]

    def _make_link(self, name: str, generation: int, fingerprint: str, now: float, *, paused: bool = False) -> LinkRow:
        row = LinkRow(len(self._links) + 1, name, generation, fingerprint, paused, "", now)
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

    async def renew(self, lease: Lease, ttl: float, now: float) -> Lease:
        self._prove(lease)
        self._leases[lease.link] = self._leases[lease.link]._replace(expires_at=now + ttl)
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

    async def boundaries(self, link_id: int, every: int) -> list[int]:
        rows = self._bindings.get(link_id, {}).values()
        return sorted(row.order_id for row in rows if row.crm_id is not None)[every - 1 :: every]

    async def bindings(self, link_id: int, after: int, upto: int | None) -> list[BindingRow]:
        rows = self._bindings.get(link_id, {}).values()
        return sorted(row for row in rows if row.order_id > after and (upto is None or row.order_id <= upto))

    async def agreed_count(self, link_id: int) -> int:
        return sum(row.agreed_id is not None for row in self._bindings.get(link_id, {}).values())

    async def observed(self, lease: Lease, run: int, updates: Iterable[BindingUpdate]) -> None:
        self._prove(lease)
        self._store_bindings(lease.link_id, updates)

    async def agree(self, lease: Lease, run: int, changes: Iterable[tuple[Change, BindingUpdate]]) -> None:
        self._prove(lease)
        for change, update in changes:
            self._add_change(lease.link_id, run, change, Outcome.APPLIED, self._clock.now())
            self._store_bindings(lease.link_id, [update])

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
        number = len(self._runs) + 1
        self._runs[number] = RunRow(
            number, lease.link, lease.link_id, kind, "running", origin, source=source, started_at=now
        )
        return number

    async def save_plan(self, lease: Lease, run: int, changes: Sequence[Change]) -> list[int]:
        self._prove(lease)
        return [self._add_change(lease.link_id, run, change, Outcome.PLANNED, 0.0) for change in changes]

    async def finish_run(self, lease: Lease, row: RunRow) -> None:
        self._prove(lease)
        old = self._runs[row.id]
        self._runs[row.id] = replace(
            copy.deepcopy(row),
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
        return copy.deepcopy(self._runs.get(run))

    async def runs(self, link: str | None, limit: int, before: int | None = None) -> list[RunRow]:
        rows = [
            row
            for row in self._runs.values()
            if (link is None or row.link == link) and (before is None or row.id < before)
        ]
        return copy.deepcopy(sorted(rows, key=lambda row: -row.id)[:limit])

    async def completed(self, link_id: int) -> bool:
        return any(
            row.link_id == link_id
            and row.kind in {"pass", "apply"}
            and row.state in {"applied", "partial"}
            and not row.error
            for row in self._runs.values()
        )

    async def changes(self, run: int, after: int = 0, limit: int | None = None) -> list[StoredChange]:
        found = [row for _, row in self._changes.values() if row.run == run and row.id > after]
        return [row for row in found if row.change.action is not Action.AGREE][:limit]

    async def history(self, link: str, order_id: int, limit: int = 200) -> list[StoredChange]:
        generations = self._generations(link)
        return [
            row for link_id, row in self._changes.values() if link_id in generations and row.change.order_id == order_id
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

    async def intend(self, lease: Lease, changes: Sequence[int], now: float) -> None:
        self._prove(lease)
        self._check_known(lease, changes)
        for number in changes:
            link_id, row = self._changes[number]
            intended = replace(row, outcome=Outcome.INTENDED, at=now)
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
            self._store_bindings(link_id, [] if update is None else [update])
        self._open_holds(lease.link_id, run, holds, now)
        for failure in attempts:
            if failure[1]:
                self._attempts.setdefault(lease.link_id, {})[failure.order_id] = failure
            else:
                self._attempts.get(lease.link_id, {}).pop(failure.order_id, None)

    async def open_intents(self, link_id: int) -> list[StoredChange]:
        return [row for link, row in self._changes.values() if link == link_id and row.outcome is Outcome.INTENDED]

    async def removed_since(self, link_id: int, since: float) -> dict[Side, int]:
        removes = Counter(
            row.change.side
            for row in self._applied(link_id, since)
            if row.change.action is Action.REMOVE and row.change.side is not None
        )
        return {side: removes[side] for side in Side}

    async def repeats(
        self, link_id: int, orders: Sequence[int], since: float
    ) -> Mapping[tuple[int, Side, MaybeOwner], int]:
        asked = set(orders)
        return dict(
            Counter(
                (row.change.order_id, row.change.side, row.change.after)
                for row in self._applied(link_id, since)
                if row.change.order_id in asked and row.change.side is not None
            )
        )

    def _applied(self, link_id: int, since: float) -> Iterable[StoredChange]:
        return (
            row
            for link, row in self._changes.values()
            if link == link_id and row.outcome is Outcome.APPLIED and row.at >= since
        )

    def _check_known(self, lease: Lease, numbers: Sequence[int]) -> None:
        if any(number not in self._changes or self._changes[number][0] != lease.link_id for number in numbers):
            raise SyncdError(f"The journal of link {lease.link} does not know all changes.")

    # ------------------------------------------------------------------ holds

    async def holds(self, link_id: int) -> list[StoredHold]:
        return sorted((stored for _, stored in self._open(link_id)), key=lambda stored: stored.hold.order_id)

    async def set_holds(
        self, lease: Lease, run: int, *, opened: Sequence[StoredHold], released: Sequence[int], now: float
    ) -> None:
        self._prove(lease)
        self._release_holds(lease.link_id, set(released), now)
        self._open_holds(lease.link_id, run, opened, now)

    async def decide(self, link_id: int, orders: Sequence[int], decision: str, now: float) -> int:
        asked = set(orders)
        found = [(place, stored) for place, stored in self._open(link_id) if stored.hold.order_id in asked]
        for place, stored in found:
            self._holds[place] = (link_id, replace(stored, decision=decision), None)
            self._decided_at[place] = now
        return len(found)

    async def attempts(self, link_id: int) -> dict[int, Attempt]:
        return dict(self._attempts.get(link_id, {}))

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

    async def post_request(self, link: str, kind: str, by: str, now: float) -> int:
        number = len(self._requests) + 1
        self._requests[number] = (Request(number, link, kind, by, now), False)
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
