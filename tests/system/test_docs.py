"""The documentation: what it shows is run, what it configures is valid, and where it points is there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from syncd.cli import streams
from syncd.cli.app import INTERRUPTED
from syncd.config.load import load
from syncd.core.model import Outcome, Reason
from syncd.errors import SyncdError
from tests.figures.picture import PICTURE, drawn
from tests.system.docs_runner import (
    CONFIGURATION,
    GIVEN,
    ROOT,
    TUTORIAL,
    Block,
    Reader,
    agrees,
    blocks,
    pages,
    shop_in_step,
    steps,
)

BLOCKS = [block for page in pages() for block in blocks(page)]
NOT_RUN_AT_MOST = 20
"""To add a block that no test can run, raise this, and say why in the commit."""
LANGUAGES = {"console", "toml", "json", "python", ""}
"""What a block may be without a reason why nothing looks at it; "" is a picture, or what a command prints."""
SECRETS = {
    "password_file": "a password",
    "key_file": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "webhook_file": "https://{name}.bitrix24.com/rest/1/CODE/",
    "url_file": "sqlite:///shop.db",
    "client_secret_file": "secret",
    "hook_token_file": "a-token-of-the-portal",
    "apprise_file": "json://alerts.example.com/CODE",
}
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def named(block: Block) -> str:
    return block.place


def runs(block: Block) -> bool:
    return block.language == "console" and "not run" not in block.marks


PLAYED = sorted({block.page for block in BLOCKS if runs(block) and block.page != TUTORIAL})


def test_given_a_clean_machine_when_the_tutorial_is_typed_word_for_word_then_everything_is_as_it_says(
    tmp_path: Path,
) -> None:
    with Reader(tmp_path) as reader:
        assert reader.play(TUTORIAL) >= 30


@pytest.mark.parametrize("page", PLAYED, ids=lambda page: page.stem)
def test_given_a_page_when_its_commands_are_typed_then_they_end_and_print_as_it_says(
    page: Path, tmp_path: Path
) -> None:
    shop = shop_in_step(tmp_path) if GIVEN in page.read_text() else nullcontext()
    with shop, Reader(tmp_path, hurried=True) as reader:
        assert reader.play(page) >= 1


def test_given_all_blocks_then_those_that_are_not_run_are_few_and_each_says_why() -> None:
    reasons = {block.place: block.marks["not run"] for block in BLOCKS if "not run" in block.marks}

    assert len(reasons) <= NOT_RUN_AT_MOST
    assert not {place: reason for place, reason in reasons.items() if len(reason.split()) < 3}


@pytest.mark.parametrize("block", [block for block in BLOCKS if runs(block)], ids=named)
def test_given_a_command_then_what_it_comes_to_is_shown_and_compared(block: Block) -> None:
    hidden = [step.command for step in steps(block) if step.shown and step.shown[-1].strip() == "…"]

    assert not hidden, "a line of … hides what these end with"


@pytest.mark.parametrize("block", [block for block in BLOCKS if "not run" not in block.marks], ids=named)
def test_given_a_block_then_it_is_of_a_kind_that_is_looked_at(block: Block) -> None:
    assert block.language in LANGUAGES, "make it a ```console block, or say why it is not run"
    if block.language == "python":
        assert "file" in block.marks
        compile(block.text, block.place, "exec")
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "":
        assert not re.search(r"^\$ ", block.text, re.MULTILINE), "commands belong into ```console blocks"


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "toml"], ids=named)
def test_given_a_fragment_of_configuration_then_syncd_takes_it(block: Block, tmp_path: Path) -> None:
    tree = merged(tomllib.loads(CONFIGURATION), tomllib.loads(block.text))
    for key, name in file_keys(tree):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(SECRETS[key].format(name=Path(name).stem))
    path = tmp_path / "syncd.toml"
    path.write_text("".join(f"{key} = {toml(value)}\n" for key, value in tree.items()))

    load(path, {})


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_given_a_page_then_every_place_in_the_repository_that_it_points_to_is_there(page: Path) -> None:
    broken = [target for target in links(page) if not is_there(page, target)]

    assert broken == []


def test_given_the_index_then_every_page_is_in_it() -> None:
    index = ROOT / "docs/README.md"
    listed = {(index.parent / target.partition("#")[0]).resolve() for target in links(index)}

    assert set(pages()) - listed - {index, ROOT / "README.md"} == set()


def test_given_the_readme_then_its_first_command_plays_the_demo_and_its_second_runs_the_tests() -> None:
    quick_start = next(block for block in BLOCKS if block.page == ROOT / "README.md" and block.language == "console")
    demo, tests = [step.command for step in steps(quick_start)]

    # What is installed is taken as it is; BIN is the environment that these tests run in.
    binaries = f"BIN={Path(sys.executable).parent}"
    shown = make(demo, "-o", ".venv/.run", binaries)
    planned = make(tests, "--dry-run", "-o", ".venv/.dev", binaries)

    assert "Verified: the CRM, the table and the agreed state are equal" in shown
    printed = [line.rstrip() for line in shown.splitlines() if line.strip()]
    picture = drawn(PICTURE.read_text(encoding="utf-8"))
    begin = printed.index(picture[0])
    assert printed[begin : begin + len(picture)] == picture, "run: make picture"
    assert "-m pytest" in planned


@pytest.mark.parametrize(
    ("shown", "printed", "right"),
    [
        (["a", "b"], ["a", "b"], True),
        (["a", "…"], ["a", "b", "c"], True),
        (["a … c"], ["a b c"], True),
        (["a"], ["a", "b"], False),
        (["a", "b"], ["a"], False),
        (["a … c"], ["a b d"], False),
        (["…", "c"], ["a", "b"], False),
    ],
)
def test_given_what_a_page_shows_then_it_is_right_only_if_all_that_was_printed_is_shown_or_elided(
    shown: list[str], printed: list[str], right: bool
) -> None:
    assert agrees(shown, printed) is right


def test_given_the_json_reference_then_it_names_every_reason_and_outcome_a_change_can_have() -> None:
    page = (ROOT / "docs/reference/json.md").read_text()
    told = {
        key: set(re.findall(r"`([a-z-]+)`", row))
        for key, row in re.findall(r"^\| `(changes.*?)` \|(.*)", page, re.MULTILINE)
    }

    assert told["changes[].reason"] == set(Reason) - {Reason.BOTH_EQUAL}  # no reason of a write
    assert told["changes[].outcome"] == set(Outcome) - {Outcome.INTENDED}  # told as uncertain


def test_given_the_exit_codes_page_then_it_has_every_code_an_error_can_end_with() -> None:
    page = (ROOT / "docs/reference/exit-codes.md").read_text()
    told = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", page, re.MULTILINE) for code in row.split(",")}

    of_streams = {streams.LOST, streams.READER_GONE}
    assert told == {error.exit_code for error in errors_below(SyncdError)} | {0, 2, 3, INTERRUPTED, 129} | of_streams


def errors_below(error: type[SyncdError]) -> Iterator[type[SyncdError]]:
    yield error
    for one in error.__subclasses__():
        yield from errors_below(one)


def merged(base: dict[str, Any], fragment: dict[str, Any]) -> dict[str, Any]:
    """Put a fragment over a configuration; a key takes the place of its twin (`url` and `url_file`)."""
    result = dict(base)
    for key, value in fragment.items():
        twin = key.removesuffix("_file") if key.endswith("_file") else f"{key}_file"
        result.pop(twin, None)
        if key == "oauth":
            result.pop("webhook_file", None)
        if key == "host":  # a database in parts
            result.pop("url", None)
        # A table of order numbers names no column of order ids.
        old = None if key == "columns" else result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def file_keys(tree: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from file_keys(value)
        elif key.endswith("_file"):
            yield key, value


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


def links(page: Path) -> list[str]:
    """Return where a page points to inside the repository."""
    text = re.sub(r"^\s*```.*?^\s*```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = [first or second for first, second in _LINK.findall(text)]
    return [target for target in found if not target.startswith(("http://", "https://", "mailto:"))]


def is_there(page: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    path = (page.parent / name).resolve() if name else page
    return path.exists() and (not anchor or anchor in anchors(path))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, made as forges make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def make(command: str, *options: str) -> str:
    # These tests are run by make themselves: a make inside another one announces its folders.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    words = [*command.split(), *options]
    ran = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return ran.stdout
