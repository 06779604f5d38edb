"""Every link at a glance, and what needs a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from syncd.core.ports import OPERATING_LIMIT
from syncd.daemon.health import WELL, Health
from syncd.daemon.pages.glimpse import Look
from syncd.daemon.pages.phrases import DIRECTIONS, HEALTHS, Badge, ago, apply_command, refusals, sentence
from syncd.daemon.pages.site import Site
from syncd.daemon.pages.strip import Tick, strip
from syncd.daemon.status import LinkStatus
from syncd.engine import words


class Spent(NamedTuple):
    """How much of the portal's operating budget a method has used, in seconds and in percent of the limit."""

    method: str
    used: float
    limit: float
    percent: int
    reset_at: float


class Needs(NamedTuple):
    """What a link needs of a person: why, as sentences, and the commands that help, each with what it does."""

    link: str
    badge: Badge
    since: float
    sentences: list[str]
    commands: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Card:
    """One link as the pages show it.

    Args:
        link: How it is.
        badge: What it is now.
        lasting: Its lasting health, where that is not what it is now.
        since: Since when it has its lasting health, in seconds since the epoch; 0 where nobody knows.
        direction: Which sides are written, as a sign.
        doing: What goes on right now, as a phrase; empty where nothing does.
        budget: What its portal's budget has left, by method, the fullest first.
        strip: Its newest runs.
    """

    link: LinkStatus
    badge: Badge
    lasting: Badge | None
    since: float
    direction: str
    doing: str
    budget: list[Spent]
    strip: list[Tick]


async def show(site: Site, _request: Request) -> Response:
    """The overview."""
    look = await site.look()
    cards = [card(look, name) for name in look.links]
    needs = [one for link in look.links.values() if (one := needs_of(link, look.at)) is not None]
    return site.render("overview.html", look, cards=cards, needs=needs, summary=summary(look))


def summary(look: Look) -> str:
    """Given how the links are, return one sentence about all of them; it changes only when a link's health does."""
    if not look.links:
        return "The configuration has no links."
    counts = Counter(HEALTHS[link.condition.health].word for link in look.links.values())
    told = words.listed([f"{number} {word}" for word, number in counts.most_common()])
    return f"{words.count(len(look.links), 'link')}: {told}."


def card(look: Look, name: str) -> Card:
    """Given how the links are, return one of them as it is shown."""
    link = look.links[name]
    lasting = link.condition.health
    return Card(
        link=link,
        badge=HEALTHS[link.health],
        lasting=HEALTHS[lasting] if lasting is not link.health else None,
        since=link.condition.since,
        direction=DIRECTIONS[link.settings.direction],
        doing=_doing(link),
        budget=_budget(link, look.at),
        strip=strip(look.recent.get(name, ())),
    )


def _doing(link: LinkStatus) -> str:
    pulse = link.live.working if link.live is not None else None
    if pulse is not None:
        done = f" {pulse.done:,}" if pulse.done else ""
        expected = f" of {pulse.expected:,}" if done and pulse.expected else ""
        return f"{pulse.stage or 'beginning'}{done}{expected}"
    return f"at work: {link.lease.holder}" if link.lease is not None else ""


def _budget(link: LinkStatus, now: float) -> list[Spent]:
    spent = [
        Spent(method, used, OPERATING_LIMIT, min(100, round(100 * used / OPERATING_LIMIT)), reset_at)
        for method, (used, reset_at, _read_at) in link.budget.items()
        if reset_at > now
    ]
    return sorted(spent, key=lambda one: -one.used)


def needs_of(link: LinkStatus, now: float) -> Needs | None:
    """Given a link, return what it needs of a person, if anything."""
    sentences, commands = [], []
    for said, command, does in _wants(link, now):
        sentences.append(said)
        if command:
            commands.append((command, does))
    if not sentences:
        return None
    lasting = link.condition.health
    if lasting in WELL:  # so it is what goes on now that needs somebody, and nobody wrote down since when
        return Needs(link.name, HEALTHS[link.health], 0.0, sentences, commands)
    return Needs(link.name, HEALTHS[lasting], link.condition.since, sentences, commands)


def _wants(link: LinkStatus, now: float) -> Iterator[tuple[str, str, str]]:
    """Yield (a sentence, the command that helps or nothing, what the command does)."""
    health, condition = link.condition.health, link.condition
    if link.row is not None and link.row.paused:
        yield "Scheduled passes are paused.", f"syncd resume {link.name}", "goes on with them"
    if health is Health.REFUSED and link.last_pass is not None:
        yield from _refused(link, now)
    elif health is Health.PARKED:
        reason = link.row.parked.partition(": ")[2] if link.row is not None else ""
        yield sentence(reason or condition.detail), f"syncd check {link.name}", "says what is wrong"
        yield from _next_look(link, now)
    elif health is Health.FAILING:
        yield sentence(condition.detail), f"syncd show {condition.run}", "shows the run"
        if link.live is not None and link.live.failures:
            yield f"Failed {words.count(link.live.failures, 'time')} in a row.", "", ""
    elif health is Health.HELD and not link.holds:
        yield "The last pass left changes behind; the next one tries them again.", f"syncd show {condition.run}", ""
    elif health is Health.WAITING and link.settings.schedule is None:
        yield "No pass has been made yet.", f"syncd plan {link.name}", "shows what the first one would do"
    if link.holds:
        yield _held(link), f"syncd holds {link.name}", "lists them"


def _refused(link: LinkStatus, now: float) -> Iterator[tuple[str, str, str]]:
    row = link.last_pass
    assert row is not None
    command = apply_command(row, now, link.settings.plan_ttl_seconds)
    told = refusals(row) or [sentence(row.error)]
    yield f"Run {row.plan} wrote nothing: {told[0]}", f"syncd show {row.plan}", "shows the plan"
    for one in told[1:]:
        yield one, "", ""
    if command:
        yield "If it is what you want, apply it.", command, "carries it out"
    else:
        yield "That plan is too old to be applied.", f"syncd plan {link.name}", "makes a new one"
    yield from _next_look(link, now)


def _next_look(link: LinkStatus, now: float) -> Iterator[tuple[str, str, str]]:
    if link.look_at is not None and not (link.row is not None and link.row.paused):
        when = f"is {ago(link.look_at, now)}" if link.look_at > now else "is due"
        yield f"Passes rest; the next look at it {when}.", "", ""


def _held(link: LinkStatus) -> str:
    kinds = Counter(words.HOLD_KINDS[hold.kind] for hold in link.holds)
    told = [f"{kind} ({number:,})" if number > 1 else kind for kind, number in kinds.most_common()]
    return f"{words.count(len(link.holds), 'order is', 'orders are')} held: {'; '.join(told)}."
