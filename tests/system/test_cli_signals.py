"""Signals, pipes and terminals: how a command behaves as a process."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.children import Child
from tests.loaded_python import LoadedPython
from tests.system.shop import DEAL, SECRET, Shop, environment, open_shop

ORDERS = 400


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A link whose table knows 400 orders that the CRM is to get: several batches."""
    with open_shop(tmp_path, orders=range(1, ORDERS + 1)) as made:
        made.create_table([(order, 7) for order in range(1, ORDERS + 1)])
        made.settings["first_sync"] = '"auto"'
        # What an interruption leaves of a first sync is not one any more, and a few orders are agreed by then.
        made.more_links = "[links.shop.guards]\nmax_adds_percent = 10000"
        yield made


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_given_a_signal_while_writing_then_the_batch_in_flight_is_finished_and_recorded(
    shop: Shop, number: signal.Signals, code: int
) -> None:
    started: list[subprocess.Popen[str]] = []

    def strike(method: str, _params: object, _request: int) -> None:
        if method.lower() == "crm.orderentity.add" and started:
            started.pop().send_signal(number)

    shop.portal.before_call(strike)
    process = shop.start("reconcile", "--json")
    started.append(process)
    out, err = process.communicate(timeout=60)

    assert process.returncode == code, err
    assert "Traceback" not in err
    assert '"state": "partial"' in out
    assert 0 < len(shop.portal.stats.writes) < ORDERS

    shop.run("reconcile").check(0)
    assert len(shop.crm()) == len(shop.portal.stats.writes) == ORDERS


def test_given_a_terminal_that_is_closed_while_writing_then_the_batch_in_flight_is_finished_and_the_rest_is_left(
    shop: Shop,
) -> None:
    shop.configure()
    primary, secondary = pty.openpty()

    def hang_up(method: str, _params: object, _request: int) -> None:
        if method.lower() == "crm.orderentity.add" and terminals:
            os.close(terminals.pop())

    terminals = [primary]
    shop.portal.before_call(hang_up)
    take = "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0)"
    process = Child(
        [sys.executable, "-c", f"{take}; from syncd.cli.main import main; sys.exit(main(['reconcile']))"],
        cwd=shop.directory,
        env=environment() | {"TERM": "xterm"},
        stdin=secondary,
        stdout=secondary,
        stderr=secondary,
    )
    os.close(secondary)

    assert process.wait(timeout=60) == 129
    assert 0 < len(shop.portal.stats.writes) < ORDERS
    assert shop.call("show", "1", "--json").check(0).json["state"] == "partial"
    shop.run("reconcile").check(0)
    assert len(shop.crm()) == len(shop.portal.stats.writes) == ORDERS


def test_given_a_reader_that_goes_away_then_the_command_ends_quietly(shop: Shop) -> None:
    shop.run("reconcile").check(0)
    process = shop.start("show", "1", "--all")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.wait(timeout=60)
    process.stderr.close()

    assert process.returncode == 141
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


def on_a_terminal(shop: Shop, *args: str) -> str:
    """Run a command on a pseudo terminal of 80 columns."""
    shop.configure()
    env = environment() | {"TERM": "xterm-256color", "LINES": "24"}  # tests/conftest.py has removed NO_COLOR
    primary, secondary = pty.openpty()
    process = LoadedPython(
        ["-m", "syncd.cli.main", *args],
        cwd=shop.directory,
        env=env,
        stdin=secondary,
        stdout=secondary,
        stderr=subprocess.DEVNULL,
    )
    os.close(secondary)
    text = b""
    while select.select([primary], [], [], 60)[0]:
        try:
            piece = os.read(primary, 65536)
        except OSError:  # the other end is closed
            break
        text += piece
    os.close(primary)
    process.wait(timeout=60)
    return text.decode().replace("\r\n", "\n")


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Shop]:
    """A link with changes on both sides and a hold."""
    with open_shop(tmp_path, {order: 10 + order for order in range(1, 30)}, orders=range(1, 100)) as made:
        made.create_table([(order, 10 + order) for order in range(1, 30)])
        made.call("reconcile").check(0)
        made.portal.bind(2, DEAL, 77)
        made.sql("UPDATE bindings SET deal_id = 99 WHERE order_id = 2")
        made.sql("UPDATE bindings SET deal_id = 0 WHERE order_id = 3")
        made.sql("UPDATE bindings SET deal_id = 50 WHERE order_id = 4")
        made.call("reconcile").check(3)
        made.sql("UPDATE bindings SET deal_id = 51 WHERE order_id = 4")
        yield made


SHOWN = [("plan",), ("status",), ("runs",), ("show", "2"), ("history", "2"), ("holds",), ("check",), ("demo",)]


@pytest.mark.parametrize("args", SHOWN, ids=" ".join)
def test_given_a_terminal_without_colour_then_no_line_is_longer_than_80_columns(
    busy: Shop, args: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")

    text = busy.call(*args, terminal=True).out

    assert text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert SECRET not in text


def test_given_a_terminal_then_what_matters_is_coloured(busy: Shop) -> None:
    text = on_a_terminal(busy, "status")

    assert "\x1b[33mheld" in text


def test_given_a_pipe_then_each_row_is_one_line_without_colour(busy: Shop) -> None:
    shown = busy.call("show", "2").check(0)

    (line,) = [line for line in shown.out.splitlines() if "edit-edit" in line]
    assert line.endswith("CRM deal 77, table deal 99, agreed deal 12")
    assert "\x1b" not in shown.out
