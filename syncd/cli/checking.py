"""The checks of `syncd check`, as values. They write nothing."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import SecretStr

from syncd.cli.checking_portal import WITNESSES, check_owner_types, check_portal, some_owners
from syncd.cli.finding import Finding, findings_of, guarded
from syncd.config.file_trust import exposures
from syncd.config.fingerprint import changed_parts
from syncd.config.load import Loaded
from syncd.config.mapping_columns import KEY_FIELDS, ORDER_COLUMNS
from syncd.config.masking import secret_values
from syncd.config.model import LinkSettings, PortalPlan, Settings, StateSettings
from syncd.config.service_places import service_places
from syncd.config.sources import Source
from syncd.config.urls import database_identity, sqlite_file
from syncd.core import guards
from syncd.core.model import Counts, Direction
from syncd.core.ports import Portal, Table
from syncd.daemon.channels import problems
from syncd.errors import AuthError, ConfigError, GuardRefusal, SyncdError, UnavailableError
from syncd.state import db_check, migrate
from syncd.state.high_water import mark_files
from syncd.status.fire_times import cost_sentence, listing_cost
from syncd.wiring import Workplace, open_workplace

FEWEST_KEYS = 5
"""How many order ids must all be unbound in the CRM before that is reported: new orders are unbound, too."""


_EXPOSED = "Ask the server's host for its certificate authority; see docs/how-to/postgresql-mariadb.md."


async def run_checks(loaded: Loaded, names: Sequence[str]) -> list[Finding]:
    """Given links, return everything that was found about them, their files and the state database. Writes nothing."""
    settings = loaded.settings
    state, usable = await asyncio.to_thread(_state, settings)
    with _temporary_state(settings) if not usable else nullcontext(settings) as used:
        async with open_workplace(used, upgrade=not usable) as place:
            of_links = await asyncio.gather(*(_link(place, name, state=usable) for name in names))
    about = [*_files(loaded), *_web(loaded.settings), *_notifying(settings)]
    return [*about, *state, *(finding for found in of_links for finding in found)]


def _files(loaded: Loaded) -> Iterator[Finding]:
    """Yield a finding for each file that is open to others. Only a serious one counts as a problem."""
    named = {key: Path(origin.name) for key, origin in loaded.origins.items() if origin.source is Source.SECRET_FILE}
    secret_files = set(named.values())
    service = service_places(loaded.path)
    for key, path in named.items():
        # Root, which has read it, works as the service's user by now.
        if service is not None and not os.access(path, os.R_OK):
            words = f"{path} may not be read by the user of the service, so the service cannot start."
            credential = service.credentials / key.replace(".", "__")
            remedy = f"Keep the secret in {credential}, and take {key}_file out of the configuration."
            yield Finding("configuration files", words, ConfigError.exit_code, remedy)
            secret_files.discard(path)
    try:
        text = loaded.path.read_text(encoding="utf-8")
    except PermissionError:  # the same
        group = "chgrp syncd and chmod 640 let the service read it."
        words = f"{loaded.path} may not be read by the user of the service, so the service cannot start."
        yield Finding("configuration files", words, ConfigError.exit_code, group)
        return
    holds_secret = any(secret in text for secret in secret_values(loaded.settings))
    for one in exposures(loaded.path, secret_files, holds_secret=holds_secret):
        if one.serious:
            yield Finding("configuration files", one.text, ConfigError.exit_code, one.hint)
        else:
            text = "the configuration holds a secret, and everybody on this host may read it; `chmod o-r` closes it"
            yield Finding("configuration files", text)


def _web(settings: Settings) -> Iterator[Finding]:
    if settings.web.is_open:
        text = (
            f"other hosts reach {settings.web.listen}, and it asks for no password: everybody there can read the page, "
            "the status and the metrics"
        )
        yield Finding("web", text, warning=True)
    closed = [name for name, link in settings.links.items() if link.hook_token is not None]
    if closed and settings.web.address is None:
        text = f"links.{closed[0]}.hook_token is set, but no hint can arrive: web.listen is not set"
        yield Finding("web", text, warning=True)


def _notifying(settings: Settings) -> Iterator[Finding]:
    """Yield a finding for each way of notifying that cannot work."""
    for problem in problems(settings.notify):
        yield Finding("notifications", problem, ConfigError.exit_code, "Then try it with: syncd notify --test")


@contextmanager
def _temporary_state(settings: Settings) -> Iterator[Settings]:
    """The same settings over a temporary, empty state database, so that the links can be checked without their own."""
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
    try:
        return _of_state(subject, settings)
    except SyncdError as error:
        return list(findings_of(subject, error)), False


def _of_state(subject: str, settings: Settings) -> tuple[list[Finding], bool]:
    url = settings.state.url.get_secret_value()
    marks = mark_files(url, os.environ)
    used_by = marks.links()
    missing = _missing_file(settings)
    if missing is not None:
        if used_by:
            raise migrate.lost(str(missing), used_by)
        return [
            Finding(subject, f"{_near(missing)} does not exist yet; the first command that needs it creates it")
        ], False
    found = db_check.check(url)
    if found.schema.revision is None and used_by:
        raise migrate.lost(database_identity(url), used_by)
    usable = found.schema.revision == found.schema.head
    if problems := [problem for problem in found.problems if problem != db_check.NO_SCHEMA]:
        hint = "Fix that; `syncd db check` looks at it again."
        return [Finding(subject, problem, UnavailableError.exit_code, hint) for problem in problems], usable
    if found.schema.revision is None:
        text = "reachable, without syncd's tables yet; the first command that needs them creates them"
        return [Finding(subject, text)], False
    said = [Finding(subject, f"reachable, schema {found.schema.revision}, no damage")]
    if found.pooled:
        text = "behind a connection pooler: a process that died is noticed when its lease expires, not at once"
        said.append(Finding(subject, text))
    if found.exposure:
        said.append(Finding(subject, found.exposure, hint=_EXPOSED, warning=True))
    if obstacle := marks.obstacle():
        text = (
            f"the progress of the links cannot be noted outside it, so a restored backup would go unnoticed: {obstacle}"
        )
        said.append(Finding(subject, text))
    return said, usable


def _missing_file(settings: Settings) -> Path | None:
    """Return the file of the state database where it is not there, in a folder that can be written."""
    path = sqlite_file(settings.state.url.get_secret_value())
    makeable = path is not None and not path.exists() and os.access(path.absolute().parent, os.W_OK)
    return path if makeable else None


def _near(path: Path) -> Path:
    """Given a path, return it as a person in the current directory would write it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) and here != Path("/") else path


async def _link(place: Workplace, name: str, *, state: bool) -> list[Finding]:
    settings = place.settings.links[name]
    found: list[Finding] = []
    try:
        async with place.link(name) as link:
            found += await guarded(f"{name}: table", lambda: _table(name, settings, link.table, link.portal))
            if state or settings.portal.oauth is None:
                found += await guarded(f"{name}: portal", lambda: check_portal(place, name, link.portal))
                if not any(finding.code for finding in found if finding.subject == f"{name}: portal"):
                    found += await guarded(f"{name}: owner types", lambda: check_owner_types(place, name))
            else:
                text = "not checked: its tokens are in the state database, which cannot be used"
                found.append(Finding(f"{name}: portal", text))
    except SyncdError as error:
        found += findings_of(name, error)
    if state:
        found += await guarded(f"{name}: lease", lambda: _lease(place, name))
        found += await guarded(f"{name}: agreed state", lambda: _ends(place, name, settings))
        found += await guarded(f"{name}: schedule", lambda: _cost(place, name, settings))
    return list(dict.fromkeys(found))  # the portal is asked for the table's sake as well, and may refuse twice


async def _table(name: str, settings: LinkSettings, table: Table, portal: Portal) -> list[Finding]:
    subject = f"{name}: table"
    problems, warnings, sample, keys = await table.check()
    hint = "Fix the table, or the setting named at the start of each line."
    found = list(findings_of(subject, ConfigError("", hint=hint, problems=tuple(problems)))) if problems else []
    found += [Finding(subject, warning, hint=hint, warning=True) for warning in warnings]
    if not problems:
        found.append(Finding(subject, f"{settings.table.name} is readable, its columns fit{_and_writable(settings)}"))
    if sample:
        found += await guarded(f"{name}: portal", lambda: _known_orders(subject, settings, portal, sample))
    if keys:
        found += await guarded(f"{name}: portal", lambda: _known_keys(subject, settings, portal, keys))
    return found


async def _known_keys(subject: str, settings: LinkSettings, portal: Portal, sample: Sequence[str]) -> list[Finding]:
    """Given some keys of the table, say so where no order of the portal has any of them."""
    key, asked = settings.table.key, list(dict.fromkeys(sample))[:WITNESSES]
    assert key.field is not None
    try:
        found = await portal.orders_with(key.field, asked)
    except AuthError:
        return []  # what is said of the portal says so
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
    if len(asked) < FEWEST_KEYS or await portal.read(asked) or not await some_owners(portal, settings):
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
    return "" if settings.direction is Direction.TABLE_TO_CRM else ", and it may be written"


async def _cost(place: Workplace, name: str, settings: LinkSettings) -> list[Finding]:
    """Say what the link's passes cost the portal, once it is known how many bindings it has."""
    row = await place.store.find_link(name)
    orders = await place.store.agreed_count(row.id) if row is not None else 0
    if not orders or settings.schedule is None or settings.portal.plan is PortalPlan.BOX:
        return []
    cost = listing_cost(name, settings, orders, place.settings.daemon.timezone, place.clock.now())
    return [Finding(f"{name}: schedule", cost_sentence(cost, settings), warning=cost.is_too_much)]


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
        hint = f"syncd rebase {name}"
        if tuple(changed) == ("portal",):
            hint = (
                "If the portal was only renamed, the next pass may find that out by itself; otherwise "
                f"`{hint} --same-portal`. If it is another portal: `{hint}`"
            )
        return [Finding(f"{name}: agreed state", text, GuardRefusal.exit_code, hint)]
    known = await place.marks.read(name)
    if known is not None:
        run = await place.store.run(known.run)
        if hits := guards.state_older(known, await place.store.identity(), run):
            text = f"Nothing is written until a person has seen the plan: {guards.sentence(hits[0], Counts())}."
            hint = f"Look at `syncd plan {name}`, then apply that run, or: syncd rebase {name}"
            return [Finding(f"{name}: agreed state", text, GuardRefusal.exit_code, hint)]
    agreed = await place.store.agreed_count(row.id)
    return [Finding(f"{name}: agreed state", f"{agreed:,} bindings agreed")]
