"""Making, upgrading and checking the schema of the state database.

The migrations are Alembic's, in `migrations/` (in the wheel: `syncd/migrations/`). On SQLite and PostgreSQL an upgrade
is one transaction: a kill in the middle leaves the old schema or the new one. MySQL commits after each statement; there
the migrations are written so that an interrupted upgrade can be run again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog
from sqlalchemy import Column, Connection, MetaData, String, Table, func, insert, inspect, literal_column, select

import syncd
from syncd.core.records import KnownRun
from syncd.db.server import Server
from syncd.db.sqlite import copy_database
from syncd.errors import ConfigError, StateUnavailable
from syncd.obs.clock import utc_stamp
from syncd.state.database import Database, Purpose, make_private, read_url, take_lock
from syncd.state.faults import translated_errors
from syncd.state.schema import REVISION, change, metadata

log = structlog.get_logger(__name__)

VERSION_TABLE = "syncd_version"
"""The table with the revision. Not Alembic's default name, which another program in the database may use."""

_OLD_REVISIONS = ("0001",)
_OLD_TABLES = frozenset({"link", "binding", "run", "change", "hold", "lease"})

_VERSION = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32), primary_key=True))
# The table with the revision up to 0001. Another program's table of this name has other revisions, or lacks our tables.
_OLD_VERSION = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
NO_RUNS: Mapping[str, KnownRun] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Schema:
    """Which schema a database has.

    Args:
        revision: The revision it has; None if it has no schema of syncd.
        head: The newest revision this syncd knows.
        backup: The copy made before an upgrade (SQLite).
    """

    revision: str | None
    head: str
    backup: Path | None = None


def upgrade(url: str, *, scripts: Path | None = None, used_by: Mapping[str, KnownRun] = NO_RUNS) -> Schema:
    """Upgrade the state database to the newest schema; make it, and its SQLite file, if there is none. Blocking.

    Two processes may call this at once; one of them upgrades, the other waits for it.

    Args:
        url: The state database.
        scripts: The folder of the migrations; by default the one that came with syncd.
        used_by: Links known to have used this database. If there are any, a missing database is not made.

    Returns:
        The schema before; its `revision` equals `head` if there was nothing to do.

    Raises:
        ConfigError: It was made by a newer syncd, or holds tables of another program.
        StateUnavailable: It cannot be reached or written; the backup cannot be made; or it is missing or empty although
            links have used it.
    """
    head = _head(scripts)
    database = Database(read_url(url), Purpose.UPGRADE)
    try:
        if used_by and database.path is not None and not database.path.exists():
            raise lost(database.where, used_by)
        found = database.read(revision_of)
        if found is None and used_by:
            raise lost(database.where, used_by)
        if found == head:
            return Schema(found, head)
        with _alone(database) as connection:
            return _upgrade_alone(database, connection, head, scripts or scripts_folder())
    finally:
        database.close()


def lost(where: str, used_by: Mapping[str, KnownRun]) -> StateUnavailable:
    """Given a missing or empty state database and the links that have used it, return the error."""
    last = max(used_by, key=lambda link: used_by[link].started_at)
    when = utc_stamp(used_by[last].started_at)
    return StateUnavailable(
        f"The state database {where} is missing or empty, although {', '.join(sorted(used_by))} used it; "
        f"the last known run was {used_by[last].run} of {last}, at {when}. No new database was made.",
        hint=f"Restore its backup, or correct [state] url. To start again with nothing agreed: syncd rebase {last}",
    )


def current(url: str) -> Schema:
    """Return which schema the state database has. Blocking. Raises what opening it raises."""
    database = Database(read_url(url))
    try:
        return Schema(database.read(revision_of), REVISION)
    finally:
        database.close()


def require_current(url: str) -> None:
    """Check that the state database has exactly the schema this syncd works with.

    Raises:
        ConfigError: It was made by a newer syncd.
        StateUnavailable: It is missing, or its schema is missing or older.
    """
    schema = current(url)
    if schema.revision == schema.head:
        return
    where = read_url(url)
    if schema.revision is not None:
        check_known(schema.revision, scripts_folder(), where.database or "")
    state = "has no schema yet" if schema.revision is None else f"has the older schema {schema.revision}"
    raise StateUnavailable(f"The state database {where.database} {state}.", hint="Run: syncd db upgrade")


def revision_of(connection: Connection) -> str | None:
    """Return the revision of a database's schema, or None."""
    tables = set(inspect(connection).get_table_names())
    if VERSION_TABLE in tables:
        version: str | None = connection.scalar(select(_VERSION.c.version_num))
        if version is not None:
            return version
    return _old_revision(connection, tables)


def _old_revision(connection: Connection, tables: set[str]) -> str | None:
    """Given the names of all tables, return the revision in Alembic's default table, if that is syncd's."""
    if not tables >= _OLD_TABLES | {_OLD_VERSION.name}:
        return None
    versions = list(connection.scalars(select(_OLD_VERSION.c.version_num)))
    return versions[0] if len(versions) == 1 and versions[0] in _OLD_REVISIONS else None


def scripts_folder() -> Path:
    """Return the folder of the migrations: in the installed package, or beside it in a checkout."""
    package = Path(syncd.__file__).parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def _head(scripts: Path | None) -> str:
    # Importing Alembic would cost every command 0.1 s; a test compares the constant.
    if scripts is None:
        return REVISION
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - as said above

    head = ScriptDirectory(str(scripts)).get_current_head()
    assert head is not None
    return head


def _upgrade_alone(database: Database, connection: Connection, head: str, scripts: Path) -> Schema:
    before = revision_of(connection)
    if before == head:
        return Schema(before, head)
    if before is None:
        check_ours(connection, database.where)
    else:
        check_known(before, scripts, database.where)
    backup = None if before is None or database.path is None else _back_up(database.path, before)
    _take_over_version(connection)
    _run_alembic(connection, scripts)
    log.info("upgraded state", before=before, after=head, backup=None if backup is None else str(backup))
    return Schema(before, head, backup)


def _take_over_version(connection: Connection) -> None:
    """Move the revision from Alembic's default table, if that is syncd's, to `VERSION_TABLE`."""
    tables = set(inspect(connection).get_table_names())
    old = _old_revision(connection, tables)
    if old is None:
        return
    _VERSION.create(connection, checkfirst=True)
    if connection.scalar(select(func.count()).select_from(_VERSION)) == 0:
        connection.execute(insert(_VERSION).values(version_num=old))
    _OLD_VERSION.drop(connection)


def _run_alembic(connection: Connection, scripts: Path) -> None:
    from alembic import command  # noqa: PLC0415 - see _head
    from alembic.config import Config  # noqa: PLC0415 - see _head

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    config.attributes["version_table"] = VERSION_TABLE
    command.upgrade(config, "head")


def check_known(revision: str, scripts: Path, where: str) -> None:
    """Check that this syncd knows a revision.

    Args:
        revision: The revision of the database.
        scripts: The folder of the migrations.
        where: The database, free of secrets.

    Raises:
        ConfigError: It does not, so a newer syncd made it.
    """
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - see _head

    known = {script.revision for script in ScriptDirectory(str(scripts)).walk_revisions()}
    if revision not in known:
        raise ConfigError(
            f"The state database {where} was made by a newer syncd: its schema is {revision}, and this syncd "
            f"{syncd.__version__} knows up to {max(known)}. Nothing was changed.",
            hint="Install that syncd again, or restore the backup made before its upgrade (FILE.backup-REVISION).",
        )


def check_ours(connection: Connection, where: str) -> None:
    """Check that a database without a revision has no tables of another program with the names syncd needs.

    Raises:
        ConfigError: It has.
    """
    # An upgrade killed on MySQL leaves tables of syncd; the version table is always made first.
    tables = set(inspect(connection).get_table_names())
    foreign = sorted(tables & set(metadata.tables))
    if foreign and VERSION_TABLE not in tables:
        raise ConfigError(
            f"The database {where} already has tables of another program with the names syncd needs: "
            f"{', '.join(foreign)}. Nothing was changed.",
            hint="Give syncd its own database in [state] url.",
        )


@contextmanager
def _alone(database: Database) -> Iterator[Connection]:
    """Open a writing transaction during which no other process upgrades."""
    with translated_errors(database.where):
        if database.path is not None:
            file = database.path.with_name(f"{database.path.name}.upgrade.lock")
            descriptor = take_lock(file, beside=database.path, wait=True)
            try:
                with database.transaction(writes=True) as connection:
                    yield connection
            finally:
                if descriptor is not None:
                    os.close(descriptor)
        else:
            with database.transaction(writes=True) as connection:
                backend = database.backend
                assert isinstance(backend, Server)
                backend.wait_for_lock(connection, f"syncd upgrade {database.url.database}")
                yield connection


def _back_up(path: Path, revision: str) -> Path:
    """Make a consistent copy of a database that is a file, and return its path."""
    target = path.with_name(f"{path.name}.backup-{revision}")
    part = target.with_name(f"{target.name}.part")
    try:
        part.unlink(missing_ok=True)
        make_private(part, beside=path)
        copy_database(path, part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise StateUnavailable(
            f"The backup {target} could not be made before the upgrade ({error}). The schema was not changed.",
            hint="Free some space in the folder of the state database, and give syncd write access to it.",
        ) from None
    return target


# ---------------------------------------------------------- `syncd db check`

NO_SCHEMA = "It has no schema of syncd yet; make it with: syncd db upgrade"


@dataclass(frozen=True, slots=True)
class DatabaseCheck:
    """What was found.

    Args:
        schema: Which schema the database has.
        problems: Each a sentence.
        open_intents: How many changes were about to be sent and have no outcome; the next pass of their link resolves
            them. None without a current schema, or if the file is damaged.
        pooled: Connections go through a pooler, so a dead process is noticed only when its lease has expired.
        exposure: How a third party could read or change what is sent to the server; empty if none can.
    """

    schema: Schema
    problems: tuple[str, ...]
    open_intents: int | None
    pooled: bool = False
    exposure: str = ""


def check(url: str) -> DatabaseCheck:
    """Check the state database: schema, integrity, permissions, open intents. Writes nothing. Blocking.

    Raises:
        ConfigError: The URL is not one, its driver is not installed, or a newer syncd made the schema.
        StateUnavailable: It cannot be opened or read at all.
        AuthError: It refuses the credentials.
    """
    database = Database(read_url(url))
    try:
        problems = [] if database.path is None else _file_problems(database.path)
        revision = database.read(revision_of)
        if revision == REVISION:
            problems += database.read(_drift)
        elif revision is None:
            database.read(lambda connection: check_ours(connection, database.where))
            hindrance = database.read(database.backend.hindrance)
            problems += [NO_SCHEMA, *([hindrance] if hindrance else [])]
        else:
            check_known(revision, scripts_folder(), database.where)
            problems.append(f"It has the older schema {revision}; bring it to {REVISION} with: syncd db upgrade")
        damage = database.read(database.backend.damage)
        problems += damage or database.read(database.backend.disorder)
        open_intents = database.read(_open_intents) if revision == REVISION and not damage else None
        exposure = database.read(database.backend.exposure)
        return DatabaseCheck(Schema(revision, REVISION), tuple(problems), open_intents, database.is_pooled, exposure)
    finally:
        database.close()


def _file_problems(path: Path) -> list[str]:
    if not path.exists():
        return []  # opening it reports that better
    problems = []
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        problems.append(f"Other users may open {path} (mode {mode:04o}), which can hold OAuth tokens: chmod 600 {path}")
    beside = [path.with_name(f"{path.name}{ending}") for ending in ("-wal", "-shm")]
    problems += [
        f"This user may not write {file}." for file in (path, *beside) if file.exists() and not os.access(file, os.W_OK)
    ]
    if not os.access(path.parent, os.W_OK):
        problems.append(f"This user may not write the folder {path.parent}, where SQLite keeps its journal.")
    return problems


def _drift(connection: Connection) -> list[str]:
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415 - importing Alembic costs every command 0.1 s
    from alembic.migration import MigrationContext  # noqa: PLC0415 - as above

    def is_ours(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or name in metadata.tables

    context = MigrationContext.configure(connection, opts={"include_name": is_ours})
    steps: list[tuple[Any, ...]] = []
    for difference in compare_metadata(context, metadata):
        steps += difference if isinstance(difference, list) else [difference]
    return [f"Its schema differs from that of syncd: {_words(step)}." for step in steps]


def _words(step: tuple[Any, ...]) -> str:
    """Given one of Alembic's differences, return it as a phrase: "add column change.error"."""
    kind = str(step[0])
    names = [getattr(part, "name", None) or part for part in step[1:4] if part is not None]
    return f"{kind.replace('_', ' ')} {'.'.join(str(name) for name in names)}"


def _open_intents(connection: Connection) -> int:
    intended = change.c.outcome == literal_column("'intended'")
    return connection.scalar(select(func.count()).select_from(change).where(intended)) or 0
