"""The portal's own words in the sentences an operator reads."""

from __future__ import annotations

import pytest

from syncd.portal.codes import Fault, terminal


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("OVERLOAD_LIMIT", "REST API is blocked due to overload.", 503), "is blocked due to overload."),
        (Fault("ACCESS_DENIED", "REST is available only on commercial plans.", 401), "only on commercial plans."),
        (Fault("PORTAL_DELETED", "Portal was deleted...", 410), "PORTAL_DELETED: Portal was deleted."),
        (Fault("INVALID_CREDENTIALS", "Invalid request credentials", 401), "Invalid request credentials."),
        (Fault("NO_AUTH_FOUND", "", 401), "NO_AUTH_FOUND."),
        (Fault("", "", 403), "HTTP 403."),
    ],
)
def test_given_a_portals_words_with_or_without_a_full_stop_then_the_sentence_has_one(fault: Fault, said: str) -> None:
    message = terminal(fault, host="example.bitrix24.com", link="shop").message

    assert message.endswith(said)
    assert not message.endswith("..")
