"""The request bucket, shared by links and processes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from syncd.config.model import PortalPlan
from syncd.portal.limiter import Bucket, Limiter, LockedFile, RateFile, RateLimits, default_directory, limits_of
from syncd.portal.window_reader import gather_limited
from tests.fakes.clock import FakeClock

# --------------------------------------------------------------------- limiter


def test_given_a_plan_when_its_share_is_taken_then_both_numbers_shrink() -> None:
    assert limits_of(PortalPlan.STANDARD, 0.8) == RateLimits(40, 1.6)
    assert limits_of(PortalPlan.ENTERPRISE, 0.5) == RateLimits(125, 2.5)
    assert limits_of(PortalPlan.STANDARD, 0.001) == RateLimits(1, 0.002)
    assert limits_of(PortalPlan.BOX, 0.8) is None


@pytest.mark.anyio
async def test_given_a_full_bucket_when_taken_then_it_waits_for_the_drain() -> None:
    clock = FakeClock()
    limiter = Limiter(clock, RateLimits(3, 2))

    waits = [await limiter.take() for _ in range(5)]

    assert waits == pytest.approx([0, 0, 0, 0.5, 0.5])
    clock.advance(100)
    assert limiter.free() == 3


@pytest.mark.anyio
async def test_given_a_refusal_when_taken_then_the_bucket_counts_as_full() -> None:
    clock = FakeClock()
    limiter = Limiter(clock, RateLimits(3, 2))
    await limiter.refused()

    assert limiter.free() == 0
    assert await limiter.take() == pytest.approx(0.5)


@pytest.mark.anyio
async def test_given_no_limits_when_taken_then_nothing_waits() -> None:
    limiter = Limiter(FakeClock(), None)
    await limiter.refused()

    assert limiter.free() == float("inf")
    assert await limiter.take() == 0


@pytest.mark.anyio
async def test_given_another_link_with_smaller_limits_when_it_joins_then_they_hold_for_both() -> None:
    limiter = Limiter(FakeClock(), RateLimits(40, 1))
    limiter.narrow(RateLimits(3, 2))
    limiter.narrow(None)
    for _ in range(3):
        await limiter.take()

    assert await limiter.take() == pytest.approx(1.0)


def files(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.rate"))


@pytest.mark.anyio
async def test_given_two_processes_when_one_fills_the_bucket_then_the_other_waits(tmp_path: Path) -> None:
    clock = FakeClock()
    one, other = (Limiter(clock, RateLimits(3, 2), RateFile(tmp_path, "portal.example")) for _ in range(2))
    for _ in range(3):
        await one.take()

    assert await other.take() == pytest.approx(0.5)
    assert "portal" not in files(tmp_path)[0].name
    assert files(tmp_path)[0].stat().st_mode & 0o777 == 0o600
    one.close()
    other.close()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"[1]", b'{"level":1}', b"[NaN, 5]", b"[1e999, 5]", b"\xff" * 500]
)
async def test_given_a_spoilt_file_when_taken_then_the_process_goes_by_what_it_knows(
    tmp_path: Path, content: bytes
) -> None:
    limiter = Limiter(FakeClock(), RateLimits(2, 2), RateFile(tmp_path, "portal.example"))
    await limiter.take()
    files(tmp_path)[0].write_bytes(content)
    await limiter.take()

    assert await limiter.take() == pytest.approx(0.5)
    assert json.loads(files(tmp_path)[0].read_bytes())[0] == pytest.approx(2)
    limiter.close()


@pytest.mark.anyio
async def test_given_a_process_with_a_smaller_share_when_it_joins_then_what_the_other_sent_still_counts(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    large = Limiter(clock, RateLimits(10, 2), RateFile(tmp_path, "portal.example"))
    small = Limiter(clock, RateLimits(2, 2), RateFile(tmp_path, "portal.example"))
    for _ in range(10):
        await large.take()

    assert await small.take() == pytest.approx(4.5)
    for _ in range(8):
        assert await large.take() == 0
    assert await large.take() == pytest.approx(0.5)
    large.close()
    small.close()


@pytest.mark.anyio
async def test_given_a_file_from_before_the_host_was_restarted_when_taken_then_its_level_drains_from_now(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    shared = RateFile(tmp_path, "portal.example")
    assert await shared.lock(clock)
    shared.store(Bucket(2.0, clock.monotonic() + 10**6))
    shared.unlock()
    limiter = Limiter(clock, RateLimits(2, 2), shared)

    assert await limiter.take() == pytest.approx(0.5)
    limiter.close()


@pytest.mark.anyio
async def test_given_a_holder_that_sleeps_when_taken_then_the_process_goes_by_itself(tmp_path: Path) -> None:
    clock = FakeClock()
    holder, waiting = RateFile(tmp_path, "portal.example"), RateFile(tmp_path, "portal.example")
    assert await holder.lock(clock)
    limiter = Limiter(clock, RateLimits(2, 2), waiting)

    assert await limiter.take() < 1
    holder.unlock()
    assert await limiter.take() == 0
    holder.close()
    limiter.close()


@pytest.mark.anyio
async def test_given_a_directory_of_somebody_else_when_locked_then_it_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "link").symlink_to(elsewhere)
    assert not await LockedFile(tmp_path / "link", "x", ".rate").lock(FakeClock())
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert not await LockedFile(elsewhere, "x", ".rate").lock(FakeClock())


def test_given_a_runtime_directory_when_asked_then_processes_meet_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert default_directory() == Path("/run/user/7/syncd")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert default_directory().name == f"syncd-{os.getuid()}"


@pytest.mark.anyio
async def test_given_a_full_disk_when_the_bucket_is_stored_then_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    limiter = Limiter(FakeClock(), RateLimits(1, 2), RateFile(tmp_path, "portal.example"))
    await limiter.take()

    assert await limiter.take() == pytest.approx(0.5)
    limiter.close()


# ---------------------------------------------------------------- side by side


@pytest.mark.anyio
async def test_given_things_to_do_when_done_side_by_side_then_no_more_lanes_than_given_are_used() -> None:
    clock, running, most = FakeClock(), 0, 0

    async def act(_: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await clock.sleep(1)
        running -= 1

    await gather_limited(act, range(10), 3)

    assert most == 3
    assert clock.monotonic() - FakeClock().monotonic() == pytest.approx(4)


@pytest.mark.anyio
async def test_given_one_that_fails_when_done_side_by_side_then_the_others_are_stopped_and_it_is_raised() -> None:
    clock, done = FakeClock(), []

    async def act(item: int) -> None:
        await clock.sleep(item)
        if item == 2:
            raise ValueError("two")
        done.append(item)

    with pytest.raises(ValueError, match="two"):
        await gather_limited(act, [1, 2, 3], 3)
    assert done == [1]


@pytest.mark.anyio
async def test_given_a_file_closed_while_it_was_locked_when_unlocked_then_the_lock_is_gone_and_nothing_breaks(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    one, other = LockedFile(tmp_path, "x", ".turn"), LockedFile(tmp_path, "x", ".turn")
    assert await one.lock(clock)
    one.close()
    one.unlock()

    assert await other.lock(clock, patience=1)
    other.close()
