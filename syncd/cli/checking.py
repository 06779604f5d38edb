"""Looking everything over without writing: what `check` finds, as values."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from pydantic import SecretStr

from syncd.config.endpoints import parse_database_url
from syncd.config.fingerprint import changed_parts
from syncd.config.model import LinkSettings, Settings, StateSettings
from syncd.core.model import Direction, Owner, Row
from syncd.core.ports import Portal, Rights, Table
from syncd.engine import words
from syncd.engine.link import no_progress
from syncd.errors import AuthError, ConfigError, GuardRefusal, SyncdError, UnavailableError
from syncd.state import health
from syncd.wiring import Workplace, open_workplace

WITNESSES = 50
"""How many bound owners are asked for, to find out whether owners can be seen: one call's worth."""

CLOCK_SECONDS = 60.0
"""By how much two clocks may differ: the portal counts its budget in minutes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        subject: What: `state database`, `shop: portal`.
        text: What was found, as a sentence.
        code: The exit code it stands for; 0 is well.
        hint: What to do about it.
    """

    subject: str
    text: str
    code: int = 0
    hint: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "subject": self.subject,
            "ok": self.code == 0,
            "text": self.text,
            "hint": self.hint or None,
            "exit_code": self.code,
        }


async def look_over(settings: Settings, names: Sequence[str]) -> list[Finding]:
    """Given links, return everything that was found about them and about the state database. Writes nothing."""
    state, usable = await asyncio.to_thread(_state, settings)
    with _stand_in(settings) if not usable else nullcontext(settings) as used:
        async with open_workplace(used, upgrade=not usable) as place:
            of_links = await asyncio.gather(*(_link(place, name, state=usable) for name in names))
    return [*state, *(finding for found in of_links for finding in found)]


@contextmanager
def _stand_in(settings: Settings) -> Iterator[Settings]:
    """The same settings over an empty state database that is thrown away: the links can be looked at all the same."""
    log = logging.getLogger("syncd.state.migrate")
    level = log.level
    log.setLevel(logging.WARNING)  # that a schema is made here would read as if one had been made there
    try:
        with TemporaryDirectory(prefix="syncd-check-") as directory:
            state = StateSettings(url=SecretStr(f"sqlite:///{Path(directory, 'syncd.db')}"))
            yield settings.model_copy(update={"state": state})
    finally:
        log.setLevel(level)


def _state(settings: Settings) -> tuple[list[Finding], bool]:
    """Return what is said of the state database, and whether links can be looked up in it."""
    subject = "state database"
    missing = _missing_file(settings)
    if missing is not None:
        return [Finding(subject, f"{missing} is not there yet; the first command that needs it makes it")], False
    try:
        found = health.check(settings.state.url.get_secret_value())
    except SyncdError as error:
        return list(_of_error(subject, error)), False
    usable = found.schema.revision == found.schema.head
    if found.problems:
        hint = "Mend that, or restore a backup; `syncd db check` looks at it again."
        return [Finding(subject, problem, UnavailableError.exit_code, hint) for problem in found.problems], usable
    return [Finding(subject, f"reachable, schema {found.schema.revision}, no damage")], usable


def _missing_file(settings: Settings) -> Path | None:
    """Return the SQLite file of the state database where it is not there, in a folder that can be written."""
    parts = parse_database_url(settings.state.url.get_secret_value())
    path = Path(parts.database)
    makeable = parts.dialect == "sqlite" and not path.exists() and os.access(path.absolute().parent, os.W_OK)
    return path if makeable else None


async def _link(place: Workplace, name: str, *, state: bool) -> list[Finding]:
    settings = place.settings.links[name]
    found: list[Finding] = []
    try:
        async with place.link(name) as link:
            found += await _guarded(f"{name}: table", lambda: _table(name, settings, link.table))
            if state or settings.portal.oauth is None:
                found += await _guarded(f"{name}: portal", lambda: _portal(place, name, link.portal))
            else:
                text = "not looked at: its tokens are in the state database, which cannot be used"
                found.append(Finding(f"{name}: portal", text))
    except SyncdError as error:
        found += _of_error(name, error)
    if state:
        found += await _guarded(f"{name}: lease", lambda: _lease(place, name))
        found += await _guarded(f"{name}: agreed state", lambda: _ends(place, name, settings))
    return found


async def _guarded(subject: str, look: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    try:
        return await look()
    except SyncdError as error:
        return list(_of_error(subject, error))


def _of_error(subject: str, error: SyncdError) -> Iterator[Finding]:
    """One error may bring several problems; its hint belongs to each of them."""
    problems = error.problems if isinstance(error, ConfigError) and error.problems else (error.message,)
    for problem in problems:
        yield Finding(subject, problem, error.exit_code, error.hint)


async def _table(name: str, settings: LinkSettings, table: Table) -> list[Finding]:
    subject = f"{name}: table"
    problems = await table.check()
    if problems:
        hint = "Mend the table, or the settings that these sentences begin with."
        return list(_of_error(subject, ConfigError("", hint=hint, problems=tuple(problems))))
    return [Finding(subject, f"{settings.table.name} is readable, its columns fit{_and_writable(settings)}")]


def _and_writable(settings: LinkSettings) -> str:
    return "" if settings.direction is Direction.TABLE_TO_CRM else ", and it may be written"


async def _portal(place: Workplace, name: str, portal: Portal) -> list[Finding]:
    settings = place.settings.links[name]
    subject = f"{name}: portal"
    verify = settings.verify_owners and settings.direction is not Direction.CRM_TO_TABLE
    rights = await portal.probe()
    if verify and rights.read:
        rights = await portal.probe(await _witnesses(portal, settings))
    said = ("; ".join(rights.detail) + ".") if rights.detail else ""
    hint = "Give the webhook the scope `crm`, and make its user an administrator of the portal or of its online store."
    found = []
    if not rights.read:
        found.append(Finding(subject, f"The right to read bindings is missing. {said}", AuthError.exit_code, hint))
    if not rights.write and settings.direction is not Direction.CRM_TO_TABLE:
        found.append(Finding(subject, f"The right to write bindings is missing. {said}", AuthError.exit_code, hint))
    if not found:
        may = "read" if settings.direction is Direction.CRM_TO_TABLE else "read and written"
        found.append(Finding(subject, f"{settings.portal.address} answers; bindings may be {may}"))
    if verify and rights.read:
        found.append(_owners(f"{name}: owners", rights))
    if rights.clock_ahead is not None:
        found.append(_clock(f"{name}: clock", rights.clock_ahead))
    return found


async def _witnesses(portal: Portal, settings: LinkSettings) -> set[Owner]:
    """Return some owners that orders are bound to today."""
    async with aclosing(
        cast("AsyncGenerator[list[Row], None]", portal.listing([], settings.scope(), no_progress))
    ) as rows:
        async for chunk in rows:
            return {row.owner for row in chunk[:WITNESSES]}
    return set()


def _owners(subject: str, rights: Rights) -> Finding:
    if rights.sees_owners is None:
        return Finding(subject, "no order is bound yet, so whether owners can be seen will be known later")
    if rights.sees_owners:
        return Finding(subject, "can be seen, so an order is never bound to one that does not exist")
    return Finding(
        subject,
        "The credentials cannot see the deals that orders are bound to, so a mistyped owner would go unnoticed.",
        AuthError.exit_code,
        "Give the webhook the right `crm`, or set verify_owners = false.",
    )


def _clock(subject: str, ahead: float) -> Finding:
    if abs(ahead) < CLOCK_SECONDS:
        return Finding(subject, "this host and the portal tell the same time")
    told = f"This host's clock is {words.span(abs(ahead))} {'behind' if ahead > 0 else 'ahead of'} the portal's."
    hint = "Have the clock set by NTP; waits for the portal's limits and tokens go by it."
    return Finding(subject, told, ConfigError.exit_code, hint)


async def _lease(place: Workplace, name: str) -> list[Finding]:
    now = place.clock.now()
    for lease in await place.store.leases():
        if lease.link == name and lease.expires_at > now:
            return [Finding(f"{name}: lease", f"held by {lease.holder}; a pass is under way")]
    return [Finding(f"{name}: lease", "free")]


async def _ends(place: Workplace, name: str, settings: LinkSettings) -> list[Finding]:
    row = await place.store.find_link(name)
    if row is None:
        return [Finding(f"{name}: agreed state", "none yet; the next pass is the first sync")]
    changed = changed_parts(row.fingerprint, settings)
    if changed:
        text = f"The configuration points elsewhere than the agreed state was made for ({', '.join(changed)})."
        return [Finding(f"{name}: agreed state", text, GuardRefusal.exit_code, f"syncd rebase {name}")]
    agreed = await place.store.agreed_count(row.id)
    return [Finding(f"{name}: agreed state", f"{agreed:,} bindings agreed")]
