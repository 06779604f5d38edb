"""The portal's own words in the sentences an operator reads."""

from __future__ import annotations

import pytest

from syncd.portal.responses import ApiError, to_exception


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ApiError("OVERLOAD_LIMIT", "REST API is blocked due to overload.", 503), "is blocked due to overload."),
        (ApiError("ACCESS_DENIED", "REST is available only on commercial plans.", 401), "only on commercial plans."),
        (ApiError("PORTAL_DELETED", "Portal was deleted...", 410), "PORTAL_DELETED: Portal was deleted."),
        (ApiError("INVALID_CREDENTIALS", "Invalid request credentials", 401), "Invalid request credentials."),
        (ApiError("NO_AUTH_FOUND", "", 401), "NO_AUTH_FOUND."),
        (ApiError("", "", 403), "HTTP 403."),
    ],
)
def test_given_a_portals_words_with_or_without_a_full_stop_then_the_sentence_has_one(
    error: ApiError, said: str
) -> None:
    message = to_exception(error, host="example.bitrix24.com", link="shop").message

    assert message.endswith(said)
    assert not message.endswith("..")
