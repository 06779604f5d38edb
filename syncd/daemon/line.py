"""The one line `systemctl status` shows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from syncd.daemon.health import Health
from syncd.daemon.pulse import Pulse
from syncd.daemon.status import Live, Process

_ORDER = list(Health)


def status_line(process: Process, lives: Mapping[str, Live]) -> str:
    """Given what the daemon knows of itself and its links, return the line: phase, last run, next run, holds."""
    parts = [f"{process.phase}: {_healths(lives)}"]
    parts += [_at_work(name, live.working) for name, live in lives.items() if live.working is not None]
    last = max((live.last for live in lives.values() if live.last), key=lambda row: row.started_at, default=None)
    if last is not None:
        parts.append(f"last run {last.id} of {last.link} at {_time(last.finished_at or last.started_at)} {last.state}")
    upcoming = _upcoming(lives.values())
    if upcoming and process.phase == "running":
        parts.append(f"next run at {_time(min(upcoming))}")
    holds = sum(live.last.counts.holds for live in lives.values() if live.last)
    parts.append("1 order held" if holds == 1 else f"{holds} orders held")
    if process.config_error:
        parts.append(f"reload failed, old configuration kept: {process.config_error}")
    elif process.restart:
        parts.append(f"restart needed for {', '.join(process.restart)}")
    return "; ".join(parts)


def _healths(lives: Mapping[str, Live]) -> str:
    if not lives:
        return "no links"
    counts = Counter(Health.STANDBY if live.standby else live.condition.health for live in lives.values())
    words = [f"{counts[health]} {health.value.replace('-', ' ')}" for health in _ORDER if counts[health]]
    return f"{len(lives)} link{'s' if len(lives) > 1 else ''}, {', '.join(words)}"


def _at_work(name: str, pulse: Pulse) -> str:
    done = f" {pulse.done}" if pulse.done else ""
    expected = f" of {pulse.expected}" if done and pulse.expected else ""
    return f"at work on {name}{': ' if pulse.stage else ''}{pulse.stage}{done}{expected}"


def _upcoming(lives: Iterable[Live]) -> list[float]:
    return [at for live in lives for at in (live.next_run, live.retry_at) if at is not None]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S UTC")
