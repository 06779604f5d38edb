"""One rule of the product switched off for the length of a test, and the tests that must notice.

The product has no such switch: `Name` puts another function or value into the place of one, `Silent` leaves out what a
function refuses and holds, `Guard` takes one guard's refusals out of the answer. None repeats text of the product. Each
fails loudly where what it names is no longer there, so a rule that is moved takes its row of the table along.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import pkgutil
import textwrap
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Protocol

import pytest

from syncd import errors
from syncd.core import guards
from syncd.core.model import Side
from syncd.engine import observe
from tests.simulation.scenario import FOLDER, Scenario, parse
from tests.simulation.world import Play

ERRORS = {
    name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.SyncdError)
}

Test = Callable[[], None]
"""Returns when what it tells of ends as it should, and raises an AssertionError or an error of syncd when it does not."""


class Off(Protocol):
    """How a rule is switched off."""

    def flip(self, patch: pytest.MonkeyPatch) -> None: ...


@dataclass(frozen=True)
class Silent:
    """A function that refuses nothing and holds nothing: its statements that raise an error of syncd, or that make a hold
    or a refusal, are left out."""

    where: str

    def flip(self, patch: pytest.MonkeyPatch) -> None:
        function = find(self.where)
        silencer = _Silencer()
        tree = ast.fix_missing_locations(silencer.visit(ast.parse(textwrap.dedent(inspect.getsource(function)))))
        if not silencer.left_out:
            raise LookupError(f"{self.where} refuses nothing and holds nothing")
        made: dict[str, Any] = {}
        exec(compile(tree, f"<{self.where} silent>", "exec"), function.__globals__, made)
        patch.setattr(function, "__code__", inspect.unwrap(made[function.__name__]).__code__)


def refusals(tree: ast.AST) -> set[str]:
    """Given code, return what it raises of syncd's errors, and what it calls to hold an order or to refuse a plan."""
    raised = {_called(one.exc) for one in ast.walk(tree) if isinstance(one, ast.Raise)}
    return raised & ERRORS | {_called(one) for one in ast.walk(tree)} & {"GuardHit", "Hold", "hold"}


def _called(node: ast.AST | None) -> str:
    """Given a call, return the last part of the name that is called."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


class _Silencer(ast.NodeTransformer):
    """Puts `pass` into the place of each statement that refuses or holds."""

    def __init__(self) -> None:
        self.left_out = 0

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, ast.Raise | ast.Expr | ast.Assign | ast.Return) or not refusals(node):
            return super().generic_visit(node)
        self.left_out += 1
        return ast.copy_location(ast.Pass(), node)


@dataclass(frozen=True)
class Name:
    """Gives a name of a module, `package.module:name`, or of a class, `package.module:Class.name`, another value."""

    where: str
    value: object

    def flip(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(self.where.replace(":", "."), self.value)


@dataclass(frozen=True)
class Guard:
    """Keeps one guard from refusing, on one side."""

    name: str
    side: Side
    where: str = "syncd.core.guards:evaluate"

    def flip(self, patch: pytest.MonkeyPatch) -> None:
        evaluate = guards.evaluate

        def without(*args: Any, **kwargs: Any) -> Any:
            return [hit for hit in evaluate(*args, **kwargs) if (hit.name, hit.side) != (self.name, self.side)]

        patch.setattr(guards, "evaluate", without)


@dataclass(frozen=True)
class Together:
    """Switches off what is asked twice: either place would stop what the other one let through."""

    first: Off
    second: Off

    def flip(self, patch: pytest.MonkeyPatch) -> None:
        self.first.flip(patch)
        self.second.flip(patch)


@dataclass(frozen=True)
class Switch:
    """One row of the table.

    Args:
        rule: What holds, as a sentence.
        off: How it is switched off.
        caught_by: The tests that pass with it and must fail without it.
    """

    rule: str
    off: Off
    caught_by: tuple[Test, ...]


def rule(sentence: str, off: Off, *caught_by: str | Test) -> Switch:
    """Make a row; a scenario is named as its file is, without the suffix."""
    return Switch(sentence, off, tuple(Played(one) if isinstance(one, str) else one for one in caught_by))


def find(where: str) -> FunctionType:
    """Given a place, return the function there, without its decorators."""
    function = inspect.unwrap(pkgutil.resolve_name(where))
    assert isinstance(function, FunctionType), f"{where} is no function"
    return function


@dataclass(frozen=True)
class Played:
    """A scenario file, played once; `singly`: both sides are read one order at a time."""

    name: str
    singly: bool = False

    @property
    def scenario(self) -> Scenario:
        return parse((FOLDER / f"{self.name}.scenario").read_text(), self.name)

    def __call__(self) -> None:
        asyncio.run(self._play())

    async def _play(self) -> None:
        play = Play(self.scenario)
        with pytest.MonkeyPatch.context() as patch:
            if self.singly:
                patch.setattr(observe, "SEGMENT", 1)
                play.world.portal.chunk = 1
            await play.run()
            await play.check()


@dataclass(frozen=True)
class Specified:
    """A test of another module."""

    test: Callable[..., Coroutine[Any, Any, None]]
    args: tuple[Any, ...]

    def __call__(self) -> None:
        asyncio.run(self.test(*self.args))


def specification(test: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> Test:
    """Name a test of another module, and its arguments."""
    return Specified(test, args)
