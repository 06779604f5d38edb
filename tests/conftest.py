"""Fixtures every suite shares."""

from __future__ import annotations

import gc
import inspect
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import Phase, settings
from hypothesis.internal.conjecture import providers
from pytest_rerunfailures import StatusDB

from tests.limits import limited

pytest_plugins = ["tests.databases"]

# Containers like to set PYTHONDONTWRITEBYTECODE. Then each process that tests start would compile all of syncd anew, half a
# second of work, and each worker all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Moments that a test writes out are UTC. A test of another time zone sets its own.
os.environ["TZ"] = "UTC"
time.tzset()

# Rich asks the environment what the terminal can do, also where a test hands it a terminal of its own.
for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLORTERM", "COLUMNS", "LINES"):
    os.environ.pop(name, None)
os.environ["TERM"] = "xterm-256color"

# What the shell and the service manager say to a syncd, or to PostgreSQL's library, is not meant for the tests. The password
# of a PostgreSQL on this machine is. pip needs the machine's proxy (tests/system/test_install.py); the servers of the tests
# are reached without it.
for name in list(os.environ):
    if name.startswith(("SYNCD_", "PG")) and not name.startswith(("SYNCD_TEST_", "PGPASS")):
        del os.environ[name]
for name in (
    "CREDENTIALS_DIRECTORY",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
):
    os.environ.pop(name, None)
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "localhost,127.0.0.1,::1"

TESTS = Path(__file__).parent

# Each client of HTTPS, and each connection to MariaDB or MySQL, loads all authorities of the machine: 50 ms of work, some
# thousand times. No test speaks to anybody but loopback, so one authority is enough, and nobody has its key. pip gets the
# machine's own (tests/system/test_install.py).
os.environ.setdefault("SSL_CERT_FILE_OF_THE_MACHINE", os.environ.get("SSL_CERT_FILE", ""))
os.environ["SSL_CERT_FILE"] = str(TESTS / "one_authority.pem")

LONGEST = {
    "test_contention.py",
    "test_daemon_day_on_disk.py",
    "test_daemon_sharing.py",
    "test_docs.py",
    "test_engine_machine.py",
    "test_install.py",
    "test_kill_reconcile.py",
}
"""Modules with a test of more than ten seconds: one that began last would keep a worker while the others have ended."""

PURE = {("unit", "core"), ("unit", "engine"), ("unit", "config")}
"""Folders whose tests run in memory, on an injected clock."""

RANDOM = "SYNCD_TEST_RANDOM" in os.environ
# No deadline: the machine is shared, and no property is about time. The examples are the same each time: a change is judged
# by its own effect, not by the dice. SYNCD_TEST_RANDOM=1 looks for new ones.
settings.register_profile("syncd", deadline=None, print_blob=True, derandomize=not RANDOM)
if not RANDOM:
    # Hypothesis takes constants for its examples from the modules that are loaded. Which are, depends on the tests that ran
    # before, and so would the examples. It has no setting for this.
    assert hasattr(providers, "is_local_module_file")
    providers.is_local_module_file = lambda _path: False
# mutmut asks whether a test breaks, not for the smallest example: shrinking would only run into its time limit.
settings.register_profile("mutation", settings.get_profile("syncd"), phases=[Phase.explicit, Phase.generate])
settings.load_profile("mutation" if "MUTANT_UNDER_TEST" in os.environ else "syncd")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Hear the signals that tests send, whatever started them; and keep second tries from slowing down the first ones.

    A background job of a shell inherits SIGINT as ignored, and one under nohup SIGHUP: syncd rightly leaves an ignored
    SIGHUP alone, and a test that sends one would wait for ever.

    A worker tells the main process of each test that may have a second try, so that it has one even after a crash of the
    worker. Nagle's algorithm makes each wait 40 ms for that, a tenth of the suite's time. A crash is a failure here.
    """
    if hasattr(config, "workerinput"):
        config.failures_db.sock.close()  # type: ignore[attr-defined]
        config.failures_db = StatusDB()  # type: ignore[attr-defined]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests, and give those over real processes, sockets and servers a second try.

    Such a test shares the machine with everything else on it, and the summary names its second try as a rerun. A test of
    `PURE` code does not, and has one try. Nor has a judge who found a broken promise: no load excuses that.
    """
    items.sort(key=lambda item: item.path.name not in LONGEST)
    for item in items:
        if item.path.relative_to(TESTS).parts[:2] not in PURE:
            item.add_marker(pytest.mark.flaky(reruns=1, rerun_except=[r"\(property \d+\)"]))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Give an asynchronous test a limit of its own: pytest-timeout would show the loop at rest, and not the line that waits."""
    if inspect.iscoroutinefunction(pyfuncitem.obj) and pyfuncitem.config.getoption("timeout") != 0:
        pyfuncitem.obj = limited(pyfuncitem.obj)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from looking through seven thousand tests again and again: they stay until the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    """syncd runs on asyncio."""
    return "asyncio"


@pytest.fixture
def time_zone() -> Iterator[Callable[[str], None]]:
    """Set this machine's time zone until the test ends."""
    with pytest.MonkeyPatch.context() as here:

        def set_zone(name: str) -> None:
            here.setenv("TZ", name)
            time.tzset()

        yield set_zone
    time.tzset()


@pytest.fixture(scope="module")
def quiet() -> Iterator[None]:
    """Drop the log lines of thousands of runs, which only cost time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _remembers_nothing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What one test notes outside a server's state database is unknown to the next, which finds that database emptied."""
    folder = Path(tempfile.gettempdir()) / f"syncd-test-state-{uuid.uuid4().hex}"
    monkeypatch.setenv("STATE_DIRECTORY", str(folder))
    yield
    shutil.rmtree(folder, ignore_errors=True)
