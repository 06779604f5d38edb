"""Open holds, with the commands that decide them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from syncd.cli.screen import GAP, Block, Line, Table
from syncd.core.records import StoredHold
from syncd.engine import words


def holds(by_link: Mapping[str, Sequence[StoredHold]], now: float) -> Iterator[Block]:
    """Given the open holds of some links, yield them, each link with the command that decides one."""
    if not any(by_link.values()):
        yield Line("No order is held.", "good")
        return
    shown = [name for name, held in by_link.items() if held]
    for number, name in enumerate(shown):
        held = by_link[name]
        if number:
            yield GAP
        yield Line(f"Link {name}: {words.count(len(held), 'order')} held", "title")
        for one in held:
            yield from _hold(one, now)
        yield GAP
        yield from _next(name, held)


def _hold(stored: StoredHold, now: float) -> Iterator[Block]:
    hold = stored.hold
    yield Line(f"order {words.order(hold.order_id)}: {words.HOLD_KINDS[hold.kind]} ({hold.kind.value})", "warn", 2)
    facts = hold.facts
    table = "unreadable" if facts.unreadable is not None else words.owner(facts.table)
    rows = [
        ["CRM", words.owner(facts.crm)],
        ["table", table],
        ["agreed", words.owner(facts.agreed) if facts.agreed else "nothing"],
    ]
    rows += [["why", hold.detail], ["since", f"{words.moment(hold.since)}, {words.ago(hold.since, now)}"]]
    if hold.kind in words.ADVICE:
        rows.append(["mend", words.ADVICE[hold.kind]])
    if stored.decision:
        rows.append(["decided", f"{words.decision(stored.decision)}; the next pass carries it out"])
    yield Table(rows, indent=4)


def _next(link: str, held: Sequence[StoredHold]) -> Iterator[Block]:
    open_ones = [one.hold for one in held if not one.decision and one.hold.order_id]
    if not open_ones:
        yield Line("All of them are decided, or have to be mended. Next:")
        yield Line(f"syncd reconcile {link}", "command", indent=2)
        return
    yield Line("To decide one, keeping what the CRM or the table says (or --retry, to try again as it is):")
    yield Line(f"syncd resolve {link} {open_ones[0].order_id} --keep crm|table", "command", indent=2)
