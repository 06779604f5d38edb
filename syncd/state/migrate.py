"""Making and upgrading the schema of the state database.

The migrations are Alembic's, in `migrations/` (in the wheel: `syncd/migrations/`). An upgrade is one transaction where
DDL is transactional (SQLite, PostgreSQL): a kill in the middle leaves the old schema or the new one. MySQL commits
after each statement; there the migrations are written so that the upgrade can simply be run again.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from sqlalchemy import Connection, inspect, text

import syncd
from syncd.errors import ConfigError, StateUnavailable
from syncd.state.database import Database, Purpose, read_url
from syncd.state.faults import explained
from syncd.state.locks import take_file
from syncd.state.schema import REVISION, metadata

log = structlog.get_logger(__name__)

VERSION_TABLE = "alembic_version"
_LOCK_KEY = int.from_bytes(hashlib.sha256(b"syncd upgrade").digest()[:8], signed=True)


@dataclass(frozen=True, slots=True)
class Schema:
    """Which schema a database has.

    Args:
        revision: The revision it has; None where syncd has made no schema in it yet.
        head: The newest revision this syncd knows.
        backup: The copy that was made before an upgrade (SQLite).
    """

    revision: str | None
    head: str
    backup: Path | None = None


def upgrade(url: str, *, scripts: Path | None = None) -> Schema:
    """Bring the state database to the newest schema; make it, and its SQLite file, where there is none. Blocking.

    Two processes may call this at once; one of them upgrades, the other waits for it.

    Args:
        url: The state database.
        scripts: The folder of the migrations; left out, the one that came with syncd.

    Returns:
        The schema before; its `revision` equals `head` where there was nothing to do.

    Raises:
        ConfigError: It was made by a newer syncd, or holds tables of another program.
        StateUnavailable: It cannot be reached or written, or the backup cannot be made.
    """
    head = _head(scripts)
    database = Database(read_url(url), Purpose.UPGRADE)
    try:
        found = database.read(revision_of)
        if found == head:
            return Schema(found, head)
        with _alone(database) as connection:
            return _upgrade_alone(database, connection, head, scripts or scripts_folder())
    finally:
        database.close()


def current(url: str) -> Schema:
    """Return which schema the state database has, whichever that is. Blocking; raises what opening it raises."""
    database = Database(read_url(url))
    try:
        return Schema(database.read(revision_of), REVISION)
    finally:
        database.close()


def require_current(url: str) -> None:
    """Do nothing if the state database has exactly the schema this syncd works with.

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
    """Return the revision a database says it has, or None."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return version


def scripts_folder() -> Path:
    """Return the folder of the migrations: in the installed package, or beside it in a checkout."""
    package = Path(syncd.__file__).parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def _head(scripts: Path | None) -> str:
    # Importing Alembic costs every command 0.1 s; a test keeps the constant true.
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
        _check_ours(connection, database.where)
    else:
        check_known(before, scripts, database.where)
    backup = None if before is None or database.path is None else _back_up(database.path, before)
    _run_alembic(connection, scripts)
    log.info("upgraded state", before=before, after=head, backup=None if backup is None else str(backup))
    return Schema(before, head, backup)


def _run_alembic(connection: Connection, scripts: Path) -> None:
    from alembic import command  # noqa: PLC0415 - see _head
    from alembic.config import Config  # noqa: PLC0415 - see _head

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def check_known(revision: str, scripts: Path, where: str) -> None:
    """Do nothing if a revision is one of this syncd's.

    Args:
        revision: What a database says it has.
        scripts: The folder of the migrations.
        where: The database, free of secrets.

    Raises:
        ConfigError: It is not, so a newer syncd made it.
    """
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - see _head

    known = {script.revision for script in ScriptDirectory(str(scripts)).walk_revisions()}
    if revision not in known:
        raise ConfigError(
            f"The state database {where} was made by a newer syncd: its schema is {revision}, and this syncd "
            f"{syncd.__version__} knows up to {max(known)}. Nothing was changed.",
            hint="Install that syncd again, or restore the backup made before its upgrade (FILE.backup-REVISION).",
        )


def _check_ours(connection: Connection, where: str) -> None:
    # An upgrade killed on MySQL leaves tables of ours, but always Alembic's own table first.
    inspector = inspect(connection)
    foreign = sorted(set(inspector.get_table_names()) & set(metadata.tables))
    if foreign and not inspector.has_table(VERSION_TABLE):
        raise ConfigError(
            f"The database {where} already has tables of another program with the names syncd needs: "
            f"{', '.join(foreign)}. Nothing was changed.",
            hint="Give syncd a database of its own in [state] url.",
        )


@contextmanager
def _alone(database: Database) -> Iterator[Connection]:
    """A writing transaction in which no other process upgrades."""
    with explained(database.where):
        if database.path is not None:
            descriptor = take_file(database.path.with_name(f"{database.path.name}.upgrade.lock"), wait=True)
            try:
                with database.transaction(writes=True) as connection:
                    yield connection
            finally:
                if descriptor is not None:
                    os.close(descriptor)
        elif database.dialect == "postgresql":
            with database.transaction(writes=True) as connection:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
                yield connection
        else:
            # The lock is the session's and ends with it: the connection is not pooled. MariaDB knows no endless wait.
            with database.transaction(writes=True) as connection:
                name = f"syncd upgrade {hashlib.sha256((database.url.database or '').encode()).hexdigest()[:40]}"
                while not connection.scalar(text("SELECT GET_LOCK(:name, 60)"), {"name": name}):
                    pass
                yield connection


def _back_up(path: Path, revision: str) -> Path:
    """Make a consistent copy of an SQLite database as it is committed now, and return its path."""
    target = path.with_name(f"{path.name}.backup-{revision}")
    part = target.with_name(f"{target.name}.part")
    try:
        part.unlink(missing_ok=True)
        part.touch(mode=0o600)
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(part)) as copy:
            source.backup(copy)
            # A copy that stands alone in one file, whatever is restored or mailed.
            copy.execute("PRAGMA journal_mode = DELETE")
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
    except (sqlite3.Error, OSError) as error:
        with suppress(OSError):
            part.unlink()
        raise StateUnavailable(
            f"The backup {target} could not be made before the upgrade ({error}). The schema was not changed.",
            hint="Free some space in the folder of the state database and see that syncd may write there.",
        ) from None
    return target
