"""The checks of `syncd check`: files, state database, channels and links. They write nothing."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import combinations, zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import SecretStr

from syncd.cli.link_checks import Finding, check_link, findings_of
from syncd.cli.screen import GAP, Block, Line, TextTable
from syncd.config.file_trust import exposures
from syncd.config.load import Loaded
from syncd.config.model import Settings, StateSettings
from syncd.config.render import secret_values
from syncd.config.service_places import service_places
from syncd.config.sources import Source
from syncd.config.urls import database_identity, sqlite_file
from syncd.core.model import Direction
from syncd.daemon.channels import problems
from syncd.engine import formatting
from syncd.errors import ConfigError, SyncdError, UnavailableError
from syncd.state import migrate
from syncd.state.high_water import mark_files
from syncd.wiring import open_app_context

_EXPOSED = "Ask the server's host for its certificate authority; see docs/how-to/postgresql-mariadb.md."


async def run_checks(loaded: Loaded, names: Sequence[str]) -> list[Finding]:
    """Given links, return everything that was found about them, their files and the state database. Writes nothing."""
    settings = loaded.settings
    state, usable = await asyncio.to_thread(_state, settings)
    with _temporary_state(settings) if not usable else nullcontext(settings) as used:
        async with open_app_context(used, upgrade=not usable) as context:
            of_links = await asyncio.gather(*(check_link(context, name, state=usable) for name in names))
    about = [*_files(loaded), *_web(loaded.settings), *_notifying(settings), *_overlaps(settings)]
    return [*about, *state, *(finding for found in of_links for finding in found)]


def _files(loaded: Loaded) -> Iterator[Finding]:
    """Yield a finding for each file that is open to others: a problem where it is serious, else a warning."""
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
            yield Finding("configuration files", one.text, hint=one.hint, warning=True)


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


def _overlaps(settings: Settings) -> Iterator[Finding]:
    """Yield a warning for each two links that write the same orders of one portal.

    Where only one of them writes to the portal, the other one follows it.
    """
    writing = {name: link for name, link in settings.links.items() if link.direction is not Direction.CRM_TO_TABLE}
    for (one, first), (other, second) in combinations(writing.items(), 2):
        a, b = first.scope(), second.scope()
        if first.portal.address == second.portal.address and a.owner_types & b.owner_types and a.orders & b.orders:
            text = (
                f"{one} and {other} both write to the CRM, and their scopes overlap: each copies or undoes "
                "what the other writes"
            )
            hint = "Give them `orders` or `owner_types` that exclude each other."
            yield Finding("links", text, hint=hint, warning=True)


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
    found = migrate.check(url)
    if found.schema.revision is None and used_by:
        raise migrate.lost(database_identity(url), used_by)
    usable = found.schema.revision == found.schema.head
    if problems := [problem for problem in found.problems if problem != migrate.NO_SCHEMA]:
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
            "the links' progress cannot be noted outside it, so an older one, restored or taken up again, could "
            f"go unnoticed: {obstacle}"
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


def findings(found: Sequence[Finding]) -> Iterator[Block]:
    """Given findings, yield one line for each, problems with their hints, and a verdict.

    Problems in a row that share a hint have it once, behind the last of them.
    """
    rows, tones = [], []
    for one, following in zip_longest(found, found[1:]):
        label, tone = ("PROBLEM", "bad") if one.code else ("warning", "warn") if one.warning else ("ok", "good")
        rows.append([label, one.subject, one.text])
        tones.append(tone)
        if one.hint and (following is None or following.hint != one.hint):
            rows.append(["", "", f"Hint: {one.hint}"])
            tones.append("")
    yield TextTable(rows, tones=tones, toned=0)
    yield GAP
    wrong = sum(one.code != 0 for one in found)
    warnings = sum(one.warning for one in found)
    verdict = formatting.count(wrong, "problem") + " found" if wrong else "All is well"
    worth_knowing = f"; {formatting.count(warnings, 'warning')}" if warnings else ""
    yield Line(f"{verdict}{worth_knowing}.", "bad" if wrong else "good")
