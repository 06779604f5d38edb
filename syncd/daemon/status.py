"""What `/status.json`, the status page and the status line show.

Most of it stands in the state database, so it is the same in every daemon; what only this one knows (a pass's progress,
its next call of the schedule, its pause after failures) is added from its runners.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from syncd import __version__
from syncd.config.model import LinkSettings, Settings
from syncd.config.schedule import Schedule
from syncd.core.model import Hold
from syncd.core.ports import OPERATING_LIMIT, Clock
from syncd.core.records import LeaseRow, LinkRow, RunRow
from syncd.core.store import Store
from syncd.daemon.health import Condition, Health, condition_of, failures_in_a_row, last_pass
from syncd.daemon.looks import next_look
from syncd.daemon.pulse import Pulse
from syncd.daemon.runner import RECENT
from syncd.daemon.slots import Slots
from syncd.engine.report import iso, run_json
from syncd.portal.opening import budget_key


@dataclass(frozen=True, slots=True)
class Live:
    """What a daemon knows of a link beyond the state database."""

    condition: Condition
    working: Pulse | None = None
    standby: bool = False
    failures: int = 0
    retry_at: float | None = None
    next_run: float | None = None
    last: RunRow | None = None


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """How one link is.

    Args:
        name: The link.
        settings: Its configuration.
        row: Its row in the state database; None before its first run.
        last: Its newest run of any kind; `last_pass` the newest pass.
        condition: Its lasting health.
        health: What it is at a glance: paused, working and standby come before the lasting health.
        holds: Its open holds.
        agreed: How many bindings are agreed.
        look_at: When it is looked at next while it is parked, in seconds since the epoch; None while it is not.
        lease: Who works on it now.
        budget: The operating budget of its portal, by method.
        live: What this daemon adds, if it is one.
    """

    name: str
    settings: LinkSettings
    row: LinkRow | None
    last: RunRow | None
    last_pass: RunRow | None
    condition: Condition
    health: Health
    holds: list[Hold]
    agreed: int
    look_at: float | None
    lease: LeaseRow | None
    budget: Mapping[str, tuple[float, float, float]]
    live: Live | None = None

    @property
    def next_run(self) -> float | None:
        """When a pass is expected next, in seconds since the epoch; None where nobody knows or none is."""
        if self.row is not None and self.row.paused:
            return None
        if self.live is not None and self.live.retry_at is not None:
            return self.live.retry_at
        scheduled = self.live.next_run if self.live is not None else None
        return scheduled if self.look_at is None else max(self.look_at, scheduled or 0.0)


async def look(
    settings: Settings, store: Store, now: float, lives: Mapping[str, Live] | None = None
) -> list[LinkStatus]:
    """Given the configuration and the state database, return how each link is. Writes nothing.

    Args:
        settings: The configuration.
        store: The state database.
        now: Seconds since the epoch.
        lives: What a daemon's runners add, by link.

    Raises:
        StateUnavailable: The state database is out of reach.
    """
    leases = {row.link: row for row in await store.leases() if row.expires_at > now}
    return [await _look_at(name, settings, store, leases.get(name), (lives or {}).get(name)) for name in settings.links]


async def _look_at(name: str, whole: Settings, store: Store, lease: LeaseRow | None, live: Live | None) -> LinkStatus:
    settings = whole.links[name]
    row = await store.find_link(name)
    runs = await store.runs(name, RECENT)
    condition = live.condition if live is not None else condition_of(row, runs)
    if condition.health is Health.WAITING:
        condition = condition_of(row, runs)
    return LinkStatus(
        name=name,
        settings=settings,
        row=row,
        last=runs[0] if runs else None,
        last_pass=last_pass(runs),
        condition=condition,
        health=_glance(condition, row, lease, live),
        holds=[one.hold for one in await store.holds(row.id)] if row is not None else [],
        agreed=await store.agreed_count(row.id) if row is not None else 0,
        look_at=parked_until(name, settings.schedule, whole.daemon.timezone, row, runs),
        lease=lease,
        budget=await store.budget(budget_key(settings.portal)),
        live=live,
    )


def parked_until(
    name: str, schedule: Schedule | None, timezone: str, row: LinkRow | None, runs: Sequence[RunRow]
) -> float | None:
    """Given a link and its newest runs, return when it is looked at next if it is parked and has a schedule.

    Args:
        name: The link.
        schedule: When its passes are made.
        timezone: Where its schedule is read.
        row: Its row.
        runs: Its newest runs, newest first.
    """
    if row is None or not row.parked or schedule is None:
        return None
    return next_look(row.parked, last_pass(runs), failures_in_a_row(runs), Slots(name, schedule, timezone))


def _glance(condition: Condition, row: LinkRow | None, lease: LeaseRow | None, live: Live | None) -> Health:
    if live is not None and live.working is not None:
        return Health.WORKING
    if lease is not None:
        return Health.WORKING if live is None else Health.STANDBY
    if row is not None and row.paused:
        return Health.PAUSED
    return condition.health


@dataclass(frozen=True, slots=True)
class Process:
    """What this daemon says of itself.

    Args:
        holder: Host and process, as in leases.
        phase: starting, running, stopping.
        started_at: Seconds since the epoch.
        config: The configuration file, when it was read last, and what was wrong when it was read since.
        config_at, config_error: As above.
        restart: Keys that changed in the file and take effect after a restart only.
    """

    holder: str
    phase: str
    started_at: float
    config: str
    config_at: float
    config_error: str = ""
    restart: tuple[str, ...] = ()

    def but(self, **changes: Any) -> Process:
        """Return the same with these changes."""
        return replace(self, **changes)


def to_json(process: Process, links: list[LinkStatus], clock: Clock) -> dict[str, Any]:
    """Given all there is to know, return `status.json`."""
    return {
        "version": __version__,
        "at": iso(clock.now()),
        "process": {
            "holder": process.holder,
            "phase": process.phase,
            "started_at": iso(process.started_at),
        },
        "config": {
            "file": process.config,
            "read_at": iso(process.config_at),
            "error": process.config_error or None,
            "needs_restart": list(process.restart),
        },
        "links": [link_json(link) for link in links],
    }


def link_json(link: LinkStatus) -> dict[str, Any]:
    """Given a link's status, return its JSON form."""
    live = link.live
    return {
        "link": link.name,
        "health": link.health.value,
        "condition": link.condition.health.value,
        "since": iso(link.condition.since),
        "detail": link.condition.detail or None,
        "paused": bool(link.row and link.row.paused),
        "parked": (link.row.parked if link.row else "") or None,
        "direction": link.settings.direction.value,
        "schedule": link.settings.schedule and str(link.settings.schedule),
        "next_run": iso(link.next_run or 0),
        "failures": live.failures if live else 0,
        "working": _working_json(live.working) if live and live.working else None,
        "agreed": link.agreed,
        "in_step": link.last_pass.counts.in_step if link.last_pass else None,
        "holds": _holds_json(link.holds),
        "last_run": run_json(link.last) if link.last else None,
        "last_pass": run_json(link.last_pass) if link.last_pass else None,
        "lease": {
            "holder": link.lease.holder,
            "fence": link.lease.fence,
            "since": iso(link.lease.acquired_at),
            "expires_at": iso(link.lease.expires_at),
        }
        if link.lease
        else None,
        "portal": {
            "address": link.settings.portal.address,
            "budget": {
                method: {"used": round(used, 1), "limit": OPERATING_LIMIT, "reset_at": iso(reset), "read_at": iso(read)}
                for method, (used, reset, read) in link.budget.items()
            },
        },
    }


def _holds_json(holds: list[Hold]) -> dict[str, Any]:
    return {
        "open": len(holds),
        "oldest": iso(min((hold.since for hold in holds), default=0.0)),
        "kinds": dict(Counter(hold.kind.value for hold in holds)),
    }


def _working_json(pulse: Pulse) -> dict[str, Any]:
    return {
        "stage": pulse.stage,
        "done": pulse.done,
        "expected": pulse.expected,
        "since": iso(pulse.started_at),
        "silence": round(pulse.silence(), 1),
    }
