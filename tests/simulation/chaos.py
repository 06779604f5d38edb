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

SMALL, LARGE = range(1, 10), range(1, 27)
"""The orders of a life; from twenty bindings on, the guards have percentages."""
BETWEEN = ("at", "mart", "forget", "restore state")
"""What never happens at a step of syncd's: no process outlives its state database."""
EARLY = range(50, 55)
"""Orders that the table may know before the portal does."""
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

    def __init__(self, seed: int, *, steps: int = 12, parts: bool = False) -> None:
        self.dice = random.Random(seed)
        self._parts = parts
        self.life = Life(Scenario(f"seed-{seed}"))
        self.lines: list[Line] = []
        self._steps = steps
        self._fresh = iter(range(1000, 10**9))
        self._doubled: set[int] = set()
        self._hot: list[int] = []
        self._hurried = False
        self._settle = self.dice.choice([5, 60])
        self._orders = self.dice.choice([SMALL, SMALL, LARGE])
        self._values: dict[int, list[int]] = {}
        """The owners that each order ever had on a side, as far as somebody set them here."""
        self._calm = self._chance(0.3)
        """Nobody sets clocks in this life, so that its days can be counted."""

    async def run(self) -> Life:
        """Make the life and play it."""
        await self._begin()
        for _ in range(self._steps):
            await self._others()
            await self._upheaval()
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
            f"max_removes_percent={dice.choice([10, 100])} max_moves_percent={dice.choice([30, 100])} "
            f"max_removes_percent_per_day={dice.choice([15, 15, 1000])} "
            f"max_moves_percent_per_day={dice.choice([35, 35, 1000])} "
            f"second_look_above={dice.choice([0, 2, 2, 5])} max_reverts={dice.choice([1, 5, 5])} "
            f"first_sync={dice.choice(['auto', 'auto', 'ask'])} settle={self._settle}"
        )
        if self._chance(0.3):
            await self._say("unconditional")
        if self._orders is LARGE:
            both = " ".join(f"{order}={next(self._fresh)}" for order in self._orders)
            for line in (f"crm {both}", f"table {both}", "pass"):
                await self._say(line)

    # ---------------------------------------------------------------- what others do

    async def _others(self) -> None:
        for _ in range(self.dice.randrange(4)):
            await self._say(self._edit())
        if self._chance(0.5):
            await self._say(self._fault())
        if self._chance(0.1):
            await self._say(f"poison {self.dice.choice(self._orders)}" if self._chance(0.7) else "heal")
        if self._chance(0.02):
            await self._say("wipe")

    def _edit(self) -> str:
        dice = self.dice
        order = dice.choice(self._hot if self._hot and self._chance(0.4) else self._orders)
        side = dice.choice(["crm", "table"])
        if self._chance(0.12):
            return self._oddity(order, side)
        there = (self.life.world.portal if side == "crm" else self.life.world.table).bindings.get(order)
        if there is not None and self._chance(0.25):
            return f"{side} {order}=-"
        return f"{side} {order}={self._value(order)}"

    def _value(self, order: int) -> int:
        """Return an owner to bind an order to: a new one, or one it had before."""
        known = self._values.setdefault(order, [])
        if known and self._chance(0.3):
            return self.dice.choice(known)
        known.append(next(self._fresh))
        return known[-1]

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

    # ------------------------------------------------------- what ordinary life does

    async def _upheaval(self) -> None:
        """Something that no single edit is; a reload goes on, row by row, until all rows are back."""
        if self._chance(0.3):
            await self._say("backup")
        if self.life.away:
            await self._say(f"at {self.dice.randrange(1, ACT_STEPS)} loaded {self.dice.choice([1, 2, 9])}")
            if self._chance(0.5):
                await self._say(f"loaded {self.dice.choice([1, 3, 9])}")
        if self._chance(0.3):
            for line in self._of_ordinary_life():
                at = (
                    f"at {self.dice.randrange(1, ACT_STEPS)} "
                    if self._chance(0.2) and not line.startswith(BETWEEN)
                    else ""
                )
                await self._say(f"{at}{line}")
        if self._chance(0.05):
            for _ in range(self.dice.randrange(2, 25)):
                await self._say(self._edit())
                await self._say("tick")
                await self._say("later 3600")

    def _of_ordinary_life(self) -> list[str]:
        dice = self.dice
        order, other = dice.sample(self._orders, 2)
        some = sorted(dice.sample(self._orders, dice.choice([1, 2, 3, len(self._orders) // 3, len(self._orders) // 2])))
        fresh, alike = next(self._fresh), dice.choice([str(next(self._fresh)), "-"])
        there = self.life.world.table.bindings.get(order)
        again = (
            [f"table {order}=-", f"at {dice.randrange(1, ACT_STEPS)} table {order}={there.owner_id}"] if there else []
        )
        value = dice.choice([f"{other}", f"{other}={self._value(other)}"])
        happenings: list[list[str]] = [
            *([f"restore {what} {dice.choice([1, 1, 2, 5])}"] for what in ("crm", "table", "table", "state")),
            ["forget"] if self._chance(0.2) else ["backup"],
            ["reload"],
            [f"hide {_words(some)}"],
            ["unhide", "rekey"],
            [f"unkey {one}" for one in some],
            [f"clash {order} {other}"],
            [f"crm {order}={fresh} {other}={next(self._fresh)}", f"trigger {order} {value}"],
            [f"crm {order}={fresh} {other}={next(self._fresh)}", f"trigger {order} {value}"],
            [f"early {dice.choice(EARLY)}={fresh}"],
            [f"born {dice.choice(EARLY)}", f"parent {order}"],
            [f"childless {order}", f"crm {order}={fresh}"],
            [f"odd {order}"],
            [f"even {order}"],
            [f"stream {dice.choice([1, 5])}"],
            [f"mart {order}={dice.choice([str(fresh), '-'])}"],
            [f"{dice.choice(['crm', 'table'])} {' '.join(f'{one}={alike}' for one in some)}"],
            again,
        ]  # fmt: skip
        return dice.choice(happenings)

    def _fault(self) -> str:
        dice = self.dice
        if self._chance(0.25):
            return f"zombie {self._delay()}"
        if self._chance(0.1):
            return f"omit {dice.choice(self._orders)}"
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

    async def _hints(self) -> None:
        """Somebody hints at some orders, or the table is watched, now or at a step of the next act."""
        for _ in range(self.dice.randrange(3)):
            some = sorted(self.dice.sample(self._orders, self.dice.choice([1, 1, 3])))
            at = f"at {self.dice.randrange(1, ACT_STEPS)} " if self._chance(0.5) else ""
            await self._say(at + ("watch" if self._chance(0.4) else f"hint {_words(some)}"))

    async def _act(self) -> None:
        dice = self.dice
        if self._parts:
            await self._hints()
        if self._chance(0.04):
            await self._move()
        for at in sorted(dice.randrange(1, ACT_STEPS) for _ in range(dice.choice([0, 1, 1, 2, 3]))):
            await self._say(f"at {at} {self._edit()}")
        if self._chance(0.1):
            await self._say(f"at {dice.randrange(1, ACT_STEPS)} {self._fault()}")
        if not self._calm and self._chance(0.15):
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
        if self._parts and self._chance(0.7):
            await self._say(f"part {self._portion()}")
            return
        act = dice.choices(["pass", "plan", "apply", "undo"], [10, 2, 3, 1])[0]
        await self._say(f"{act} {dice.choice([1, 1, 2, 3])}" if act in {"apply", "undo"} else act)

    def _portion(self) -> str:
        if self._chance(0.75):
            return self.dice.choice(["slice", "recent", "hint"])
        some = self.dice.sample(self._orders, self.dice.choice([1, 2, 3, len(self._orders) // 2]))
        return ",".join(map(str, sorted(some)))

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
        if not self._calm and self._chance(0.5 if self._hurried else 0.15):
            await self._say(f"clock {self._jump()}")
        if self._hurried and self._hot:
            self._hurried = False
            await self._say(f"table {self.dice.choice(self._hot)}={next(self._fresh)}")
            await self._say("later 1")
            return
        await self._say(f"later {self.dice.choice([0.1, 1, 30, 100, 4000, 90000])}")


def _words(orders: Sequence[int]) -> str:
    return " ".join(map(str, orders))


async def live(seed: int, *, parts: bool = False) -> Life:
    """Play the life of a seed; with `parts`, most of its passes cover only some orders."""
    return await Chaos(seed, parts=parts).run()


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
