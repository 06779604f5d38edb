"""Answers in every shape, and what each error code means."""

from __future__ import annotations

import pytest

from syncd.portal.codes import Fault, Verdict, verdict
from syncd.portal.envelope import CommandAnswer, UnusableAnswer, as_map, number, open_batch, whole


@pytest.mark.parametrize(
    ("value", "expected"), [([], {}), (None, {}), (["x", "y"], {"0": "x", "1": "y"}), ({"a": 1}, {"a": 1})]
)
def test_given_a_php_array_when_read_then_it_is_a_map(value: object, expected: dict[str, object]) -> None:
    assert as_map(value) == expected


def test_given_what_is_no_php_array_when_read_then_it_is_unusable() -> None:
    with pytest.raises(UnusableAnswer):
        as_map("text")


def test_given_a_batch_with_lists_for_numeric_keys_when_opened_then_each_key_is_found() -> None:
    inner = {"result": ["a", "b"], "result_error": [], "result_total": ["5", None], "result_time": [{"finish": 1}, 5]}

    answer = open_batch({"result": inner, "time": {"operating": 0}}, ["0", "1", "2"])

    assert answer.commands["0"] == CommandAnswer("a", None, 5, {"finish": 1})
    assert answer.commands["1"] == CommandAnswer("b", None, None, None)
    assert "2" not in answer.commands
    assert answer.time == {"operating": 0}


def test_given_a_key_that_both_succeeded_and_failed_when_opened_then_nothing_is_known_of_it() -> None:
    inner = {"result": {"a": 1}, "result_error": {"a": {"error": "X"}}}

    assert open_batch({"result": inner, "time": []}, ["a"]) == ({}, {})


def test_given_a_null_result_when_opened_then_the_command_succeeded() -> None:
    assert open_batch({"result": {"result": {"a": None}}}, ["a"]).commands["a"].fault is None


def test_given_an_error_that_is_no_object_when_opened_then_it_is_a_fault_all_the_same() -> None:
    inner = {"result": [], "result_error": {"a": "went wrong", "b": {"error": 0, "error_description": ""}}}

    answer = open_batch({"result": inner}, ["a", "b"])

    assert answer.commands["a"].fault == Fault("", "went wrong")
    assert answer.commands["b"].fault == Fault("0", "")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5), ("5", 5), (5.0, 5), ("-5", -5), (5.5, None), ("5.5", None), ("", None), ("x", None), (None, None),
        (True, None), ([], None), ("٣", None), ("9" * 30, None), (float("nan"), None), (float("inf"), None),
    ],
)  # fmt: skip
def test_given_a_number_in_any_form_when_read_then_only_whole_ones_are_ids(value: object, expected: int | None) -> None:
    assert whole(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(5, 5.0), ("5.5", 5.5), (None, None), (True, None), ("x", None), ([], None), (10**400, None)],
)
def test_given_seconds_in_any_form_when_read_then_they_are_a_float(value: object, expected: float | None) -> None:
    assert number(value) == expected


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("QUERY_LIMIT_EXCEEDED", "", 503), Verdict.RATE),
        (Fault("query_limit_exceeded", ""), Verdict.RATE),
        (Fault("", "", 503), Verdict.RATE),
        (Fault("NEW", "", 429), Verdict.RATE),
        (Fault("OPERATION_TIME_LIMIT", "", 429), Verdict.OPERATING),
        (Fault("OVERLOAD_LIMIT", "", 503), Verdict.BLOCKED),
        (Fault("expired_token", "", 401), Verdict.EXPIRED),
        (Fault("ERROR_BATCH_LENGTH_EXCEEDED", ""), Verdict.PASSING),
        (Fault("NEW", "", 401), Verdict.AUTH),
        (Fault("NEW", "", 403), Verdict.AUTH),
        (Fault("", "", 403), Verdict.BROKEN),
        (Fault("", "", 404), Verdict.BROKEN),
        (Fault("NEW", "", 500), Verdict.BROKEN),
        (Fault("NEW", "", 410), Verdict.CLOSED),
        (Fault("0", "", 400), Verdict.REFUSED),
        (Fault("0", ""), Verdict.REFUSED),
        (Fault("", "text"), Verdict.REFUSED),
    ],
)
def test_given_a_fault_when_judged_then_its_code_decides_and_its_status_only_without_one(
    fault: Fault, expected: Verdict
) -> None:
    assert verdict(fault) is expected
