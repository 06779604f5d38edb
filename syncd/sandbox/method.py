"""A REST method of the sandbox, and one call of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from syncd.sandbox.answers import Answer
from syncd.sandbox.contents import Contents
from syncd.sandbox.php import PhpArray


class Actor(NamedTuple):
    """Who calls: a webhook or an application's token. `key` tells budgets apart and holds no secret."""

    key: str
    scope: frozenset[str]
    is_application: bool = False


@dataclass(slots=True)
class Call:
    """One call: the portal, its parameters, the number of the request, who asks, which handlers heard of it already."""

    portal: Contents
    params: PhpArray
    request: int
    actor: Actor
    delivered: set[str]


@dataclass(frozen=True, slots=True)
class Method:
    """A method.

    Args:
        run: Executes a call; raises `Refusal`.
        scope: The scope it needs; empty for none.
        cost: The field of `Latencies` that says how long it takes.
        app_only: Answers webhooks with WRONG_AUTH_TYPE.
    """

    run: Callable[[Call], Answer]
    scope: str = "crm"
    cost: str = "other"
    app_only: bool = False
