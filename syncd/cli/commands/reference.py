"""`help`, and `reference`: what the commands say of themselves, one of them at a terminal, or all on a page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from inspect import cleandoc
from typing import NamedTuple

import click

from syncd.cli import options
from syncd.cli.app import SERIOUS, App
from syncd.cli.main import SECTIONS, cli

SHELLS = ("bash", "zsh", "fish")
PAGES = ("markdown", "man", *SHELLS)
EXIT_CODES = (
    ("0", "in step; everything applied; for `plan`: nothing to do"),
    ("1", "unexpected error: a bug"),
    ("2", "`plan`, `reconcile --dry-run`: there are changes to make; nothing was written"),
    ("3", "finished, but with leftovers: orders that are held, or changes that were not carried out"),
    ("4", "refused by a guard; nothing was written, and the next command is printed"),
    ("5", "the stored plan is stale or spent; nothing was written"),
    ("64", "usage: the command line cannot be carried out as written"),
    ("69", "the portal or a database is unavailable, or a listing could not be proved complete"),
    ("74", "the work was done, but its output could not be written: a full disk, a closed stream"),
    ("75", "another process holds the lease of the link"),
    ("77", "authentication or a right is missing"),
    ("78", "configuration"),
    ("129, 130, 143", "ended by SIGHUP, SIGINT or SIGTERM, after finishing the batch in flight"),
    ("141", "the reader closed the output, as `head` does; `reconcile` leaves the rest undone"),
)
PREAMBLE = (
    "The options of the program may come before the command or after it. Results go to stdout, logs and progress to "
    "stderr; with `--json` stdout holds nothing but the document. `LINK` may be left out where only one link is "
    "configured."
)
EXIT_NOTE = (
    f"Any other code is a failure. Over several links the most serious one counts: {', '.join(map(str, SERIOUS))}."
)


@options.command("help", short_help="Show what a command does.")
@click.argument("words", nargs=-1, metavar="[COMMAND]...", help="The command, such as `plan` or `db check`.")
@click.pass_context
def show_help(context: click.Context, _app: App, words: Sequence[str]) -> int:
    """Show the help of a command, as `syncd COMMAND --help` does; without one, that of the program."""
    asked = context.find_root()
    for word in words:
        if not isinstance(asked.command, click.Group):
            raise click.UsageError(f"{asked.command_path} has no commands of its own.", context)
        name, command, _rest = asked.command.resolve_command(asked, [word])
        assert command is not None  # resolve_command raises where there is none
        asked = click.Context(command, info_name=name, parent=asked)
    click.echo(asked.get_help())
    return 0


class Entry(NamedTuple):
    """One command: its whole name, such as `syncd db check`, and its context."""

    name: str
    context: click.Context

    @property
    def command(self) -> click.Command:
        """The command itself."""
        return self.context.command


def entries() -> Iterator[tuple[str, list[Entry]]]:
    """Yield the sections of the help page, each with its commands, groups opened."""
    root = _root()
    for heading, section in SECTIONS.items():
        found: list[Entry] = []
        for name in section:
            command = cli.get_command(root, name)
            assert command is not None
            context = click.Context(command, info_name=name, parent=root)
            if isinstance(command, click.Group):
                found += [
                    Entry(
                        f"syncd {name} {inner}", click.Context(command.commands[inner], info_name=inner, parent=context)
                    )
                    for inner in command.list_commands(context)
                ]
            else:
                found.append(Entry(f"syncd {name}", context))
        yield heading, found


def _root() -> click.Context:
    return click.Context(cli, info_name="syncd", **cli.context_settings)


def records(entry: Entry) -> list[tuple[str, str]]:
    """Given a command, return its arguments and options with their help."""
    found = []
    for parameter in entry.command.get_params(entry.context):
        record = parameter.get_help_record(entry.context)
        if record is not None and not record[0].endswith("--help"):
            found.append(record)
    return found


def paragraphs(text: str) -> Iterator[tuple[bool, str]]:
    r"""Given a command's help, yield its paragraphs; those marked with \b are to be kept as they are."""
    for part in re.split(r"\n\s*\n", cleandoc(text)):
        verbatim = part.startswith("\b")
        yield verbatim, part.removeprefix("\b\n") if verbatim else " ".join(part.split())


def usage(entry: Entry) -> str:
    """Given a command, return its usage line."""
    return " ".join([entry.name, *entry.command.collect_usage_pieces(entry.context)])


def markdown() -> str:
    """Return the reference page of the commands."""
    lines = [
        "# Commands",
        "",
        "<!-- Made from the commands: syncd reference markdown > docs/reference/commands.md -->",
        "",
        "`syncd [--config FILE] [--log-level LEVEL] [--log-format FORMAT] [-q] COMMAND …`",
        "",
        PREAMBLE,
        "",
        "| option | |",
        "|---|---|",
    ]
    root = Entry("syncd", _root())
    lines += [f"| `{_cell(name)}` | {_cell(text)} |" for name, text in records(root)]
    for heading, commands in entries():
        lines += ["", f"## {heading}"]
        for entry in commands:
            lines += ["", f"### {entry.name}", "", "```", usage(entry), "```"]
            for verbatim, text in paragraphs(entry.command.help or ""):
                lines += ["", "```", text, "```"] if verbatim else ["", text]
            shown = records(entry)
            if shown:
                lines += ["", "| | |", "|---|---|"]
                lines += [f"| `{_cell(name)}` | {_cell(text)} |" for name, text in shown]
    lines += ["", "## Exit codes", "", "| exit | meaning |", "|---|---|"]
    lines += [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES]
    lines += ["", EXIT_NOTE, ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def man() -> str:
    """Return the man page, syncd(1), as roff."""
    lines = [
        '.TH SYNCD 1 "" "syncd" "User Commands"',
        ".SH NAME",
        "syncd \\- keeps Bitrix24 order bindings and a mapping table in step",
        ".SH SYNOPSIS",
        ".B syncd",
        "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGS\\fR]...",
        ".SH DESCRIPTION",
        _roff(cli.help or ""),
        ".PP",
        _roff(PREAMBLE),
        ".SH OPTIONS",
    ]
    lines += _man_records(Entry("syncd", _root()))
    lines.append(".SH COMMANDS")
    for heading, commands in entries():
        lines.append(f".SS {_roff(heading)}")
        for entry in commands:
            lines += [".PP", f".B {_roff(usage(entry))}"]
            for number, (verbatim, text) in enumerate(paragraphs(entry.command.help or "")):
                lines += [".RS 4"] if number == 0 else [".sp"]
                lines += [".nf", _roff(text), ".fi"] if verbatim else [_roff(text)]
            lines += [*_man_records(entry), ".RE"]
    lines.append(".SH EXIT STATUS")
    for code, meaning in EXIT_CODES:
        lines += [".TP", f".B {code}", _roff(meaning)]
    lines += [".PP", _roff(EXIT_NOTE)]
    lines += [".SH FILES", ".TP", ".I ./syncd.toml", "The configuration, where --config and $SYNCD_CONFIG name none."]
    lines += [".TP", ".I /etc/syncd/syncd.toml", "Likewise, where that is not there.", ""]
    return "\n".join(lines)


def _man_records(entry: Entry) -> Iterator[str]:
    for name, text in records(entry):
        yield from (".TP", f".B {_roff(name)}", _roff(text))


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("-", "\\-").replace("`", "")
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in escaped.splitlines())


def completion(shell: str) -> str:
    """Given a shell, return the script that completes `syncd` in it; it asks the program itself for the words."""
    from click.shell_completion import ShellComplete, get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    # The class's own source() runs bash to look at its version; the script is the same.
    return ShellComplete.source(kind(cli, {}, "syncd", "_SYNCD_COMPLETE")).strip() + "\n"


def made_page(name: str) -> str:
    """Given `markdown`, `man`, or a shell, return that page."""
    return {"markdown": markdown, "man": man}[name]() if name not in SHELLS else completion(name)


@options.command("reference", hidden=True, short_help="Print a page made from the commands.")
@click.argument("page", type=click.Choice(PAGES), help="The reference, the man page, or a shell's completion.")
def reference(_app: App, page: str) -> int:
    """Print a page that is made from the commands: the reference, the man page, or a shell's completion script."""
    click.echo(made_page(page), nl=False)
    return 0
