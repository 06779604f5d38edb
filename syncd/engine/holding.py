"""The holds that writing leaves behind: what a race overwrote, what nobody can tell any more, what a person undid."""

from __future__ import annotations

from syncd.core.model import Change, Facts, Hold, HoldKind, MaybeOwner
from syncd.core.policy import conflict_kind
from syncd.engine.sides import Unlike


def overwritten(change: Change, found: MaybeOwner, *, run: int, now: float, agreed: MaybeOwner) -> Hold:
    """Given a change that replaced what somebody wrote meanwhile, return the hold that shows it to a person.

    Args:
        change: The change.
        found: The value that was replaced.
        run: The run that wrote.
        now: Seconds since the epoch.
        agreed: What is agreed since: both sides have the new value, so whoever changes it from here on has seen it.
    """
    shown = change.facts.on(change.side, found)
    kind = conflict_kind(shown) if shown.crm != shown.table else HoldKind.EDIT_EDIT
    detail = f"Run {run} overwrote a value that was written while the run was under way; it is shown here."
    seen = change.facts.on(change.side, change.after)._replace(agreed=agreed)
    return Hold(change.order_id, kind, shown, detail, since=now, seen=seen)


def uncertain(change: Change, found: MaybeOwner | Unlike, *, why: str, now: float) -> Hold:
    """Given a change of which nobody can tell whether it arrived, and what stands there, return the hold.

    Args:
        change: The change.
        found: What stands there: neither the old nor the new owner.
        why: What kept the answer away, as the beginning of a sentence.
        now: Seconds since the epoch.
    """
    shown = change.facts.on(change.side, None if isinstance(found, Unlike) else found)
    detail = f"{why}, which then showed neither the old nor the new owner: whether it was written cannot be told."
    return Hold(change.order_id, HoldKind.UNCERTAIN, shown, detail, since=now, seen=shown)


def undone(change: Change, kind: HoldKind, left: Facts, *, run: int, now: float) -> Hold:
    """Given a change that put an order back, return the hold that keeps the next pass from doing it again.

    Args:
        change: The change.
        kind: The kind of hold its plan asked for.
        left: What both sides say after it.
        run: The run that put it back.
        now: Seconds since the epoch.
    """
    facts = left._replace(agreed=change.agreed_after)
    detail = f"Put back by run {run}; decide, or change either side, or it stays as it is."
    return Hold(change.order_id, kind, facts, detail, since=now)
