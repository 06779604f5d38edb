"""What `syncd db check` finds out about the state database."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, literal_column, select, text

from syncd.state.database import Database, read_url
from syncd.state.migrate import Schema, check_known, revision_of, scripts_folder
from syncd.state.schema import REVISION, change, metadata

_BACKEND = text("SELECT pg_backend_pid()")


@dataclass(frozen=True, slots=True)
class Health:
    """What was found.

    Args:
        schema: Which schema the database has.
        problems: Each a sentence; empty when all is well.
        open_intents: Changes that were about to be sent and have no outcome; the next pass of their link looks after
            them. None where there is no current schema, or where the file is damaged.
    """

    schema: Schema
    problems: tuple[str, ...]
    open_intents: int | None


def check(url: str) -> Health:
    """Look the state database over: schema, integrity, permissions, open intents. Writes nothing. Blocking.

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
            problems.append("It has no schema of syncd yet; make it with: syncd db upgrade")
        else:
            check_known(revision, scripts_folder(), database.where)
            problems.append(f"It has the older schema {revision}; bring it to {REVISION} with: syncd db upgrade")
        damage = database.read(_damage)
        problems += damage or database.read(_disorder)
        if database.dialect == "postgresql":
            problems += _pooler_problem(database)
        open_intents = database.read(_open_intents) if revision == REVISION and not damage else None
        return Health(Schema(revision, REVISION), tuple(problems), open_intents)
    finally:
        database.close()


def _file_problems(path: Path) -> list[str]:
    if not path.exists():
        return []  # opening it says so better
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


def _damage(connection: Connection) -> list[str]:
    if connection.dialect.name != "sqlite":
        return []
    told = list(connection.scalars(text("PRAGMA quick_check(20)")))
    if told == ["ok"]:
        return []
    return [*(f"The file is damaged: {line}" for line in told), "Stop syncd, and restore the file from a backup."]


def _disorder(connection: Connection) -> list[str]:
    if connection.dialect.name != "sqlite":
        return []
    problems = []
    broken = connection.execute(text("PRAGMA foreign_key_check")).fetchall()
    if broken:
        rows = "1 row refers" if len(broken) == 1 else f"{len(broken)} rows refer"
        problems.append(f"{rows} to a link that does not exist.")
    if (mode := connection.scalar(text("PRAGMA journal_mode"))) != "wal":
        problems.append(f"Its journal mode is {mode} and cannot be set to WAL; is it on a network file system?")
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


def _pooler_problem(database: Database) -> list[str]:
    # A pooler by transaction gives each transaction of one connection to any session, which loses the lock of a lease.
    with database.engine.connect() as connection:
        seen = set()
        for _ in range(3):
            with connection.begin():
                seen.add(connection.scalar(_BACKEND))
    if len(seen) == 1:
        return []
    return [
        "A pooler stands in between that changes sessions (PgBouncer by transaction); connect to the server itself."
    ]


def _open_intents(connection: Connection) -> int:
    intended = change.c.outcome == literal_column("'intended'")
    return connection.scalar(select(func.count()).select_from(change).where(intended)) or 0
