"""How the links are, as JSON: what `syncd status --json` prints, and `links` of `/status.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from syncd import __version__
from syncd.core.model import Hold
from syncd.core.ports import OPERATING_LIMIT
from syncd.core.records import LeaseRow, LinkRow
from syncd.engine.report import iso, run_json
from syncd.status.links import LinkStatus


@dataclass(frozen=True, slots=True)
class Process:
    """What a daemon says of itself.

    Args:
        holder: Host and process, as in leases.
        phase: starting, running, stopping.
        started_at: Seconds since the epoch.
        config: The configuration file.
        config_at: When it was last read without an error.
        config_error: What was wrong with it when it was read since.
        restart: Keys that changed in the file and take effect only after a restart.
        troubles: By link, why its newest pass opened no run; the state database does not know that.
    """

    holder: str
    phase: str
    started_at: float
    config: str
    config_at: float
    config_error: str = ""
    restart: tuple[str, ...] = ()
    troubles: tuple[tuple[str, str], ...] = ()

    def but(self, **changes: Any) -> Process:
        """Return the same with these changes."""
        return replace(self, **changes)


def status_json(process: Process, links: Sequence[LinkStatus], now: float) -> dict[str, Any]:
    """Given what a daemon says of itself and how the links are, return `/status.json`."""
    return {
        "version": __version__,
        "at": iso(now),
        "process": {
            "holder": process.holder,
            "phase": process.phase,
            "started_at": iso(process.started_at),
            "troubles": dict(process.troubles),
        },
        "config": {
            "file": process.config,
            "read_at": iso(process.config_at),
            "error": process.config_error or None,
            "needs_restart": list(process.restart),
        },
        "links": links_json(links),
    }


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
