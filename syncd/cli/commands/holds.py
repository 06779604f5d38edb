"""`holds` and `resolve`: orders that wait for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from syncd.cli import options
from syncd.cli.app import App

if TYPE_CHECKING:
    from syncd.core.model import Policy
    from syncd.core.ports import Cancelled
    from syncd.core.records import StoredHold
    from syncd.wiring import Workplace

KINDS = (
    "edit-edit", "edit-remove", "remove-edit", "create-create", "duplicate-rows", "invalid-row", "out-of-scope",
    "order-missing", "owner-missing", "uncertain", "flapping",
)  # fmt: skip


@options.command("holds", short_help="List the orders that are held.")
@options.any_link
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(KINDS),
    multiple=True,
    metavar="KIND",
    help="Only this kind, such as edit-edit; may be repeated.",
)
@options.as_json
def holds(app: App, link: str | None, kinds: Sequence[str], as_json: bool) -> int:
    """List the orders syncd does not touch until a person, or a changed fact, decides."""
    from syncd.cli.render import holds as render

    async def work(place: Workplace, _: Cancelled) -> int:
        names = place.pick([link] if link else [])
        found = {
            name: [one for one in await _open(place, name) if not kinds or one.hold.kind in kinds] for name in names
        }
        if as_json:
            several = len(names) > 1
            app.screen.json([_json(one, name if several else "") for name, held in found.items() for one in held])
        else:
            app.screen.show(render.holds(found, place.clock.now()))
        return 0

    return app.perform(work)


@options.command("resolve", short_help="Decide held orders.")
@click.argument(
    "words",
    nargs=-1,
    metavar="[LINK] [ORDER]",
    shell_complete=options.complete_link,
    help="The held order's id; before it the link, which may be left out where there is only one.",
)
@click.option("--keep", type=click.Choice(["crm", "table"]), help="Give both sides what this one says.")
@click.option("--retry", is_flag=True, help="Try again as if the order had never been held, or failed.")
@click.option("--all", "every", is_flag=True, help="All held orders of the kinds named with --kind.")
@click.option(
    "--kind", "kinds", type=click.Choice(KINDS), multiple=True, metavar="KIND", help="With --all; may be repeated."
)
@options.as_json
def resolve(
    app: App, words: Sequence[str], keep: str | None, retry: bool, every: bool, kinds: Sequence[str], as_json: bool
) -> int:
    """Decide what becomes of a held order; the next pass carries it out.

    \b
    syncd resolve shop 5125 --keep crm      both sides get what the CRM says
    syncd resolve shop 5125 --keep table    both sides get what the table says
    syncd resolve shop 5125 --retry         look at it as if for the first time
    syncd resolve shop --all --kind edit-edit --keep crm

    A decision belongs to the facts it was made for: if either side changes before the next pass, it is void.
    """  # noqa: D301 - click wants the character itself, not a backslash
    decision = _decision(keep, retry)
    if every and (len(words) > 1 or not kinds):
        raise click.UsageError("--all takes --kind, and no ORDER." if not kinds else "--all takes no ORDER.")
    if not every and kinds:
        raise click.UsageError("--kind belongs to --all.")
    if not every and not words:
        raise click.UsageError("Missing argument 'ORDER'.")
    names, order = (list(words), 0) if every else options.split_link_and_order(words)

    async def work(place: Workplace, _: Cancelled) -> int:
        (name,) = place.pick(names, one=True)
        held = await _open(place, name)
        if every:
            chosen = [one for one in held if one.hold.kind in kinds and one.hold.order_id]
        else:
            chosen = [one for one in held if one.hold.order_id == order]
        return await _decide(app, place, name, chosen, decision, order=order, as_json=as_json)

    return app.perform(work)


def _decision(keep: str | None, retry: bool) -> str:
    if bool(keep) == retry:
        raise click.UsageError("Say either --keep crm, --keep table or --retry.")
    return keep or "retry"


async def _decide(
    app: App, place: Workplace, link: str, chosen: Sequence[StoredHold], decision: str, *, order: int, as_json: bool
) -> int:
    from syncd.cli.screen import Line
    from syncd.errors import UsageError

    if order and not chosen:
        raise UsageError(
            f"Order {order} of link {link} is not held; nothing was decided.", hint=f"`syncd holds {link}` lists them."
        )
    policy = place.settings.links[link].policy()
    refused = {one.hold.order_id: _why_not(one, decision, policy) for one in chosen}
    possible = [one for one in chosen if not refused[one.hold.order_id]]
    if order and not possible:
        raise UsageError(f"Order {order} cannot be decided so: {refused[order]}.", hint="Nothing was decided.")
    row = await place.store.find_link(link)
    if row is not None and possible:
        orders = [one.hold.order_id for one in possible]
        await place.store.decide(row.id, orders, decision, place.clock.now())
    if as_json:
        app.screen.json([_json(one) | {"decision": decision} for one in possible])
        return 0
    app.screen.show([_said(one, decision) for one in possible])
    app.screen.show(Line(f"order {order_id}: left as it is; {why}", "warn") for order_id, why in refused.items() if why)
    if possible:
        app.screen.show([Line("The next pass carries it out:"), Line(f"syncd reconcile {link}", "command", indent=2)])
    elif not chosen:
        app.screen.show([Line("No order of that kind is held.")])
    return 0


def _why_not(stored: StoredHold, decision: str, policy: Policy) -> str:
    from syncd.core.diff import resolvable
    from syncd.core.model import Side

    return "" if decision == "retry" else resolvable(stored.hold, Side(decision), policy)


def _said(stored: StoredHold, decision: str) -> Any:
    from syncd.cli.screen import Line
    from syncd.engine import words

    hold = stored.hold
    if decision == "retry":
        return Line(f"order {hold.order_id}: will be looked at as if for the first time")
    kept = hold.facts.crm if decision == "crm" else hold.facts.table
    if kept is None:
        return Line(f"order {hold.order_id}: will be unbound on both sides")
    return Line(f"order {hold.order_id}: both sides will have {words.owner(kept)}")


async def _open(place: Workplace, name: str) -> list[StoredHold]:
    row = await place.store.find_link(name)
    return [] if row is None else await place.store.holds(row.id)


def _json(stored: StoredHold, link: str = "") -> dict[str, Any]:
    """The hold object; with the link's name where holds of several links stand in one list."""
    from syncd.engine.report import hold_json

    return ({"link": link} if link else {}) | hold_json(stored.hold)
