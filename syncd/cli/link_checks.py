"""The checks of one link: its table, its portal and rights, its lease, its agreed state. They write nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from syncd.config.mapping_columns import KEY_FIELDS, ORDER_COLUMNS
from syncd.config.model import LinkSettings, PortalPlan, changed_parts
from syncd.core.model import Direction, Owner
from syncd.core.ports import Listed, Portal, Rights, Table
from syncd.core.records import PortalNames
from syncd.engine import formatting
from syncd.engine.link import no_progress
from syncd.engine.state_check import older_state
from syncd.errors import AuthError, ConfigError, GuardRefusal, SyncdError, UnavailableError
from syncd.status.fire_times import cost_sentence, listing_cost
from syncd.wiring import AppContext

WITNESSES = 50
"""How many bound owners, order ids or keys the portal is asked for: as many as fit one call."""

CLOCK_SECONDS = 60.0
"""The difference between two clocks that is not reported: the portal counts its budget in minutes."""

FEWEST_KEYS = 5
"""The fewest order ids that must all be unbound in the CRM to be reported as wrong: new orders are unbound, too."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        subject: What was looked at: `state database`, `shop: portal`.
        text: What was found, as a sentence.
        code: The exit code it leads to; 0 where nothing is wrong.
        hint: What to do about it.
        warning: Whether it is worth knowing although nothing is wrong.
    """

    subject: str
    text: str
    code: int = 0
    hint: str = ""
    warning: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "subject": self.subject,
            "ok": self.code == 0,
            "warning": self.warning,
            "text": self.text,
            "hint": self.hint or None,
            "exit_code": self.code,
        }


def findings_of(subject: str, error: SyncdError) -> Iterator[Finding]:
    """Given an error, yield a finding for each of its problems, each with the error's hint."""
    problems = error.problems if isinstance(error, ConfigError) and error.problems else (error.message,)
    for problem in problems:
        yield Finding(subject, problem, error.exit_code, error.hint)


async def _or_error(subject: str, check: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    """Return what was found, or the error that ended the check as a finding."""
    try:
        return await check()
    except SyncdError as error:
        return list(findings_of(subject, error))


async def check_link(context: AppContext, name: str, *, state: bool) -> list[Finding]:
    """Given a link, return what was found about its table, its portal, its lease and its agreed state.

    Args:
        context: The settings and the state database, from which links are made.
        name: The link.
        state: Whether the state database can be used.
    """
    settings = context.settings.links[name]
    found: list[Finding] = []
    try:
        async with context.link(name) as link:
            found += await _or_error(f"{name}: table", lambda: _table(name, settings, link.table, link.portal))
            if state or settings.portal.oauth is None:
                found += await _or_error(f"{name}: portal", lambda: _portal(context, name, link.portal))
                if not any(finding.code for finding in found if finding.subject == f"{name}: portal"):
                    found += await _or_error(f"{name}: owner types", lambda: _owner_types(context, name))
            else:
                text = "not checked: its tokens are in the state database, which cannot be used"
                found.append(Finding(f"{name}: portal", text))
    except SyncdError as error:
        found += findings_of(name, error)
    if state:
        found += await _or_error(f"{name}: lease", lambda: _lease(context, name))
        found += await _or_error(f"{name}: agreed state", lambda: _ends(context, name, settings))
        found += await _or_error(f"{name}: schedule", lambda: _cost(context, name, settings))
    return list(dict.fromkeys(found))  # the check of the table asks the portal too, and one refusal is one finding


async def _table(name: str, settings: LinkSettings, table: Table, portal: Portal) -> list[Finding]:
    subject = f"{name}: table"
    problems, warnings, sample, keys = await table.check()
    hint = "Fix the table, or the setting named at the start of each line."
    found = list(findings_of(subject, ConfigError("", hint=hint, problems=tuple(problems)))) if problems else []
    found += [Finding(subject, warning, hint=hint, warning=True) for warning in warnings]
    if not problems:
        found.append(
            Finding(subject, f"{settings.table.name} is readable{_and_writable(settings)}, and its columns fit")
        )
    if sample:
        found += await _or_error(f"{name}: portal", lambda: _known_orders(subject, settings, portal, sample))
    if keys:
        found += await _or_error(f"{name}: portal", lambda: _known_keys(subject, settings, portal, keys))
    return found


async def _known_keys(subject: str, settings: LinkSettings, portal: Portal, sample: Sequence[str]) -> list[Finding]:
    """Given some keys of the table, say so where no order of the portal has any of them."""
    key, asked = settings.table.key, list(dict.fromkeys(sample))[:WITNESSES]
    assert key.field is not None
    try:
        found = await portal.orders_with(key.field, asked)
    except AuthError:
        return []  # the check of the portal reports it
    if any(found.values()):
        return []
    shown = ", ".join(map(repr, asked[:3]))
    text = (
        f"columns.{key.setting}: no order of the portal has one of the {len(asked)} keys looked at (such as {shown}) "
        f"as its {key.field}."
    )
    hint = f"Compare them with an order in Bitrix24. Perhaps they are another key: {', '.join(ORDER_COLUMNS)}."
    if len(asked) < FEWEST_KEYS:
        return [Finding(subject, text, hint=hint, warning=True)]
    return [Finding(subject, text, ConfigError.exit_code, hint)]


async def _known_orders(subject: str, settings: LinkSettings, portal: Portal, sample: Sequence[int]) -> list[Finding]:
    """Given some order ids of the table, say so where the CRM knows none of them although orders are bound there."""
    asked = list(sample)[:WITNESSES]
    if len(asked) < FEWEST_KEYS or await portal.read(asked) or not await _some_owners(portal, settings):
        return []
    shown = ", ".join(map(str, asked[:3]))
    return [
        Finding(
            subject,
            f"{settings.table.key.column}: none of {len(asked)} order ids looked at (such as {shown}) is bound in the "
            "CRM, although other orders are. They may be order numbers rather than the portal's order ids.",
            ConfigError.exit_code,
            "Compare them with the ids of the orders in Bitrix24. If they are keys of the shop's own, name the column "
            f"{', '.join(KEY_FIELDS)} instead of order_id.",
        )
    ]


def _and_writable(settings: LinkSettings) -> str:
    return "" if settings.direction is Direction.TABLE_TO_CRM else " and writable"


async def _cost(context: AppContext, name: str, settings: LinkSettings) -> list[Finding]:
    """Say what the link's passes cost the portal, once it is known how many bindings it has."""
    row = await context.store.find_link(name)
    orders = await context.store.agreed_count(row.id) if row is not None else 0
    if not orders or settings.schedule is None or settings.portal.plan is PortalPlan.BOX:
        return []
    cost = listing_cost(name, settings, orders, context.settings.daemon.timezone, context.clock.now())
    return [Finding(f"{name}: schedule", cost_sentence(cost, settings), warning=cost.is_too_much)]


async def _lease(context: AppContext, name: str) -> list[Finding]:
    now = context.clock.now()
    for lease in await context.store.leases():
        if lease.link == name and lease.expires_at > now:
            return [Finding(f"{name}: lease", f"held by {lease.holder}; a pass is under way")]
    return [Finding(f"{name}: lease", "free")]


async def _ends(context: AppContext, name: str, settings: LinkSettings) -> list[Finding]:
    row = await context.store.find_link(name)
    if row is None:
        return [Finding(f"{name}: agreed state", "none yet; the next pass is the first sync")]
    changed = changed_parts(row.fingerprint, settings)
    if changed:
        text = f"The configuration points elsewhere than the agreed state was made for ({', '.join(changed)})."
        hint = f"syncd rebase {name}"
        if tuple(changed) == ("portal",):
            hint = (
                "If the portal was only renamed, the next pass may find that out by itself; otherwise "
                f"`{hint} --same-portal`. If it is another portal: `{hint}`"
            )
        return [Finding(f"{name}: agreed state", text, GuardRefusal.exit_code, hint)]
    if (older := await older_state(context.store, context.marks, row, current=0)) is not None:
        text = f"Nothing is written until a person has seen the plan: {older.why}."
        hint = f"Look at `syncd plan {name}`, then apply that run, or: syncd rebase {name}"
        return [Finding(f"{name}: agreed state", text, GuardRefusal.exit_code, hint)]
    agreed = await context.store.agreed_count(row.id)
    return [Finding(f"{name}: agreed state", f"{agreed:,} bindings agreed")]


async def _portal(context: AppContext, name: str, portal: Portal) -> list[Finding]:
    """Given a link and its portal, return what was found out about the rights, by harmless probes."""
    settings = context.settings.links[name]
    subject = f"{name}: portal"
    verify = settings.verify_owners and settings.direction is not Direction.CRM_TO_TABLE
    rights = await portal.probe()
    if verify and rights.read:
        rights = await portal.probe(await _some_owners(portal, settings))
    needed = {"read": rights.read}
    if settings.direction is not Direction.CRM_TO_TABLE:
        needed["write"] = rights.write
    found = [_right(subject, name, has, rights.detail) for name, has in needed.items() if not has]
    if not found:
        may = "read" if settings.direction is Direction.CRM_TO_TABLE else "read and written"
        found.append(Finding(subject, f"{settings.portal.address} answers; bindings may be {may}"))
    if settings.table.key.field is not None:
        found += await _or_error(f"{name}: orders", lambda: _lookup(f"{name}: orders", settings, portal))
    if verify and rights.read:
        found.append(_owners(f"{name}: owners", rights))
    if not found[0].code and settings.direction is not Direction.CRM_TO_TABLE:
        found.append(_conditions(f"{name}: writing", rights))
    if rights.clock_ahead is not None:
        found.append(_clock(f"{name}: clock", rights.clock_ahead))
    return found


async def _lookup(subject: str, settings: LinkSettings, portal: Portal) -> list[Finding]:
    """Try to look up an order by the key that the table holds: that needs the scope `sale`."""
    field = settings.table.key.field
    assert field is not None
    await portal.keys_of(field, [1])
    return [Finding(subject, f"may be looked up by their {field}")]


async def _owner_types(context: AppContext, name: str) -> list[Finding]:
    """Return the portal's names for the link's owner types. It lists only its first type, so none is a fault."""
    async with context.portal(name) as portal:
        named = PortalNames(types=await portal.owner_types())
    types = [
        (one, formatting.owner_type(one, named), one in named.types) for one in context.settings.links[name].owner_types
    ]
    listed = [f"{one} is {called}" for one, called, is_listed in types if is_listed]
    others = [f"{one}{f' ({called})' if called else ''}" for one, called, is_listed in types if not is_listed]
    if others:
        unlisted = formatting.listed(others)
        listed.append(f"the portal does not list {unlisted}: portals list only their first type, so nothing is wrong")
    return [Finding(f"{name}: owner types", "; ".join(listed))]


def _right(subject: str, name: str, has: bool | None, detail: Sequence[str]) -> Finding:
    """Return the finding for a right that is missing, or about which the portal gave no answer."""
    said = " " + "; ".join(detail) + "." if detail else ""
    if has is None:
        text = f"syncd could not find out whether bindings may be {'read' if name == 'read' else 'written'}.{said}"
        hint = "The portal did not refuse the right; it failed. Run `syncd check` again in a minute."
        return Finding(subject, text, UnavailableError.exit_code, hint)
    hint = "Give the webhook the scope `crm`, and make its user an administrator of the portal or of its online store."
    return Finding(subject, f"The right to {name} bindings is missing.{said}", AuthError.exit_code, hint)


async def _some_owners(portal: Portal, settings: LinkSettings) -> set[Owner]:
    """Return some owners that orders are bound to today."""
    async with aclosing(
        cast("AsyncGenerator[Listed, None]", portal.listing([], settings.scope(), no_progress))
    ) as rows:
        async for chunk in rows:
            return {row.owner for row in chunk.rows[:WITNESSES]}
    return set()


def _owners(subject: str, rights: Rights) -> Finding:
    if rights.sees_owners is None:
        return Finding(subject, "no order is bound yet, so a later check shows whether owners are visible")
    if rights.sees_owners:
        return Finding(subject, "can be seen, so an order is never bound to one that does not exist")
    return Finding(
        subject,
        "The credentials cannot see the deals that orders are bound to, so a mistyped owner would go unnoticed.",
        AuthError.exit_code,
        "Give the webhook the right `crm`, or set verify_owners = false.",
    )


def _conditions(subject: str, rights: Rights) -> Finding:
    if rights.conditional is None:
        return Finding(subject, "no order is bound yet, so a later check shows whether writes carry conditions")
    if rights.conditional:
        return Finding(subject, "each write carries its condition, so an edit made meanwhile is not replaced")
    text = "The portal's batches carry no conditions, so an edit made in the seconds before a write may be replaced."
    hint = "Orders are read right before they are written, and what was replaced is held: nothing needs to be done."
    return Finding(subject, text, hint=hint, warning=True)


def _clock(subject: str, ahead: float) -> Finding:
    if abs(ahead) < CLOCK_SECONDS:
        return Finding(subject, "the clocks of this host and of the portal agree")
    text = f"This host's clock is {formatting.span(abs(ahead))} {'behind' if ahead > 0 else 'ahead of'} the portal's."
    hint = "Let NTP set the clock: syncd waits for the portal's limits and renews tokens by it."
    return Finding(subject, text, ConfigError.exit_code, hint)
