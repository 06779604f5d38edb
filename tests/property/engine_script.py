"""A life of the rule machine as a scenario file: what was done to the world over the real parts, line by line.

link direction=two-way on_conflict=hold settle=60 max_removes=1 conditional=True
                            (parts=True: at the end passes over parts bring it to rest, and one over all finds nothing to do)
edit crm-bind 5             somebody else does something (`engine_world.TABLE_EDITS`, `crm-…`, `clock-…`)
fault add: dropped before   the next such call goes wrong (`FAULTS`)
pass crash_at=12 meanwhile=3:crm-bind:5,7:stop:0 visitor_at=1 race_at=1 window=True
pass part=slice             over the slice whose turn it is; likewise part=recent, part=hint: over the hinted orders,
                            part=5,7-9; `plan` also
hint 5                      somebody says that the order has changed; `watch`: the table's watch tells all that have
plan / apply choice=1 / undo / rebase      likewise; choice counts the stored plans, or the runs, from the latest
decide 0 crm                a person decides an open hold
stream 3                    somebody binds a new order before each of the next three calls of a listing
state backup                the state database is copied; `state restore`: put back; `state lost`: begun anew
mart 5                      another link in the same state database has a pass
later 61                    time goes by
elsewhere                   the configuration names the other ends
mend                        nothing goes wrong any more
rest                        the end: everything comes to rest, and every promise is judged

`engine_replay` plays such a file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from syncd.sandbox.faults import Fault, FaultRule

ADD, DELETE, LIST = "crm.orderentity.add", "crm.orderentity.deletebyfilter", "crm.orderentity.list"


@dataclass
class Pass:
    """One act of syncd, as a rule asks for it.

    Args:
        act: pass, plan, apply, undo, rebase.
        part: What a pass or a plan covers; empty for all orders.
        choice: Which of the runs or plans there are.
        crash_at: The step at which its process dies; 0 is never.
        meanwhile: (step, kind of edit, order): what others do while it is under way.
        visitor_at: 1: a second process comes during the listing; 2, 3, …: before the first, second, … batch.
        race_at: Somebody binds an order of the n-th batch elsewhere right before it is sent; 0 is never.
        window: That happens after the batch has listed its orders, so that nobody sees what is overwritten: the one
            thing that docs/guarantees.md does not promise.
    """

    act: str
    choice: int = 0
    crash_at: int = 0
    meanwhile: tuple[tuple[int, str, int], ...] = ()
    visitor_at: int = 0
    race_at: int = 0
    window: bool = False
    part: str = ""


def _faults() -> dict[str, FaultRule]:
    """What the network and the portal may do wrong, once or until it is mended, by a short name."""
    rules: dict[str, FaultRule] = {}
    for name, method in (("add", ADD), ("delete", DELETE), ("list", LIST)):
        rules |= {
            f"{name}: dropped before": FaultRule(Fault.DROP, method, when="before", times=1),
            f"{name}: dropped after": FaultRule(Fault.DROP, method, when="after", times=1),
            f"{name}: 500 after": FaultRule(Fault.STATUS, method, when="after", times=1, status=500),
            f"{name}: 503 twice": FaultRule(Fault.STATUS, method, when="before", times=2, status=503),
            f"{name}: 503 until it is mended": FaultRule(Fault.STATUS, method, when="before", times=None, status=503),
            f"{name}: a page instead": FaultRule(Fault.HTML, method, when="after", times=1),
            f"{name}: another type": FaultRule(Fault.CONTENT_TYPE, method, when="after", times=1),
            f"{name}: cut off": FaultRule(Fault.TRUNCATE, method, times=1),
            f"{name}: broken": FaultRule(Fault.ERROR, method, times=1, code="INTERNAL_SERVER_ERROR"),
            f"{name}: no right": FaultRule(Fault.ERROR, method, times=1, code="INSUFFICIENT_SCOPE"),
            f"{name}: key forgotten": FaultRule(Fault.LOSE_KEY, method, times=1),
        }
    for name, method in (("add", ADD), ("delete", DELETE)):
        rules |= {
            f"{name}: a second late": FaultRule(Fault.ZOMBIE, method, times=1, seconds=1),
            f"{name}: 50 seconds late": FaultRule(Fault.ZOMBIE, method, times=1, seconds=50),
            f"{name}: over budget": FaultRule(Fault.ERROR, method, times=2, code="OPERATION_TIME_LIMIT"),
            f"{name}: order 2 refused": FaultRule(Fault.ERROR, method, times=None, key="o2", code="100", text="no"),
        }
    for page in (Fault.SHORT, Fault.GAP, Fault.EMPTY, Fault.REPEAT, Fault.SHUFFLE, Fault.TOTAL):
        rules |= {f"{page} page": FaultRule(page, times=1), f"{page} pages": FaultRule(page, times=None)}
    return rules


FAULTS = _faults()


def fault_line(rule: FaultRule) -> str:
    """Given a fault, return the line that repeats it."""
    return f"fault {next((name for name, one in FAULTS.items() if one == rule), 'that has no name')}"


def pass_line(what: Pass) -> str:
    """Given an act, return the line that repeats it."""
    words = [what.act]
    for field in fields(Pass)[1:]:
        value = getattr(what, field.name)
        if value != field.default:
            words.append(f"{field.name}={_meanwhile(value) if field.name == 'meanwhile' else value}")
    return " ".join(words)


def _meanwhile(edits: Iterable[tuple[int, str, int]]) -> str:
    return ",".join(":".join(map(str, edit)) for edit in edits)


def pass_of(act: str, words: Iterable[str]) -> Pass:
    """Given the words of such a line, return the act."""
    options: dict[str, Any] = dict(word.split("=", 1) for word in words)
    edits = [one.split(":") for one in options.pop("meanwhile", "").split(",") if one]
    window, part = options.pop("window", "") == "True", options.pop("part", "")
    numbers = {name: int(value) for name, value in options.items()}
    happens = tuple((int(at), kind, int(order)) for at, kind, order in edits)
    return Pass(act, meanwhile=happens, window=window, part=part, **numbers)
