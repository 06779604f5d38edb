"""Proxies and certificates that the environment names: used, or refused with the variable's name and not its value."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from syncd.errors import ConfigError
from syncd.obs.clock import SystemClock
from syncd.portal.connections import ConnectionPool

pytestmark = pytest.mark.anyio

PORTAL = "https://portal.example"
SANDBOX = "http://127.0.0.1:8080"
CLOCK = SystemClock()


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().endswith("_PROXY") or name.startswith("SSL_CERT"):
            monkeypatch.delenv(name)


UNUSABLE = [
    ("HTTPS_PROXY", "http://me:s3cretpass@proxy.example:port", "not the address of a proxy"),
    ("HTTPS_PROXY", "http://proxy.example:99999", "not the address of a proxy"),
    ("https_proxy", "http://[::1", "not the address of a proxy"),
    ("HTTPS_PROXY", "http://", "names no host"),
    ("ALL_PROXY", "socks4://proxy.example", "socks4://"),
    ("ALL_PROXY", "ftp://me:s3cretpass@proxy.example", "ftp://"),
    ("HTTP_PROXY", "nonsense://x", "nonsense://"),
    ("NO_PROXY", "localhost,fd00::/8", "'fd00::/8'"),
    ("no_proxy", "[::1]", "'[::1]'"),
    ("SSL_CERT_FILE", "/nowhere/ca.pem", "cannot be read: No such file"),
    ("SSL_CERT_FILE", __file__, "no certificates"),
    ("SSL_CERT_DIR", "/nowhere", "does not name a folder"),
]


@pytest.mark.parametrize(("name", "value", "words"), UNUSABLE)
def test_given_a_setting_that_cannot_be_used_then_the_variable_is_named_and_its_value_is_not(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigError) as caught:
        ConnectionPool(PORTAL, CLOCK)

    (problem,) = caught.value.problems
    assert problem.startswith(f"{name} ")
    assert words in problem
    assert "s3cretpass" not in problem
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert "proxy.md" in caught.value.hint


def test_given_a_socks_proxy_without_its_package_then_the_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy.example:1080")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    with pytest.raises(ConfigError) as caught:
        ConnectionPool(PORTAL, CLOCK)

    assert "socksio" in caught.value.problems[0]


def test_given_several_settings_that_cannot_be_used_then_all_of_them_are_named_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://x")
    monkeypatch.setenv("NO_PROXY", "fd00::/8, fe80::/10")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")

    with pytest.raises(ConfigError) as caught:
        ConnectionPool(PORTAL, CLOCK)

    assert [problem.split()[0] for problem in caught.value.problems] == [
        "SSL_CERT_FILE", "HTTPS_PROXY", "NO_PROXY", "NO_PROXY",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "http://proxy.example:3128"),
        ("HTTPS_PROXY", "proxy.example:3128"),
        ("ALL_PROXY", "https://me:s3cretpass@proxy.example:3128"),
        ("NO_PROXY", "*"),
        ("NO_PROXY", "localhost, .corp,*.example.com, example.com:8080, 10.0.0.0/8, ::1, fe80::1,"),
        ("SSL_CERT_DIR", "/"),
    ],
)
async def test_given_a_setting_that_can_be_used_then_there_is_a_client(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)

    await ConnectionPool(PORTAL, CLOCK).aclose()


def test_given_a_lower_case_variable_beside_an_upper_case_one_then_the_lower_case_one_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("https_proxy", "ftp://x")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")

    with pytest.raises(ConfigError) as caught:
        ConnectionPool(PORTAL, CLOCK)

    assert caught.value.problems[0].startswith("https_proxy ")


@pytest.mark.parametrize(("name", "value", "_words"), UNUSABLE)
async def test_given_a_sandbox_on_this_machine_then_no_setting_touches_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, _words: str
) -> None:
    monkeypatch.setenv(name, value)

    await ConnectionPool(SANDBOX, CLOCK).aclose()


async def test_given_a_sandbox_without_tls_then_no_authority_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[object] = []
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *words, **_more: loaded.append(words))

    await ConnectionPool(SANDBOX, CLOCK).aclose()

    assert loaded == []


def test_given_a_sandbox_with_tls_then_its_authority_must_be_readable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    with pytest.raises(ConfigError):
        ConnectionPool("https://127.0.0.1:8443", CLOCK)
