"""`holds` and `resolve`: orders that wait for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from syncd.cli import options
from syncd.cli.app import App, who

if TYPE_CHECKING:
    from syncd.core.ports import Cancelled
    from syncd.core.records import StoredHold
    from syncd.wiring import AppContext

KINDS = (
    "edit-edit", "edit-remove", "remove-edit", "create-create", "duplicate-rows", "invalid-row", "out-of-scope",
    "order-missing", "owner-missing", "ambiguous-key", "refused", "uncertain", "flapping",
)  # fmt: skip


@options.command("holds", state_only=True, short_help="List the orders that are held.")
@options.any_link
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(KINDS),
    multiple=True,
    metavar="KIND",
    help="Only this kind, such as edit-edit; may be repeated.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print a spreadsheet; `syncd resolve --from` reads it back.")
@options.as_markdown
@options.as_json
def holds(app: App, link: str | None, kinds: Sequence[str], as_csv: bool, as_markdown: bool, as_json: bool) -> int:
    """List the orders syncd does not touch until a person, or a changed fact, decides.

    Deals and invoices come with their titles, where the portal shows them to syncd's credentials, and with their
    addresses in the portal.
    """
    form = options.form_of(csv=as_csv, markdown=as_markdown, json=as_json)
    from syncd.cli import spreadsheet
    from syncd.cli.render import orders as render
    from syncd.status.owners import owners_of_facts

    async def work(context: AppContext, _: Cancelled) -> int:
        names = context.named_links([link] if link else [])
        found = {
            name: [one for one in await _open(context, name) if not kinds or one.hold.kind in kinds] for name in names
        }
        keys = {name: await _keys(context, name, held) for name, held in found.items()}
        labels = {}
        async with context.titles() as titles:
            for name, held in found.items():
                labels[name] = await titles.labels(name, owners_of_facts(one.hold.facts for one in held))
        if form in spreadsheet.FORMS:
            app.screen.lines(spreadsheet.FORMS[form](spreadsheet.rows_of_holds(found, labels, keys)))
        elif form == "json":
            several = len(names) > 1
            app.screen.json(
                [
                    _json(one, name if several else "", keys[name]) | labels[name].of_hold(one.hold)
                    for name, held in found.items()
                    for one in held
                ]
            )
        else:
            policies = {name: context.settings.links[name].policy() for name in names}
            app.screen.show(render.holds(found, policies, context.clock.now(), labels, keys))
        return 0

    return app.perform(work, secrets=False)


@options.command("resolve", state_only=True, short_help="Decide held orders.")
@options.link_and_order("The held order's id")
@click.option("--keep", type=click.Choice(["crm", "table"]), help="Give both sides what this one says.")
@click.option("--retry", is_flag=True, help="Try again as if the order had never been held, or failed.")
@click.option(
    "--all",
    "every",
    is_flag=True,
    help="All held orders of the kinds named with --kind, except those decided already.",
)
@click.option(
    "--kind", "kinds", type=click.Choice(KINDS), multiple=True, metavar="KIND", help="With --all; may be repeated."
)
@click.option("--override", is_flag=True, help="With --all or --from: also what is decided already.")
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.csv",
    help="Decide what the column `decision` of a spreadsheet says; see `syncd holds --csv`.",
)
@options.comment
@options.as_json
def resolve(
    app: App,
    words: Sequence[str],
    keep: str | None,
    retry: bool,
    every: bool,
    kinds: Sequence[str],
    override: bool,
    source: Path | None,
    comment: str,
    as_json: bool,
) -> int:
    """Decide what becomes of a held order; the next pass carries it out.

    \b
    syncd resolve shop 5125 --keep crm      both sides get what the CRM says
    syncd resolve shop 5125 --keep table    both sides get what the table says
    syncd resolve shop 5125 --retry         look at it as if for the first time
    syncd resolve shop --all --kind edit-edit --keep crm
    syncd resolve shop --from holds.csv

    A decision belongs to the facts it was made for: if either side changes before the next pass, it is dropped. Who
    decided, when and why is kept in the order's history.
    """  # noqa: D301 - click wants the character itself, not a backslash
    if source is not None:
        if keep or retry or every or kinds or len(words) > 1:
            raise click.UsageError("--from takes at most a LINK: the file names the orders.")
        return _from_file(app, list(words), source, override=override, comment=comment, as_json=as_json)
    decision = _decision(keep, retry)
    if every and (len(words) > 1 or not kinds):
        raise click.UsageError("--all needs --kind, and takes no ORDER." if not kinds else "--all takes no ORDER.")
    if not every and (kinds or override):
        raise click.UsageError(f"{'--kind' if kinds else '--override'} belongs to --all.")
    names, order = (list(words), 0) if every else options.split_link_and_order(words)

    async def work(context: AppContext, _: Cancelled) -> int:
        from syncd.errors import UsageError

        (name,) = context.named_links(names, one=True)
        held = await _open(context, name)
        if every:
            chosen = [one for one in held if one.hold.kind in kinds and one.hold.order_id > 0]
        else:
            chosen = [one for one in held if one.hold.order_id == order]
        if order and not chosen:
            hint = f"`syncd holds {name}` lists them."
            raise UsageError(f"Order {order} of link {name} is not held; nothing was decided.", hint=hint)
        outcome = _Outcome(context, name, override=override or not every, keys=await _keys(context, name, chosen))
        for one in chosen:
            outcome.take(one, decision, comment)
        if order and not outcome.taken:
            raise UsageError(f"Order {order} cannot be decided so: {outcome.left[order]}.", hint="Nothing was decided.")
        await outcome.record()
        return outcome.show(app, as_json=as_json)

    return app.perform(work, secrets=False)


def _from_file(app: App, names: list[str], source: Path, *, override: bool, comment: str, as_json: bool) -> int:
    """Decide what a spreadsheet says; a row of another link than the one named is left out."""
    from syncd.cli import spreadsheet

    rows = spreadsheet.read(source)

    async def work(context: AppContext, _: Cancelled) -> int:
        (name,) = context.named_links(names, one=True)
        held = {one.hold.order_id: one for one in await _open(context, name)}
        outcome = _Outcome(context, name, override=override, keys=await _keys(context, name, [*held.values()]))
        for row in rows:
            if row.link not in {"", name}:
                continue
            stored = held.get(row.order_id)
            if stored is None:
                outcome.left[row.order_id] = "it is no longer held"
            elif spreadsheet.differs(row, stored):
                outcome.left[row.order_id] = "a side has changed since the file was written"
            elif row.decision != stored.decision:
                outcome.take(stored, row.decision, row.comment or comment)
        await outcome.record()
        return outcome.show(app, as_json=as_json)

    return app.perform(work, secrets=False)


def _decision(keep: str | None, retry: bool) -> str:
    if bool(keep) == retry:
        raise click.UsageError("Say either --keep crm, --keep table or --retry.")
    return keep or "retry"


class _Outcome:
    """What becomes of the held orders of one link that a person decides together.

    Args:
        context: The state database.
        link: The link's name.
        override: Also decide what is decided already.
        keys: The keys of held orders, where the table holds keys of the shop's own.
    """

    def __init__(self, context: AppContext, link: str, *, override: bool, keys: Mapping[int, str]) -> None:
        self.taken: list[tuple[StoredHold, str, str]] = []
        self.left: dict[int, str] = {}
        self._context = context
        self._link = link
        self._override = override
        self._keys = keys

    def take(self, stored: StoredHold, decision: str, comment: str) -> None:
        """Take a decision, or say why it is left."""
        from syncd.engine import formatting
        from syncd.status.needs import undecidable

        why = undecidable(stored.hold, decision, self._context.settings.links[self._link].policy())
        if not why and stored.decision and not self._override:
            why = f"it is decided already ({formatting.decision(stored.decision)}); --override replaces that decision"
        if why:
            self.left[stored.hold.order_id] = why
        else:
            self.taken.append((stored, decision, comment))

    async def record(self) -> None:
        """Write the decisions, each with who made it."""
        from syncd.core.records import Decision

        store, now, by = self._context.store, self._context.clock.now(), who()
        row = await store.find_link(self._link)
        for decision in dict.fromkeys(decision for _, decision, _ in self.taken):
            notes = [
                Decision(self._link, "resolve", decision, by, now, comment, order_id=stored.hold.order_id)
                for stored, said, comment in self.taken
                if said == decision
            ]
            if row is not None:
                orders = [note.order_id for note in notes if note.order_id is not None]
                await store.decide(row.id, orders, decision, now, notes=notes)

    def show(self, app: App, *, as_json: bool) -> int:
        """Print what was decided and what was left; return the exit code."""
        from syncd.cli.screen import Line
        from syncd.status.needs import consequence

        if as_json:
            app.screen.json([_json(one, keys=self._keys) | {"decision": decision} for one, decision, _ in self.taken])
            return 0
        policy = self._context.settings.links[self._link].policy()
        app.say(
            Line(f"order {self._named(one.hold.order_id)}: {consequence(one.hold, decision, policy)}")
            for one, decision, _ in self.taken
        )
        app.screen.show(
            Line(f"order {self._named(order)}: left as it is; {why}", "warn") for order, why in self.left.items()
        )
        if self.taken:
            command = Line(f"syncd reconcile {self._link}", "command", indent=2)
            app.say([Line("The next pass carries it out:"), command])
        elif not self.left:
            app.screen.show([Line("There is nothing to decide.")])
        return 0

    def _named(self, order: int) -> str:
        from syncd.engine import formatting

        return formatting.order(order, self._keys.get(order, ""))


async def _open(context: AppContext, name: str) -> list[StoredHold]:
    row = await context.store.find_link(name)
    return [] if row is None else await context.store.holds(row.id)


async def _keys(context: AppContext, name: str, held: Sequence[StoredHold]) -> dict[int, str]:
    """Return the keys of held orders, where the table holds keys of the shop's own."""
    row = await context.store.find_link(name)
    if row is None or not held:
        return {}
    return {
        one.order_id: one.key for one in await context.store.order_keys(row.id, [one.hold.order_id for one in held])
    }


def _json(stored: StoredHold, link: str = "", keys: Mapping[int, str] = MappingProxyType({})) -> dict[str, Any]:
    """The hold object; with the link's name where a list has holds of several links."""
    from syncd.engine.report import hold_json, with_key

    return ({"link": link} if link else {}) | with_key(hold_json(stored.hold), keys)
