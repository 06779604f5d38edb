"""What a link needs of a person: why, as sentences, and the commands that help; how a hold is decided. Pure.

The status page, the terminal and the notifications say the same with the same words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

from syncd.core.diff import lets_go, resolvable
from syncd.core.model import Hold, HoldKind, Policy, Side
from syncd.core.records import NAMELESS, PortalNames, RunRow
from syncd.engine import formatting
from syncd.status.health import Health
from syncd.status.links import LinkStatus


class Need(NamedTuple):
    """One thing: a sentence, the command that helps or nothing, and what the command does."""

    sentence: str
    command: str = ""
    does: str = ""


UNCONDITIONAL = (
    "The portal's batches carry no conditions: orders are read right before they are written. An edit in the seconds "
    "between is replaced, and held."
)


Moment: TypeAlias = Callable[[float], str]
"""Returns a time as text: local where the reader sits at the terminal, UTC where they may be anywhere."""


def needs_of(link: LinkStatus, now: float, moment: Moment = formatting.moment) -> list[Need]:
    """Given a link and the time, return what it needs of a person; nothing where all is well."""
    return list(_needs(link, now, moment))


def _needs(link: LinkStatus, now: float, moment: Moment) -> Iterator[Need]:
    if link.overdue is not None and link.health is not Health.WORKING:
        yield _late(link, now, moment)
    if link.paused:
        yield Need(paused(link, moment), f"syncd resume {link.name}", "resumes the schedule")
    if link.interrupted and link.last is not None:
        yield Need(
            f"Run {link.last.id} was interrupted; the next run finds out what became of its writes.",
            f"syncd show {link.last.id}",
            "shows what it did",
        )
    yield from _by_condition(link, now)
    if link.conditional is False:
        yield Need(UNCONDITIONAL, f"syncd check {link.name}", "tries it again")
    if link.holds:
        yield Need(_held(link), f"syncd holds {link.name}", "lists them")


def _by_condition(link: LinkStatus, now: float) -> Iterator[Need]:
    condition = link.condition
    match condition.health:
        case Health.REFUSED if link.deciding is not None:
            yield from _refused(link, link.deciding, now)
        case Health.PARKED:
            reason = link.parked.partition(": ")[2]
            yield Need(sentence(reason or condition.detail), f"syncd check {link.name}", "says what is wrong")
            yield from _next_look(link, now)
        case Health.FAILING:
            yield Need(sentence(condition.detail), f"syncd show {condition.run}", "shows the run")
            if link.failures > 1:
                text = f"Failed {formatting.count(link.failures, 'time')} in a row."
                yield Need(text, f"syncd check {link.name}", "looks for the cause")
        case Health.HELD if not link.holds:
            text = "The last pass left changes behind; the next one tries them again."
            yield Need(text, f"syncd show {condition.run}", "shows them")
    if link.last is not None and link.last.kind != "pass" and waits(link, link.last, now):
        text = f"Run {link.last.id} is a plan that waits to be applied."
        yield Need(text, f"syncd apply {link.last.id}", "carries it out")
    elif condition.health is Health.NEW and link.settings.schedule is None:
        yield Need("No pass has been made yet.", f"syncd plan {link.name}", "shows what the first one would do")


def waits(link: LinkStatus, row: RunRow, now: float) -> bool:
    """Given a link and one of its runs, return whether the run holds a plan that can still be applied."""
    return bool(next_command(row, now, link.settings.plan_ttl_seconds))


def next_command(row: RunRow, now: float, plan_ttl: float) -> str:
    """Given a run, return the next command for it: one that carries its plan out, or starts a new agreed state.

    Args:
        row: The run.
        now: Seconds since the epoch.
        plan_ttl: How long a stored plan may be applied, in seconds.

    Returns:
        Empty where there is nothing to carry out, or no longer.
    """
    if row.state == "refused" and row.points_elsewhere:
        return f"syncd rebase {row.link}"
    writes = row.counts.crm.total + row.counts.table.total
    stored = row.kind in {"plan", "undo", "pass"} and row.state in {"planned", "refused"} and row.spent_by is None
    return f"syncd apply {row.plan}" if stored and writes and now - row.started_at <= plan_ttl else ""


def paused(link: LinkStatus, moment: Moment) -> str:
    """Given a paused link, return a sentence that says so: by whom, until when, and why."""
    assert link.row is not None
    pause = link.row.pause
    by = f" by {pause.by}" if pause.by else ""
    since = f" on {moment(pause.at)}" if pause.at else ""
    until = f", until {moment(pause.until)}" if pause.until is not None else ""
    return sentence(f"Scheduled passes were paused{by}{since}{until}{': ' if pause.comment else ''}{pause.comment}")


def sentence(text: str) -> str:
    """Given a phrase, return it with a capital and a full stop."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) or not text else f"{text}."


def freshness(link: LinkStatus, now: float) -> str:
    """Given a link whose passes cover parts of it, return how fresh each part is, as a phrase; empty for others.

    Such as "newest 2,000: 12 s ago; all: within 38 min; slice 3 of 12 is next".
    """
    recent, parts = link.settings.recent, []
    if recent is not None and link.recent_fresh_at:
        parts.append(f"newest {recent.orders:,}: {formatting.ago(link.recent_fresh_at, now)}")
    if link.all_fresh_at and (parts or link.next_slice is not None):
        parts.append(f"all: within {formatting.about(now - link.all_fresh_at)}")
    if link.next_slice is not None:
        parts.append(f"slice {link.next_slice + 1} of {link.settings.slices} is next")
    return "; ".join(parts)


def _late(link: LinkStatus, now: float, moment: Moment) -> Need:
    assert link.overdue is not None
    last = link.last_pass
    if link.next_slice is not None and last is not None and last.started_at > link.overdue:
        text = (
            f"Some orders were last compared {formatting.ago(link.all_fresh_at, now)}, despite the schedule: their "
            "slice could not be covered, or the passes take longer than their interval."
        )
        return Need(text, f"syncd runs {link.name}", "shows the passes")
    since = f"since {moment(last.started_at)}" if last is not None else "yet"
    text = (
        f"No pass has been made {since}; one is overdue by {formatting.about(now - link.overdue)}. Is a daemon running?"
    )
    return Need(text, f"syncd reconcile {link.name}", "makes a pass now")


def _refused(link: LinkStatus, row: RunRow, now: float) -> Iterator[Need]:
    reasons = refusals(row) or [sentence(row.error)]
    yield Need(f"Run {row.plan} wrote nothing: {reasons[0]}", f"syncd show {row.plan}", "shows the plan")
    yield from map(Need, reasons[1:])
    command = next_command(row, now, link.settings.plan_ttl_seconds)
    if command and (text := formatting.remedy(row)):
        yield Need(text)
    if row.points_elsewhere:
        yield Need("If the new ends are right, start a new agreed state.", command, "starts it; deletes nothing")
    elif command:
        yield Need("If it is what you want, apply it.", command, "carries it out")
    else:
        yield Need("That plan is too old to be applied.", f"syncd plan {link.name}", "makes a new one")
    yield from _next_look(link, now)


def refusals(row: RunRow) -> list[str]:
    """Given a refused run, return why, each guard a sentence with its numbers."""
    return [sentence(one) for one in formatting.refusals(row)]


def _next_look(link: LinkStatus, now: float) -> Iterator[Need]:
    if link.parked and link.next_run is not None and not link.paused:
        when = f"in {formatting.about(link.next_run - now)}" if link.next_run > now else "due"
        yield Need(f"Scheduled passes are suspended; the next check is {when}.")


def _held(link: LinkStatus) -> str:
    numbers = Counter(formatting.HOLD_KINDS[hold.kind] for hold in link.holds)
    kinds = [f"{kind} ({number:,})" if number > 1 else kind for kind, number in numbers.most_common()]
    return f"{formatting.count(len(link.holds), 'order is', 'orders are')} held: {'; '.join(kinds)}."


# ---------------------------------------------------------------------- holds

_KEEP_CRM = {HoldKind.ORDER_MISSING, HoldKind.OWNER_MISSING}
"""Where what the table says cannot be carried out, what the CRM says may be what is meant."""


def undecidable(hold: Hold, decision: str, policy: Policy) -> str:
    """Given a hold and a decision, return why `syncd resolve` refuses it, as a phrase; empty where it does not.

    Args:
        hold: The hold.
        decision: `crm`, `table` or `retry`.
        policy: The link's.
    """
    if hold.order_id < 0:
        return "no order of the portal has its key yet; the hold is released once one has it, or once the row is gone"
    if not hold.order_id:
        return "the rows name no order; correct them, and the next pass releases the hold"
    return "" if decision == "retry" else resolvable(hold, Side(decision), policy)


def sides_to_keep(hold: Hold, policy: Policy) -> list[Side]:
    """Given a hold, return the sides that `syncd resolve --keep` takes for it."""
    return [side for side in Side if not undecidable(hold, side, policy)]


def consequence(hold: Hold, decision: str, policy: Policy, names: PortalNames = NAMELESS) -> str:
    """Given a hold and a decision that is possible, return what becomes of the order, as a phrase after its number.

    Args:
        hold: The hold.
        decision: `crm`, `table` or `retry`.
        policy: The link's.
        names: The titles that are known.
    """
    if decision == "retry":
        return "will be looked at as if for the first time"
    kept = hold.facts.on_side(Side(decision))
    if kept is None:
        return "will be unbound on both sides"
    if lets_go(hold, Side(decision), policy):
        return f"stays with {formatting.titled(kept, names)}, and is no longer this link's"
    return f"both sides will have {formatting.titled(kept, names)}"


def advice(hold: Hold, policy: Policy) -> str:
    """Given a hold that is not a conflict, return what to fix, as sentences; empty for conflicts."""
    text = formatting.ADVICE.get(hold.kind, "")
    sides = sides_to_keep(hold, policy)
    if hold.kind in _KEEP_CRM and Side.CRM in sides:
        text += " Or keep what the CRM says."
    if left := next((side for side in sides if lets_go(hold, side, policy)), None):
        text += f" Or let it go: keep what {formatting.side(left)} says, and nothing is written."
    return text
