"""Answers in every shape, and what each error code means."""

from __future__ import annotations

import pytest

from syncd.portal.responses import (
    ApiError,
    ApiErrorKind,
    CommandAnswer,
    UnusableAnswer,
    as_map,
    kind_of,
    number,
    open_batch,
    whole,
)


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
    assert open_batch({"result": {"result": {"a": None}}}, ["a"]).commands["a"].error is None


def test_given_an_error_that_is_no_object_when_opened_then_it_is_a_fault_all_the_same() -> None:
    inner = {"result": [], "result_error": {"a": "went wrong", "b": {"error": 0, "error_description": ""}}}

    answer = open_batch({"result": inner}, ["a", "b"])

    assert answer.commands["a"].error == ApiError("", "went wrong")
    assert answer.commands["b"].error == ApiError("0", "")


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
    ("error", "expected"),
    [
        (ApiError("QUERY_LIMIT_EXCEEDED", "", 503), ApiErrorKind.RATE),
        (ApiError("query_limit_exceeded", ""), ApiErrorKind.RATE),
        (ApiError("", "", 503), ApiErrorKind.BROKEN),
        (ApiError("NEW", "", 429), ApiErrorKind.BROKEN),
        (ApiError("OPERATION_TIME_LIMIT", "", 429), ApiErrorKind.OPERATING),
        (ApiError("OVERLOAD_LIMIT", "", 503), ApiErrorKind.BLOCKED),
        (ApiError("expired_token", "", 401), ApiErrorKind.EXPIRED),
        (ApiError("ERROR_BATCH_LENGTH_EXCEEDED", ""), ApiErrorKind.PASSING),
        (ApiError("NEW", "", 401), ApiErrorKind.AUTH),
        (ApiError("NEW", "", 403), ApiErrorKind.AUTH),
        (ApiError("", "", 403), ApiErrorKind.BROKEN),
        (ApiError("", "", 404), ApiErrorKind.BROKEN),
        (ApiError("NEW", "", 500), ApiErrorKind.BROKEN),
        (ApiError("NEW", "", 410), ApiErrorKind.CLOSED),
        (ApiError("0", "", 400), ApiErrorKind.REFUSED),
        (ApiError("0", ""), ApiErrorKind.REFUSED),
        (ApiError("", "text"), ApiErrorKind.REFUSED),
    ],
)
def test_given_a_fault_when_judged_then_its_code_decides_and_its_status_only_without_one(
    error: ApiError, expected: ApiErrorKind
) -> None:
    assert kind_of(error) is expected
