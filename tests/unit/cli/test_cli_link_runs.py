"""How far a pass has come."""

from __future__ import annotations

import io
import re

import pytest
from structlog.testing import capture_logs

from syncd.cli.link_runs import LOG_SECONDS, progress
from tests.fakes.clock import FakeClock
from tests.terminals import Terminal


def test_given_no_terminal_then_a_long_stage_is_logged_now_and_then_with_its_rate_and_remaining_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    clock = FakeClock()
    with capture_logs() as logs, progress(clock) as report:
        report("apply", 0, 900)
        for done in range(1, 7):
            clock.advance(LOG_SECONDS / 3)
            report("apply", done * 100, 900)

    assert [(one["done"], one["rate"], one["left_seconds"]) for one in logs] == [(300, 10.0, 60), (600, 10.0, 30)]


def test_given_no_terminal_then_a_short_stage_is_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with capture_logs() as logs, progress(FakeClock()) as report:
        report("table", 5, None)

    assert logs == []


def test_given_a_terminal_then_each_stage_gets_a_bar_with_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")

    with progress(FakeClock()) as report:
        report("listing the portal", 500, 2000)
        report("apply", 3, 7)

    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "Reading the CRM" in shown
    assert "500/2,000" in shown
    assert "Writing" in shown
    assert "3/7" in shown


def test_given_a_terminal_then_a_long_wait_of_the_portal_says_until_when_and_goes_when_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")

    with progress(FakeClock()) as report:
        report("waiting until 12:03:20", 0, 30)
        report("waiting until 12:03:20", 30, 30)
        during = len(terminal.getvalue())
        report("waiting until 12:04:20 CET", 0, 30)

    assert "Waiting until 12:04:20 CET" in terminal.getvalue()[during:]


def test_given_no_terminal_then_a_wait_is_left_to_its_own_log_line() -> None:
    clock = FakeClock()
    with capture_logs() as logs, progress(clock) as report:
        report("waiting until 12:03:20", 0, 90)
        clock.advance(90)
        report("waiting until 12:03:20", 90, 90)

    assert logs == []
