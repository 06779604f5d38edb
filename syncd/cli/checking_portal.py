"""The checks of a link's portal: rights, owners, conditions, clock."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import cast

from syncd.cli.finding import Finding, guarded
from syncd.config.model import LinkSettings
from syncd.core.model import Direction, Owner
from syncd.core.ports import Listed, Portal, Rights
from syncd.core.records import PortalNames
from syncd.engine import formatting
from syncd.engine.link import no_progress
from syncd.errors import AuthError, ConfigError, UnavailableError
from syncd.wiring import Workplace

WITNESSES = 50
"""How many bound owners are asked for, to find out whether owners can be seen: one call's worth."""

CLOCK_SECONDS = 60.0
"""By how much two clocks may differ: the portal counts its budget in minutes."""


async def check_portal(place: Workplace, name: str, portal: Portal) -> list[Finding]:
    """Given a link and its portal, return what was found out about the rights, by harmless probes."""
    settings = place.settings.links[name]
    subject = f"{name}: portal"
    verify = settings.verify_owners and settings.direction is not Direction.CRM_TO_TABLE
    rights = await portal.probe()
    if verify and rights.read:
        rights = await portal.probe(await some_owners(portal, settings))
    needed = {"read": rights.read}
    if settings.direction is not Direction.CRM_TO_TABLE:
        needed["write"] = rights.write
    found = [_right(subject, name, has, rights.detail) for name, has in needed.items() if not has]
    if not found:
        may = "read" if settings.direction is Direction.CRM_TO_TABLE else "read and written"
        found.append(Finding(subject, f"{settings.portal.address} answers; bindings may be {may}"))
    if settings.table.key.field is not None:
        found += await guarded(f"{name}: orders", lambda: _lookup(f"{name}: orders", settings, portal))
    if verify and rights.read:
        found.append(_owners(f"{name}: owners", rights))
    if not found[0].code and settings.direction is not Direction.CRM_TO_TABLE:
        found.append(_conditions(f"{name}: writing", rights))
    if rights.clock_ahead is not None:
        found.append(_clock(f"{name}: clock", rights.clock_ahead))
    return found


async def _lookup(subject: str, settings: LinkSettings, portal: Portal) -> list[Finding]:
    """Say whether orders may be looked up by the key that the table holds: that needs the scope `sale`."""
    field = settings.table.key.field
    assert field is not None
    await portal.keys_of(field, [1])
    return [Finding(subject, f"may be looked up by their {field}")]


async def check_owner_types(place: Workplace, name: str) -> list[Finding]:
    """Say what the portal calls the link's owner types. It names the first of its types only, so none is refused."""
    async with place.portal(name) as portal:
        named = PortalNames(types=await portal.owner_types())
    types = [
        (one, formatting.owner_type(one, named), one in named.types) for one in place.settings.links[name].owner_types
    ]
    listed = [f"{one} is {called}" for one, called, is_listed in types if is_listed]
    others = [f"{one}{f' ({called})' if called else ''}" for one, called, is_listed in types if not is_listed]
    told = "; ".join(listed)
    if others:
        told += "; " if told else ""
        told += (
            f"the portal does not list {formatting.listed(others)}: it lists only its first type, so this is no problem"
        )
    return [Finding(f"{name}: owner types", told)]


def _right(subject: str, name: str, has: bool | None, detail: Sequence[str]) -> Finding:
    """Return what is said of a right that is missing, or of which the portal did not say whether it is there."""
    said = " " + "; ".join(detail) + "." if detail else ""
    if has is None:
        text = f"syncd could not find out whether bindings may be {'read' if name == 'read' else 'written'}.{said}"
        hint = "The portal did not refuse the right; it failed. Run `syncd check` again in a minute."
        return Finding(subject, text, UnavailableError.exit_code, hint)
    hint = "Give the webhook the scope `crm`, and make its user an administrator of the portal or of its online store."
    return Finding(subject, f"The right to {name} bindings is missing.{said}", AuthError.exit_code, hint)


async def some_owners(portal: Portal, settings: LinkSettings) -> set[Owner]:
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
    told = f"This host's clock is {formatting.span(abs(ahead))} {'behind' if ahead > 0 else 'ahead of'} the portal's."
    hint = "Let NTP set the clock: syncd waits for the portal's limits and renews tokens by it."
    return Finding(subject, told, ConfigError.exit_code, hint)
