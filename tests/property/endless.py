"""The second part of `make soak`: lives of the rule machine over the real parts, different ones each time.

    python -m tests.property.endless [--lives 500] [--keep broken-lives]

Without `--lives` it goes on until Ctrl-C or SIGTERM, and then says how many lives it played. Ctrl-C also ends a background
job that inherited an ignored SIGINT. A life that breaks a promise is printed and kept as a scenario file; the exit code is
then 1.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
from pathlib import Path
from types import FrameType

from tests.property.engine_machine import EngineMachine, play_lives

ROUND = 25


def main() -> int:
    """Play lives until the asked number is reached, one breaks a promise, or a signal comes. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lives", type=int, help="how many to play; without it, until Ctrl-C")
    parser.add_argument("--keep", type=Path, default=Path("broken-lives"))
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    played = 0
    try:
        print(f"rule machine: {options.lives or 'endless'} lives; Ctrl-C ends it", flush=True)
        while options.lives is None or played < options.lives:
            lives = ROUND if options.lives is None else min(ROUND, options.lives - played)
            play_lives(lives, keep=options.keep, chance=secrets.randbits(32))
            played += lives
            print(f"rule machine: {played} lives kept every promise", flush=True)
    except KeyboardInterrupt:
        print(f"rule machine: ended after {played} lives, which kept every promise")
    except AssertionError as broken:
        print(f"rule machine: after {played} lives that kept every promise, one broke it: {broken}")
        return 1
    return 0


def _end(_signal: int, _frame: FrameType | None) -> None:
    # The exception below is lost if the signal arrives in a callback that swallows it. Then the next life sees this mark.
    EngineMachine.ended = True
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
