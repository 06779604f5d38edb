"""The checks of `syncd db check`."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, literal_column, select

from syncd.state.database import Database, read_url
from syncd.state.migrate import Schema, check_known, check_ours, revision_of, scripts_folder
from syncd.state.schema import REVISION, change, metadata

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
