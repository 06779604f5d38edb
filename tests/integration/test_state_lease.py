"""Leases between processes: real ones, ended with SIGKILL, on every kind of database."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from typing import IO, Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from syncd.core.records import Lease
from syncd.errors import LeaseHeld, LeaseLost, StateUnavailable
from syncd.obs.clock import SystemClock
from syncd.state.database import Database, read_url
from syncd.state.leases import LeaseKeeper
from syncd.state.locks import open_locks
from syncd.state.migrate import upgrade
from syncd.state.store import SqlStore, open_store
from tests.databases import execute
from tests.fakes.clock import SetClock
from tests.loaded_python import LoadedPython

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
TTL = 3600.0
PATIENCE = 60.0
"""Seconds after which something that should have happened has not."""

HOLDER = """
import asyncio, sys
from syncd.state.store import open_store
from tests.fakes.clock import SetClock

async def main(url, holder):
    store = open_store(url, clock=SetClock())
    lease = await store.acquire(await store.link("shop", "ends"), holder, 3600.0, 1_800_000_000.0)
    print(lease.link_id, lease.fence, flush=True)
    sys.stdin.read()

asyncio.run(main(*sys.argv[1:]))
"""

CONTENDER = """
import asyncio, sys
from syncd.errors import LeaseHeld
from syncd.state.store import open_store
from tests.fakes.clock import SetClock

async def main(url, holder):
    store = open_store(url, clock=SetClock())
    link = await store.link("shop", "ends")
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        lease = await store.acquire(link, holder, 3600.0, 1_800_000_000.0)
    except LeaseHeld:
        print("held", flush=True)
    else:
        print("got", lease.fence, flush=True)
    sys.stdin.readline()

asyncio.run(main(*sys.argv[1:]))
"""


def start(script: str, url: str, holder: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return LoadedPython(
        ["-c", script, url, holder], env=os.environ | {"PYTHONWARNINGS": "error"}, stdin=pipe, stdout=pipe
    )


@pytest.fixture
def state_url(database_url: str) -> str:
    upgrade(database_url)
    return database_url


@pytest.fixture
async def store(state_url: str) -> AsyncIterator[SqlStore]:
    opened = open_store(state_url, clock=SetClock(NOW))
    yield opened
    await opened.aclose()


@pytest.fixture
def holder(state_url: str) -> Iterator[tuple[subprocess.Popen[str], Lease]]:
    """Another process that has the lease, and that lease."""
    with start(HOLDER, state_url, "other:1") as process:
        link_id, fence = map(int, stream(process.stdout).readline().split())
        yield process, Lease(link_id, "shop", "other:1", fence, NOW + TTL)
        process.kill()


def stream(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


async def patiently(attempt: Callable[[], Awaitable[Lease]]) -> Lease:
    """Try again while the lease is held: a server needs a moment to see that a client is gone; with SQLite it is seen at once."""
    clock = SystemClock()
    end = clock.monotonic() + PATIENCE
    while True:
        try:
            return await attempt()
        except LeaseHeld:
            if clock.monotonic() > end:
                raise
            await clock.sleep(0.02)


async def test_the_lease_of_a_living_process_is_not_taken_and_its_holder_is_named(
    store: SqlStore, holder: tuple[subprocess.Popen[str], Lease]
) -> None:
    link = await store.find_link("shop")
    assert link is not None
    with pytest.raises(LeaseHeld, match=r"other:1 since 2027-01-15T08:00:00\+00:00.* until 2027-01-15T09:00:00\+00:00"):
        await store.acquire(link, "mine", TTL, NOW + 1)


async def test_the_lease_of_a_killed_process_is_taken_at_once_and_its_fence_is_refused(
    store: SqlStore, holder: tuple[subprocess.Popen[str], Lease]
) -> None:
    process, dead = holder
    process.kill()
    process.wait()
    link = await store.find_link("shop")
    assert link is not None
    taken = await patiently(lambda: store.acquire(link, "mine", TTL, NOW + 1))
    assert taken.fence > dead.fence
    with pytest.raises(LeaseLost):
        await store.start_run(dead, "pass", "command", NOW)


async def test_of_processes_that_ask_at_once_one_gets_the_lease(state_url: str) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(start(CONTENDER, state_url, f"process:{number}")) for number in range(4)]
        for process in processes:
            assert stream(process.stdout).readline() == "ready\n"
        for process in processes:
            stream(process.stdin).write("go\n")
            stream(process.stdin).flush()
        answers = [stream(process.stdout).readline().strip() for process in processes]
    assert sorted(answers) == ["got 1", "held", "held", "held"]


async def test_a_lease_left_by_a_closed_store_is_free_at_once(store: SqlStore, state_url: str) -> None:
    link = await store.link("shop", "ends")
    left = open_store(state_url, clock=SetClock(NOW))
    await left.acquire(link, "left", TTL, NOW)
    await left.aclose()
    taken = await patiently(lambda: store.acquire(link, "mine", TTL, NOW + 1))
    assert taken.holder == "mine"


async def test_a_living_holder_without_a_lock_is_protected_by_its_expiry(store: SqlStore, state_url: str) -> None:
    """A process that takes an expired lease over cannot get the lock that the frozen holder keeps; so its end proves nothing."""
    link = await store.link("shop", "ends")
    frozen = open_store(state_url, clock=SetClock(NOW))
    await frozen.acquire(link, "frozen", TTL, NOW)
    await store.acquire(link, "mine", TTL, NOW + TTL + 1)
    await frozen.aclose()
    third = open_store(state_url, clock=SetClock(NOW))
    with pytest.raises(LeaseHeld, match="mine"):
        await third.acquire(link, "third", TTL, NOW + TTL + 2)
    await third.aclose()


async def test_a_renewal_gets_the_lock_a_frozen_process_has_let_go(store: SqlStore, state_url: str) -> None:
    link = await store.link("shop", "ends")
    frozen = open_store(state_url, clock=SetClock(NOW))
    await frozen.acquire(link, "frozen", TTL, NOW)
    lease = await store.acquire(link, "mine", TTL, NOW + TTL + 1)
    await frozen.aclose()

    async def renewed_with_lock() -> Lease:
        renewed = await store.renew(lease, TTL, NOW + TTL + 2)
        if not lock_scope(state_url):
            raise LeaseHeld("the server has not noticed yet that the other session is over")
        return renewed

    assert await patiently(renewed_with_lock)


class Interrupted(Database):
    """A state database where another process acts once, right before this one's next writing transaction."""

    somebody: Callable[[], object] | None = None

    def write(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        somebody, self.somebody = self.somebody, None
        if somebody is not None:
            somebody()
        return super().write(work, *args, **kwargs)


@pytest.fixture
def keepers(state_url: str) -> Iterator[Callable[[], tuple[LeaseKeeper, Interrupted]]]:
    """Makes what a process keeps its leases with."""
    made: list[tuple[LeaseKeeper, Interrupted]] = []

    def make() -> tuple[LeaseKeeper, Interrupted]:
        database = Interrupted(read_url(state_url))
        made.append((LeaseKeeper(database, open_locks(database)), database))
        return made[-1]

    yield make
    for keeper, database in made:
        keeper.close()
        database.close()


async def test_a_lease_taken_while_a_contender_was_on_its_way_has_its_lock(
    store: SqlStore, state_url: str, keepers: Callable[[], tuple[LeaseKeeper, Interrupted]]
) -> None:
    link = await store.link("shop", "ends")
    (dying, _), (late, at) = keepers(), keepers()
    at.somebody = lambda: dying.acquire(link, "dying", TTL, NOW)
    with pytest.raises(LeaseHeld, match="dying"):
        late.acquire(link, "late", TTL, NOW)
    assert lock_scope(state_url)
    dying.close()  # as its end would
    taken = await patiently(lambda: asyncio.to_thread(late.acquire, link, "late", TTL, NOW + 1))
    assert taken.holder == "late"


async def test_a_lease_renewed_while_a_contender_was_on_its_way_keeps_its_lock(
    store: SqlStore, state_url: str, keepers: Callable[[], tuple[LeaseKeeper, Interrupted]]
) -> None:
    """Its lock was lost with a session. Another process that asks for the lease just then does not keep it from the lock."""
    link = await store.link("shop", "ends")
    (holder, _), (late, at) = keepers(), keepers()
    lease = holder.acquire(link, "holder", TTL, NOW)
    holder.close()
    at.somebody = lambda: holder.renew(lease, TTL, NOW + 1)
    with pytest.raises(LeaseHeld, match="holder"):
        late.acquire(link, "late", TTL, NOW + 1)
    assert lock_scope(state_url)


async def test_a_lease_that_was_given_back_is_not_taken_over(
    store: SqlStore, keepers: Callable[[], tuple[LeaseKeeper, Interrupted]]
) -> None:
    link = await store.link("shop", "ends")
    (leaving, at), (next_one, _) = keepers(), keepers()
    lease = leaving.acquire(link, "leaving", TTL, NOW)

    def come_early() -> None:
        with pytest.raises(LeaseHeld, match="leaving"):
            next_one.acquire(link, "next", TTL, NOW)

    at.somebody = come_early
    with capture_logs() as logged:
        leaving.release(lease)
        assert next_one.acquire(link, "next", TTL, NOW).fence == lease.fence + 1
    assert logged == []


async def test_a_takeover_from_the_dead_is_logged_once_the_lease_is_taken(
    store: SqlStore, keepers: Callable[[], tuple[LeaseKeeper, Interrupted]]
) -> None:
    link = await store.link("shop", "ends")
    (dead, _), (next_one, at) = keepers(), keepers()
    dead.acquire(link, "dead", TTL, NOW)
    dead.close()

    def break_down() -> None:
        raise StateUnavailable("The state database is out of reach.")

    with capture_logs() as logged:
        at.somebody = break_down
        with pytest.raises(StateUnavailable):
            next_one.acquire(link, "next", TTL, NOW)
        assert logged == []
        await patiently(lambda: asyncio.to_thread(next_one.acquire, link, "next", TTL, NOW + 1))
    [event] = logged
    assert (event["event"], event["previous"]) == ("took over lease", "dead")
    assert (event["expired"], event["holder_dead"]) == (False, True)


async def test_however_processes_press_for_a_lease_each_that_gets_it_has_its_lock(
    store: SqlStore, state_url: str, keepers: Callable[[], tuple[LeaseKeeper, Interrupted]]
) -> None:
    link = await store.link("shop", "ends")
    watching = Database(read_url(state_url))

    end = time.monotonic() + PATIENCE

    def press(keeper: LeaseKeeper, name: str) -> list[str | None]:
        scopes: list[str | None] = []
        while len(scopes) < 10:
            assert time.monotonic() < end, f"{name} got the lease {len(scopes)} times"
            try:
                lease = keeper.acquire(link, name, TTL, NOW)
            except LeaseHeld:
                continue
            scopes.append(watching.read(lambda reading: reading.scalar(sa.text("SELECT lock_scope FROM lease"))))
            keeper.release(lease)
        return scopes

    with capture_logs() as logged:
        pressing = [asyncio.to_thread(press, keepers()[0], f"process:{number}") for number in range(3)]
        found = await asyncio.gather(*pressing)
    watching.close()
    assert [len(scopes) for scopes in found] == [10, 10, 10]
    assert all(scope for scopes in found for scope in scopes)
    assert logged == []


def lock_scope(url: str) -> str:
    database = Database(read_url(url))
    try:
        return str(database.read(lambda connection: connection.scalar(sa.text("SELECT lock_scope FROM lease"))))
    finally:
        database.close()


SESSIONS = {
    "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :database AND pid <> pg_backend_pid()",
    "mysql": "SELECT id FROM information_schema.processlist WHERE db = :database AND id <> CONNECTION_ID()",
}


def cut_all_sessions(url: str) -> None:
    """What a restart of the server does to its clients."""
    kind = sa.make_url(url).get_backend_name()
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        rows = connection.execute(sa.text(SESSIONS[kind]), {"database": sa.make_url(url).database}).scalars().all()
    if kind == "mysql":
        execute(url, *(f"KILL {number}" for number in rows))


@pytest.fixture
def server_state(server_url: str) -> str:
    """A state database with its schema, on each kind of server."""
    upgrade(server_url)
    return server_url


async def test_a_lease_survives_the_loss_of_every_connection_if_nobody_took_it(server_state: str) -> None:
    store = open_store(server_state, clock=SetClock(NOW))
    lease = await store.acquire(await store.link("shop", "ends"), "mine", TTL, NOW)
    cut_all_sessions(server_state)
    renewed = await store.renew(lease, TTL, NOW + 1)
    assert renewed.fence == lease.fence
    another = open_store(server_state, clock=SetClock(NOW))
    with pytest.raises(LeaseHeld):
        await another.acquire(await store.link("shop", "ends"), "other", TTL, NOW + 2)
    await another.aclose()
    await store.aclose()


async def test_a_lease_taken_while_the_connections_were_lost_is_lost(server_state: str) -> None:
    store, another = [open_store(server_state, clock=SetClock(NOW)) for _ in range(2)]
    link = await store.link("shop", "ends")
    lease = await store.acquire(link, "mine", TTL, NOW)
    cut_all_sessions(server_state)
    await patiently(lambda: another.acquire(link, "other", TTL, NOW + 1))
    with pytest.raises(LeaseLost):
        await store.renew(lease, TTL, NOW + 2)
    await another.aclose()
    await store.aclose()


async def test_reading_and_writing_go_on_after_the_server_was_restarted(server_state: str) -> None:
    store = open_store(server_state, clock=SetClock(NOW))
    link = await store.link("shop", "ends")
    lease = await store.acquire(link, "mine", TTL, NOW)
    cut_all_sessions(server_state)
    assert await store.find_link("shop") == link
    assert await store.start_run(lease, "pass", "command", NOW) == 1
    await store.aclose()
