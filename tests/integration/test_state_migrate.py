"""Making and upgrading the schema: on every kind of database, by several processes at once, and killed in the middle."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

import syncd
from syncd.errors import ConfigError, StateUnavailable
from syncd.state import migrate
from syncd.state.migrate import Schema, current, require_current, scripts_folder, upgrade
from syncd.state.schema import REVISION, metadata
from syncd.state.store import open_store
from tests.databases import execute
from tests.fakes.clock import SetClock
from tests.loaded_python import LoadedPython
from tests.system.pooler import pooling

SECOND = '''
"""A later schema: one more column, then whatever the test wants to happen."""

import os
import signal

import sqlalchemy as sa
from alembic import op

revision = "{later}"
down_revision = "{newest}"
branch_labels = None
depends_on = None


def upgrade():
    op.add_column("link", sa.Column("colour", sa.String(16)))
    op.create_table("later", sa.Column("id", sa.Integer, primary_key=True))
    {event}
'''

LATER = f"{int(REVISION) + 1:04}"
KILL = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A file that is not there yet."""
    return f"sqlite:///{tmp_path / 'test.db'}"


def later_scripts(folder: Path, event: str = "pass") -> Path:
    """The migrations of a syncd that knows one revision more."""
    scripts = folder / "migrations"
    shutil.copytree(scripts_folder(), scripts, ignore=shutil.ignore_patterns("__pycache__"))
    script = SECOND.replace("{later}", LATER).replace("{newest}", REVISION).replace("{event}", event)
    (scripts / "versions" / f"{LATER}_later.py").write_text(script)
    return scripts


def upgrade_elsewhere(url: str, scripts: Path | None = None) -> subprocess.Popen[str]:
    """Upgrade in another process, which prints what it found."""
    code = (
        "import sys; from pathlib import Path; from syncd.state.migrate import upgrade\n"
        "print(upgrade(sys.argv[1], scripts=Path(sys.argv[2]) if sys.argv[2] else None).revision)"
    )
    pipe = subprocess.PIPE
    return LoadedPython(
        ["-c", code, url, str(scripts or "")], env=os.environ | {"PYTHONWARNINGS": "error"}, stdout=pipe, stderr=pipe
    )


def tables(url: str) -> set[str]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    return set(sa.inspect(engine).get_table_names())


def versions(url: str, table: str) -> list[str]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        return list(connection.scalars(sa.text(f"SELECT version_num FROM {table}")))


def columns(url: str, table: str) -> set[str]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    return {column["name"] for column in sa.inspect(engine).get_columns(table)}


def test_the_revision_the_code_works_with_is_the_newest_migration() -> None:
    from alembic.script import ScriptDirectory

    assert ScriptDirectory(str(scripts_folder())).get_heads() == [REVISION]


def test_an_empty_database_gets_the_schema_and_a_second_upgrade_finds_nothing_to_do(database_url: str) -> None:
    assert upgrade(database_url) == Schema(None, REVISION)
    assert set(metadata.tables) < tables(database_url)
    assert upgrade(database_url) == Schema(REVISION, REVISION)
    assert current(database_url) == Schema(REVISION, REVISION)


def test_what_the_migrations_make_is_what_the_code_expects(database_url: str) -> None:
    upgrade(database_url)
    assert migrate.check(database_url).problems == ()


def test_a_missing_file_is_made_for_its_owner_only(tmp_path: Path) -> None:
    upgrade(f"sqlite:///{tmp_path / 'new.db'}")
    assert (tmp_path / "new.db").stat().st_mode & 0o777 == 0o600


def test_a_missing_folder_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StateUnavailable, match=r"the folder .*nowhere does not exist"):
        upgrade(f"sqlite:///{tmp_path / 'nowhere' / 'new.db'}")
    assert list(tmp_path.iterdir()) == []


def test_the_schema_is_known_to_be_missing_current_or_newer(database_url: str, tmp_path: Path) -> None:
    with pytest.raises(StateUnavailable, match=r"has no schema yet|does not exist"):
        require_current(database_url)
    upgrade(database_url)
    require_current(database_url)
    upgrade(database_url, scripts=later_scripts(tmp_path))
    with pytest.raises(ConfigError, match="newer syncd"):
        require_current(database_url)


def test_a_database_made_by_a_newer_syncd_is_refused_and_left_alone(database_url: str, tmp_path: Path) -> None:
    upgrade(database_url, scripts=later_scripts(tmp_path))
    with pytest.raises(
        ConfigError, match=rf"newer syncd: its schema is {LATER}, and this syncd .* knows up to {REVISION}"
    ):
        upgrade(database_url)
    assert current(database_url).revision == LATER


def test_a_database_with_tables_of_another_program_is_refused_and_left_alone(database_url: str) -> None:
    execute(database_url, "CREATE TABLE link (id INTEGER)")
    with pytest.raises(ConfigError, match=r"tables of another program .*: link"):
        upgrade(database_url)
    assert tables(database_url) == {"link"}


def test_a_database_with_another_programs_alembic_version_is_shared_and_that_table_left_alone(
    database_url: str,
) -> None:
    execute(
        database_url,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)",
        "INSERT INTO alembic_version VALUES ('0001')",
    )
    assert upgrade(database_url) == Schema(None, REVISION)
    assert upgrade(database_url) == Schema(REVISION, REVISION)
    assert versions(database_url, "alembic_version") == ["0001"]
    assert versions(database_url, "syncd_version") == [REVISION]


def test_a_schema_of_before_the_version_tables_own_name_is_known_and_upgraded(
    database_url: str, tmp_path: Path
) -> None:
    first = tmp_path / "first" / "migrations"
    shutil.copytree(scripts_folder(), first, ignore=shutil.ignore_patterns("__pycache__", "000[!1]*", "00[!0]*"))
    upgrade(database_url, scripts=first)
    execute(
        database_url,
        "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)",
        "INSERT INTO alembic_version SELECT version_num FROM syncd_version",
        "DROP TABLE syncd_version",
    )
    assert current(database_url) == Schema("0001", REVISION)
    assert upgrade(database_url).revision == "0001"
    assert upgrade(database_url) == Schema(REVISION, REVISION)
    assert "alembic_version" not in tables(database_url)
    assert migrate.check(database_url).problems == ()


def test_processes_that_upgrade_at_once_wait_for_each_other(database_url: str) -> None:
    processes = [upgrade_elsewhere(database_url) for _ in range(3)]
    answers = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], answers
    assert sorted(out.split()[-1] for out, _ in answers) == [REVISION, REVISION, "None"]
    assert migrate.check(database_url).problems == ()


def test_an_upgrade_killed_in_the_middle_leaves_the_old_schema_and_can_be_run_again(
    database_url: str, tmp_path: Path
) -> None:
    if sa.make_url(database_url).get_backend_name() == "mysql":
        pytest.skip("MySQL commits after each statement; see the test of a half-made schema")
    upgrade(database_url)
    killed = upgrade_elsewhere(database_url, later_scripts(tmp_path, KILL))
    killed.communicate()
    assert killed.returncode == -9
    assert current(database_url).revision == REVISION
    assert "later" not in tables(database_url)
    assert "colour" not in columns(database_url, "link")
    assert migrate.check(database_url).problems == ()
    shutil.rmtree(tmp_path / "migrations")
    assert upgrade(database_url, scripts=later_scripts(tmp_path)).revision == REVISION
    assert "colour" in columns(database_url, "link")


@pytest.mark.anyio
@pytest.mark.mysql
@pytest.mark.parametrize("mode", ["ORACLE", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT"])
async def test_a_mode_that_the_server_has_for_other_programs_is_not_the_states(mysql_url: str, mode: str) -> None:
    engine = sa.create_engine(mysql_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        if mode == "ORACLE" and "MariaDB" not in connection.scalar(sa.text("SELECT VERSION()")):
            pytest.skip("MySQL has no mode ORACLE")
    url = sa.make_url(mysql_url).update_query_dict({"sql_mode": mode}).render_as_string(hide_password=False)

    assert upgrade(url) == Schema(None, REVISION)
    assert migrate.check(url).problems == ()
    store = open_store(url, clock=SetClock())
    assert await store.swap_token("a \\ portal", None, {"refresh_token": "r"})
    assert await store.token("a \\ portal") == {"refresh_token": "r"}
    await store.aclose()


@pytest.mark.mysql
def test_a_schema_half_made_by_an_upgrade_killed_on_mysql_is_completed(mysql_url: str) -> None:
    upgrade(mysql_url)
    execute(
        mysql_url,
        "DELETE FROM syncd_version",
        "DROP TABLE budget",
        "DELETE FROM identity",
        "DROP TABLE request",
        "ALTER TABLE hold DROP INDEX ix_hold_open",
    )
    assert upgrade(mysql_url) == Schema(None, REVISION)
    assert migrate.check(mysql_url).problems == ()


def test_an_sqlite_database_is_copied_before_its_schema_changes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    upgrade(url)
    execute(url, "INSERT INTO token (portal, body) VALUES ('a', '{}')")
    done = upgrade(url, scripts=later_scripts(tmp_path))
    assert done.backup is not None
    assert done.backup == tmp_path / f"state.db.backup-{REVISION}"
    with closing(sqlite3.connect(f"file:{done.backup}?mode=ro", uri=True)) as copy:
        assert copy.execute("SELECT portal FROM token").fetchall() == [("a",)]
        assert copy.execute("SELECT version_num FROM syncd_version").fetchall() == [(REVISION,)]
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert done.backup.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob("*.part*"))


def test_the_copy_is_a_state_database_that_works(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    upgrade(url)
    backup = upgrade(url, scripts=later_scripts(tmp_path)).backup
    assert migrate.check(f"sqlite:///{backup}").problems == ()


def test_a_first_schema_and_a_current_one_are_not_copied(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    assert upgrade(url).backup is None
    assert upgrade(url).backup is None
    assert not list(tmp_path.glob("*backup*"))


def test_without_a_backup_the_schema_is_not_changed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    upgrade(url)
    (tmp_path / f"state.db.backup-{REVISION}.part").mkdir()
    with pytest.raises(StateUnavailable, match=r"backup .* could not be made"):
        upgrade(url, scripts=later_scripts(tmp_path))
    assert current(url).revision == REVISION


def test_the_migrations_of_an_installed_package_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "syncd"
    (package / "migrations").mkdir(parents=True)
    monkeypatch.setattr(syncd, "__file__", str(package / "__init__.py"))
    assert scripts_folder() == package / "migrations"
    (package / "migrations").rmdir()
    assert scripts_folder() == tmp_path / "migrations"


def test_an_up_to_date_database_is_recognised_without_loading_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    upgrade(url)
    code = (
        "import sys; from syncd.state.migrate import upgrade; upgrade(sys.argv[1]); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, url], check=False, timeout=60).returncode == 0


# ---------------------------------------------------------------------- check


def test_check_finds_a_database_without_schema(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.touch(mode=0o600)
    found = migrate.check(f"sqlite:///{path}")
    assert found.open_intents is None
    assert [problem for problem in found.problems if "no schema" in problem]


def test_check_finds_what_differs_from_the_schema(database_url: str) -> None:
    upgrade(database_url)
    execute(database_url, "ALTER TABLE budget DROP COLUMN used", "ALTER TABLE link ADD COLUMN colour INTEGER")
    problems = migrate.check(database_url).problems
    assert [problem for problem in problems if "add column budget.used" in problem]
    assert [problem for problem in problems if "remove column link.colour" in problem]


def test_check_leaves_tables_of_others_alone(database_url: str) -> None:
    upgrade(database_url)
    execute(database_url, "CREATE TABLE theirs (id INTEGER)")
    assert migrate.check(database_url).problems == ()


def test_check_counts_open_intents(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    upgrade(url)
    execute(
        url,
        "INSERT INTO change (run_id, link_id, order_id, action, reason, outcome, error, at, found_known)"
        " VALUES (1, 1, 1, 'add', 'undo', 'intended', '', 0, 0)",
    )
    assert migrate.check(url).open_intents == 1


def test_check_finds_a_file_others_may_read(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    upgrade(url)
    (tmp_path / "state.db").chmod(0o644)
    assert [problem for problem in migrate.check(url).problems if "chmod 600" in problem]


def test_check_finds_rows_of_a_link_that_does_not_exist(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    upgrade(url)
    execute(
        url,
        "INSERT INTO run (link_id, kind, state, origin, started_at, digest, first_sync, counts, guards, error, requests,"
        " calls, seconds) VALUES (7, 'pass', 'applied', 'command', 0, '', 0, '{}', '[]', '', 0, 0, 0)",
    )
    assert [problem for problem in migrate.check(url).problems if "1 row refers to a link" in problem]


def test_check_finds_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    url = f"sqlite:///{path}"
    upgrade(url)
    with closing(sqlite3.connect(path)) as database:
        database.executemany(
            "INSERT INTO token (portal, body) VALUES (?, ?)", [(str(n), "x" * 500) for n in range(500)]
        )
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[-40_000:-20_000] = b"\xff" * 20_000
    path.write_bytes(content)
    assert [problem for problem in migrate.check(url).problems if "damaged" in problem]


@pytest.mark.postgres
def test_check_reports_a_pooler_that_changes_sessions(postgres_url: str) -> None:
    upgrade(postgres_url)
    assert not migrate.check(postgres_url).pooled
    with pooling(postgres_url) as url:
        found = migrate.check(url)
    assert (found.problems, found.pooled) == ((), True)
