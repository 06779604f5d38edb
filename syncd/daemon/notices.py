"""The texts of notifications: a change of health, a refused plan, old holds, a reminder. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, Final

from syncd.core.model import Hold
from syncd.core.records import RunRow
from syncd.daemon.runner_context import PassResult
from syncd.engine import formatting
from syncd.engine.report import guard_json, hold_json, iso
from syncd.obs.redact import redact
from syncd.status.health import WELL, Health, LinkHealth
from syncd.status.needs import sentence
from syncd.status.owners import Labels

SHOWN_HOLDS: Final = 20
NAMED_HOLDS: Final = 3
"""Held orders that the text names: a longer list cannot be read on a phone."""
HEALTHS: Final[Mapping[Health, str]] = {
    Health.NEW: "waiting for its first pass",
    Health.IN_STEP: "in step",
    Health.HELD: "in step, except for orders that are held",
    Health.REFUSED: "refused by a guard; nothing was written",
    Health.PARKED: "parked: its portal or database refuses access",
    Health.FAILING: "failing",
}
"""The healths that passes can say, as a phrase after "is"."""


class Severity(IntEnum):
    """How much a notification matters: all is well again; a person should decide; nothing is kept in step."""

    INFO = 0
    WARNING = 1
    ERROR = 2

    @property
    def word(self) -> str:
        """The severity as the configuration and the notification name it."""
        return self.name.lower()


def severity_of(health: Health) -> Severity:
    """Given what passes say of a link, return how much it matters."""
    if health in WELL:
        return Severity.INFO
    return Severity.WARNING if health is Health.HELD else Severity.ERROR


def of_change(result: PassResult, before: LinkHealth) -> dict[str, Any]:
    """Given how a pass ended and the health to compare it with, return the notification.

    Args:
        result: The pass.
        before: The health to compare with.
    """
    after = result.after
    text = f"link {result.link} is {HEALTHS[after.health]} (it was {HEALTHS[before.health].partition(';')[0]})."
    if after.health is before.health:
        text = f"link {result.link} is still {HEALTHS[after.health]}, and the plan has grown."
    return _of_health(_event(before, after), result, before, text)


def of_reminder(result: PassResult, now: float) -> dict[str, Any]:
    """Given the last pass of a link that is still not well, return the notification that reminds of it."""
    after = result.after
    text = f"link {result.link} is still {HEALTHS[after.health]}, for {formatting.about(now - after.since)} now."
    return _of_health("reminder", result, after, text)


def of_holds(link: str, old: Sequence[Hold], open_holds: int, limit: float) -> dict[str, Any]:
    """Given the holds of a link that have become old, return the notification.

    Args:
        link: The link's name.
        old: The holds.
        open_holds: How many are open in all.
        limit: The age they have reached, in seconds.
    """
    count = "1 order has" if len(old) == 1 else f"{len(old):,} orders have"
    return _complete(
        "holds",
        link,
        Severity.WARNING,
        f"{count} been held on link {link} for more than {formatting.span(limit)}.",
        commands=[f"syncd holds {link}"],
        more={"count": len(old), "open": open_holds, "holds": [hold_json(hold) for hold in old[:SHOWN_HOLDS]]},
    )


def with_labels(notice: Mapping[str, Any], holds: Sequence[Hold], labels: Labels) -> dict[str, Any]:
    """Given a notification about held orders, return it with what each side says, as people call it, and where it is.

    Args:
        notice: The notification.
        holds: The orders, in the order of `holds` where the notification lists them.
        labels: What is known of their owners.
    """
    orders = [_of_order(hold, labels) for hold in holds[:NAMED_HOLDS]]
    more = dict(notice)
    if isinstance(notice.get("holds"), list):
        more["holds"] = [form | labels.of_hold(hold) for form, hold in zip(notice["holds"], holds, strict=False)]
    return more | {"text": redact(" ".join([notice["text"], *orders]))}


def _of_order(hold: Hold, labels: Labels) -> str:
    url = f" {labels.order_url(hold.order_id)}" if labels.order_url(hold.order_id) else ""
    if not hold.order_id:
        return f"Rows without a readable order: {sentence(hold.detail)}"
    if hold.order_id < 0:
        return f"A row whose key matches no order: {sentence(hold.detail)}"
    return f"Order {hold.order_id}: {formatting.facts_text(hold.facts, labels.names)}.{url}"


def of_test(by: str) -> dict[str, Any]:
    """Given who asks, return the notification that only shows that it arrives."""
    return _complete("test", None, Severity.INFO, f"this is a test notification, sent by {by}.", commands=[], more={})


def _of_health(event: str, result: PassResult, before: LinkHealth, text: str) -> dict[str, Any]:
    after = result.after
    more: dict[str, Any] = {
        "health": after.health.value,
        "before": before.health.value,
        "before_since": iso(before.since),
        "since": iso(after.since),
        "run": after.run or None,
        "detail": redact(after.detail),
    }
    if after.detail:
        text += f" {sentence(after.detail)}"
    row = result.report.row if result.report is not None else None
    if after.health is Health.REFUSED and row is not None:
        more["guards"] = [guard_json(hit) for hit in row.guards]
    if after.health is Health.HELD and result.report is not None:
        more["holds"] = len(result.report.holds)
    commands = _commands(result.link, after, row)
    return _complete(event, result.link, severity_of(after.health), text, commands=commands, more=more)


def _commands(link: str, after: LinkHealth, row: RunRow | None) -> list[str]:
    """Return the next commands to type; the first one only shows."""
    match after.health:
        case Health.REFUSED if row is not None and row.points_elsewhere:
            return [f"syncd show {after.run}", f"syncd rebase {link}"]
        case Health.REFUSED:
            return [f"syncd show {after.run}", f"syncd apply {after.run}"]
        case Health.PARKED:
            return [f"syncd check {link}"]
        case Health.FAILING:
            return [f"syncd show {after.run}", f"syncd check {link}"] if row is not None else [f"syncd check {link}"]
        case Health.HELD:
            return [f"syncd holds {link}"]
    return []


_DOES: Final[Mapping[str, str]] = {
    "apply": "carries it out",
    "rebase": "starts a new agreed state for the new ends, and deletes nothing",
}


def _complete(
    event: str, link: str | None, severity: Severity, text: str, *, commands: Sequence[str], more: Mapping[str, Any]
) -> dict[str, Any]:
    for place, command in enumerate(commands):
        does = _DOES.get(command.split()[1])
        text += f" `{command}` {does}." if does else f" {'Look with' if not place else 'Then'} `{command}`."
    return {
        "event": event,
        "severity": severity.word,
        "link": link,
        **more,
        "commands": list(commands),
        "text": redact(f"syncd: {text}"),
    }


def _event(before: LinkHealth, after: LinkHealth) -> str:
    if after.health is Health.REFUSED:
        return "refused"
    return "recovered" if after.health in WELL and before.health not in WELL else "health"
