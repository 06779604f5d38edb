"""What the sandbox's own tests stand on: short ways to ask a portal."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from syncd.sandbox import SandboxPortal, SandboxRequest, SandboxResponse
from tests.fakes.clock import SetClock


class Reply(NamedTuple):
    status: int
    body: Any

    @property
    def result(self) -> Any:
        return self.body["result"]

    @property
    def orders(self) -> list[int]:
        return [row["orderId"] for row in self.result["orderEntity"]]

    @property
    def error(self) -> tuple[int, Any, str]:
        return self.status, self.body["error"], self.body["error_description"]


def request_of(
    method: str,
    params: Any = None,
    *,
    verb: str = "POST",
    code: str = "sandboxsecret",
    user: int | str = 1,
    path: str | None = None,
    **more: Any,
) -> SandboxRequest:
    return SandboxRequest(
        verb,
        path or f"/rest/{user}/{code}/{method}",
        headers={"content-type": "application/json"},
        body=json.dumps(params or {}).encode(),
        **more,
    )


def ask(portal: SandboxPortal, method: str, params: Any = None, **more: Any) -> Reply:
    return reply_of(portal.handle(request_of(method, params, **more)))


def reply_of(response: SandboxResponse) -> Reply:
    return Reply(response.status, json.loads(response.body))


def listed(portal: SandboxPortal, **params: Any) -> Reply:
    return ask(portal, "crm.orderentity.list", params)


def add(portal: SandboxPortal, **fields: Any) -> Reply:
    return ask(portal, "crm.orderentity.add", {"fields": fields})


def delete(portal: SandboxPortal, **fields: Any) -> Reply:
    return ask(portal, "crm.orderentity.deleteByFilter", {"fields": fields})


def batch(portal: SandboxPortal, cmd: Any, halt: Any = 0) -> Any:
    reply = ask(portal, "batch", {"halt": halt, "cmd": cmd})
    assert reply.status == 200
    return reply.result


def add_command(order: int, owner: int = 12) -> str:
    return f"crm.orderentity.add?fields[orderId]={order}&fields[ownerId]={owner}&fields[ownerTypeId]=2"


def side_by_side(
    portal: SandboxPortal, clock: SetClock, requests: Iterable[SandboxRequest]
) -> list[tuple[float, SandboxResponse]]:
    """Send requests at once and let time pass; return when each was answered, in seconds, and with what."""
    started = clock.time
    answers: dict[int, tuple[float, SandboxResponse]] = {}
    waiting = [(clock.time, number, portal.exchange(request)) for number, request in enumerate(requests)]
    count = len(waiting)
    while waiting:
        due, number, steps = heapq.heappop(waiting)
        clock.time = max(clock.time, due)
        try:
            pause = next(steps)
        except StopIteration as end:
            answers[number] = (round(clock.time - started, 3), end.value)
        else:
            heapq.heappush(waiting, (clock.time + pause.seconds, number, steps))
    return [answers[number] for number in range(count)]
