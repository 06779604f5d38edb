"""The program among other programs: streams that are closed, full, narrow or left by their reader, and cron."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.shop import Ran, Shop, environment, open_shop

LOST = 74


def run(redirection: str, *args: str, directory: Path, **environ: str) -> Ran:
    """Run the program under a shell, with its streams redirected as the shell writes it."""
    shell = ["sh", "-c", f'exec "$0" -m syncd.cli.main "$@" {redirection}', sys.executable, *args]
    done = subprocess.run(
        shell,
        cwd=directory,
        env=environment() | environ,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A link with one order to bind in the CRM."""
    with open_shop(tmp_path, {1: 11, 2: 12, 4: 14}, orders=range(1, 100)) as made:
        made.create_table([(1, 11), (2, 12), (3, 14), (4, 14)])
        made.settings["first_sync"] = '"auto"'
        made.configure()
        yield made


@pytest.mark.parametrize("args", [("--help",), ("config", "example")])
@pytest.mark.parametrize(("redirection", "why"), [(">&-", "it is closed"), (">/dev/full", "No space left on device")])
def test_given_output_that_cannot_be_written_then_the_exit_is_74_and_one_sentence_says_why(
    tmp_path: Path, args: tuple[str, ...], redirection: str, why: str
) -> None:
    ran = run(redirection, *args, directory=tmp_path).check(LOST)

    assert ran.err.splitlines() == [
        f"Error: standard output could not be written: {why}. The command did its work; its output is lost."
    ]


def test_given_a_full_disk_behind_its_output_then_a_pass_is_made_all_the_same(shop: Shop) -> None:
    run(">/dev/full", "--log-level", "error", "reconcile", directory=shop.directory).check(LOST)

    assert shop.crm()[3] == 14


def test_given_an_error_and_lost_output_then_the_exit_is_that_of_the_error(tmp_path: Path) -> None:
    run(">&-", "nonsense", directory=tmp_path).check(64)
    run("2>/dev/full", "nonsense", directory=tmp_path).check(64)
    assert run("2>&-", "nonsense", directory=tmp_path).check(64).out == ""


@pytest.mark.parametrize("args", ["--help", "help db check", "config example"])
def test_given_a_reader_that_has_left_then_the_command_ends_without_a_word(tmp_path: Path, args: str) -> None:
    # The reader is gone before the program begins: it waits for the file that the reader's end makes.
    line = f"{{ until test -e gone; do sleep 0.01; done; {sys.executable} -m syncd.cli.main {args}; echo $? >&2; }}"
    whole = f"{line} | {{ exec <&-; : >gone; }}"
    done = subprocess.run(["sh", "-c", whole], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)

    assert done.stderr == "141\n"


def without_a_reader_of_its_log(*args: str, directory: Path) -> int:
    """Run the program with standard error as a pipe without a reader; return its exit code."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "syncd.cli.main", *args]
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=writer,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    return done.returncode


def test_given_a_reader_of_the_log_that_has_left_then_the_work_is_done_and_the_exit_is_that_of_the_work(
    shop: Shop,
) -> None:
    assert without_a_reader_of_its_log("reconcile", directory=shop.directory) == 0
    assert shop.crm()[3] == 14
    assert without_a_reader_of_its_log("nonsense", directory=shop.directory) == 64


def test_given_no_standard_input_then_a_command_that_would_ask_says_what_it_needs(tmp_path: Path) -> None:
    ran = run("<&-", "init", directory=tmp_path).check(64)

    assert "--webhook-file" in ran.err


def test_given_a_terminal_that_is_not_utf8_then_texts_are_spelled_and_json_is_whole(shop: Shop) -> None:
    shop.extra = "where = \"'→' <> ''\""
    shop.configure()

    text = run("", "plan", directory=shop.directory, PYTHONIOENCODING="ascii").check(2)
    document = run("", "config", "show", "--json", directory=shop.directory, PYTHONIOENCODING="ascii").check(0)

    assert "unbound -> deal 14" in text.out
    assert {one["key"]: one["value"] for one in json.loads(document.out)}["links.shop.table.where"] == "'→' <> ''"


def test_given_the_locale_c_then_the_help_is_shown(tmp_path: Path) -> None:
    assert "Usage: syncd" in run("", "--help", directory=tmp_path, LC_ALL="C", PYTHONUTF8="0").check(0).out


def test_given_cron_then_quiet_says_nothing_of_what_went_well_and_all_of_what_did_not(shop: Shop) -> None:
    well = run("", "-q", "reconcile", directory=shop.directory).check(0)
    assert (well.out, well.err) == ("", "")
    assert shop.crm()[3] == 14

    shop.sql("UPDATE bindings SET deal_id = 14 WHERE order_id = 1")
    shop.portal.bind(1, 2, 12)
    held = run("", "reconcile", "--quiet", directory=shop.directory).check(3)
    assert "deal 12" in held.out
    assert held.err == ""
