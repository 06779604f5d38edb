"""How each link is, as a value and as its only JSON. From the state database alone, so every host sees the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from syncd.config.model import LinkSettings, Settings
from syncd.core.model import Hold
from syncd.core.ports import OPERATING_LIMIT
from syncd.core.records import LeaseRow, LinkRow, RunRow
from syncd.core.store import Store
from syncd.engine.report import iso, run_json
from syncd.portal.factory import budget_key
from syncd.status.fire_times import FireTimes, next_pass, overdue_since, stale_since
from syncd.status.health import (
    Health,
    LinkHealth,
    deciding_pass,
    failures_in_a_row,
    health_from,
    is_interrupted,
    is_turn_among,
    last_pass,
    last_read,
)

RECENT = 20
"""How many runs of a link are read to see how it is."""
DEEP = 500
"""How many are read to see since when, if the recent ones all have the same health."""


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """How one link is.

    Args:
        name: The link.
        settings: Its configuration.
        row: Its row in the state database; None before its first run.
        last: Its newest run of any kind; `last_pass` the newest pass, `last_read` the newest that read both sides.
        last_pass, last_read: As above.
        deciding: The newest pass that was not cut off and is not under way: its `condition` is the link's.
        condition: What its passes say of it, and since when.
        health: How it is at a glance: working, paused and late come before what its passes say.
        paused: A person stopped its scheduled passes; also while a process works on it.
        failures: How many of its newest passes failed in a row.
        holds: Its open holds.
        agreed: How many bindings are agreed.
        next_run: When a daemon makes its next pass, in seconds since the epoch; None if none does. In the past while
            the pass is due and has not begun.
        overdue: Since when a pass is overdue; None if none is.
        lease: Who works on it now.
        interrupted: Its newest run was cut off, and no run has continued it yet.
        budget: The operating budget of its portal, by method; empty if the portal's secret is not known here.
        conditional: Whether its portal's batches carry the conditions of writes; None before it wrote.
        waiting: How many orders are absent on a side while their removes wait, for a second look or because rows of
            that side cannot be read, and since when.
        waiting_since: As above.
    """

    name: str
    settings: LinkSettings
    row: LinkRow | None
    last: RunRow | None
    last_pass: RunRow | None
    last_read: RunRow | None
    deciding: RunRow | None
    condition: LinkHealth
    health: Health
    paused: bool
    failures: int
    holds: list[Hold]
    agreed: int
    next_run: float | None
    overdue: float | None
    lease: LeaseRow | None
    interrupted: bool
    budget: Mapping[str, tuple[float, float, float]]
    conditional: bool | None
    waiting: int = 0
    waiting_since: float = 0.0

    @property
    def parked(self) -> str:
        """Why its scheduled passes are suspended, as stored; empty if they are not."""
        return self.row.parked if self.row is not None else ""

    @property
    def address(self) -> str:
        """The portal's address; where its secret is not known here, the one the last run went to, or an empty text."""
        if self.settings.portal.has_address:
            return self.settings.portal.address
        return self.row.portal if self.row is not None else ""

    @property
    def in_step(self) -> int | None:
        """Orders in step: of the newest pass over all orders, else the agreed ones; None before any pass has read."""
        if self.last_read is None:
            return None
        return self.last_read.counts.in_step if self.last_read.covers is None else self.agreed

    @property
    def all_fresh_at(self) -> float:
        """When the order that has waited longest was compared last, in seconds since the epoch; 0 for never."""
        coverage = self.row.coverage if self.row is not None else None
        return 0.0 if coverage is None else coverage.stalest

    @property
    def recent_fresh_at(self) -> float:
        """When the newest orders were compared last; 0 where they are not covered apart."""
        coverage = self.row.coverage if self.row is not None else None
        return 0.0 if coverage is None else coverage.recent_at

    @property
    def next_slice(self) -> int | None:
        """The index of the slice that is covered next; None where the link is covered as a whole."""
        coverage = self.row.coverage if self.row is not None else None
        return None if coverage is None or self.settings.slices == 1 else coverage.next

    @property
    def steady(self) -> Health:
        """Its health, leaving out that it is at work for a moment."""
        return self.condition.health if self.health is Health.WORKING else self.health

    @property
    def is_well(self) -> bool:
        """Whether it needs no attention: in step, paused, or at work with nothing wrong before."""
        is_first = self.health is Health.WORKING and self.steady is Health.NEW
        return is_first or self.steady in {Health.IN_STEP, Health.PAUSED}


async def link_statuses(
    settings: Settings, store: Store, now: float, known: Mapping[str, LinkHealth] | None = None
) -> list[LinkStatus]:
    """Given the configuration and the state database, return how each link is. Writes nothing.

    Args:
        settings: The configuration.
        store: The state database.
        now: Seconds since the epoch.
        known: By link, its health as derived before, which saves reading many runs to see since when.

    Raises:
        StateUnavailable: The state database is out of reach.
    """
    leases = {row.link: row for row in await store.leases() if row.expires_at > now}
    known = known or {}
    return [
        await _look_at(name, settings, store, now, lease=leases.get(name), known=known.get(name))
        for name in settings.links
    ]


async def _look_at(
    name: str, whole: Settings, store: Store, now: float, *, lease: LeaseRow | None, known: LinkHealth | None
) -> LinkStatus:
    settings = whole.links[name]
    row = await store.find_link(name)
    runs = await store.runs(name, RECENT)
    condition = health_from(row, runs)
    is_known = known is not None and known.health is condition.health and known.since <= condition.since
    if len(runs) == RECENT and (last_read(runs) is None or not (is_known or is_turn_among(runs))):
        runs = await store.runs(name, DEEP)
        condition = health_from(row, runs)
    if known is not None and is_known:
        condition = condition._replace(since=known.since)
    paused = row is not None and row.is_paused(now)
    times = None if settings.schedule is None else FireTimes(name, settings.schedule, whole.daemon.timezone)
    expected = next_pass(row, runs, times, now)
    if lease is not None and expected is not None and times is not None:
        expected = times.after(now)  # the run under way serves all that was due until now
    late = None if lease is not None else overdue_since(row, runs, expected, now)
    if late is None and lease is None:
        late = stale_since(row, times, settings.slices, now)
    if late is not None and settings.schedule is not None:
        late = late if now - late > whole.daemon.jitter_seconds(settings.schedule) else None
    interrupted = bool(runs) and is_interrupted(runs[0], now, at_work=lease is not None)
    holds = [one.hold for one in await store.holds(row.id)] if row is not None else []
    waiting, waiting_since = await _waits(store, row, last_read(runs), holds)
    return LinkStatus(
        name=name,
        settings=settings,
        row=row,
        last=runs[0] if runs else None,
        last_pass=last_pass(runs),
        last_read=last_read(runs),
        deciding=deciding_pass(runs),
        condition=condition,
        health=_glance(condition, lease, late, paused=paused),
        paused=paused,
        failures=failures_in_a_row(runs),
        holds=holds,
        agreed=await store.agreed_count(row.id) if row is not None else 0,
        next_run=expected,
        overdue=late,
        lease=lease,
        interrupted=interrupted,
        budget=await store.budget(budget_key(settings.portal)) if settings.portal.has_address else {},
        waiting=waiting,
        waiting_since=waiting_since,
        conditional=next((run.conditional for run in runs if run.conditional is not None), None),
    )


async def _waits(store: Store, row: LinkRow | None, read: RunRow | None, holds: Sequence[Hold]) -> tuple[int, float]:
    """Return how many removes wait, and since when: for a second look, or until the rows of a side can be read.

    Absences that an unreadable row may explain are not noted for a second look. They wait since the hold of these rows.
    """
    if row is None:
        return 0, 0.0
    noted = list((await store.absence_counts(row.id)).values())
    number = sum(count for count, _since in noted)
    since = [first for _count, first in noted]
    orderless = [one.since for one in holds if not one.order_id]
    if read is not None and orderless and read.counts.waiting > number:
        return read.counts.waiting, min(since + orderless)
    return number, min(since, default=0.0)


def _glance(condition: LinkHealth, lease: LeaseRow | None, late: float | None, *, paused: bool) -> Health:
    if lease is not None:
        return Health.WORKING
    if paused:
        return Health.PAUSED
    return Health.LATE if late is not None else condition.health


def links_json(links: Sequence[LinkStatus]) -> list[dict[str, Any]]:
    """Given how the links are, return what `syncd status --json` prints."""
    return [link_json(link) for link in links]


def link_json(link: LinkStatus) -> dict[str, Any]:
    """Given how a link is, return its JSON form."""
    return {
        "link": link.name,
        "health": link.health.value,
        "condition": link.condition.health.value,
        "since": iso(link.condition.since),
        "detail": link.condition.detail or None,
        "overdue_since": iso(link.overdue or 0),
        "paused": link.paused,
        "pause": _pause_json(link.row) if link.row is not None and link.paused else None,
        "parked": link.parked or None,
        "direction": link.settings.direction.value,
        "schedule": link.settings.schedule and str(link.settings.schedule),
        "next_run_at": iso(link.next_run or 0),
        "failures": link.failures,
        "agreed": link.agreed,
        "in_step": link.in_step,
        "holds": len(link.holds),
        "waiting": link.waiting,
        "waiting_since": iso(link.waiting_since),
        "held": _held_json(link.holds),
        "interrupted": link.interrupted,
        "last_run": run_json(link.last) if link.last else None,
        "last_pass": run_json(link.last_pass) if link.last_pass else None,
        "lease": _lease_json(link.lease) if link.lease else None,
        "freshness": _freshness_json(link),
        "portal": {
            "address": link.address or None,
            "budget": {
                method: {"used": round(used, 1), "limit": OPERATING_LIMIT, "reset_at": iso(reset), "read_at": iso(read)}
                for method, (used, reset, read) in link.budget.items()
            },
            "conditional": link.conditional,
        },
    }


def _freshness_json(link: LinkStatus) -> dict[str, Any]:
    recent = link.settings.recent
    return {
        "all_covered_since": iso(link.all_fresh_at),
        "slices": link.settings.slices,
        "next_slice": None if link.next_slice is None else link.next_slice + 1,
        "recent_orders": None if recent is None else recent.orders,
        "recent_covered_at": iso(link.recent_fresh_at) if recent is not None else None,
    }


def _pause_json(row: LinkRow) -> dict[str, Any]:
    pause = row.pause
    return {
        "by": pause.by or None,
        "at": iso(pause.at),
        "until": iso(pause.until or 0),
        "comment": pause.comment or None,
    }


def _held_json(holds: list[Hold]) -> dict[str, Any]:
    return {
        "oldest": iso(min((hold.since for hold in holds), default=0.0)),
        "kinds": dict(Counter(hold.kind.value for hold in holds)),
    }


def _lease_json(lease: LeaseRow) -> dict[str, Any]:
    reached = lease.reached
    return {
        "holder": lease.holder,
        "fence": lease.fence,
        "since": iso(lease.acquired_at),
        "expires_at": iso(lease.expires_at),
        "progress": None
        if reached is None
        else {"stage": reached.stage, "done": reached.done, "expected": reached.expected},
    }
