"""A state database that is missing, locked, full, read-only, damaged or out of reach: a sentence, and no half state."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from syncd.core.model import Owner
from syncd.core.records import BindingUpdate
from syncd.errors import AuthError, ConfigError, LeaseLost, StateUnavailable, SyncdError
from syncd.state import database, migrate
from syncd.state.migrate import upgrade
from syncd.state.store import SqlStore, open_store
from tests.fakes.clock import SetClock
from tests.permissions import obey_permissions

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A state database with its schema."""
    made = tmp_path / "state.db"
    upgrade(f"sqlite:///{made}")
    return made


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqlStore]:
    opened = open_store(f"sqlite:///{path}", clock=SetClock(NOW))
    yield opened
    await opened.aclose()


async def refusal(url: str) -> SyncdError:
    """What a first write to this database is answered with."""
    store = open_store(url, clock=SetClock(NOW))
    try:
        with pytest.raises(SyncdError) as caught:
            await store.link("shop", "ends")
    finally:
        await store.aclose()
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


async def test_a_missing_file_is_not_made_by_reading(tmp_path: Path) -> None:
    error = await refusal(f"sqlite:///{tmp_path / 'state.db'}")
    assert isinstance(error, StateUnavailable)
    assert "does not exist" in error.message
    assert "db upgrade" in error.hint
    assert list(tmp_path.iterdir()) == []


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    error = await refusal(f"sqlite:///{tmp_path / 'nowhere' / 'state.db'}")
    assert f"the folder {tmp_path / 'nowhere'} does not exist" in error.message


async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_text("links:\n" * 1000)
    error = await refusal(f"sqlite:///{path}")
    assert "is not an SQLite database" in error.message
    assert path.read_text() == "links:\n" * 1000


async def test_a_damaged_file_is_called_damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    assert "is damaged" in (await refusal(f"sqlite:///{path}")).message


async def test_a_database_without_the_schema_says_what_to_run(database_url: str) -> None:
    error = await refusal(database_url)
    assert isinstance(error, StateUnavailable)
    assert "holds no tables of syncd" in error.message
    assert "db upgrade" in error.hint


async def test_a_database_with_an_older_schema_says_what_to_run(database_url: str) -> None:
    upgrade(database_url)
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE link DROP COLUMN parked"))
    error = await refusal(database_url)
    assert "older schema" in error.message


async def test_a_locked_file_is_waited_for_and_then_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        error = await refusal(f"sqlite:///{path}")
    assert "kept locked by another program" in error.message


async def test_a_reader_is_not_kept_waiting_by_a_writer(
    path: Path, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await store.runs(None, 10) == []


async def test_a_file_that_is_replaced_while_it_is_open_ends_the_step_and_the_next_one_uses_the_new_file(
    path: Path, store: SqlStore
) -> None:
    row = await store.link("shop", "ends")
    lease = await store.acquire(row, "host:1", 60, NOW)
    other = path.with_name("other.db")
    upgrade(f"sqlite:///{other}")
    for beside in ("-wal", "-shm"):
        path.with_name(path.name + beside).unlink(missing_ok=True)
    other.replace(path)

    with pytest.raises(StateUnavailable, match="was replaced while it was open"):
        await store.agree(lease, 1, [])
    assert await store.find_link("shop") is None
    with pytest.raises(LeaseLost):
        await store.renew(lease, 60, NOW)


async def test_a_file_that_is_deleted_while_it_is_open_is_missed(path: Path, store: SqlStore) -> None:
    await store.link("shop", "ends")
    path.unlink()

    for _ in range(2):
        with pytest.raises(StateUnavailable, match="does not exist"):
            await store.find_link("shop")


async def test_on_a_full_disk_nothing_of_a_step_is_kept_and_work_goes_on_with_room(path: Path, store: SqlStore) -> None:
    lease = await store.acquire(await store.link("shop", "ends"), "mine", 60.0, NOW)
    with closing(sqlite3.connect(path)) as other:
        pages = [other.execute("PRAGMA page_count").fetchone()[0] + 2]
    engine = store._database.engine
    engine.dispose()

    @event.listens_for(engine, "connect")
    def limit(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages[0]}")

    updates = [BindingUpdate(order, Owner(2, order), None) for order in range(1, 5000)]
    with pytest.raises(StateUnavailable, match="disk is full"):
        await store.observed(lease, updates)
    assert await store.bindings(lease.link_id, 0, None) == []
    pages[0] = 100_000
    engine.dispose()
    await store.observed(lease, updates)
    assert len(await store.bindings(lease.link_id, 0, None)) == len(updates)


WRITE = """
import asyncio, sys
from syncd.errors import SyncdError
from syncd.state.store import open_store
from tests.fakes.clock import SetClock

async def main():
    store = open_store(sys.argv[1], clock=SetClock())
    try:
        link = await store.link("shop", "ends")
        await store.acquire(link, "mine", 60.0, 0.0)
    except SyncdError as error:
        print(type(error).__name__, error.message)
    else:
        print("written")
    await store.aclose()

asyncio.run(main())
"""


def write_with_permissions(path: Path) -> str:
    """What a process that has to obey permissions says when it writes."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", WRITE, f"sqlite:///{path}"],
            preexec_fn=obey_permissions,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        path.parent.chmod(0o700)  # pytest removes it later
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_permissions_as_syncd_makes_them_are_enough(path: Path) -> None:
    assert write_with_permissions(path) == "written\n"


def test_a_file_this_user_may_not_open_cannot_be_opened(path: Path) -> None:
    path.chmod(0o000)
    assert f"StateUnavailable The state database {path} cannot be opened." in write_with_permissions(path)


def test_a_read_only_file_is_called_read_only(path: Path) -> None:
    path.chmod(0o400)
    assert "is read-only" in write_with_permissions(path)


def test_a_file_in_a_folder_this_user_may_not_write_is_called_read_only(path: Path) -> None:
    path.parent.chmod(0o500)
    assert f"StateUnavailable The state database {path} is read-only." in write_with_permissions(path)


def test_a_folder_this_user_may_not_enter_is_called_so(path: Path) -> None:
    path.parent.chmod(0o000)
    assert f"StateUnavailable The state database {path} cannot be made or read: Permission" in write_with_permissions(
        path
    )


# -------------------------------------------------------------------- servers


@pytest.mark.parametrize("kind", ["postgresql", "mysql", "mariadb"])
async def test_a_server_that_does_not_answer_is_out_of_reach(kind: str) -> None:
    error = await refusal(f"{kind}://syncd:s3cr3t@127.0.0.1:9/state")
    assert isinstance(error, StateUnavailable)
    assert "cannot be reached" in error.message
    assert "127.0.0.1:9/state" in error.message
    assert "s3cr3t" not in error.message + error.hint + repr(error)


async def test_a_database_the_server_does_not_know_is_called_so(server_url: str) -> None:
    url = sa.make_url(server_url).set(database="nowhere_at_all").render_as_string(hide_password=False)
    error = await refusal(url)
    assert isinstance(error, ConfigError)
    assert "is not known to its server" in error.message


@pytest.mark.mysql
async def test_a_wrong_password_is_an_error_of_authentication(mysql_url: str) -> None:
    url = sa.make_url(mysql_url).set(username="nobody_here", password="s3cr3t").render_as_string(hide_password=False)
    error = await refusal(url)
    assert isinstance(error, AuthError)
    assert "s3cr3t" not in error.message + error.hint + repr(error)


async def test_a_server_in_read_only_mode_is_called_so(postgres_url: str) -> None:
    upgrade(postgres_url)
    url = sa.make_url(postgres_url).update_query_dict({"options": "-c default_transaction_read_only=on"})
    error = await refusal(url.render_as_string(hide_password=False))
    assert "is read-only" in error.message


async def test_a_row_locked_by_another_session_is_waited_for_and_then_given_up(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade(server_url)
    monkeypatch.setattr(database, "LIMITS", database.LIMITS._replace(lock=1))
    store = open_store(server_url, clock=SetClock(NOW))
    try:
        lease = await store.acquire(await store.link("shop", "ends"), "mine", 60.0, NOW)
        engine = sa.create_engine(server_url, poolclass=sa.NullPool)
        with engine.begin() as other:
            other.execute(sa.text("SELECT * FROM lease FOR UPDATE"))
            with pytest.raises(StateUnavailable, match="kept locked"):
                await store.start_run(lease, "pass", "command", NOW)
        assert await store.start_run(lease, "pass", "command", NOW)
    finally:
        await store.aclose()


def test_check_of_a_database_out_of_reach_is_a_sentence() -> None:
    with pytest.raises(StateUnavailable, match="cannot be reached"):
        migrate.check("postgresql://syncd@127.0.0.1:9/state")
