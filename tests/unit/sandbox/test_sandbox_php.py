"""Query strings and casts as PHP reads them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.sandbox.php import decode_array, encode, parse_query, to_bool, to_int, to_text


@pytest.mark.parametrize(
    ("text", "array"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a", {"a": ""}),
        ("a=1&a=2", {"a": "2"}),
        ("&&a=1&&", {"a": "1"}),
        ("=1", {}),
        ("a=b=c", {"a": "b=c"}),
        ("a+b=c+d", {"a_b": "c d"}),
        ("a.b=1", {"a_b": "1"}),
        ("%20%20a=1", {"a": "1"}),
        ("a[b]=1", {"a": {"b": "1"}}),
        ("a%5Bb%5D=1", {"a": {"b": "1"}}),
        ("a[]=1&a[]=2", {"a": {0: "1", 1: "2"}}),
        ("a[ ]=1", {"a": {0: "1"}}),
        ("a[5]=x&a[]=y", {"a": {5: "x", 6: "y"}}),
        ("a[b]=1&a[]=2", {"a": {"b": "1", 0: "2"}}),
        ("a[b][c]=1&a[b][d]=2", {"a": {"b": {"c": "1", "d": "2"}}}),
        ("a[b][]=1&a[c][]=2", {"a": {"b": {0: "1"}, "c": {0: "2"}}}),
        ("a=1&a[b]=2", {"a": {"b": "2"}}),
        ("a[b]=1&a=2", {"a": "2"}),
        ("a[b]=1&a=2&a[]=3", {"a": {0: "3"}}),
        ("a[b=1", {"a_b": "1"}),
        ("a[b.c[d=1", {"a_b_c_d": "1"}),
        ("a[b][c=1", {"a": {"b": "1"}}),
        ("a[b]c=1", {"a": {"b": "1"}}),
        ("a[b]c[d]=1", {"a": {"b": "1"}}),
        ("[a]=1", {}),
        ("filter[>orderId]=5", {"filter": {">orderId": "5"}}),
        ("filter[>%3DorderId]=5", {"filter": {">=orderId": "5"}}),
        ("filter[@orderId][]=5&filter[@orderId][]=7", {"filter": {"@orderId": {0: "5", 1: "7"}}}),
        ("a[01]=x&a[-0]=y&a[-7]=z", {"a": {"01": "x", "-0": "y", -7: "z"}}),
        ("a[9223372036854775807]=x&a[9223372036854775808]=y", {"a": {2**63 - 1: "x", "9223372036854775808": "y"}}),
        ("7=x", {7: "x"}),
        ("a%00b=1", {"a": "1"}),
        ("a=%D0%BF", {"a": "п"}),
        ("a=%zz%4", {"a": "%zz%4"}),
        ("a" + "[x]" * 65 + "=1&b=2", {"b": "2"}),
    ],
)
def test_a_query_string_is_read_as_php_reads_it(text: str, array: dict[Any, Any]) -> None:
    assert parse_query(text) == array


def test_pairs_beyond_max_input_vars_are_cut_without_a_word() -> None:
    assert len(parse_query("&".join(f"a[]={number}" for number in range(1200)))["a"]) == 1000
    assert parse_query("a=1&b=2&c=3", max_input_vars=2) == {"a": "1", "b": "2"}


# A lone white-space key means "append"; brackets and NUL cannot be part of one.
KEYS = st.text(st.characters(codec="utf-8", exclude_characters="[]\0"), min_size=1).filter(
    lambda key: key not in set(" \t\n\r\v\f")
)
VALUES = st.text(st.characters(codec="utf-8"))
TREES = st.recursive(VALUES, lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3), max_leaves=8)


def flattened(tree: Any, prefix: str) -> list[str]:
    if isinstance(tree, str):
        return [f"{prefix}={quote_plus(tree)}"]
    return [pair for key, inner in tree.items() for pair in flattened(inner, f"{prefix}[{quote(key, safe='')}]")]


def with_php_keys(tree: Any) -> Any:
    if isinstance(tree, str):
        return tree
    return {
        next(iter(decode_array(encode({key: 0, "\1": 0}).encode()))): with_php_keys(inner)
        for key, inner in tree.items()
    }


@given(TREES)
def test_what_is_encoded_comes_back(tree: Any) -> None:
    assert parse_query("&".join(flattened(tree, "root"))) == {"root": with_php_keys(tree)}


@given(st.binary())
def test_any_bytes_are_read_without_an_error(raw: bytes) -> None:
    text = raw.decode("utf-8", "surrogateescape")
    assert isinstance(parse_query(text), dict)
    assert isinstance(decode_array(raw), dict)


@given(st.text(alphabet="ab[]=&%+. 05\0-"))
def test_any_mixture_of_syntax_is_read_without_an_error(text: str) -> None:
    assert all(isinstance(value, str | dict) for value in parse_query(text).values())


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (5, 5), ("5", 5), ("12abc", 12), ("abc", 0), ("", 0), (False, 0), (True, 1), (None, 0), (5.9, 5), (-5.9, -5),
        ("5.9", 5), (".9", 0), ("5.", 5), (" 7", 7), ("7 ", 7), ("+7", 7), ("-7", -7), ("- 7", 0), ("1e3", 1000),
        ("1e1000", 0), ("0x1A", 0), ("5,7", 5), ("9" * 30, 2**63 - 1), ("-" + "9" * 30, -(2**63)), ("9" * 9000, 2**63 - 1),
        ("٣", 0), ({}, 0), ({0: "x"}, 1), (float("inf"), 0), (float("nan"), 0), (1e19, 1e19 - 2**64),
    ],
)  # fmt: skip
def test_the_integer_cast_is_phps(value: Any, number: int) -> None:
    assert to_int(value) == number


@pytest.mark.parametrize(
    ("value", "truth"),
    [("0", False), (0, False), ("", False), (None, False), ({}, False), (0.0, False), ("false", True), ("0.0", True),
     (" ", True), (1, True), ({0: 0}, True)],
)  # fmt: skip
def test_truth_is_phps(value: Any, truth: bool) -> None:
    assert to_bool(value) is truth


@pytest.mark.parametrize(
    ("value", "text"),
    [("x", "x"), (None, ""), (False, ""), (True, "1"), (5, "5"), (5.0, "5"), (5.5, "5.5"), ({0: 1}, "Array")],
)
def test_the_text_cast_is_phps(value: Any, text: str) -> None:
    assert to_text(value) == text


@pytest.mark.parametrize(
    ("body", "array"),
    [
        (b'{"a":[1,{"0":2}]}', {"a": {0: 1, 1: {0: 2}}}),
        (b"[5]", {0: 5}),
        (b'{"a":12345678901234567890}', {"a": 12345678901234567890.0}),
        (b"5", {}),
        (b'"x"', {}),
        (b"null", {}),
        (b"", {}),
        (b'{"a":1', {}),
        (b'{"a":NaN}', {}),
        (b'{"a":"\xff"}', {}),
        (b"[" * 100_000, {}),
    ],
)
def test_a_json_body_that_is_no_array_is_an_empty_one(body: bytes, array: dict[Any, Any]) -> None:
    assert decode_array(body) == array


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "[]"),
        ({0: "a", 1: "b"}, '["a","b"]'),
        ({1: "a"}, '{"1":"a"}'),
        ({1: "a", 0: "b"}, '{"1":"a","0":"b"}'),
        ({"a": {}}, '{"a":[]}'),
        ([None, True, 5, 5.0, 0.5], "[null,true,5,5,0.5]"),
        (
            "<a href='/x'>\"&\"</a>\\",
            '"\\u003Ca href=\\u0027\\/x\\u0027\\u003E\\u0022\\u0026\\u0022\\u003C\\/a\\u003E\\\\"',
        ),
        ("Сделка\n", '"Сделка\\n"'),
    ],
)
def test_json_is_written_as_php_writes_it(value: Any, text: str) -> None:
    assert encode(value) == text


def test_what_has_no_json_is_a_mistake_of_ours() -> None:
    with pytest.raises(TypeError, match="set has no JSON"):
        encode({1, 2})
