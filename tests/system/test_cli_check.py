"""`syncd check`: what it finds, and that it writes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from syncd.cli import checking
from syncd.config.load import load
from syncd.obs.clock import SystemClock
from syncd.sandbox import Fault, FaultRule, References
from tests.databases import execute
from tests.system.shop import Shop, call, open_shop


def test_given_all_is_well_then_check_says_so_and_makes_no_state_database(shop: Shop) -> None:
    ran = shop.call("check").check(0)

    assert "All is well." in ran.out
    assert not (shop.directory / "syncd.db").exists()
    assert "upgraded" not in ran.err
    assert shop.portal.stats.writes == []


def test_given_a_schedule_then_check_reckons_what_it_costs_and_status_how_fresh_each_part_is(shop: Shop) -> None:
    shop.settings |= {"schedule": '"5m"', "slices": "2", "recent": '{ orders = 10, every = "20s" }'}
    shop.configure()
    shop.call("reconcile").check(0)

    assert "a pass over all 3 bindings takes 1 request" in shop.call("check").check(0).out
    assert "slice 1 of 2 is next" in shop.call("status").out


def test_given_a_column_to_watch_that_is_missing_then_check_ends_with_78_and_passes_are_made(shop: Shop) -> None:
    shop.extra = 'watch = "updated_at"'

    assert 'links.shop.table.watch: the table bindings has no column "updated_at"' in shop.call("check").check(78).out
    shop.call("reconcile").check(0)
    shop.sql("ALTER TABLE bindings ADD COLUMN updated_at DATETIME")
    assert 'links.shop.table.watch: no index begins with the column "updated_at"' in shop.call("check").check(0).out


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_given_a_configuration_that_the_user_of_the_service_may_not_read_then_check_says_so(shop: Shop) -> None:
    loaded = load(shop.configure(), {})
    loaded.path.chmod(0o600)
    os.seteuid(65534)
    try:
        (found,) = checking._files(loaded)
    finally:
        os.seteuid(0)

    assert "may not be read by the user of the service" in found.text
    assert (found.code, "chmod 640" in found.hint) == (78, True)


def test_given_a_token_for_hints_and_no_listener_then_check_warns(shop: Shop) -> None:
    shop.settings |= {"hook_token": '"0123456789abcdef"'}
    shop.configure()

    ran = shop.call("check").check(0)

    assert "no hint can arrive" in ran.out
    assert "0123456789abcdef" not in ran.out + ran.err


@pytest.mark.parametrize(
    ("one", "other", "warned"),
    [
        ({}, {}, True),
        ({"orders": "[1, 50]"}, {"orders": "[50, 99]"}, True),
        ({"orders": "[1, 50]"}, {"orders": "[51, 99]"}, False),
        ({"owner_types": "[2, 31]"}, {}, True),
        ({"owner_types": "[31]"}, {}, False),
        ({"direction": '"table-to-crm"'}, {}, True),
        ({"direction": '"crm-to-table"'}, {}, False),
        ({}, {"direction": '"crm-to-table"'}, False),
    ],
)
def test_given_two_links_that_write_the_same_orders_of_one_portal_then_check_warns(
    shop: Shop, one: dict[str, str], other: dict[str, str], warned: bool
) -> None:
    shop.sql("CREATE TABLE more (order_id INTEGER PRIMARY KEY, owner_type INTEGER, deal_id INTEGER)")
    table = f'url = "sqlite:///{shop.file}"\nname = "more"\n'
    table += 'columns = { order_id = "order_id", owner_type_id = "owner_type", owner_id = "deal_id" }'
    settings = "\n".join(f"{key} = {value}" for key, value in one.items())
    portal = f'webhook = "{shop.server.webhook_url}"'
    shop.more_links = f"[links.two]\n{settings}\n[links.two.portal]\n{portal}\n[links.two.table]\n{table}"
    shop.settings |= other

    ran = shop.call("check").check(0)

    assert ("shop and two both write to the CRM, and their scopes overlap" in ran.out) is warned


def test_given_links_of_two_portals_then_check_does_not_compare_their_scopes(shop: Shop, tmp_path: Path) -> None:
    shop.sql("CREATE TABLE more (order_id INTEGER PRIMARY KEY, deal_id INTEGER)")
    with open_shop(tmp_path) as elsewhere:
        portal = f'webhook = "{elsewhere.server.webhook_url}"'
        table = f'url = "sqlite:///{shop.file}"\nname = "more"\ncolumns = {shop.columns}'
        shop.more_links = f"[links.two.portal]\n{portal}\n[links.two.table]\n{table}"

        assert "shop and two" not in shop.call("check").check(0).out


@pytest.mark.postgres
def test_given_a_fresh_state_database_on_a_server_then_check_says_that_it_will_be_made(
    shop: Shop, postgres_url: str
) -> None:
    shop.state_url = postgres_url

    ran = shop.call("check").check(0)

    assert "without syncd's tables yet; the first command that needs them creates them" in ran.out
    assert "PROBLEM" not in ran.out
    shop.call("reconcile").check(0)
    assert "reachable, schema" in shop.call("check").check(0).out


@pytest.mark.postgres
def test_given_a_state_database_in_which_no_table_can_be_made_then_check_says_so(shop: Shop, postgres_url: str) -> None:
    execute(postgres_url, "DROP SCHEMA public CASCADE")
    shop.state_url = postgres_url

    ran = shop.call("check").check(69)

    assert "None of the schemas of its search_path exists, so no table can be made." in ran.out


def test_given_no_right_to_write_then_check_finds_out_without_writing(shop: Shop) -> None:
    shop.portal.sale_right = "R"

    ran = shop.call("check", "--json").check(77)

    (problem,) = [one for one in ran.json if not one["ok"]]
    assert "write" in problem["text"]
    assert problem["hint"]
    assert shop.portal.stats.writes == []


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (FaultRule(Fault.LOSE_KEY, method="crm.orderentity.list", times=None), "read"),
        (FaultRule(Fault.ERROR, method="crm.orderentity.add", code="ERROR_CORE", times=None), "written"),
    ],
)
def test_given_a_portal_that_fails_then_check_does_not_call_it_a_missing_right(
    shop: Shop, rule: FaultRule, name: str
) -> None:
    shop.portal.faults.add(rule)

    (problem,) = [one for one in shop.call("check", "--json").check(69).json if not one["ok"]]

    assert f"syncd could not find out whether bindings may be {name}." in problem["text"]
    assert "right is missing" not in problem["text"]
    assert "again" in problem["hint"]


def test_given_refused_credentials_and_a_table_with_rows_then_the_refusal_is_shown_once(shop: Shop) -> None:
    for order in range(1001, 1031):
        shop.sql("INSERT INTO bindings (order_id, deal_id) VALUES (?, 10)", order)
    shop.webhook = f"{shop.server.url}/rest/1/nosuchcode/"

    problems = [one for one in shop.call("check", "--json").check(77).json if not one["ok"]]

    assert [one["subject"] for one in problems] == ["shop: portal"]


def test_given_no_right_to_read_then_check_says_that_the_right_is_missing(shop: Shop) -> None:
    shop.portal.sale_right = "D"

    problems = [one for one in shop.call("check", "--json").check(77).json if not one["ok"]]

    assert "The right to read bindings is missing." in problems[0]["text"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "socks4://me:s3cretpass@proxy.example"),
        ("NO_PROXY", "fd00::/8"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem"),
    ],
)
def test_given_a_setting_of_the_environment_that_cannot_be_used_then_a_real_portal_is_out_of_reach_with_78(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.delenv(name.lower(), raising=False)  # which would win
    shop.call("plan").check(0)  # the sandbox is on this machine
    shop.webhook = "https://portal.invalid/rest/1/abcdefgh1234/"

    for command in ("plan", "reconcile", "check"):
        ran = shop.call(command).check(78)
        assert name in ran.out + ran.err
        assert "s3cretpass" not in ran.out + ran.err
        assert "bug" not in ran.out + ran.err


def test_given_columns_that_are_not_there_then_each_problem_has_its_hint_and_a_person_reads_it_once(shop: Shop) -> None:
    shop.sql("ALTER TABLE bindings RENAME COLUMN order_id TO order_no")
    shop.sql("ALTER TABLE bindings RENAME COLUMN deal_id TO deal_no")

    problems = [one for one in shop.call("check", "--json").check(78).json if not one["ok"]]

    assert len(problems) == 2
    assert all(problem["hint"] for problem in problems)
    assert shop.call("check").check(78).out.count("Hint:") == 1


def test_given_a_secret_file_and_a_configuration_open_to_others_then_each_is_a_problem_with_its_remedy(
    shop: Shop,
) -> None:
    file, secret = shop.configure(), shop.directory / "webhook"
    secret.write_text(shop.server.webhook_url)
    secret.chmod(0o644)
    file.write_text(file.read_text().replace(f'webhook = "{shop.server.webhook_url}"', f'webhook_file = "{secret}"'))
    file.chmod(0o666)

    ran = call("--config", str(file), "check", "--json", directory=shop.directory).check(78)

    hints = [one["hint"] for one in ran.json if not one["ok"]]
    assert hints == [f"chmod go-w {file}", f"chmod o-r {secret}"]


def test_given_a_configuration_with_a_secret_that_everybody_may_read_then_check_warns(shop: Shop) -> None:
    file = shop.configure()

    def said(mode: int) -> list[tuple[bool, bool, str]]:
        file.chmod(mode)
        ran = call("--config", str(file), "check", "--json", directory=shop.directory).check(0)
        found = [one for one in ran.json if one["subject"] == "configuration files"]
        return [(one["ok"], one["warning"], one["hint"]) for one in found]

    assert said(0o644) == [(True, True, f"chmod o-r {file}")]
    assert said(0o640) == []


def test_given_owners_that_cannot_be_seen_then_check_says_what_to_do(shop: Shop) -> None:
    shop.portal.owners_visible = False

    ran = shop.call("check").check(77)

    assert "verify_owners = false" in ran.out


class Ahead:
    """The clock of a portal that is two hours ahead."""

    def __init__(self) -> None:
        self._clock = SystemClock()

    def now(self) -> float:
        return self._clock.now() + 7200

    def __getattr__(self, name: str) -> object:
        return getattr(self._clock, name)


def test_given_a_clock_that_is_wrong_then_check_says_by_how_much(tmp_path: Path) -> None:
    with open_shop(tmp_path, {1: 11}, clock=Ahead()) as shop:
        shop.create_table([(1, 11)])

        ran = shop.call("check").check(78)

    assert "behind the portal's" in ran.out


def test_given_a_link_that_points_elsewhere_then_check_names_what_changed(synced: Shop) -> None:
    synced.settings["owner_types"] = "[2, 31]"

    ran = synced.call("check").check(4)

    assert "owner_types" in ran.out
    assert "syncd rebase shop" in ran.out


def test_given_a_portal_whose_batches_carry_no_conditions_then_check_and_status_say_so_and_writing_works(
    shop: Shop,
) -> None:
    shop.portal.references = References.WHOLE_VALUES

    found = {one["subject"]: one for one in shop.call("check", "--json").check(0).json}
    shop.call("reconcile").check(0)
    shop.sql("INSERT INTO bindings VALUES (5, 15)")
    ran = shop.call("reconcile").check(0)

    assert "carry no conditions" in found["shop: writing"]["text"]
    assert "the portal's batches carry no conditions" in ran.err
    assert shop.portal.bindings[5] == (2, 15)
    assert "carry no conditions" in shop.call("status").check(0).out


def test_given_a_portal_like_all_others_then_check_says_that_writes_carry_their_conditions(shop: Shop) -> None:
    found = {one["subject"]: one for one in shop.call("check", "--json").check(0).json}

    assert found["shop: writing"]["ok"]
    assert "carries its condition" in found["shop: writing"]["text"]


def test_given_a_type_that_the_portal_lists_and_others_then_each_is_named_and_none_is_refused(shop: Shop) -> None:
    shop.portal.owner_type_names = {2: "Сделка", 31: "Счёт"}
    shop.settings["owner_types"] = "[2, 31, 177]"
    ran = shop.call("check").check(0)

    assert (
        "2 is Сделка; the portal does not list 31 (smart invoice) and 177: portals list only their first type"
        in " ".join(ran.out.split())
    )
