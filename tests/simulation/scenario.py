"""Scenario files: what both sides held, what happened, and how it must end, in a small readable form.

# comment
both 5=10 7=11      stands on both sides, and is agreed by a first pass
link direction=crm-to-table on_conflict=crm first_sync=ask orders=1-9 max_removes=1
crm 5=12 7=-        outside edits in the portal (`-`: unbound; `3@31`: object 3 of type 31)
table 9=20          outside edits in the table
double 5            a second row for the order; `single 5`: only its first row again
garble 5            the order's row names no owner that can be read; `nameless`: a row without an order id
deselect 5          `where` no longer selects the order's row; `select 5`: it does again
missing order 9     the portal does not know the order; `appear 9`: it does from now on
missing owner 20    the deal does not exist
odd 5               the order's row in the CRM names no owner that can be read
view                the table hides what a write does to other rows
unconditional       the portal's batches can carry no condition: orders are read, then overwritten
poison 5            the portal refuses every write of the order; `heal 5`: no longer
during portal.read crm 5=30   an outside edit right before syncd's next call of that name
race crm 5=30       happens right before the next write to that side is executed
afterwards crm 5=10 happens right after the portal's next write request, before anything is read
lose before|after   the next answer to a write of the portal is lost, before or after its effect
busy 3              the portal refuses the next three write requests for a limit
zombie              the next write request loses its connection, and is executed only a second later (`zombie 30`: 30)
omit 5              the portal's next listing leaves the order out, and looks complete
incomplete          the portal's next listing cannot be proved complete
later 90            the clock goes on by so many seconds
clock -4000         the clock is set, while time goes on as ever
within 200          no more than so many seconds have passed since the beginning
ends elsewhere      the configuration names other ends; `rebase` starts anew with them
decide 5 crm        a person decides a hold: crm, table or retry
pass                one reconcile (`pass safely`: never the one that is interrupted)
die portal.write    one reconcile whose process dies right after its first call of that name
die portal.write apply         likewise one application of the last stored plan
robbed store.intend one reconcile that loses its lease right before its first call of that name
plan / apply / undo a plan is stored / the last stored plan is applied / the last pass is undone (stored as a plan)
apply stale         the last stored plan can no longer be applied, which is said before anything is asked of the portal
apply stale pass    likewise the last pass
apply refused       the last pass, which was refused, is applied
now crm 5=12        what must hold at this point; likewise whatever `expect` can say
expect crm 5=12     what must stand at the end; likewise `expect table`
expect held 5 edit-edit        `expect free 5`: not held
expect step 5       both sides have the same value, and it is agreed
expect refused max_removes     the last pass was refused by this guard, among others
expect sends 3      so many writes were sent to the portal

At the end no write is in doubt and no run is open, whatever is expected besides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

Value = tuple[int, int] | None

FOLDER = Path(__file__).parent.parent / "scenarios"


@dataclass(frozen=True)
class Line:
    """One line: a verb and its words; `edits` where the words are `order=value` pairs."""

    number: int
    verb: str
    words: tuple[str, ...]

    def edits(self, skip: int = 0) -> dict[int, Value]:
        return dict(_edit(word) for word in self.words[skip:])


@dataclass(frozen=True)
class Scenario:
    """A parsed file."""

    name: str
    lines: tuple[Line, ...] = field(default_factory=tuple)

    @property
    def steps(self) -> list[Line]:
        return [line for line in self.lines if line.verb != "expect"]

    @property
    def expectations(self) -> list[Line]:
        return [line for line in self.lines if line.verb == "expect"]


def _edit(word: str) -> tuple[int, Value]:
    order, _, text = word.partition("=")
    if text == "-":
        return int(order), None
    owner, _, owner_type = text.partition("@")
    return int(order), (int(owner_type or 2), int(owner))


def parse(text: str, name: str) -> Scenario:
    lines = []
    for number, raw in enumerate(text.splitlines(), 1):
        words = raw.partition("#")[0].split()
        if words:
            lines.append(Line(number, words[0], tuple(words[1:])))
    return Scenario(name, tuple(lines))


def load_all() -> list[Scenario]:
    return [parse(path.read_text(), path.stem) for path in sorted(FOLDER.glob("*.scenario"))]
