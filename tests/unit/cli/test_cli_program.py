"""The program as a whole: its commands, its help, its start-up, and how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from syncd.cli import reference
from syncd.cli.main import HIDDEN, SECTIONS, cli, main

ROOT = Path(__file__).parents[3]
HEAVY = {"pydantic", "sqlalchemy", "rich", "structlog", "httpx", "asyncio", "alembic", "apscheduler", "starlette"}
ENTRIES = [entry for _heading, section in reference.entries() for entry in section]
CONTRACT = {
    "demo", "init", "check", "plan", "apply", "reconcile", "run", "trigger", "pause", "resume", "status", "runs", "show",
    "history", "holds", "resolve", "undo", "rebase", "auth", "db", "config", "sandbox",
}  # fmt: skip


def test_given_the_contract_then_every_command_of_it_is_there() -> None:
    assert {name for section in SECTIONS.values() for name in section} == CONTRACT
    assert set(HIDDEN) == {"reference"}
    inner = {entry.name for entry in ENTRIES if entry.name.count(" ") == 2}
    assert inner == {
        "syncd db upgrade", "syncd db current", "syncd db check",
        "syncd config show", "syncd config example", "syncd config schema",
    }  # fmt: skip


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_given_a_command_then_it_and_all_it_takes_have_help(entry: reference.Entry) -> None:
    assert entry.command.help
    assert entry.command.short_help
    for parameter in entry.command.params:
        assert getattr(parameter, "help", None), f"{entry.name} {parameter.name}"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_given_a_command_then_it_takes_the_options_of_the_program_behind_its_name(entry: reference.Entry) -> None:
    assert {"config", "log_level", "log_format"} <= {parameter.name for parameter in entry.command.params}


@pytest.mark.parametrize(
    ("page", "path"),
    [
        ("markdown", "docs/reference/commands.md"),
        ("man", "deploy/man/syncd.1"),
        ("bash", "deploy/completion/syncd.bash"),
        ("zsh", "deploy/completion/_syncd"),
        ("fish", "deploy/completion/syncd.fish"),
    ],
)
def test_given_a_page_made_from_the_commands_then_it_is_fresh(page: str, path: str) -> None:
    assert (ROOT / path).read_text() == reference.page(page), f"run: syncd reference {page} > {path}"


def test_given_a_help_with_examples_then_they_keep_their_lines_in_the_pages() -> None:
    help_text = """Decides.

    \b
    syncd resolve 1   one
    syncd resolve 2   two

    And so
    on.
    """

    assert list(reference.paragraphs(help_text)) == [
        (False, "Decides."),
        (True, "syncd resolve 1   one\nsyncd resolve 2   two"),
        (False, "And so on."),
    ]


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["plan", "--help"], ["db", "--help"]])
def test_given_a_question_about_the_program_then_nothing_heavy_is_imported(args: list[str]) -> None:
    code = "import sys; from syncd.cli.main import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"

    ran = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True)

    assert HEAVY.isdisjoint(ran.stderr.split())


def test_given_no_command_then_the_help_is_shown_with_64(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 64
    assert "Bringing into step:" in capsys.readouterr().err


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["plan", "-h"], ["config", "--help"]])
def test_given_a_question_then_it_is_answered_on_stdout_with_0(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    "args",
    [
        ["nonsense"],
        ["plan", "--nonsense"],
        ["apply"],
        ["apply", "twelve"],
        ["apply", "0"],
        ["--log-level", "loud", "runs"],
    ],
)
def test_given_words_it_does_not_know_then_the_exit_is_64(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 64
    assert "Usage: syncd" in capsys.readouterr().err


def test_given_a_misspelt_command_then_the_nearest_one_is_offered(capsys: pytest.CaptureFixture[str]) -> None:
    main(["reconsile"])

    assert "Did you mean 'reconcile'?" in capsys.readouterr().err


def test_given_the_global_options_behind_the_command_then_they_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "nowhere.toml"

    assert main(["plan", "--config", str(missing)]) == 78
    assert main(["--config", str(missing), "db", "current"]) == 78
    assert capsys.readouterr().err.count("nowhere.toml, which --config names") == 2


def test_given_a_bug_then_the_exit_is_1_and_its_traceback_comes_with_debug_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_ctx: click.Context, name: str) -> click.Command | None:
        raise RuntimeError(name)

    monkeypatch.setattr(cli, "get_command", broken)

    assert main(["plan"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert main(["--log-level", "debug", "plan"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_given_a_terminal_of_80_columns_then_no_help_line_is_longer() -> None:
    for entry in ENTRIES:
        context = click.Context(entry.command, info_name=entry.name, terminal_width=80)
        assert max(map(len, entry.command.get_help(context).splitlines())) <= 80, entry.name
