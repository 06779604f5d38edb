"""All links on one screen: what `syncd.status` says of them, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from syncd.cli.screen import GAP, Block, Line, TextTable
from syncd.core.ports import OPERATING_LIMIT
from syncd.engine import formatting
from syncd.status.health import Health
from syncd.status.links import LinkStatus
from syncd.status.needs import freshness, needs_of

_HEADS = ("link", "health", "agreed", "held", "last run", "next", "at work")
_LEAST_FIRST = ("agreed", "last run", "at work", "next", "held")
"""The columns that a narrow screen leaves out, one after the other. The name and the health always stay."""


def status(links: Sequence[LinkStatus], now: float, width: int | None = None) -> Iterator[Block]:
    """Given how all links are, yield one line for each, the budgets in use, and what needs a person.

    Args:
        links: The links.
        now: Seconds since the epoch.
        width: The columns of the screen; None where the output is not a terminal.
    """
    rows = [_cells(link, now) for link in links]
    heads = _fitting(rows, width)
    yield TextTable(
        [[row[head] for head in heads] for row in rows],
        heads=heads,
        tones=[link.health.tone for link in links],
        toned=1,
        right=frozenset(place for place, head in enumerate(heads) if head in {"agreed", "held"}),
    )
    yield from _budgets(links, now)
    yield from _freshness(links, now)
    yield from _waiting(links, now)
    yield from _care(links, now)


def check(links: Sequence[LinkStatus], now: float) -> Iterator[Block]:
    """Given how all links are, yield one line for each, for a monitoring system."""
    for link in links:
        said = [f"{link.name}: {link.health.words}"]
        if link.health is Health.WORKING:
            said.append(f"{link.condition.health.words} before")
        needs = needs_of(link, now)
        said.append(needs[0].sentence if needs and not link.is_well else f"last pass {_last_pass(link, now)}")
        yield Line("; ".join(said), "" if link.is_well else link.steady.tone)


def _cells(link: LinkStatus, now: float) -> dict[str, str]:
    cells = (
        link.name,
        link.health.words,
        f"{link.agreed:,}",
        f"{len(link.holds):,}",
        _last(link, now),
        due(link, now),
        at_work(link),
    )
    return dict(zip(_HEADS, cells, strict=True))


def _fitting(rows: Sequence[Mapping[str, str]], width: int | None) -> list[str]:
    """Return the columns that fit."""
    widths = {head: max([len(head), *(len(row[head]) for row in rows)]) for head in _HEADS}
    heads = list(_HEADS)
    for least in _LEAST_FIRST:
        if width is None or sum(widths[head] + 2 for head in heads) - 2 <= width:
            break
        heads.remove(least)
    return heads


def due(link: LinkStatus, now: float) -> str:
    """Given a link, return when its next pass is due."""
    if link.settings.schedule is None:
        return "on command"
    if link.overdue is not None:
        return f"overdue by {formatting.about(now - link.overdue)}"
    if link.next_run is None:
        return "when resumed" if link.paused else f"{link.settings.schedule}"
    return formatting.ago(link.next_run, now) if link.next_run > now else "due"


def at_work(link: LinkStatus) -> str:
    """Given a link, return who works on it now, and how far that has got."""
    if link.lease is None:
        return "-"
    reached = link.lease.reached
    return link.lease.holder if reached is None else f"{link.lease.holder}: {formatting.reached(reached)}"


def _last(link: LinkStatus, now: float) -> str:
    return "never" if link.last is None else f"{link.last.id}, {formatting.ago(link.last.started_at, now)}"


def _last_pass(link: LinkStatus, now: float) -> str:
    return "never" if link.last_pass is None else formatting.ago(link.last_pass.started_at, now)


def _budgets(links: Sequence[LinkStatus], now: float) -> Iterator[Block]:
    spent = {
        (link.address, method): (used, reset)
        for link in links
        for method, (used, reset, _read) in link.budget.items()
        if reset > now and used >= OPERATING_LIMIT / 10
    }
    if spent:
        yield GAP
        yield Line("Operating budget of the portal in use:", "title")
        rows = [
            [portal, method, f"{used:.0f} s of {OPERATING_LIMIT} s", f"resets {formatting.ago(reset, now)}"]
            for (portal, method), (used, reset) in spent.items()
        ]
        yield TextTable(rows, indent=2)


def _freshness(links: Sequence[LinkStatus], now: float) -> Iterator[Block]:
    """How long ago each part of a link was compared, where its passes do not cover all of it."""
    rows = [[link.name, words] for link in links if (words := freshness(link, now))]
    if rows:
        yield GAP
        yield Line("Last compared:", "title")
        yield TextTable(rows, indent=2)


def _waiting(links: Sequence[LinkStatus], now: float) -> Iterator[Block]:
    """Removes that need no decision: a later pass makes them, if it finds the same orders absent."""
    rows = [
        [link.name, f"{formatting.waiting(link.waiting)}; the first {formatting.ago(link.waiting_since, now)}"]
        for link in links
        if link.waiting
    ]
    if rows:
        yield GAP
        yield Line("Waiting for a second look:", "title")
        yield TextTable(rows, indent=2)


def _care(links: Sequence[LinkStatus], now: float) -> Iterator[Block]:
    """What each link needs of a person: sentences, and the commands that help."""
    rows: list[list[str]] = []
    for link in links:
        name = link.name
        for need in needs_of(link, now):
            rows.append([name, need.sentence])
            name = ""
            if need.command:
                rows.append(["", f"  {need.command}"])
    if rows:
        yield GAP
        yield Line("Worth a look:", "title")
        yield TextTable(rows, indent=2)
