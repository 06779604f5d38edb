"""No test waits without a limit."""

from __future__ import annotations

import ast
import asyncio
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.databases import execute
from tests.limits import limited

TESTS = Path(__file__).parents[1]
SOURCES = sorted(TESTS.rglob("*.py"))


@pytest.mark.anyio
async def test_given_a_test_that_waits_when_its_time_is_over_then_it_fails_where_it_waits() -> None:
    async def waits() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError, match=r"still waits after 0\.01 s") as raised:
        await limited(waits, 0.01)()

    assert "await asyncio.Event().wait()" in "".join(traceback.format_exception(raised.value))


@pytest.mark.anyio
async def test_given_a_test_that_expects_to_be_cancelled_when_its_time_is_over_then_it_fails_too() -> None:
    async def expects_it() -> None:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.Event().wait()

    with pytest.raises(AssertionError, match="went on when it was cancelled"):
        await limited(expects_it, 0.01)()


@pytest.mark.anyio
async def test_given_a_test_that_cancels_itself_then_that_is_no_matter_of_time() -> None:
    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await limited(cancelled, 60)()


@pytest.mark.anyio
async def test_given_an_asynchronous_test_then_it_has_a_limit(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("timeout") == 0:
        pytest.skip("--timeout 0 takes the limits away")
    assert request.function.__code__ is limited(request.function).__code__


@pytest.mark.postgres
def test_given_a_table_that_a_test_left_locked_then_emptying_the_database_is_given_up(postgres_url: str) -> None:
    execute(postgres_url, "DO $$ BEGIN ASSERT current_setting('statement_timeout') = '1min'; END $$")


@pytest.mark.mysql
def test_given_a_table_that_a_test_left_locked_then_dropping_it_is_given_up(mysql_url: str) -> None:
    execute(mysql_url, "BEGIN NOT ATOMIC IF @@lock_wait_timeout <> 60 THEN SIGNAL SQLSTATE '45000'; END IF; END")


@pytest.mark.postgres
def test_given_a_session_of_a_test_then_no_statement_of_it_lasts_for_ever(postgres_url: str) -> None:
    engine = sa.create_engine(postgres_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SHOW statement_timeout")) == "2min"


def test_given_the_modules_of_the_tests_then_no_thread_and_no_address_is_waited_for_without_a_limit() -> None:
    without = [
        f"{path.relative_to(TESTS)}:{call.lineno}: {ast.unparse(call)}"
        for path in SOURCES
        for call in _waits_without_a_limit(path.read_text())
    ]

    assert without == []


@pytest.mark.parametrize("waits", ["thread.join()", "urllib.request.urlopen(address)", "urlopen(address, data)"])
def test_given_a_wait_without_a_limit_then_it_is_found(waits: str) -> None:
    assert [ast.unparse(one) for one in _waits_without_a_limit(waits)] == [waits]


def _waits_without_a_limit(source: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name, words = ast.unparse(node.func).rpartition(".")[2], {word.arg for word in node.keywords}
        if (name == "join" and not node.args + node.keywords) or (name == "urlopen" and "timeout" not in words):
            yield node
