"""The sandbox's `batch`: order of execution, `halt`, references, limits."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from syncd.sandbox import PortalLimits, SandboxPortal, Version
from tests.fakes.clock import SetClock
from tests.unit.sandbox.sandbox_calls import add_command, ask, batch

LIST = "crm.orderentity.list?start=-1&order[orderId]=asc"
BAD = "crm.orderentity.list?select=x"


@pytest.fixture
def portal() -> SandboxPortal:
    return SandboxPortal(((order, 2, 7) for order in range(1, 121)), clock=SetClock())


def orders(answer: Any) -> list[int]:
    return [row["orderId"] for row in answer["orderEntity"]]


def test_commands_run_in_the_order_given(portal: SandboxPortal) -> None:
    batch(portal, {"b": add_command(2), "a": add_command(1)})
    assert [write.order_id for write in portal.stats.writes] == [2, 1]


def test_no_commands_make_five_empty_parts(portal: SandboxPortal) -> None:
    empty: dict[str, list[object]] = {
        "result": [],
        "result_error": [],
        "result_total": [],
        "result_next": [],
        "result_time": [],
    }
    assert batch(portal, {}) == empty
    assert batch(portal, "x") == empty
    assert ask(portal, "batch").result == empty


def test_names_of_the_arguments_may_be_in_any_case(portal: SandboxPortal) -> None:
    reply = ask(portal, "Batch.json", {"CMD": {"a": BAD, "b": LIST}, "Halt": 1})
    assert reply.result["result"] == []
    assert list(reply.result["result_error"]) == ["a"]


@pytest.mark.parametrize("halt", [1, "1", True, "false", "true"])
def test_halt_stops_after_the_first_error(portal: SandboxPortal, halt: Any) -> None:
    result = batch(portal, {"a": LIST, "b": BAD, "c": LIST}, halt)
    assert (list(result["result"]), list(result["result_error"]), list(result["result_time"])) == (["a"], ["b"], ["a"])


@pytest.mark.parametrize("halt", [0, "0", False, "", None])
def test_without_halt_it_goes_on(portal: SandboxPortal, halt: Any) -> None:
    result = batch(portal, {"a": LIST, "b": BAD, "c": LIST}, halt)
    assert (list(result["result"]), list(result["result_error"])) == (["a", "c"], ["b"])


def test_halt_at_the_fifty_first_stops_there(portal: SandboxPortal) -> None:
    result = batch(portal, {f"c{number}": LIST for number in range(53)}, 1)
    assert (len(result["result"]), list(result["result_error"])) == (50, ["c50"])


def test_what_is_no_string_is_skipped_but_counts(portal: SandboxPortal) -> None:
    result = batch(portal, {"n": 5, **{f"c{number}": LIST for number in range(50)}})
    assert len(result["result"]) == 49
    assert list(result["result_error"]) == ["c49"]


@pytest.mark.parametrize("method", ["batch", "upload", "download", "Batch"])
def test_some_methods_are_not_for_batches(portal: SandboxPortal, method: str) -> None:
    assert batch(portal, {"a": f"{method}?cmd[x]=profile"})["result_error"]["a"] == {
        "error": "ERROR_BATCH_METHOD_NOT_ALLOWED",
        "error_description": "Method is not allowed for batch usage",
    }


def test_an_old_box_executes_a_batch_in_a_batch() -> None:
    portal = SandboxPortal({1: (2, 7)}, version=Version.OLD)
    inner = quote(LIST)
    assert orders(batch(portal, {"a": f"batch?cmd[x]={inner}"})["result"]["a"]["result"]["x"]) == [1]


@pytest.mark.parametrize("command", ["/crm.orderentity.list", "crm.orderentity.list.json", "nothing", "", "x#y"])
def test_an_unknown_method_fails_alone(portal: SandboxPortal, command: str) -> None:
    assert batch(portal, {"a": command})["result_error"]["a"]["error"] == "ERROR_METHOD_NOT_FOUND"


def test_a_fragment_is_cut_off(portal: SandboxPortal) -> None:
    assert orders(batch(portal, {"a": LIST + "&filter[orderId]=5#&filter[orderId]=6"})["result"]["a"]) == [5]


def test_brackets_may_be_percent_encoded(portal: SandboxPortal) -> None:
    command = "crm.orderentity.list?start=-1&filter%5B%40orderId%5D%5B%5D=5&filter%5B%40orderId%5D%5B%5D=7"
    assert orders(batch(portal, {"a": command})["result"]["a"]) == [5, 7]


def test_a_sub_query_is_cut_at_max_input_vars(portal: SandboxPortal) -> None:
    ids = "&".join(f"filter[@orderId][]={number}" for number in range(1, 41))
    portal.max_input_vars = 30
    assert orders(batch(portal, {"a": f"crm.orderentity.list?{ids}"})["result"]["a"]) == list(range(1, 31))


def test_totals_and_next_pages_are_gathered(portal: SandboxPortal) -> None:
    result = batch(portal, {"a": "crm.orderentity.list", "b": "crm.orderentity.list?start=100", "c": LIST})
    assert result["result_total"] == {"a": 120, "b": 120}
    assert result["result_next"] == {"a": 50}
    assert list(result["result_time"]) == ["a", "b", "c"]


def test_numeric_keys_without_gaps_are_a_list_in_every_part(portal: SandboxPortal) -> None:
    result = batch(portal, {"0": LIST, "1": LIST})
    assert isinstance(result["result"], list)
    assert isinstance(result["result_time"], list)
    assert isinstance(batch(portal, {"5125": LIST})["result"], dict)


def test_a_reference_takes_the_place_of_a_value(portal: SandboxPortal) -> None:
    chain = {
        "p0": LIST,
        "p1": LIST + "&filter[>orderId]=$result[p0][orderEntity][49][orderId]",
        "p2": LIST + "&filter[>orderId]=%24result[p1][orderEntity][49][orderId]",
        "p3": LIST + "&filter[>orderId]=$result[p2][orderEntity][49][orderId]",
    }
    pages = [orders(page) for page in batch(portal, chain)["result"].values()]
    assert pages == [list(range(1, 51)), list(range(51, 101)), list(range(101, 121)), list(range(2, 52))]


@pytest.mark.parametrize(
    ("value", "first"),
    [
        ("$result[p0][orderEntity][9][orderId]", 11),
        ("$result[p0][orderEntity][99][orderId]", 2),
        ("$result[nothing][orderEntity][9][orderId]", 2),
        ("$result", 2),
        ("$RESULT[p0][orderEntity][9][orderId]", 1),
        ("$total[c0]", None),
        ("$error[bad]", 101),
        ("x$result[p0][orderEntity][9][orderId]", 1),
        ("1$result[p0][orderEntity][9][orderId]", 111),
        ("$result[p0][orderEntity][9][orderId],$result[p0][orderEntity][0][orderId]", 11),
        ("$result[p0][orderEntity][9][orderId] $result[p0][orderEntity][0][orderId]", 11),
        ("$time[p0][finish]", None),
        ("$nothing[p0]", 1),
    ],
)
def test_references_are_walked_as_far_as_they_go(portal: SandboxPortal, value: str, first: int | None) -> None:
    result = batch(
        portal, {"bad": BAD, "p0": LIST, "c0": "crm.orderentity.list", "x": f"{LIST}&filter[>orderId]={value}"}
    )
    assert next(iter(orders(result["result"]["x"])), None) == first


def test_next_of_a_page_without_one_is_the_first_page_again(portal: SandboxPortal) -> None:
    result = batch(portal, {"a": "crm.orderentity.list?start=100", "b": "crm.orderentity.list?start=$next[a]"})
    assert orders(result["result"]["b"]) == list(range(1, 51))


def test_the_operating_time_of_an_earlier_command_can_be_referred_to() -> None:
    portal = SandboxPortal({1: (2, 7)}, limits=PortalLimits.standard(), clock=SetClock())
    result = batch(portal, {"a": LIST, "b": LIST + "&filter[<orderId]=$time[a][operating_reset_at]"})
    assert orders(result["result"]["b"]) == [1]


def test_a_reference_as_a_key_breaks_the_key(portal: SandboxPortal) -> None:
    result = batch(portal, {"a": LIST, "b": LIST + "&filter[$result[a]=5&$result=3"})
    assert orders(result["result"]["b"]) == list(range(1, 51))


def test_a_missing_scope_has_no_description_in_a_batch() -> None:
    portal = SandboxPortal({1: (2, 7)}, scope=frozenset({"sale"}))
    assert batch(portal, {"a": LIST})["result_error"]["a"] == {"error": "insufficient_scope", "error_description": ""}
    assert ask(portal, "crm.orderentity.list").error == (
        401, "insufficient_scope", "The request requires higher privileges than provided by the access token",
    )  # fmt: skip


def test_credentials_and_reserved_names_in_a_command_change_nothing(portal: SandboxPortal) -> None:
    assert orders(batch(portal, {"a": LIST + "&auth=x&sessid=y&__order=z"})["result"]["a"])[:1] == [1]


@pytest.mark.parametrize("version", list(Version))
def test_times_are_whole_numbers_on_a_new_portal(version: Version) -> None:
    portal = SandboxPortal(
        {1: (2, 7)}, version=version, clock=SetClock(1_795_000_000.75), limits=PortalLimits.standard()
    )
    reply = ask(portal, "batch", {"cmd": {"a": LIST}})
    for time in (reply.body["time"], reply.result["result_time"]["a"]):
        start = 1_795_000_000 if version is Version.NEW else 1_795_000_000.75
        assert time == {
            "start": start,
            "finish": 1_795_000_000.75,
            "duration": 1_795_000_000.75 - start,
            "processing": 0,
            "date_start": "2026-11-18T14:06:40+03:00",
            "date_finish": "2026-11-18T14:06:40+03:00",
            "operating_reset_at": 1_795_000_600,
            "operating": 0,
        }


def test_a_box_sends_no_operating_time(portal: SandboxPortal) -> None:
    assert "operating" not in ask(portal, "crm.orderentity.list").body["time"]
