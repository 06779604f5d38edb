"""A pass with hundreds of changes to make on either side is killed at random moments, again and again, while outside writers keep editing.

They put old values back, bind again what they unbound, delete rows and insert them anew. `make test` kills eight times. SYNCD_TEST_KILLS=200 asks for more, SYNCD_TEST_SEED for other moments and other edits;
`pytest -s` shows what it came to.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from syncd.core.model import Side
from syncd.sandbox import Fault, FaultRule, Faults
from tests.system.kill_judge import Judge, Records, Start
from tests.system.outsiders import Outsiders, deal
from tests.system.shop import Shop, open_shop

KILLS = int(os.environ.get("SYNCD_TEST_KILLS", "8"))
SEED = int(os.environ.get("SYNCD_TEST_SEED", "1"))
ORDERS = 2000
CHANGES = 600
"""On either side, when a pass is started."""
SETTLING = 10
"""Passes after the last kill by which there is nothing left to do."""

SLOW_ADD = FaultRule(Fault.SLOW, method="crm.orderentity.add", probability=0.1, times=None, seconds=0.005)
"""An add that takes a moment now and then, so that others get a word in within a batch."""

UNGUARDED = """
import sys
from syncd.cli.main import main
from syncd.config.model import GuardSettings
from syncd.core.guards import GuardLimits

GuardSettings.limits = lambda _: GuardLimits(**dict.fromkeys(GuardLimits.__dataclass_fields__, 10**9))
sys.exit(main())
"""
"""The program with guards that refuse nothing. Hundreds of passes change each order several times a day, and the
configuration takes no percentage above 100."""

Due = Callable[[], bool]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A link in step, whose guards refuse nothing and whose requests live for two seconds."""
    bindings = {order: order for order in range(1, ORDERS + 1)}
    with open_shop(tmp_path, bindings, orders=range(1, 10**6), faults=Faults(seed=SEED)) as made:
        made.create_table(list(bindings.items()))
        made.settings["first_sync"] = '"auto"'
        made.state_url = f"sqlite:///{tmp_path / 'state.db'}"
        made.portal_settings = {"plan": '"box"', "max_request_seconds": "2"}
        made.program = ("-c", UNGUARDED)
        made.call("reconcile").check(0)
        yield made


class Killer:
    """Starts passes, and kills each at a moment that is drawn anew: how far it is, as both sides see it, or a time.

    Args:
        shop: The link.
        outsiders: Its outside writers, whose log of the table is looked at.
    """

    def __init__(self, shop: Shop, outsiders: Outsiders) -> None:
        self.starts: list[Start] = []
        self.happened: Counter[str] = Counter()
        self._shop = shop
        self._outsiders = outsiders
        self._dice = random.Random(SEED)
        self._moments = itertools.cycle(
            [self._at_a_call, self._after_a_table_write, self._before_a_late_request, self._at_any_time]
        )

    @property
    def kills(self) -> int:
        return sum(times for what, times in self.happened.items() if what.startswith("killed at"))

    def start_and_kill(self) -> None:
        """Start a pass and kill it, unless it comes to its end before."""
        self.starts.append(Start(self._shop.portal.stats.requests, time.time()))
        self._shop.portal.faults.clear()
        self._shop.portal.faults.add(SLOW_ADD)
        process = self._shop.start("--log-level", "error", "reconcile")
        with next(self._moments)(process) as (name, due):
            while process.poll() is None and not due():
                time.sleep(0.001)
            process.kill()
            out, err = process.communicate(timeout=60)
        if process.returncode == -signal.SIGKILL:
            self.happened[f"killed at {name}"] += 1
            self.happened["left writes in flight"] += bool(Records(self._shop.state_url).open_intents())
        else:
            assert process.returncode in {0, 3}, f"exit {process.returncode}\n{out}\n{err}"
            self.happened["came to its end first"] += 1

    @contextmanager
    def _at_a_call(self, process: subprocess.Popen[str]) -> Iterator[tuple[str, Due]]:
        left = itertools.count(self._dice.randrange(1, 750), -1)

        def count(_method: str, _params: object, _request: int) -> None:
            if next(left) == 0:
                process.kill()

        stop = self._shop.portal.before_call(count)
        yield "a call of the portal", lambda: False
        stop()

    @contextmanager
    def _after_a_table_write(self, _process: subprocess.Popen[str]) -> Iterator[tuple[str, Due]]:
        wanted, place = self._dice.randrange(1, 300), self._outsiders.written_to_table()[1]
        yield "a write to the table", lambda: self._outsiders.written_to_table(place)[0] >= wanted

    @contextmanager
    def _before_a_late_request(self, _process: subprocess.Popen[str]) -> Iterator[tuple[str, Due]]:
        stats, seconds = self._shop.portal.stats, self._dice.uniform(0.9, 1.8)
        wanted = stats.requests + self._dice.randrange(10, 50)
        self._shop.portal.faults.add(FaultRule(Fault.DELAY, request=wanted, seconds=seconds))
        yield "a request that is executed later", lambda: stats.requests >= wanted

    @contextmanager
    def _at_any_time(self, _process: subprocess.Popen[str]) -> Iterator[tuple[str, Due]]:
        end = time.monotonic() + self._dice.uniform(0.3, 3.0)
        yield "any time", lambda: time.monotonic() >= end


def test_given_kills_at_random_moments_while_others_write_then_nothing_is_lost_or_flipped_back(shop: Shop) -> None:
    records, outsiders = Records(shop.state_url), Outsiders(shop, ORDERS, SEED)
    killer = Killer(shop, outsiders)
    while killer.kills < KILLS:
        outsiders.make_changes(CHANGES, records.held())
        with outsiders.at_work():
            killer.start_and_kill()
    shop.portal.faults.clear()
    passes = [shop.run("--log-level", "error", "reconcile", "--json").json[0] for _ in range(2)]
    while passes[-1]["changes"] or passes[-2]["changes"]:
        assert len(passes) < SETTLING, "still writing, although nobody else is"
        passes.append(shop.run("--log-level", "error", "reconcile", "--json").json[0])

    first = {order: deal(order) for order in range(1, ORDERS + 1)}
    judge = Judge(first, {side: outsiders.seen(side) for side in Side}, outsiders.reads, killer.starts)
    judge.judge(records)
    print(dict(outsiders.happened + killer.happened + judge.counted), "held at the end:", len(records.held()))
    assert not judge.broken, "\n".join(judge.broken[:20])
    assert killer.happened["left writes in flight"]
    assert outsiders.happened["set again"]
    assert outsiders.happened["row inserted anew"]
    shop.call("db", "check").check(0)
