"""The first signal asks, the second insists."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from syncd.cli import stopping
from syncd.core.ports import Cancelled
from syncd.errors import Stopped

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


async def until(cancelled: Cancelled) -> None:
    async with asyncio.timeout(60):
        while not cancelled.is_set:  # noqa: ASYNC110 - the engine looks at the flag, and there is no event to it
            await asyncio.sleep(0)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_given_a_signal_then_the_work_is_asked_to_stop_and_may_finish_what_it_is_at(
    number: signal.Signals, code: int
) -> None:
    finished: list[str] = []

    async def work(cancelled: Cancelled) -> int:
        os.kill(os.getpid(), number)
        await until(cancelled)
        finished.append(cancelled.reason)
        raise Stopped("stopped")

    assert stopping.run(work) == code
    assert finished == [number.name]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_given_a_stop_that_was_reported_rather_than_raised_then_the_code_is_the_signals(
    number: signal.Signals, code: int
) -> None:
    async def work(cancelled: Cancelled) -> int:
        os.kill(os.getpid(), number)
        await until(cancelled)
        return Stopped.exit_code

    assert stopping.run(work) == code


def test_given_work_that_was_done_when_the_signal_came_then_its_own_code_counts() -> None:
    async def work(cancelled: Cancelled) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        await until(cancelled)
        return 3

    assert stopping.run(work) == 3


def test_given_a_second_signal_then_the_work_is_cut_off_but_may_close() -> None:
    closed: list[bool] = []

    async def work(cancelled: Cancelled) -> int:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await until(cancelled)
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            closed.append(True)
        return 0

    assert stopping.run(work) == 130
    assert closed == [True]


def test_given_no_signal_then_the_work_ends_as_it_ends() -> None:
    async def work(_cancelled: Cancelled) -> int:
        return 2

    assert stopping.run(work) == 2


def test_given_a_hang_up_that_is_ignored_as_under_nohup_then_the_work_goes_on() -> None:
    async def work(cancelled: Cancelled) -> int:
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.01)
        return 3 if cancelled.is_set else 0

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert stopping.run(work) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_given_a_stop_nobody_signalled_then_it_is_an_error_like_others() -> None:
    async def work(_cancelled: Cancelled) -> int:
        raise Stopped("why?")

    with pytest.raises(Stopped):
        stopping.run(work)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_given_something_served_then_a_signal_ends_it_with_0(number: signal.Signals) -> None:
    async def work() -> None:
        os.kill(os.getpid(), number)
        await asyncio.Event().wait()

    assert stopping.serve(work) == 0


def test_given_something_served_that_fails_then_its_error_comes_through() -> None:
    async def work() -> None:
        raise ValueError("no port")

    with pytest.raises(ValueError, match="no port"):
        stopping.serve(work)
