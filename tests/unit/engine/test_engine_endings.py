"""How a run ends early, and what it leaves behind: nothing half-known, and nothing written after the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from syncd.core.model import Action, Outcome, SideCounts
from syncd.core.ports import Listed, Write, WriteResult
from syncd.core.records import Reached
from syncd.engine import reconcile as engine
from syncd.engine.link import Link, hold_lease
from syncd.errors import AuthError, LeaseHeld, LeaseLost, Stopped, UnavailableError
from tests.fakes.portal import Surprise
from tests.simulation.crash import Crash, Steps
from tests.simulation.world import World
from tests.unit.engine.given import in_step, outcomes, patient, plan, written

pytestmark = pytest.mark.anyio


async def with_changes(orders: int = 6, size: int = 2) -> World:
    """Changes on both sides, in batches of `size` on the portal."""
    world = await in_step(orders + 20)
    world.portal.size = size
    for order in range(1, orders + 1):
        (world.edit_table if order % 2 else world.edit_crm)(order, (2, 900 + order))
    return world


async def rob(world: World) -> None:
    """Somebody else takes the link's lease over, as after it has expired."""
    row = await world.store.find_link("shop")
    assert row is not None
    for lease in await world.store.leases():
        world.store.bury(lease.holder)
    await world.store.acquire(row, "robber", 120, world.clock.now())


# --------------------------------------------------------------------------- lease


@pytest.mark.parametrize(
    "at", ["portal.write after", "store.intend before", "table.write after", "store.record before"]
)
async def test_given_the_lease_is_lost_then_nothing_more_is_written(at: str) -> None:
    world = await with_changes()
    robbed: list[tuple[int, int]] = []
    link = world.link()
    port, _, rest = at.partition(".")
    name, _, moment = rest.partition(" ")
    inner = getattr(link, port)
    call = getattr(inner, name)

    async def robbing(*args: Any, **kwargs: Any) -> Any:
        result = await call(*args, **kwargs) if moment == "after" else None
        if not robbed:
            await rob(world)
            robbed.append(written(world))
        return result if moment == "after" else await call(*args, **kwargs)

    setattr(inner, name, robbing)
    report = await engine.reconcile(link)

    assert isinstance(report.error, LeaseLost)
    assert report.exit_code == 75
    assert [written(world)] == robbed


async def test_given_a_lost_lease_then_the_next_holder_finds_the_intents_and_everything_converges() -> None:
    world = await with_changes()
    link = world.link()
    write = link.portal.write

    async def robbing(batch: Sequence[Write]) -> list[WriteResult]:
        answer = await write(batch)
        await rob(world)
        return answer

    link.portal.write = robbing  # type: ignore[method-assign]
    await engine.reconcile(link)
    world.store.bury("robber")

    report = await world.reconcile()

    assert report.exit_code == 0
    assert world.portal.bindings == world.table.bindings
    assert sum(world.portal.sent.values()) == len(world.portal.sent)


async def test_given_a_long_run_then_its_lease_is_renewed_on_the_way() -> None:
    world = await with_changes(6, size=1)
    link = world.link()
    write = link.portal.write
    visited: list[str] = []

    async def slowly(batch: Sequence[Write]) -> list[WriteResult]:
        await world.clock.sleep(50)
        try:
            await world.reconcile()
        except LeaseHeld:
            visited.append("turned away")
        return await write(batch)

    link.portal.write = slowly  # type: ignore[method-assign]
    report = await engine.reconcile(link)

    assert report.exit_code == 0
    assert visited == ["turned away"] * 3


async def test_given_a_listing_that_takes_longer_than_a_lease_then_the_lease_is_kept_alive() -> None:
    world = patient()
    clock = world.clock
    world.edit_crm(5, (2, 10))
    link = world.link()
    listing = link.portal.listing
    expiries: list[float] = []

    async def long(*args: Any, **kwargs: Any) -> AsyncIterator[Listed]:
        for _ in range(20):
            await clock.sleep(30)
            (lease,) = await world.store.leases()
            expiries.append(lease.expires_at - clock.now())
        async for rows in listing(*args, **kwargs):
            yield rows

    link.portal.listing = long  # type: ignore[method-assign]
    report = await engine.reconcile(link)

    assert report.exit_code == 0
    assert min(expiries) > 0


async def test_given_a_long_listing_then_how_far_it_has_got_is_kept_with_the_lease_within_seconds() -> None:
    world = patient()
    clock = world.clock
    world.edit_crm(5, (2, 10))
    link = world.link()
    listing = link.portal.listing
    told: list[tuple[int, int]] = []

    async def long(*args: Any, **kwargs: Any) -> AsyncIterator[Listed]:
        for done in range(1, 11):
            link.progress("listing the portal", done, 10)
            await clock.sleep(6)
            (lease,) = await world.store.leases()
            told.append((done, lease.reached.done if lease.reached is not None else 0))
        async for rows in listing(*args, **kwargs):
            yield rows

    link.portal.listing = long  # type: ignore[method-assign]
    report = await engine.reconcile(link)

    assert report.exit_code == 0
    assert all(done - known <= 1 for done, known in told)


async def test_given_progress_then_it_is_told_and_remembered_as_it_is() -> None:
    told: list[tuple[str, int, int | None]] = []
    link = World(options={"progress": lambda *what: told.append(what)}).link()

    link.progress("applying", 3, 9)
    link.progress("listing the portal", 4, None)

    assert told == [("applying", 3, 9), ("listing the portal", 4, None)]
    assert link.reached == Reached("listing the portal", 4, None)
    link.progress("applying", 3, 9)
    assert link.reached == Reached("applying", 3, 9)


def slowly(world: World, link: Link, seconds: float, meanwhile: Callable[[], object] = lambda: None) -> list[float]:
    """Let the portal take so long for each write; return when each of them began, and was over."""
    write, clock = link.portal.write, world.clock
    moments: list[float] = []

    async def slow(batch: Sequence[Write]) -> list[WriteResult]:
        moments.append(clock.monotonic())
        await clock.sleep(seconds)
        meanwhile()
        await clock.sleep(seconds)
        answer = await write(batch)
        moments.append(clock.monotonic())
        return answer

    link.portal.write = slow  # type: ignore[method-assign]
    return moments


async def test_given_a_write_that_takes_longer_than_a_lease_then_the_lease_is_kept_alive() -> None:
    world = patient()
    world.edit_table(5, (2, 10))
    link = world.link()
    expiries: list[float] = []

    def look() -> None:
        expiries.append(world.store._leases["shop"].expires_at - world.clock.now())

    slowly(world, link, 300, look)
    report = await engine.reconcile(link)

    assert report.exit_code == 0
    assert min(expiries) > 0


async def test_given_a_lease_lost_during_a_write_then_the_write_is_given_up_and_left_to_recovery() -> None:
    world = patient()
    world.edit_table(5, (2, 10))
    link = world.link()

    slowly(world, link, 300, lambda: world.store.rob("shop"))
    report = await engine.reconcile(link)

    assert report.exit_code == LeaseLost.exit_code
    assert not world.portal.written
    assert len(await world.store.open_intents(1)) == 1


async def test_given_an_answer_lost_after_a_long_write_then_its_request_is_waited_for_from_then_on() -> None:
    world = patient(settle=50.0)
    world.edit_table(5, (2, 10))
    world.portal.script.append(Surprise.LOST_BEFORE)
    link = world.link()

    moments = slowly(world, link, 100)
    await engine.reconcile(link)

    _began, lost, again, _over = moments
    assert again - lost >= 50


async def test_given_the_stop_during_a_long_listing_then_the_run_ends_without_waiting_for_it() -> None:
    world = patient()
    clock = world.clock
    link = world.link()
    closed: list[bool] = []

    async def endless(*_args: Any, **_kwargs: Any) -> AsyncIterator[Listed]:
        try:
            await clock.sleep(5)
            link.cancelled.set("SIGTERM")
            await asyncio.Event().wait()
            yield Listed([])
        finally:
            closed.append(True)

    link.portal.listing = endless  # type: ignore[method-assign]
    report = await engine.reconcile(link)

    assert isinstance(report.error, Stopped)
    assert closed == [True]


# ---------------------------------------------------------------------------- stop


async def test_given_the_stop_in_mid_run_then_the_batch_in_flight_is_recorded_and_nothing_more_is_sent() -> None:
    world = await with_changes()
    link = world.link()
    world.portal.before_write = lambda _batch: link.cancelled.set("SIGTERM")

    report = await engine.reconcile(link)

    assert isinstance(report.error, Stopped)
    assert (report.exit_code, report.row.state) == (143, "partial")
    assert "SIGTERM" in report.row.error
    assert sum(world.portal.sent.values()) == 2
    crm = [outcome for (_, side), outcome in outcomes(report).items() if side == "crm"]
    assert sorted(crm) == [Outcome.APPLIED, Outcome.APPLIED, Outcome.PLANNED]
    assert await world.store.open_intents(1) == []


async def test_given_a_stopped_run_then_the_next_one_does_the_rest() -> None:
    world = await with_changes()
    link = world.link()
    world.portal.before_write = lambda _batch: link.cancelled.set("SIGTERM")
    await engine.reconcile(link)

    assert (await world.reconcile()).exit_code == 0
    assert world.portal.bindings == world.table.bindings


async def test_given_the_stop_before_the_first_write_then_the_run_failed_and_wrote_nothing() -> None:
    world = await with_changes()
    link = world.link()
    link.cancelled.set("SIGINT")

    report = await engine.reconcile(link)

    assert (report.row.state, written(world)) == ("failed", (0, 0))
    assert await world.store.leases() == []


# ---------------------------------------------------------------------- what cannot go on


@pytest.mark.parametrize(
    ("surprise", "code"), [(Surprise.DENIED, 77), (Surprise.BLOCKED, 69), (Surprise.UNAVAILABLE, 69)]
)
async def test_given_a_portal_that_refuses_in_mid_apply_then_what_was_written_is_recorded_and_the_rest_not_sent(
    surprise: Surprise, code: int
) -> None:
    world = await with_changes()
    world.portal.script.extend([Surprise.FINE, surprise])

    report = await world.reconcile()

    assert (report.exit_code, report.row.state) == (code, "partial")
    crm = [outcome for (_, side), outcome in outcomes(report).items() if side == "crm"]
    assert sorted(crm) == [Outcome.APPLIED, Outcome.APPLIED, Outcome.SKIPPED]
    table = [outcome for (_, side), outcome in outcomes(report).items() if side == "table"]
    assert set(table) == {Outcome.APPLIED}
    assert await world.store.open_intents(1) == []
    assert sum(world.portal.sent.values()) == 2


async def test_given_a_right_that_is_missing_then_no_attempt_is_counted_against_any_order() -> None:
    world = await with_changes()
    world.portal.write_right = False

    report = await world.reconcile()

    assert isinstance(report.error, AuthError)
    assert await world.store.attempts(1) == {}
    assert await world.held() == {}


async def test_given_a_bug_in_mid_run_then_the_run_is_closed_as_failed_and_the_bug_is_not_hidden() -> None:
    world = await with_changes()
    link = world.link()

    async def broken(batch: Sequence[Write]) -> list[WriteResult]:
        raise ZeroDivisionError

    link.portal.write = broken  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        await engine.reconcile(link)

    (row, *_) = await world.store.runs("shop", 1)
    assert (row.state, row.error) == ("partial", "unexpected error")
    assert len(await world.store.open_intents(1)) == 3
    assert (await world.reconcile()).exit_code == 0


async def test_given_a_bug_when_the_run_cannot_be_closed_either_then_it_is_the_bug_that_is_raised() -> None:
    world = await with_changes()
    link = world.link()

    async def gone(*_args: Any) -> None:
        raise UnavailableError("The state database cannot be used.")

    async def broken(batch: Sequence[Write]) -> list[WriteResult]:
        link.store.finish_run = gone  # type: ignore[method-assign, assignment]
        raise ZeroDivisionError

    link.portal.write = broken  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        await engine.reconcile(link)

    (row, *_) = await world.store.runs("shop", 1)
    assert row.state == "running"
    assert (await world.reconcile()).exit_code == 0


async def test_given_a_run_that_is_cut_off_by_a_second_signal_then_it_was_interrupted_and_the_next_one_recovers() -> (
    None
):
    world = await with_changes()
    link = world.link()

    async def cut_off(batch: Sequence[Write]) -> list[WriteResult]:
        raise asyncio.CancelledError

    link.portal.write = cut_off  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await engine.reconcile(link)

    (row, *_) = await world.store.runs("shop", 1)
    assert (row.state, row.error) == ("partial", "interrupted")
    assert (await world.reconcile()).exit_code == 0


async def test_given_a_plan_whose_application_died_while_it_read_then_its_run_says_which_plan_it_applied() -> None:
    world = await with_changes()
    planned = await plan(world)
    steps = Steps()
    steps.meanwhile = lambda name: steps.die(name) if name == "store.spend before" else None
    link = world.link(steps)
    with pytest.raises(Crash):
        await engine.apply(link, planned.row.id)

    (row, *_) = await world.store.runs("shop", 1)
    assert (row.kind, row.state, row.source) == ("apply", "running", planned.row.id)


async def test_given_a_pass_that_died_while_it_wrote_then_its_run_says_what_it_had_found() -> None:
    world = await with_changes()
    world.edit_crm(20, (2, 1))
    world.edit_table(20, (2, 2))
    steps = Steps()
    steps.meanwhile = lambda name: steps.die(name) if name == "portal.write before" else None
    with pytest.raises(Crash):
        await world.reconcile(steps)

    (row, *_) = await world.store.runs("shop", 1)
    assert (row.state, row.counts.in_step, row.counts.holds) == ("running", 19, 1)
    assert (row.counts.crm, row.counts.table) == (SideCounts(move=3), SideCounts(move=3))


async def test_given_a_run_that_died_then_the_next_one_closes_it() -> None:
    world = await in_step({5: 10})
    link = world.link()
    async with hold_lease(link) as held:
        died = await world.store.start_run(held.current, "pass", "command", world.clock.now())
    await world.reconcile()

    row = await world.store.run(died)
    assert row is not None
    assert (row.state, row.error) == ("failed", "interrupted")


# --------------------------------------------------------------------------- budget


@pytest.mark.parametrize("seconds", [300.0, 0.5])
async def test_given_a_method_over_its_budget_then_the_other_goes_on_and_the_wait_is_no_longer_than_needed(
    seconds: float,
) -> None:
    world = await in_step(25)
    world.portal.size = 1
    for order in (1, 2):
        world.edit_table(order, (2, 900 + order))
    for order in (3, 4):
        world.edit_table(order, None)
    reset = world.clock.time + seconds
    sent: list[tuple[float, Action]] = []

    def wait_for(action: Action) -> float:
        return max(0.0, reset - world.clock.time) if action is Action.ADD else 0.0

    world.portal.wait_for = wait_for  # type: ignore[method-assign]
    world.portal.before_write = lambda batch: sent.append((world.clock.time - reset, batch[0].action))
    report = await world.reconcile()

    assert sent == [(-seconds, Action.REMOVE), (-seconds, Action.REMOVE), (0, Action.MOVE), (0, Action.MOVE)]
    assert report.exit_code == 0


async def test_given_the_stop_while_waiting_for_the_budget_then_the_run_ends_within_a_second() -> None:
    world = await with_changes()
    link = world.link()
    world.portal.waits = {Action.ADD: 300.0}
    began = world.clock.time
    sleep = world.clock.sleep

    async def stopping(seconds: float) -> None:
        await sleep(seconds)
        link.cancelled.set("SIGTERM")

    world.clock.sleep = stopping  # type: ignore[method-assign]
    report = await engine.reconcile(link)

    assert report.exit_code == 143
    assert world.clock.time - began <= 1
    assert not world.portal.sent
