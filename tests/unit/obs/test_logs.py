"""Log lines: what they look like where, who is heard, and that no secret is in them."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from syncd.obs.logs import ERRORS_ONLY, WARNINGS_ONLY, LogStyle, configure
from tests.terminals import Terminal

SECRET = "s3kr3tC0de"
WEBHOOK = f"https://example.bitrix24.com/rest/1/{SECRET}/crm.orderentity.list"


def fail(error: Exception) -> None:
    """Raises, with a secret among its local variables, as a failing request would have."""
    webhook = SECRET  # noqa: F841 what a traceback with locals would show
    raise error


@pytest.fixture(autouse=True)
def leave_logging_as_it_was() -> Iterator[None]:
    names = ("", "syncd", *WARNINGS_ONLY, *ERRORS_ONLY)
    root = logging.getLogger()
    levels, handlers = {name: logging.getLogger(name).level for name in names}, root.handlers[:]
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def lines(stream: io.StringIO) -> Callable[[], list[dict[str, Any]]]:
    """Returns the JSON lines written so far."""
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def log() -> Any:
    return structlog.get_logger("syncd.engine")


class TestLook:
    def test_on_a_terminal_lines_are_for_people(self) -> None:
        assert configure(stream=Terminal(), environ={}) is LogStyle.CONSOLE

    def test_elsewhere_they_are_json(self, stream: io.StringIO) -> None:
        assert configure(stream=stream, environ={}) is LogStyle.JSON

    def test_under_journald_they_are_for_the_journal(self, tmp_path: Path) -> None:
        with (tmp_path / "journal").open("w") as journal:
            status = os.fstat(journal.fileno())
            environ = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
            assert configure(stream=journal, environ=environ) is LogStyle.JOURNAL

    def test_not_where_the_journal_is_another_stream(self, tmp_path: Path) -> None:
        with (tmp_path / "file").open("w") as file:
            assert configure(stream=file, environ={"JOURNAL_STREAM": "1:2"}) is LogStyle.JSON

    def test_what_is_asked_for_wins(self, stream: io.StringIO) -> None:
        assert configure(fmt="json", stream=Terminal(), environ={}) is LogStyle.JSON
        assert configure(fmt="console", stream=stream, environ={}) is LogStyle.CONSOLE

    def test_stderr_is_the_stream_unless_another_is_given(self, capsys: pytest.CaptureFixture[str], log: Any) -> None:
        configure(fmt="json")
        log.info("pass finished")
        captured = capsys.readouterr()
        assert (captured.out, json.loads(captured.err)["event"]) == ("", "pass finished")


class TestJson:
    def test_a_line_says_when_how_grave_what_and_the_details(
        self, stream: io.StringIO, lines: Callable[[], list[dict[str, Any]]], log: Any
    ) -> None:
        configure(stream=stream, environ={})
        log.info("change applied", order_id=5125, owner=(2, 6933), link="shop")
        (line,) = lines()
        assert list(line)[:4] == ["timestamp", "level", "event", "link"]
        assert line | {"timestamp": ""} == {
            "timestamp": "",
            "level": "info",
            "event": "change applied",
            "link": "shop",
            "order_id": 5125,
            "owner": [2, 6933],
            "logger": "syncd.engine",
        }
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])

    def test_what_a_terminal_would_obey_is_written_out(
        self, stream: io.StringIO, lines: Callable[[], list[dict[str, Any]]], log: Any
    ) -> None:
        configure(stream=stream, environ={})
        text = "a\x1b[31m\x9b31m\u202edeal\u2028Error: forged\nü"
        log.info("change applied", error=text)
        assert [one["error"] for one in lines()] == [text]
        assert not set("\x1b\x9b\u202e\u2028") & set(stream.getvalue())
        assert "ü" in stream.getvalue()

    def test_what_is_bound_to_the_context_is_in_every_line_libraries_included(
        self, stream: io.StringIO, lines: Callable[[], list[dict[str, Any]]], log: Any
    ) -> None:
        configure(stream=stream, environ={})
        with structlog.contextvars.bound_contextvars(link="shop", run_id=12):
            log.info("pass began")
            logging.getLogger("some.library").warning("slow")
        log.info("idle")
        assert [(line.get("link"), line.get("run_id")) for line in lines()] == [
            ("shop", 12),
            ("shop", 12),
            (None, None),
        ]

    def test_an_exception_is_one_line(
        self, stream: io.StringIO, lines: Callable[[], list[dict[str, Any]]], log: Any
    ) -> None:
        configure(stream=stream, environ={})
        try:
            fail(RuntimeError("boom"))
        except RuntimeError:
            log.exception("pass failed")
        (line,) = lines()
        assert line["level"] == "error"
        assert line["exception"].splitlines()[-1] == "RuntimeError: boom"


class TestJournal:
    @pytest.fixture
    def journal(self, tmp_path: Path) -> Iterator[Callable[[], list[str]]]:
        with (tmp_path / "journal").open("w+") as file:
            status = os.fstat(file.fileno())
            configure("debug", stream=file, environ={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
            yield lambda: (tmp_path / "journal").read_text().splitlines()

    @pytest.mark.parametrize(
        ("level", "priority"), [("debug", 7), ("info", 6), ("warning", 4), ("error", 3), ("critical", 2)]
    )
    def test_a_line_begins_with_its_priority_and_has_no_time(
        self, journal: Callable[[], list[str]], log: Any, level: str, priority: int
    ) -> None:
        getattr(log, level)("pass finished", link="shop")
        (line,) = journal()
        assert line.startswith(f"<{priority}>{{")
        assert "timestamp" not in json.loads(line[3:])

    def test_an_exception_has_the_priority_of_an_error(self, journal: Callable[[], list[str]], log: Any) -> None:
        try:
            fail(RuntimeError("boom"))
        except RuntimeError:
            log.exception("pass failed")
        assert journal()[0].startswith("<3>")


class TestConsole:
    COLOUR = "\x1b["

    @pytest.mark.parametrize(
        ("terminal", "environ", "coloured"),
        [
            (True, {}, True),
            (True, {"TERM": "xterm"}, True),
            (True, {"TERM": "dumb"}, False),
            (True, {"NO_COLOR": "1"}, False),
            (True, {"NO_COLOR": ""}, True),
            (False, {}, False),
            (False, {"FORCE_COLOR": "1"}, True),
            (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
            (True, {"TERM": "dumb", "FORCE_COLOR": "1"}, True),
        ],
    )
    def test_colour_is_used_where_it_is_wanted(
        self, log: Any, terminal: bool, environ: dict[str, Any], coloured: bool
    ) -> None:
        stream = Terminal() if terminal else io.StringIO()
        configure(fmt="console", stream=stream, environ=environ)
        log.info("pass finished", link="shop")
        assert (self.COLOUR in stream.getvalue()) is coloured

    def test_a_line_is_for_people(self, stream: io.StringIO, log: Any) -> None:
        configure(fmt="console", stream=stream, environ={})
        log.warning("change skipped", order_id=5)
        assert re.fullmatch(
            r"\d\d:\d\d:\d\d \[warning  \] change skipped +\[syncd.engine\] order_id=5\n", stream.getvalue()
        )

    def test_a_traceback_shows_no_local_variables(self, stream: io.StringIO, log: Any) -> None:
        configure(fmt="console", stream=stream, environ={})
        try:
            fail(RuntimeError("boom"))
        except RuntimeError:
            log.exception("pass failed")
        assert "RuntimeError: boom" in stream.getvalue()
        assert SECRET not in stream.getvalue()


class TestLevels:
    @pytest.mark.parametrize(
        ("level", "heard"),
        [
            ("debug", ["debug", "info", "warning", "error"]),
            ("info", ["info", "warning", "error"]),
            ("warning", ["warning", "error"]),
            ("error", ["error"]),
        ],
    )
    def test_syncd_is_heard_from_the_level_asked_for(
        self, stream: io.StringIO, lines: Callable[[], list[dict[str, Any]]], log: Any, level: str, heard: list[str]
    ) -> None:
        configure(level, stream=stream, environ={})
        for one in ("debug", "info", "warning", "error"):
            getattr(log, one)("x")
        assert [line["level"] for line in lines()] == heard

    @pytest.mark.parametrize("name", [*WARNINGS_ONLY, "some.library"])
    def test_libraries_are_heard_from_warnings_on_even_at_debug(
        self, stream: io.StringIO, lines: Callable[[], list[dict[str, Any]]], name: Any
    ) -> None:
        logging.getLogger(name).setLevel(logging.DEBUG if name in WARNINGS_ONLY else logging.NOTSET)
        configure("debug", stream=stream, environ={})
        logging.getLogger(name).debug("x")
        logging.getLogger(name).info("x")
        logging.getLogger(name).warning("x")
        assert [line["level"] for line in lines()] == ["warning"]

    def test_at_error_libraries_warnings_are_not_heard_either(
        self, stream: io.StringIO, lines: Callable[[], list[dict[str, Any]]]
    ) -> None:
        configure("error", stream=stream, environ={})
        logging.getLogger("httpx").warning("x")
        assert lines() == []

    @pytest.mark.parametrize("name", ERRORS_ONLY)
    def test_what_only_echoes_an_error_of_ours_is_heard_when_it_is_an_error_itself(
        self, stream: io.StringIO, lines: Callable[[], list[dict[str, Any]]], name: Any
    ) -> None:
        configure("debug", stream=stream, environ={})
        logging.getLogger(name).warning("error ignored terminating <psycopg.Pipeline [BAD]>: the connection is lost")
        logging.getLogger(name).error("x")
        assert [line["level"] for line in lines()] == ["error"]

    def test_httpx_stays_quiet_even_where_its_own_children_would_speak(self, stream: io.StringIO) -> None:
        configure("debug", stream=stream, environ={})
        logging.getLogger("httpx").info('HTTP Request: POST %s "HTTP/1.1 200 OK"', WEBHOOK)
        assert stream.getvalue() == ""

    def test_a_second_call_replaces_the_first_also_for_loggers_in_use(
        self, stream: io.StringIO, lines: Callable[[], list[dict[str, Any]]], log: Any
    ) -> None:
        first = io.StringIO()
        configure("error", stream=first, environ={})
        log.info("unheard")
        configure("info", stream=stream, environ={})
        log.info("heard")
        assert first.getvalue() == ""
        assert [line["event"] for line in lines()] == ["heard"]

    def test_a_logger_in_use_follows_a_later_set_up_altogether(self, stream: io.StringIO, log: Any) -> None:
        configure(stream=stream, environ={})
        log.info("x")
        configure(stream=stream, environ={})
        with structlog.testing.capture_logs() as captured:
            log.info("pass finished")
        assert [line["event"] for line in captured] == ["pass finished"]

    def test_handlers_of_others_are_left_alone(self, stream: io.StringIO) -> None:
        other = logging.NullHandler()
        logging.getLogger().addHandler(other)
        configure(stream=stream, environ={})
        configure(stream=stream, environ={})
        assert other in logging.getLogger().handlers


class TestSecrecy:
    @pytest.fixture(params=["json", "console"])
    def said(self, request: pytest.FixtureRequest, stream: io.StringIO) -> Callable[[], str]:
        configure("debug", request.param, stream=stream, environ={})
        return stream.getvalue

    @pytest.mark.parametrize(
        "value",
        [
            WEBHOOK,
            {"url": WEBHOOK, "deep": [{"url": (WEBHOOK,)}]},
            {"webhook": SECRET},
            {"access_token": SECRET, "client_secret": SECRET},
            {"sessid": SECRET, "auth": SECRET, "passwd": SECRET},
            [[[[[[[[[[WEBHOOK]]]]]]]]]],
            {WEBHOOK.replace(SECRET, "x"), WEBHOOK},
            SecretStr(SECRET),
            RuntimeError(WEBHOOK),
            f"postgresql://syncd:{SECRET}@db/shop",
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_a_value_of_any_shape_is_masked(self, said: Callable[[], str], log: Any, value: Any) -> None:
        log.info("request sent", value=value)
        assert "request sent" in said()
        assert SECRET not in said()

    @pytest.mark.parametrize("key", ["access_token", "refresh_token", "client_secret", "password", "webhook"])
    def test_a_key_that_names_a_secret_is_masked_whatever_it_holds(
        self, said: Callable[[], str], log: Any, key: str
    ) -> None:
        log.info("token stored", **{key: SECRET})
        assert "***" in said()
        assert SECRET not in said()

    def test_the_event_itself_is_masked(self, said: Callable[[], str], log: Any) -> None:
        event = f"calling {WEBHOOK}"
        log.info(event)
        assert "/rest/1/***" in said()
        assert SECRET not in said()

    def test_exceptions_and_their_causes_are_masked(self, said: Callable[[], str], log: Any) -> None:
        try:
            try:
                fail(OSError(f"cannot connect to {WEBHOOK}"))
            except OSError as error:
                raise RuntimeError(f"postgresql://syncd:{SECRET}@db/shop") from error
        except RuntimeError:
            log.exception("pass failed")
        assert said().count("***") >= 2
        assert SECRET not in said()

    def test_libraries_are_masked_too(self, said: Callable[[], str]) -> None:
        try:
            fail(OSError(WEBHOOK))
        except OSError:
            logging.getLogger("httpcore").exception("request to %s failed", WEBHOOK)
        assert "OSError" in said()
        assert SECRET not in said()

    def test_python_warnings_are_masked_too(self, said: Callable[[], str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(f"old {WEBHOOK}", UserWarning, stacklevel=1)
        assert "UserWarning" in said()
        assert SECRET not in said()

    def test_a_value_that_contains_itself_ends_somewhere(self, said: Callable[[], str], log: Any) -> None:
        value: list[object] = [WEBHOOK]
        value.append(value)
        log.info("request sent", value=value)
        assert "request sent" in said()
        assert SECRET not in said()

    def test_numbers_and_nothing_stay_what_they_are(
        self, stream: io.StringIO, lines: Callable[[], list[dict[str, Any]]], log: Any
    ) -> None:
        configure(stream=stream, environ={})
        log.info("x", a=1, b=None, c=True, d=0.5, access_token="")
        assert {key: lines()[0][key] for key in ("a", "b", "c", "d", "access_token")} == {
            "a": 1,
            "b": None,
            "c": True,
            "d": 0.5,
            "access_token": "",
        }

    def test_a_line_that_cannot_be_written_is_reported_without_its_values(self, stream: io.StringIO, log: Any) -> None:
        class Broken:
            def __str__(self) -> str:
                raise RuntimeError(WEBHOOK)

        configure(stream=stream, environ={})
        log.info("request sent", value=Broken(), url=WEBHOOK)
        assert stream.getvalue() == "a log line of syncd.engine was lost: RuntimeError\n"

    def test_a_stream_that_is_gone_stops_nobody(self, log: Any) -> None:
        gone = io.StringIO()
        configure(fmt="json", stream=gone, environ={})
        gone.close()
        log.info("pass finished")


def test_a_process_writes_its_log_to_stderr_and_leaves_stdout_to_results() -> None:
    code = (
        "from syncd.obs.logs import configure; import structlog; configure();"
        "structlog.get_logger('syncd').info('pass finished'); print('result')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "result\n"
    assert json.loads(done.stderr)["event"] == "pass finished"
