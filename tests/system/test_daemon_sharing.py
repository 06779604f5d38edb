"""Three daemons on one PostgreSQL state share 30 links out, while one after the other is killed."""

from __future__ import annotations

import itertools
import signal
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from syncd.config.schedule import parse_schedule
from syncd.status.fire_times import FireTimes
from tests.system.daemon_process import RunningDaemon, events_of, until
from tests.system.shop import Shop, open_shop

pytestmark = pytest.mark.postgres

LINKS = [f"link{number:02}" for number in range(30)]
EVERY = 6
KILLS = 3
WITHIN = 60.0
"""Seconds from a kill to the moment no link is left behind its schedule because of it, on a machine that is busy with tests
besides; the leases of a killed daemon would last for ten minutes."""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with open_shop(tmp_path, {order: order for order in range(1, 11)}) as made:
        with closing(sqlite3.connect(made.file)) as connection, connection:
            for link in LINKS:
                connection.execute(f"CREATE TABLE {link} (order_id INTEGER PRIMARY KEY, deal_id INTEGER)")
                connection.executemany(f"INSERT INTO {link} VALUES (?, ?)", [(n, n) for n in range(1, 11)])
        yield made


def _configure(shop: Shop, state: str) -> Path:
    text = f'[state]\nurl = "{state}"\nlease_ttl = "10m"\n'
    for link in LINKS:
        text += f"""
[links.{link}]
schedule = "{EVERY}s"
first_sync = "auto"
[links.{link}.portal]
webhook = "{shop.server.webhook_url}"
plan = "box"
[links.{link}.table]
url = "sqlite:///{shop.file}"
name = "{link}"
columns = {{ order_id = "order_id", owner_type_id = 2, owner_id = "deal_id" }}
"""
    path = shop.directory / "syncd.toml"
    path.write_text(text)
    return path


def _runs(engine: sa.Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(
            connection.exec_driver_sql(
                "SELECT run.id, link.name AS link, state, error, started_at, finished_at "
                "FROM run JOIN link ON link.id = run.link_id ORDER BY run.id"
            )
        )


def _whole(run: Any) -> bool:
    """Whether the pass came to its own end; one that was killed is closed by the pass that takes over."""
    return run.finished_at is not None and not run.error.startswith(("interrupted", "Stopped by SIGTERM"))


def test_given_daemons_that_are_killed_then_every_slot_is_served_once_and_within_seconds(
    shop: Shop, postgres_url: str
) -> None:
    config = _configure(shop, postgres_url)
    engine = sa.create_engine(postgres_url)
    with ExitStack() as stack:
        daemons = [stack.enter_context(RunningDaemon(shop.directory, config, f"daemon{n}")) for n in range(3)]
        for daemon in daemons:
            daemon.ready()
        until(lambda: len({run.link for run in _runs(engine)}) == len(LINKS))
        began = time.time()
        for number in range(KILLS):
            until(lambda: any(run.finished_at is None for run in _runs(engine)))  # somebody is in the middle of a pass
            daemons[number % 3].end(signal.SIGKILL)
            left = [run for run in _runs(engine) if run.finished_at is None]
            daemons[number % 3] = stack.enter_context(
                RunningDaemon(shop.directory, config, f"daemon{number + 3}")
            ).ready()
            _wait_for_all(engine, {run.link for run in left}, max(run.id for run in left) if left else 0)
        ended = time.time()
        _wait_for_all(engine, set(LINKS), max(run.id for run in _runs(engine)))
        assert [daemon.end() for daemon in daemons] == [0, 0, 0]
        started = [
            (event["link"], event["run_id"], name)
            for name in range(3 + KILLS)
            for event in events_of((shop.directory / f"daemon{name}.log").read_text(), "run started")
        ]

    runs = _runs(engine)
    engine.dispose()
    by_link: dict[str, list[Any]] = defaultdict(list)
    for run in runs:
        by_link[run.link].append(run)

    # Never two passes of one link at once: a pass begins after the one before it ended, or was cut off by a kill.
    for link, passes in by_link.items():
        for one, two in itertools.pairwise(passes):
            assert not _whole(one) or one.finished_at <= two.started_at, (link, one, two)
    # No slot is served twice, unless the pass that served it was cut off.
    for link, passes in by_link.items():
        slots = FireTimes(link, parse_schedule(f"{EVERY}s"))
        served = Counter(slots.after(run.started_at) for run in passes if _whole(run))
        assert max(served.values()) == 1, (link, served)
    # No slot between the first kill and the end is left out, and a kill delays nothing for longer than a moment.
    for link, passes in by_link.items():
        starts = [run.started_at for run in passes if began - EVERY <= run.started_at <= ended + EVERY]
        gaps = [two - one for one, two in itertools.pairwise(starts)]
        assert max(gaps) <= EVERY + WITHIN, (link, gaps)
    # The work was shared: no daemon did it alone, and those that came later had their part.
    shares = Counter(name for _link, _run, name in started)
    assert len(shares) > KILLS
    assert max(shares.values()) < 0.8 * len(runs)
    assert {run.id for run in runs if _whole(run)} <= {run for _link, run, _name in started}
    assert {run.state for run in runs if _whole(run)} == {"applied"}
    assert 1 <= sum(not _whole(run) for run in runs) <= KILLS * len(LINKS)


def _wait_for_all(engine: sa.Engine, links: set[str], after: int) -> None:
    """Wait until each of these links has had a whole pass that is newer than a run."""
    until(lambda: links <= {run.link for run in _runs(engine) if run.id > after and _whole(run)})
