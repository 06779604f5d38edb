"""When a parked link is looked at again although nobody asked. Pure.

A refused plan may have been mended where the daemon cannot see it, in the table or in the CRM, so the link makes its
passes on: at its own slots, but no oftener than every quarter of an hour. That is the load an unparked link puts on
both ends, or less, and nothing is stored or told while the plan stays what it is.

Credentials or a right that are refused cost one request to try: after five minutes, then after growing pauses up to an
hour. Whoever the vendor blocked asks once an hour at first and then more seldom: only support lifts that, and asking
is what it was blocked for.
"""

from __future__ import annotations

from typing import Final

from syncd.core.backoff import pause
from syncd.core.records import RunRow
from syncd.daemon.health import Parking, parked_as
from syncd.daemon.slots import Slots

PACE: Final = 900.0
"""Seconds between two looks at a refused plan, at least."""
DAY: Final = 86400.0
"""Seconds until a link that points elsewhere is looked at again: only its configuration and `rebase` can change that,
and both are noticed at once."""
_PAUSES: Final = {Parking.AUTH: (300.0, 3600.0), Parking.BLOCKED: (3600.0, 21600.0)}
"""The first and the longest pause, in seconds."""


def next_look(reason: str, last: RunRow | None, failures: int, slots: Slots | None, *, tried: float = 0.0) -> float:
    """Given a parked link, return when it is looked at next, in seconds since the epoch.

    Args:
        reason: Why it is parked, as stored.
        last: Its newest pass.
        failures: How many passes failed in a row, the one that parked it among them.
        slots: Its schedule; None without one.
        tried: When a pass was last tried that opened no run.
    """
    since = max(tried, last.started_at if last is not None else 0.0)
    parking = parked_as(reason)
    if parking in _PAUSES:
        first, most = _PAUSES[parking]
        return since + pause(max(1, failures), first=first, most=most)
    if last is not None and last.points_elsewhere:
        return since + DAY
    spacing = slots.spacing(since) if slots is not None else None
    if slots is None or spacing is None:
        return since + PACE
    # A pass begins a little after its slot; that must not cost it the slot a quarter of an hour later.
    return slots.after(since + PACE - min(spacing, PACE) / 5) or since + PACE
