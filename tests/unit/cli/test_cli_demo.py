"""The demonstration, when somebody has seen enough."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path

import pytest

from syncd.cli import stopping
from syncd.cli.demo import play
from syncd.cli.screen import Screen
from syncd.core.ports import Cancelled


class Watched(io.StringIO):
    """A screen's stream that sends this process a signal when a step's heading comes."""

    def __init__(self, step: int, number: signal.Signals) -> None:
        super().__init__()
        self._heading = f"{step}. "
        self._number = number

    def write(self, text: str) -> int:
        if text.startswith(self._heading):
            os.kill(os.getpid(), self._number)
        return super().write(text)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 7])
def test_given_a_signal_during_a_step_then_the_demo_ends_before_the_next_and_leaves_nothing(
    step: int,
    number: signal.Signals,
    code: int,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary = tmp_path_factory.mktemp("demo")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    stream = Watched(step, number)

    async def work(cancelled: Cancelled) -> int:
        return 0 if await play(Screen(stream, {}), cancelled) else 1

    assert stopping.run(work) == code
    assert list(temporary.glob("syncd-demo-*")) == []
    assert not Path(os.environ["STATE_DIRECTORY"]).exists()
    headings = [line for line in stream.getvalue().splitlines() if line[:1].isdigit()]
    assert step <= len(headings) <= step + 1
