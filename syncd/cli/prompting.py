"""Questions at a terminal that leave it in order when a signal comes, or the terminal is closed, meanwhile."""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click


class Left(click.Abort):
    """A question was left unanswered, because of a signal or of a terminal that is gone.

    Args:
        number: The signal; SIGHUP for a terminal that went without one.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def prompt(text: str, **how: Any) -> Any:
    """Ask as `click.prompt` does.

    Raises:
        Left: SIGTERM or SIGHUP came, or the terminal is gone. One whose echo was off has it back.
    """
    with _left_in_order():
        return click.prompt(text, **how)


def confirm(text: str, **how: Any) -> bool:
    """Ask as `click.confirm` does; raises what `prompt` does."""
    with _left_in_order():
        return click.confirm(text, **how)


@contextmanager
def _left_in_order() -> Iterator[None]:
    def leave(number: int, _frame: FrameType | None) -> None:
        raise Left(number)

    # A signal that is ignored (nohup) stays so.
    ours = [one for one in (signal.SIGHUP, signal.SIGTERM) if signal.getsignal(one) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, leave)
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO:  # which is what a terminal says that was closed
            raise
        raise Left(signal.SIGHUP) from None
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
