"""A MySQL that takes a connection and never answers: how long it is waited for, and how long a statement is then."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from pymysql import connections

from syncd.db import ErrorKind
from syncd.db.backend import CONNECT_SECONDS, Limits
from syncd.db.mysql import MySQL

Engine = Callable[[sa.URL], sa.Engine]
LIMITS = Limits(lock=5, statement=120)
ENGINES: dict[str, Engine] = {
    "table": lambda url: MySQL().table_engine(url, "table", LIMITS),
    "state": lambda url: MySQL().state_engine(url, "state", LIMITS, transactions=2),
    "locks of the state": lambda url: MySQL().state_engine(url, "state", None, transactions=0),
}
ON_STATEMENTS = {"table": 120 + CONNECT_SECONDS, "state": 120, "locks of the state": None}


@pytest.fixture
def port() -> Iterator[int]:
    """The port of a server that accepts connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """For each read of a connection, for how many seconds it would wait. They have passed at once."""
    found: list[float | None] = []

    class Impatient(socket.socket):
        def recv_into(self, *args: Any, **kwargs: Any) -> int:
            found.append(self.gettimeout())
            raise TimeoutError("timed out")

    def opened(address: tuple[str, int], timeout: float) -> socket.socket:
        made = Impatient()
        made.settimeout(timeout)
        made.connect(address)
        return made

    monkeypatch.setattr(connections.socket, "create_connection", opened)
    return found


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize(
    ("options", "seconds"), [("", CONNECT_SECONDS), ("?connect_timeout=3", 3), ("?read_timeout=2", 2)]
)
def test_given_a_server_that_never_greets_then_it_is_waited_for_as_long_as_for_a_connection(
    port: int, waits: list[float | None], kind: str, options: str, seconds: float
) -> None:
    url = sa.make_url(f"mysql+pymysql://syncd@127.0.0.1:{port}/erp{options}")
    with pytest.raises(sa.exc.OperationalError) as told:
        ENGINES[kind](url).connect()
    assert waits == [seconds]
    assert told.value.orig is not None
    assert MySQL().error_kind(told.value.orig) is ErrorKind.UNREACHABLE


@pytest.mark.mysql
@pytest.mark.parametrize("kind", ENGINES)
def test_given_a_server_that_greeted_then_a_statement_has_its_own_limit(mysql_url: str, kind: str) -> None:
    engine = ENGINES[kind](sa.make_url(mysql_url))
    with engine.connect() as connection:
        connection.scalar(sa.text("SELECT 1"))
        driver: Any = connection.connection.driver_connection
        assert driver._sock.gettimeout() == ON_STATEMENTS[kind]
    engine.dispose()
