"""Secrets in texts."""

from __future__ import annotations

import pytest

from syncd.obs.redact import redact, register_secret


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("POST https://x.bitrix24.com/rest/1/s3cr3t/batch failed", "POST https://x.bitrix24.com/rest/1/***/batch failed"),
        ("https://x.bitrix24.com/rest/1/s3cr3t", "https://x.bitrix24.com/rest/1/***"),
        ("next=https%3A%2F%2Fx%2Frest%2F1%2Fs3cr3t%2F", "next=https%3A%2F%2Fx%2Frest%2F1%2F***%2F"),
        ("https://x/rest/crm.item.list", "https://x/rest/crm.item.list"),
        ("?auth=s3cr3t&start=0", "?auth=***&start=0"),
        ("access_token=s3cr3t refresh_token=s3cr3t client_secret=s3cr3t", "access_token=*** refresh_token=*** client_secret=***"),
        ("https://me/?code=s3cr3t&state=1", "https://me/?code=***&state=1"),
        ("refused with code=200040300020", "refused with code=200040300020"),
        ('{"access_token": "s3cr3t", "expires": 1}', '{"access_token": "***", "expires": 1}'),
        ("{'password': 's3cr3t'}", "{'password': '***'}"),
        ("Authorization: Bearer s3cr3t.x", "Authorization: Bearer ***"),
        ("postgresql://me:s3cr3t@db.example.com:5432/shop", "postgresql://me:***@db.example.com:5432/shop"),
        ("mysql+pymysql://me:s3c@r/3t@db/shop", "mysql+pymysql://me:***@db/shop"),
        ("host=db password=s3cr3t dbname=shop", "host=db password=*** dbname=shop"),
        ("http://127.0.0.1:8080/rest/1/s3cr3t/ at me@example.com", "http://127.0.0.1:8080/rest/1/***/ at me@example.com"),
        ("nothing to hide: order 5 → deal 10", "nothing to hide: order 5 → deal 10"),
    ],
)  # fmt: skip
def test_given_a_text_when_redacted_then_secrets_are_masked_and_the_rest_stays(text: str, expected: str) -> None:
    assert redact(text) == expected
    assert redact(redact(text)) == expected


def test_given_a_remembered_secret_when_redacted_then_it_is_masked_wherever_it_stands() -> None:
    register_secret("plainvalue77")
    register_secret("plainvalue77longer")
    register_secret("abc")

    assert redact("xplainvalue77x plainvalue77longer abc") == "x***x *** abc"


def test_given_the_form_of_an_address_then_it_is_shown_and_a_real_code_is_not() -> None:
    assert redact("Write it as https://HOST/rest/USER/CODE/.") == "Write it as https://HOST/rest/USER/CODE/."
    assert redact("https://portal.example/rest/1/CODE/") == "https://portal.example/rest/1/***/"
