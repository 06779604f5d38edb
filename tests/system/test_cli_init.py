"""`syncd init` with a person at a terminal."""

from __future__ import annotations

import codecs
import os
import pty
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from tests.loaded_python import LoadedPython
from tests.system.shop import SECRET, Shop, call, open_shop

PATIENCE = 60
END_OF_INPUT = "\x04"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path, {1: 11, 2: 12}) as made:
        made.sql(
            "CREATE TABLE order_deals (order_no INTEGER PRIMARY KEY, deal_id INTEGER, removed_at TEXT, updated_at TEXT)"
        )
        made.sql("CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT)")
        made.sql("INSERT INTO order_deals VALUES (1, 11, NULL, NULL)")
        yield made


class Conversation:
    """A command at a pseudo terminal, and the person who answers it."""

    def __init__(self, directory: Path, *args: str) -> None:
        primary, secondary = pty.openpty()
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SYNCD_")}
        self._process = LoadedPython(
            ["-m", "syncd.cli.main", *args],
            cwd=directory,
            env=environ | {"NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "100"},
            stdin=secondary,
            stdout=secondary,
            stderr=secondary,
            start_new_session=True,  # a hidden question would be asked at the terminal that the tests are run from
        )
        os.close(secondary)
        self._terminal = primary
        self._decode = codecs.getincrementaldecoder("utf-8")().decode  # a read may end in the middle of a letter
        self._is_closed = False
        self._unanswered = ""
        self.text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._close()

    def answer(self, question: str, answer: str = "") -> None:
        """Wait for a question, and answer it; nothing takes what it proposes."""
        self.hear(question)
        self._unanswered = ""
        os.write(self._terminal, f"{answer}\n".encode() if answer != END_OF_INPUT else answer.encode())

    def hear(self, question: str) -> None:
        """Wait for a question."""
        while not (question in self._unanswered and self._unanswered.endswith(": ")):
            assert self._read(), f"{question!r} was never asked:\n{self.text}"

    def end_by(self, number: signal.Signals) -> int:
        """Send the command a signal, read the rest, and return the exit code.

        It is sent again if need be: Python does not hear one that comes in the instant before it begins to read.
        """
        self._process.send_signal(number)
        while not select.select([self._terminal], [], [], 3)[0]:
            self._process.send_signal(number)
        return self.end()

    def hang_up(self) -> int:
        """Close the terminal, and return the exit code."""
        self._close()
        return self._process.wait(timeout=PATIENCE)

    def end(self) -> int:
        """Read the rest, and return the exit code."""
        while self._read():
            pass
        self._close()
        return self._process.wait(timeout=PATIENCE)

    def _close(self) -> None:
        if not self._is_closed:
            os.close(self._terminal)
        self._is_closed = True

    def _read(self) -> bool:
        if not select.select([self._terminal], [], [], PATIENCE)[0]:
            return False
        try:
            piece = os.read(self._terminal, 65536)
        except OSError:  # the other end is closed
            return False
        letters = self._decode(piece)
        self._unanswered += letters
        self.text += letters
        return bool(piece)


Opener = Callable[..., Conversation]


@pytest.fixture
def converse() -> Iterator[Opener]:
    """Starts a command in a directory, at a terminal, and ends it after the test."""
    with ExitStack() as stack:
        yield lambda directory, *args: stack.enter_context(Conversation(directory, *args))


def test_given_a_person_then_init_asks_proposes_the_mapping_checks_and_shows_the_first_plan(
    shop: Shop, converse: Opener
) -> None:
    directory = shop.directory / "new"
    directory.mkdir()
    shop.portal.owner_type_names = {2: "Сделка"}
    talk = converse(directory, "init")

    talk.answer("Name of the link", "my shop")
    talk.answer("Name of the link")
    talk.answer("URL of the webhook", "https://example.bitrix24.com/")
    talk.answer("URL of the webhook", shop.server.webhook_url.replace(SECRET, "wrong"))
    talk.answer("URL of the webhook", shop.server.webhook_url)
    talk.answer("URL of the database", f"sqlite:///{shop.directory}/none.db")
    talk.answer("URL of the database", f"sqlite:///{shop.file}")
    talk.answer("The mapping table")
    talk.answer("order id", "nr")
    talk.answer("order id", "order_no")
    talk.answer("owner's) id")
    talk.answer("owner's type")
    talk.answer("soft delete", "y")
    talk.answer("Shall syncd set updated_at")
    talk.answer("Which sides may syncd write")
    talk.answer("How often", "now and then")
    talk.answer("How often", "10m")
    code = talk.end()

    assert code == 0, talk.text
    assert "a link's name is made of letters, digits, _ and -" in talk.text
    assert "INVALID_CREDENTIALS" in talk.text
    assert "none.db" in talk.text
    assert "must be an interval" in talk.text
    assert "or a number (2 Сделка, 31 smart invoice)" in talk.text
    assert talk.text.rstrip().endswith("Then let the daemon do it from now on:\r\n  syncd run")
    assert "must be the URL of an inbound webhook" in talk.text
    assert "nr does not exist; choose one of: order_no, deal_id" in talk.text
    assert SECRET not in talk.text
    assert "All is well." in talk.text
    assert "unbound → deal 12" in talk.text
    shown = {one["key"]: one["value"] for one in call("config", "show", "--json", directory=directory).json}
    assert shown["links.shop.table.columns.order_id"] == "order_no"
    assert shown["links.shop.table.deleted"] == "removed_at"
    assert shown["links.shop.table.touched"] == "updated_at"
    assert shown["links.shop.schedule"] == "10m"


@pytest.mark.parametrize(("answer", "setting"), [("", "order_number"), ("n", "order_id")])
def test_given_a_column_of_order_numbers_then_init_asks_whether_it_is_one(
    shop: Shop, converse: Opener, answer: str, setting: str
) -> None:
    shop.sql("CREATE TABLE order_map (number TEXT PRIMARY KEY, deal_id INTEGER)")
    directory = shop.directory / "new"
    directory.mkdir()
    talk = converse(directory, "init", "--no-check")

    talk.answer("Name of the link")
    talk.answer("URL of the webhook", shop.server.webhook_url)
    talk.answer("URL of the database", f"sqlite:///{shop.file}")
    talk.answer("The mapping table", "order_map")
    talk.answer("order number")
    talk.answer("Does number hold the accountNumber of the portal's orders", answer)
    talk.answer("owner's) id")
    talk.answer("owner's type")
    talk.answer("Which sides may syncd write")
    talk.answer("How often")

    assert talk.end() == 0, talk.text
    shown = {one["key"]: one["value"] for one in call("config", "show", "--json", directory=directory).json}
    assert shown[f"links.shop.table.columns.{setting}"] == "number"


def test_given_a_person_who_adds_a_link_then_a_name_that_is_taken_is_asked_again(shop: Shop, converse: Opener) -> None:
    shop.create_table([(1, 11)])
    before = shop.configure().read_text()
    talk = converse(shop.directory, "init", "--add", "--no-check")

    talk.answer("Name of the link", "shop")
    talk.answer("Name of the link", "other")
    talk.answer("URL of the webhook", shop.server.webhook_url)
    talk.answer("URL of the database", f"sqlite:///{shop.file}")
    talk.answer("The mapping table", "order_deals")
    for question in ("order id", "owner's) id", "owner's type", "soft delete", "Shall", "Which sides", "How often"):
        talk.answer(question)

    assert talk.end() == 0, talk.text
    assert "the configuration has a link shop already" in talk.text
    assert "syncd check other" in talk.text
    after = (shop.directory / "syncd.toml").read_text()
    assert after.startswith(before)
    assert "[links.other]" in after


def test_given_a_person_who_gives_up_then_nothing_is_written_and_the_exit_is_130(shop: Shop, converse: Opener) -> None:
    directory = shop.directory / "new"
    directory.mkdir()
    talk = converse(directory, "init")

    talk.answer("Name of the link", END_OF_INPUT)

    assert talk.end() == 130
    assert list(directory.iterdir()) == []


def asked(shop: Shop, converse: Opener, question: str) -> tuple[Conversation, Path]:
    """Return an `init` that has asked one of its first two questions, and the folder that it works in."""
    directory = shop.directory / "new"
    directory.mkdir()
    talk = converse(directory, "init")
    if question != "Name of the link":
        talk.answer("Name of the link")
    talk.hear(question)
    return talk, directory


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("question", ["Name of the link", "URL of the webhook"])
def test_given_a_signal_at_a_question_then_nothing_is_written_and_the_exit_says_which(
    shop: Shop, converse: Opener, question: str, number: signal.Signals, code: int
) -> None:
    talk, directory = asked(shop, converse, question)

    assert talk.end_by(number) == code
    assert "Aborted." in talk.text
    assert "bug" not in talk.text
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("question", ["Name of the link", "URL of the webhook"])
def test_given_a_terminal_that_is_closed_at_a_question_then_the_command_ends_and_calls_it_no_bug(
    shop: Shop, converse: Opener, question: str
) -> None:
    talk, directory = asked(shop, converse, question)

    assert talk.hang_up() in {129, 130}
    assert list(directory.iterdir()) == []
