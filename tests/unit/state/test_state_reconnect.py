"""A transaction whose server went away is made again, where it was certainly not committed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, exc

from syncd.errors import StateUnavailable
from syncd.state import database as of_state
from syncd.state.database import Database, read_url


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(of_state, "RECONNECT_PAUSE", 0.0)
    sqlite3.connect(tmp_path / "state.db").close()
    made = Database(read_url(f"sqlite:///{tmp_path / 'state.db'}"))
    yield made
    made.close()


def lost() -> exc.OperationalError:
    return exc.OperationalError("", {}, Exception("gone"), connection_invalidated=True)


def loses(times: int) -> Callable[[Connection], int]:
    """Work that loses its connection so many times, and says how often it was done."""
    done: list[Connection] = []

    def work(connection: Connection) -> int:
        done.append(connection)
        if len(done) <= times:
            raise lost()
        return len(done)

    return work


@pytest.mark.parametrize("kind", ["read", "write"])
def test_given_a_connection_lost_under_way_then_the_transaction_is_made_again(database: Database, kind: str) -> None:
    assert getattr(database, kind)(loses(7)) == 8


def test_given_a_server_that_stays_away_then_it_is_not_waited_for_without_end(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_state, "RECONNECT_SECONDS", -1.0)
    with pytest.raises(StateUnavailable, match="cannot be reached"):
        database.write(loses(1))


def test_given_a_connection_lost_at_the_commit_then_the_transaction_is_not_made_again(database: Database) -> None:
    work = loses(0)

    def lose(_connection: Connection) -> None:
        raise lost()

    event.listen(database.engine, "commit", lose)
    with pytest.raises(StateUnavailable, match="cannot be reached"):
        database.write(work)
    event.remove(database.engine, "commit", lose)
    assert database.write(work) == 2
