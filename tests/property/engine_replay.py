"""A scenario file of the rule machine (`engine_script.py`) played again.

    python -m tests.property.engine_replay broken-lives/machine.scenario

says which promise it breaks; the exit code is then 1.
"""

from __future__ import annotations

import sys
from pathlib import Path

import structlog

from syncd.core.model import Direction, OnConflict
from tests.property.engine_script import FAULTS, pass_of
from tests.property.engine_world import EngineWorld


def play(text: str) -> EngineWorld:
    """Given a scenario file, play it in a new world, and return that; what breaks a promise raises an AssertionError."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    options = dict(word.split("=") for word in lines[0].split()[1:])
    world = EngineWorld(
        direction=Direction(options["direction"]),
        on_conflict=OnConflict(options["on_conflict"]),
        settle=float(options["settle"]),
        max_removes=int(options["max_removes"]),
        conditional=options["conditional"] == "True",
        parts=options.get("parts") == "True",
    )
    try:
        for line in lines[1:]:
            _play_line(world, line)
    finally:
        world.close()
    return world


def _play_line(world: EngineWorld, line: str) -> None:
    verb, *words = line.split()
    if verb in {"mend", "rest", "watch"}:
        getattr(world, verb)()
        return
    match verb:
        case "edit":
            world.edit(words[0], int(words[1]))
        case "fault":
            world.fault(FAULTS[" ".join(words)])
        case "decide":
            world.decide(int(words[0]), words[1])
        case "stream":
            world.stream(int(words[0]))
        case "state":
            world.state_happens(words[0])
        case "mart":
            world.other_link(int(words[0]))
        case "hint":
            world.hint(int(words[0]))
        case "later":
            world.later(float(words[0]))
        case "elsewhere":
            world.point_elsewhere()
        case _:
            world.syncd(pass_of(verb, words))


def main() -> int:
    """Play the file named on the command line."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        play(Path(sys.argv[1]).read_text())
    except AssertionError as broken:
        print(broken)
        return 1
    print("every promise was kept")
    return 0


if __name__ == "__main__":
    sys.exit(main())
