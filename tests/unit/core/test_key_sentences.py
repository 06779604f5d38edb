"""What an operator reads where an order's key and a row of the table do not belong together."""

from __future__ import annotations

from inline_snapshot import snapshot

from syncd.core.model import HoldKind
from syncd.core.order_keys import KeyField, no_key, shared_key, unknown_key


def test_given_a_key_of_several_orders_then_the_sentence_names_five_of_them_and_counts_the_others() -> None:
    shown = [shared_key(KeyField.NUMBER, "S-7", range(11, 11 + count)) for count in (2, 5, 6, 9)]

    assert {one.kind for one in shown} == {HoldKind.AMBIGUOUS_KEY}
    assert [one.detail.partition(" have ")[0] for one in shown] == [
        "The orders 11, 12",
        "The orders 11, 12, 13, 14, 15",
        "The orders 11, 12, 13, 14, 15 and 1 more",
        "The orders 11, 12, 13, 14, 15 and 4 more",
    ]
    assert shown[0].detail == snapshot(
        "The orders 11, 12 have the same accountNumber 'S-7', so a row with it may be any of theirs. Give each order one of its own in the portal; it is asked again with growing pauses."
    )


def test_given_an_order_without_a_key_then_the_sentence_says_who_can_give_it_one() -> None:
    found = no_key(KeyField.XML_ID)

    assert found.kind is HoldKind.AMBIGUOUS_KEY
    assert found.detail == snapshot(
        "The order has no xmlId in the portal, so no row of the table can name it. Give it one; the portal is asked again with growing pauses."
    )


def test_given_a_key_of_no_order_then_the_sentence_says_what_waits_for_it_and_who_had_it_before() -> None:
    found = [unknown_key(KeyField.NUMBER, "S-7", former) for former in (None, 12)]

    assert {one.kind for one in found} == {HoldKind.ORDER_MISSING}
    assert [one.detail for one in found] == snapshot(
        [
            "No order of the portal has the accountNumber 'S-7'; syncd asks again after growing pauses, at least once an hour. Until an order has it, syncd unbinds no order of the same owner that has no row: this may be its row.",
            "No order of the portal has the accountNumber 'S-7'; syncd asks again after growing pauses, at least once an hour. Order 12 had it before, and has another one now. Until an order has it, syncd unbinds no other order of the same owner that has no row: this may be its row.",
        ]
    )
