"""All links on one screen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from syncd.cli.screen import GAP, Block, Line, Table
from syncd.config.schedule import Cron, Interval, Schedule
from syncd.core.ports import OPERATING_LIMIT
from syncd.core.records import LeaseRow, LinkRow, RunRow
from syncd.engine import words
from syncd.engine.report import counts_json, iso


class LinkStatus(NamedTuple):
    """What is known of one link.

    Args:
        name: Its name.
        row: Its row; None if no run has ever seen it.
        agreed: How many bindings are agreed.
        holds: How many orders are held.
        last: Its last run that finished or is under way.
        lease: Who works on it now, if anybody.
        schedule: When passes are made.
        look_at: When it is looked at next while it is parked, in seconds since the epoch.
    """

    name: str
    row: LinkRow | None
    agreed: int
    holds: int
    last: RunRow | None
    lease: LeaseRow | None
    schedule: Schedule | None
    look_at: float | None = None


def health(link: LinkStatus, now: float) -> str:
    """Given a link, return one word or two for how it is."""
    if link.row is None or link.last is None:
        return "never run"
    if link.row.parked or link.row.paused:
        return _resting(link.row)
    state = link.last.state
    if state == "running" and not at_work(link, now):
        return "interrupted"
    if link.holds and state in {"planned", "partial", "applied"}:
        return "held"
    if state in _BY_STATE:
        return _BY_STATE[state]
    waits = state == "planned" and link.last.spent_by is None and _writes(link.last)
    return "planned" if waits else "in step"


def _resting(row: LinkRow) -> str:
    if not row.parked:
        return "paused"
    # The daemon parks a link whose plan was refused, too; the status page has these same words for the two.
    return "refused" if row.parked.startswith("refused:") else "parked"


def _writes(run: RunRow) -> int:
    return run.counts.crm.total + run.counts.table.total


_BY_STATE = {
    "refused": "refused",
    "failed": "failing",
    "incomplete": "failing",
    "running": "working",
    "partial": "leftovers",
}
_TONES = {
    "in step": "good",
    "parked": "bad",
    "refused": "bad",
    "failing": "bad",
    "held": "warn",
    "leftovers": "warn",
    "interrupted": "warn",
}


def due(link: LinkStatus, now: float) -> str:
    """Given a link, return when its next pass is due, as far as that can be known without asking the daemon."""
    if link.schedule is None:
        return "on command"
    if link.row is not None and (link.row.paused or link.row.parked):
        return "not before resumed" if link.row.paused else _next_look(link, now)
    if isinstance(link.schedule, Interval) and link.last is not None:
        at = link.last.started_at + link.schedule.seconds
        return f"in {words.span(at - now)}" if at > now else "now"
    return str(link.schedule) if isinstance(link.schedule, Cron) else f"every {link.schedule}"


def _next_look(link: LinkStatus, now: float) -> str:
    """Given a parked link, return when the daemon looks at it next."""
    if link.look_at is None:
        return "parked"
    return f"look {words.ago(link.look_at, now)}" if link.look_at > now else "look due"


def status(
    links: Sequence[LinkStatus], budgets: Mapping[str, Mapping[str, tuple[float, float, float]]], now: float
) -> Iterator[Block]:
    """Given all links and the operating budgets of their portals, yield one line for each link, and what needs care."""
    yield Table(
        [
            [
                link.name,
                health(link, now),
                f"{link.agreed:,}",
                f"{link.holds:,}",
                _last(link, now),
                due(link, now),
                at_work(link, now) or "-",
            ]
            for link in links
        ],
        heads=["link", "health", "agreed", "held", "last run", "next", "at work"],
        tones=[_TONES.get(health(link, now), "") for link in links],
        toned=1,
        right=frozenset({2, 3}),
    )
    spent = [
        [portal, method, f"{used:.0f} s of {OPERATING_LIMIT} s", f"resets {words.ago(reset, now)}"]
        for portal, methods in budgets.items()
        for method, (used, reset, _read) in methods.items()
        if reset > now and used >= OPERATING_LIMIT / 10
    ]
    if spent:
        yield GAP
        yield Line("Operating budget of the portal in use:", "title")
        yield Table(spent, indent=2)
    yield from _care(links, now)


def _last(link: LinkStatus, now: float) -> str:
    if link.last is None:
        return "never"
    return f"{link.last.id}, {words.ago(link.last.started_at, now)}"


def at_work(link: LinkStatus, now: float) -> str:
    """Given a link, return who works on it now, or nothing."""
    return "" if link.lease is None or link.lease.expires_at <= now else link.lease.holder


def _care(links: Sequence[LinkStatus], now: float) -> Iterator[Block]:
    """One line for each link that needs a person, with the command to begin with."""
    rows = []
    for link in links:
        word = health(link, now)
        if link.row is not None and link.row.parked:
            rows.append([link.name, f"{word}: {_parked(link, now)}"])
            rows.append(["", _next_step(link)])
        elif word == "paused":
            rows.append([link.name, f"syncd resume {link.name}"])
        elif word in {"refused", "failing", "leftovers", "interrupted"} and link.last is not None:
            rows.append([link.name, f"syncd show {link.last.plan}"])
        elif word == "held":
            rows.append([link.name, f"syncd holds {link.name}"])
        elif word == "never run":
            rows.append([link.name, f"syncd plan {link.name}"])
        elif word == "planned" and link.last is not None:
            rows.append([link.name, f"syncd apply {link.last.id}"])
    if rows:
        yield GAP
        yield Line("Worth a look:", "title")
        yield Table(rows, indent=2)


def _parked(link: LinkStatus, now: float) -> str:
    """Given a parked link, return why, and when it is looked at next."""
    assert link.row is not None
    reason = (link.row.parked.partition(": ")[2] or link.row.parked).rstrip(".")
    return reason + (f"; next {_next_look(link, now)}" if link.look_at is not None else "")


def _next_step(link: LinkStatus) -> str:
    """Given a parked link, return the command to begin with."""
    refused = link.last is not None and link.last.state == "refused"
    return f"syncd show {link.last.plan}" if refused and link.last is not None else f"syncd check {link.name}"


def status_json(link: LinkStatus, now: float) -> dict[str, Any]:
    """Given a link, return its JSON form."""
    last, row = link.last, link.row
    return {
        "link": link.name,
        "health": health(link, now),
        "paused": bool(row and row.paused),
        "parked": (row.parked or None) if row else None,
        "agreed": link.agreed,
        "holds": link.holds,
        "schedule": str(link.schedule) if link.schedule else None,
        "last_run": None
        if last is None
        else {
            "run": last.id,
            "kind": last.kind,
            "state": last.state,
            "started_at": iso(last.started_at),
            "finished_at": iso(last.finished_at or 0),
            "counts": counts_json(last.counts),
            "error": last.error or None,
        },
        "next_run_at": _next_at(link),
        "lease": None
        if link.lease is None or not at_work(link, now)
        else {"holder": link.lease.holder, "expires_at": iso(link.lease.expires_at)},
    }


def _next_at(link: LinkStatus) -> str | None:
    if link.row is not None and link.row.parked and not link.row.paused:
        return None if link.look_at is None else iso(link.look_at)
    if isinstance(link.schedule, Interval) and link.last is not None and link.row is not None and not link.row.paused:
        return iso(link.last.started_at + link.schedule.seconds)
    return None
