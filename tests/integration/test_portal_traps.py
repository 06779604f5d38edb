"""Every trap of portal.md 13 that concerns a client: its test here, or where else it is tested.

Left to the engine and the table: 16 and 17 in part (what to do about a lost race), 21, 23, 25, 26 (what a missing or an
unknown binding means). Left out with events, which syncd does not subscribe to: 27 to 31.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest

from syncd.core.model import Owner
from syncd.core.ports import Effect, Write
from syncd.sandbox import Latencies, PortalLimits, SandboxPortal, Version
from syncd.sandbox.php import to_int
from tests.fakes.clock import FakeClock
from tests.fakes.portal_client import client, listed
from tests.fakes.sandbox_transport import SandboxTransport

pytestmark = pytest.mark.anyio

DEAL, OTHER = Owner(2, 10), Owner(2, 11)

ELSEWHERE = {
    1: "test_given_several_pages_when_listing_then_chunks_grow_strictly",
    2: "test_given_a_portal_that_ignores_filters_when_listed_then_it_is_not_taken_for_a_listing",
    3: "test_given_no_ids_when_reading_then_no_request_is_made",
    4: "test_given_an_old_box_that_takes_in_for_one_when_reading_then_equality_answers",
    5: "test_given_orders_when_written_as_commands_then_in_is_a_list_and_one_is_an_equality",
    8: "test_given_a_total_that_fell_since_the_page_was_read_when_listed_then_a_full_page_is_not_the_last",
    10: "test_given_writes_when_written_as_commands_then_all_three_ids_are_named_and_no_reference",
    12: "test_given_a_batch_with_lists_for_numeric_keys_when_opened_then_each_key_is_found",
    13: "test_given_a_key_that_is_forgotten_when_adding_then_it_is_read_again_and_found_done",
    14: "test_given_the_error_code_zero_when_writing_then_it_is_a_refusal_like_any_other",
    15: "test_given_a_fault_when_judged_then_its_code_decides_and_its_status_only_without_one",
    16: "test_given_somebody_bound_the_order_when_written_then_it_is_not_overwritten",
    18: "test_given_an_echo_when_adding_then_only_the_wanted_triple_confirms_it",
    19: "test_given_another_owner_when_removing_then_nothing_is_removed_and_the_result_names_the_other",
    20: "test_given_an_answer_that_cannot_be_used_when_writing_then_nothing_is_sent_again",
    24: "test_given_an_owner_that_does_not_exist_when_asked_then_it_is_missing",
    32: "test_given_a_new_pair_when_used_then_it_was_stored_before",
    33: "test_given_an_error_of_the_authorisation_server_that_cannot_heal_when_refreshing_then_the_run_ends",
    34: "test_given_the_server_endpoint_moves_when_refreshed_then_the_next_refresh_goes_there",
    35: "test_given_a_new_portal_address_when_writing_then_the_post_is_repeated_there_and_the_host_remembered",
    36: "test_given_a_slow_portal_when_writing_then_batches_shrink_until_they_take_five_seconds",
    37: "test_given_adds_are_over_budget_when_asked_then_removes_and_lists_go_on",
    38: "test_given_a_refusal_when_other_links_of_the_host_send_then_they_wait_too",
    39: "test_given_an_overload_block_when_listing_then_it_ends_and_says_to_call_support",
    43: "test_given_a_right_when_probed_then_reading_and_writing_are_judged_apart",
    44: "test_given_any_failure_when_it_is_shown_then_no_secret_is_in_it",
    46: "test_given_a_row_without_an_owner_when_listing_then_that_order_comes_apart_and_all_others_as_ever",
    45: "test_given_an_answer_that_cannot_be_used_when_listing_then_it_is_asked_for_again",
}
"""Traps by number, and the test that shows what the client does about each."""


class Recorder(httpx.AsyncBaseTransport):
    """The sandbox, and every request that went to it."""

    def __init__(self, portal: SandboxPortal) -> None:
        self.requests: list[httpx.Request] = []
        self._inner = SandboxTransport(portal)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        return await self._inner.handle_async_request(request)

    @property
    def commands(self) -> list[str]:
        return [command for request in self.requests for command in json.loads(request.content)["cmd"].values()]


@pytest.fixture
def portal(clock: FakeClock) -> SandboxPortal:
    bound = {order: DEAL for order in range(1, 301) if order != 9}
    return SandboxPortal(bound, orders=range(1, 400), clock=clock)


@pytest.fixture
async def recorder(portal: SandboxPortal, clock: FakeClock) -> Recorder:
    """All that a listing, a reading, a move, a removal, a question for owners and a probe send."""
    recorder = Recorder(portal)
    async with client(recorder, clock, conditional=None) as ours:
        await listed(ours)
        await ours.read([5, 6, 9])
        await ours.write([Write(5, DEAL, OTHER)])
        await ours.write([Write(8, None, OTHER)])
        await ours.write([Write(6, DEAL, None)])
        await ours.missing_owners({DEAL, OTHER}, ())
        await ours.probe([DEAL])
    return recorder


@pytest.mark.parametrize("name", ELSEWHERE.values(), ids=[f"trap-{number}" for number in ELSEWHERE])
def test_each_trap_has_its_test(name: str) -> None:
    here = Path(__file__).parent
    files = [*here.glob("test_portal_*.py"), *(here.parent / "unit/portal").glob("*.py")]
    files.append(here.parent / "contract/test_portal_port.py")

    assert any(f"def {name}(" in file.read_text(encoding="utf-8") for file in files if file.name != Path(__file__).name)


async def test_trap_6_a_body_of_another_type_counts_as_none_so_json_is_named_and_nothing_stands_in_the_query(
    recorder: Recorder,
) -> None:
    assert {request.headers["content-type"] for request in recorder.requests} == {"application/json"}
    assert {(request.method, request.url.query) for request in recorder.requests} == {("POST", b"")}


async def test_trap_7_the_default_order_is_not_unique_so_every_list_of_several_orders_names_one(
    recorder: Recorder,
) -> None:
    lists = [unquote(command) for command in recorder.commands if "orderentity.list" in command]
    several = [command for command in lists if "filter[=orderId]=" not in command]

    assert several
    assert all("order[orderId]=" in command for command in several)


async def test_trap_9_and_11_offsets_and_chains_restart_silently_so_no_page_is_asked_for_by_either(
    recorder: Recorder,
) -> None:
    starts = {
        argument for command in recorder.commands for argument in command.split("&") if argument.startswith("start")
    }

    assert starts == {"start=0", "start=-1"}


async def test_trap_47_a_reference_ends_a_value_that_alone_means_0_and_in_a_write_it_is_the_order_id(
    recorder: Recorder,
) -> None:
    with_references = [unquote(command) for command in recorder.commands if "%24" in command]

    assert with_references
    for command in with_references:
        values = [argument.partition("]=") for argument in command.partition("?")[2].split("&") if "$" in argument]
        for key, _, value in values:
            alone = value.partition("$")[0]
            assert to_int(alone) == 0
            assert key in {"fields[orderId", "filter[=orderId", "filter[>orderId", "filter[<orderId"}
        if command.startswith("crm.orderentity.add"):
            assert [key for key, _, _ in values] == ["fields[orderId"]


async def test_trap_17_a_move_is_one_add_and_never_a_removal_before(portal: SandboxPortal, clock: FakeClock) -> None:
    async with client(portal, clock) as ours:
        await ours.write([Write(5, DEAL, OTHER)])

    assert [(write.method, write.before, write.after) for write in portal.stats.writes] == [
        ("crm.orderentity.add", DEAL, OTHER)
    ]


async def test_trap_22_a_binding_whose_order_is_gone_cannot_be_removed_so_it_is_reported_and_not_tried_again(
    portal: SandboxPortal, clock: FakeClock
) -> None:
    portal.delete_order(5, dangling=True)
    async with client(portal, clock) as ours:
        (result,) = await ours.write([Write(5, DEAL, None)])

    assert (result.effect, result.code) == (Effect.ORDER_MISSING, "200540400001")
    assert portal.stats.calls["crm.orderentity.deletebyfilter"] == 1


@pytest.mark.parametrize("version", Version)
async def test_trap_40_times_may_be_whole_seconds_and_operating_may_be_absent(
    clock: FakeClock, version: Version
) -> None:
    sizes = []
    for limits in (PortalLimits.standard(), PortalLimits.box()):
        portal = SandboxPortal(
            {5: DEAL}, orders=range(1, 400), clock=clock, version=version, limits=limits, latencies=Latencies(add=0.9)
        )
        writes = [Write(order, None, DEAL) for order in range(10, 60)]
        async with client(portal, clock) as ours:
            for _ in range(6):
                size = ours.batch_size(writes)
                await ours.write(writes[:size])
                del writes[: min(size, 5)]
            sizes.append(size)

    assert sizes == [5, 5]


async def test_trap_41_the_list_of_owner_types_is_never_asked_for(recorder: Recorder) -> None:
    assert not [command for command in recorder.commands if "enum" in command]


async def test_trap_42_values_are_encoded_and_in_lists_stay_short(recorder: Recorder) -> None:
    assert not [command for command in recorder.commands if set(command) & set("[]<>@#+ ")]
    assert max(command.count("%40orderId") for command in recorder.commands) <= 50
