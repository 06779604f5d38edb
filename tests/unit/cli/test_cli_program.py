"""The program as a whole: its commands, its help, its start-up, and how it ends."""

from __future__ import annotations

import subprocess
import sys
from enum import StrEnum
from pathlib import Path

import click
import pytest

from syncd.cli.app import who
from syncd.cli.commands import reference
from syncd.cli.main import HIDDEN, SECTIONS, cli, main
from syncd.config.model import LogFormat, LogLevel
from syncd.core.model import Direction, HoldKind, Side

ROOT = Path(__file__).parents[3]
HEAVY = {"pydantic", "sqlalchemy", "rich", "structlog", "httpx", "asyncio", "alembic", "apscheduler", "starlette"}
ENTRIES = [entry for _heading, section in reference.entries() for entry in section]
CONTRACT = {
    "demo", "init", "check", "plan", "apply", "reconcile", "run", "trigger", "pause", "resume", "status", "runs", "show",
    "history", "holds", "help", "resolve", "undo", "rebase", "auth", "db", "config", "sandbox", "notify",
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
    "words", ["show", "apply", "undo", "runs --limit", "runs --before", "history shop --limit", "history shop"]
)
def test_given_a_number_that_no_database_holds_then_it_is_a_mistake_and_no_bug(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words.split(), str(2**63)]) == 64
    assert f"{2**63}" in capsys.readouterr().err


@pytest.mark.parametrize("words", [HoldKind, Direction, Side, LogLevel, LogFormat], ids=lambda words: words.__name__)
def test_given_words_that_options_repeat_then_no_option_lacks_one(words: type[StrEnum]) -> None:
    # They are repeated, since the help must not import what they are defined by.
    offered = {
        (entry.name, parameter.name): set(parameter.type.choices)
        for entry in ENTRIES
        for parameter in entry.command.params
        if isinstance(parameter.type, click.Choice)
    }
    known = {word.value for word in words}

    alike = {where: choices for where, choices in offered.items() if choices & known}
    assert alike
    assert {where: choices for where, choices in alike.items() if choices != known} == {}


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
    assert (ROOT / path).read_text() == reference.made_page(page), f"run: syncd reference {page} > {path}"


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

    ran = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True, timeout=60)

    assert HEAVY.isdisjoint(ran.stderr.split())


def test_given_sudo_then_the_person_who_typed_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ada")
    assert who().startswith("ada@")
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.setenv("LOGNAME", "grace")
    assert who().startswith("grace@")


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


def test_given_a_command_interrupted_outside_of_its_work_then_it_ends_as_one_that_a_signal_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_ctx: click.Context, _name: str) -> click.Command | None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "get_command", interrupted)

    assert main(["plan"]) == 130
    assert capsys.readouterr().err == "\nAborted.\n"


@pytest.mark.parametrize(
    ("line", "offered"), [("syncd rec", "plain,reconcile\n"), ("syncd plan --or", "plain,--orders\n")]
)
def test_given_a_shell_that_completes_a_command_line_then_it_is_told_how_that_goes_on(
    line: str, offered: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_SYNCD_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))

    assert main([]) == 0
    assert capsys.readouterr().out == offered


def test_given_a_terminal_of_80_columns_then_no_help_line_is_longer() -> None:
    for entry in ENTRIES:
        # With the program as its parent: click keeps the help option of a command as the first context makes it, and without
        # the parent's settings later tests would miss -h.
        place = entry.context
        context = click.Context(entry.command, place.parent, place.info_name, terminal_width=80)
        assert max(map(len, entry.command.get_help(context).splitlines())) <= 80, entry.name


@pytest.mark.parametrize(("words", "said"), [(["help"], "Bringing into step"), (["help", "status"], "--check")])
def test_given_help_as_a_word_then_it_is_the_help_of_what_follows(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    assert said in capsys.readouterr().out
