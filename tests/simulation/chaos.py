"""A seeded life of one link: outside writers on both sides, faults of every kind, crashes, second processes, a person.

`live(seed)` makes it, line by line, and plays each line as it is made (`life.py`); every promise that was broken is in
`Life.broken`. The lines are a scenario that repeats the life: `text` writes it down, `shrunk` leaves out what is not
needed to break the promise.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from syncd.core.model import Direction, OnConflict
from tests.simulation.life import Life, play
from tests.simulation.scenario import Line, Scenario

ORDERS = range(1, 10)
ACT_STEPS = 60
"""About as many steps as a pass takes."""

FAULTS = (
    "lose before", "lose after", "lose halfway", "lose table before", "lose table after", "busy 1", "busy 4", "incomplete",
    "away portal.listing", "away portal.read", "away portal.write", "away table.snapshot", "away table.read",
    "away table.write", "denied",
)  # fmt: skip
PROCESS = ("stop", "rob", "visit", "stateless")


class Chaos:
    """One life in the making.

    Args:
        seed: The seed.
        steps: How many acts of syncd it has, besides coming to rest.
    """

    def __init__(self, seed: int, *, steps: int = 12) -> None:
        self.dice = random.Random(seed)
        self.life = Life(Scenario(f"seed-{seed}"))
        self.lines: list[Line] = []
        self._steps = steps
        self._fresh = iter(range(1000, 10**9))
        self._doubled: set[int] = set()
        self._hot: list[int] = []
        self._hurried = False
        self._settle = self.dice.choice([5, 60])

    async def run(self) -> Life:
        """Make the life and play it."""
        await self._begin()
        for _ in range(self._steps):
            await self._others()
            await self._person()
            await self._act()
            await self._look_for_trouble()
            await self._later()
        await self._say("rest")
        return self.life

    async def _say(self, text: str) -> None:
        verb, *words = text.split()
        line = Line(len(self.lines) + 1, verb, tuple(words))
        self.lines.append(line)
        await self.life.do(line)

    def _chance(self, probability: float) -> bool:
        return self.dice.random() < probability

    async def _look_for_trouble(self) -> None:
        """Remember the orders that are held or in the journal: what is done to them next is most likely to go wrong."""
        world = self.life.world
        row = await world.store.find_link("shop")
        intents = await world.store.open_intents(row.id) if row is not None else ()
        late = (write.order_id for _left, batch in world.portal.late for write in batch)
        self._hot = sorted({one.change.order_id for one in intents} | {*late} | (await world.held()).keys() - {0})

    async def _begin(self) -> None:
        dice = self.dice
        direction = dice.choice([*Direction, Direction.TWO_WAY, Direction.TWO_WAY])
        await self._say(
            f"link direction={direction} on_conflict={dice.choice(list(OnConflict))} "
            f"max_removes={dice.choice([1, 2, 100])} max_removes_per_day={dice.choice([4, 10**6, 10**6])} "
            f"first_sync={dice.choice(['auto', 'auto', 'ask'])} settle={self._settle}"
        )

    # ---------------------------------------------------------------- what others do

    async def _others(self) -> None:
        for _ in range(self.dice.randrange(4)):
            await self._say(self._edit())
        if self._chance(0.5):
            await self._say(self._fault())
        if self._chance(0.1):
            await self._say(f"poison {self.dice.choice(ORDERS)}" if self._chance(0.7) else "heal")
        if self._chance(0.02):
            await self._say("wipe")

    def _edit(self) -> str:
        dice = self.dice
        order = dice.choice(self._hot if self._hot and self._chance(0.4) else ORDERS)
        side = dice.choice(["crm", "table"])
        if self._chance(0.12):
            return self._oddity(order, side)
        there = (self.life.world.portal if side == "crm" else self.life.world.table).bindings.get(order)
        if there is not None and self._chance(0.25):
            return f"{side} {order}=-"
        return f"{side} {order}={next(self._fresh)}"

    def _oddity(self, order: int, side: str) -> str:
        """Something that is rare, and neither a binding nor its removal."""
        oddity = self.dice.choice(
            ["double", "single", "garble", "deselect", "select", "scope", "delete", "nameless", "nowhere", "somebody"]
        )
        if oddity == "scope":
            return f"{side} {order}={next(self._fresh)}@31"
        if oddity == "double" and order in self._doubled:
            return f"single {order}"
        if oddity == "double":
            self._doubled.add(order)
        missing = sorted(owner.owner_id for owner in self.life.owners.missing)
        if oddity == "somebody" and missing:
            return f"somebody {self.dice.choice(missing)}"
        if oddity in {"nowhere", "somebody"}:
            return f"nowhere {order}={next(self._fresh)}"
        return oddity if oddity == "nameless" else f"{oddity} {order}"

    def _fault(self) -> str:
        dice = self.dice
        if self._chance(0.25):
            return f"zombie {self._delay()}"
        if self._chance(0.1):
            return f"omit {dice.choice(ORDERS)}"
        return dice.choice(FAULTS)

    def _delay(self) -> int:
        # What shows no sign while it is looked for may surprise later (docs/guarantees.md).
        return self.dice.choice([1, 20, 45, 59] if self._settle == 60 else [1, 4])

    async def _person(self) -> None:
        if self._chance(0.2):
            for order in sorted(await self.life.world.held()):
                if order and self._chance(0.5):
                    decision = self.dice.choice(["crm", "table", "retry"])
                    await self._say(f"decide {order} {decision}")

    # ------------------------------------------------------------------- what syncd does

    async def _act(self) -> None:
        dice = self.dice
        if self._chance(0.04):
            await self._move()
        for at in sorted(dice.randrange(1, ACT_STEPS) for _ in range(dice.choice([0, 1, 1, 2, 3]))):
            await self._say(f"at {at} {self._edit()}")
        if self._chance(0.1):
            await self._say(f"at {dice.randrange(1, ACT_STEPS)} {self._fault()}")
        if self._chance(0.15):
            await self._say(f"at {dice.randrange(1, ACT_STEPS)} clock {self._jump()}")
        if self._chance(0.25):
            await self._say(f"at {dice.randrange(1, ACT_STEPS)} {dice.choice(PROCESS)}")
        if self._chance(0.1):
            side = dice.choice(["crm", "crm", "table"])
            await self._say(f"overtake {side} {next(self._fresh) if self._chance(0.7) else '-'}")
        if self._chance(0.05):
            await self._say(f"zombie {self._delay()}")
            await self._say("at portal.write die")
            self._hurried = True
        elif self._chance(0.35):
            moment = dice.choice(["portal.write", "table.write", *map(str, range(1, ACT_STEPS, 3))])
            await self._say(f"at {moment} die")
        act = dice.choices(["pass", "plan", "apply", "undo"], [10, 2, 3, 1])[0]
        await self._say(f"{act} {dice.choice([1, 1, 2, 3])}" if act in {"apply", "undo"} else act)

    async def _move(self) -> None:
        """The configuration names other ends; a person mends it, or starts anew with them."""
        ends = self.life.world.options.get("fingerprint", "ends")
        await self._say("ends elsewhere" if ends == "ends" else "ends ends")
        await self._say(self.dice.choice(["pass", "plan", "apply 1"]))
        if self._chance(0.5):
            await self._say("rebase")
        elif self._chance(0.8):
            await self._say(f"ends {ends}")

    def _jump(self) -> int:
        return self.dice.choice([-(10**7), -4000, -50, 50, 4000, 10**7])

    async def _later(self) -> None:
        if self._chance(0.5 if self._hurried else 0.15):
            await self._say(f"clock {self._jump()}")
        if self._hurried and self._hot:
            self._hurried = False
            await self._say(f"table {self.dice.choice(self._hot)}={next(self._fresh)}")
            await self._say("later 1")
            return
        await self._say(f"later {self.dice.choice([0.1, 1, 30, 100, 4000, 90000])}")


async def live(seed: int) -> Life:
    """Play the life of a seed."""
    return await Chaos(seed).run()


def text(lines: Sequence[Line], broken: Sequence[object] = ()) -> str:
    """Given the lines of a life, return the scenario file that repeats it."""
    said = [f"# {one}" for one in broken]
    return "\n".join([*said, *(" ".join((line.verb, *line.words)) for line in lines), "expect promises", ""])


async def shrunk(lines: Sequence[Line]) -> list[Line]:
    """Given a life that breaks a promise, return one that breaks the same, with as few of its lines as can be found."""
    kept = list(lines)
    wanted = await _promises(kept)
    size = len(kept) // 2
    while size:
        start = 0
        while start < len(kept):
            fewer = kept[:start] + kept[start + size :]
            if wanted & await _promises(fewer):
                kept = fewer
            else:
                start += size
        size //= 2
    return kept


async def _promises(lines: Sequence[Line]) -> set[int]:
    """Return which promises these lines break; lines that cannot be played break none."""
    try:
        life = await play(Scenario("shrinking", tuple(lines)))
    except (AssertionError, ValueError, LookupError):
        return set()
    return {one.promise for one in life.broken}
