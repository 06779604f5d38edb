"""The commands on a real link: what they print, what they end with, and what they leave alone."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from syncd.config.load import Loaded
from syncd.obs.clock import SystemClock
from syncd.state.store import SqlStore, open_store
from tests.system.shop import DEAL, SECRET, Ran, Shop, call, open_shop


@pytest.fixture
def contested(synced: Shop) -> Shop:
    """Order 2 was changed on both sides, and is held."""
    synced.portal.bind(2, DEAL, 77)
    synced.sql("UPDATE bindings SET deal_id = 99 WHERE order_id = 2")
    synced.call("reconcile").check(3)
    return synced


# ------------------------------------------------------------------------------ plan, reconcile, apply


def test_given_a_first_sync_that_would_write_then_reconcile_is_refused_and_names_the_command_that_applies_it(
    shop: Shop,
) -> None:
    shop.sql("INSERT INTO bindings VALUES (4, 14)")

    ran = shop.call("reconcile").check(4)

    assert "Refused, nothing was written" in ran.out
    assert ran.out.rstrip().endswith("syncd apply 1")
    assert 4 not in shop.crm()


def test_given_named_orders_then_plan_apply_reconcile_and_trigger_are_about_these_alone(synced: Shop) -> None:
    synced.sql("UPDATE bindings SET deal_id = deal_id + 60")

    planned = synced.call("plan", "--orders", "1,50-60", "--json").check(2).json[0]
    shown = synced.call("plan", "shop", "--orders", "1").check(2).out
    synced.call("apply", str(planned["run"])).check(0)

    assert (planned["covers"], planned["part"]) == ("1,50-60", "named orders")
    assert ", only orders 1\n" in shown
    assert synced.crm() == {1: 71, 2: 12, 3: 13}
    reconciled = synced.call("reconcile", "shop", "--orders", "2").check(0).out
    assert "only orders 2" in reconciled
    assert synced.crm() == {1: 71, 2: 72, 3: 13}
    synced.call("reconcile", "--orders", "3", "--dry-run").check(2)
    asked = synced.call("trigger", "--orders", "3,4,7-9").check(0)
    assert "a pass of shop over orders 3-4, 7-9" in asked.out + asked.err


@pytest.mark.parametrize("text", ["0", "five", "9-5", ""])
def test_given_a_text_that_names_no_orders_then_it_is_a_usage_error(synced: Shop, text: str) -> None:
    assert "neither an order id nor a range" in synced.call("plan", "--orders", text).check(64).err


def test_given_changes_then_plan_groups_them_shows_ten_counts_the_rest_and_ends_with_the_next_command(
    synced: Shop,
) -> None:
    for order in range(20, 35):
        synced.sql("INSERT INTO bindings VALUES (?, ?)", order, 5)

    ran = synced.call("plan").check(2)

    assert "In the CRM:\n  add 15\n" in ran.out
    assert ran.out.count("unbound → deal 5") == 10
    assert "… and 5 more" in ran.out
    assert ran.out.rstrip().endswith("syncd apply 2")
    assert synced.call("plan", "--all").out.count("unbound → deal 5") == 15


def test_given_a_plan_then_it_is_applied_once_and_is_spent_afterwards(synced: Shop) -> None:
    synced.portal.bind(3, DEAL, 30)
    (planned,) = synced.call("plan", "--json").check(2).json

    applied = synced.call("apply", str(planned["run"]), "--json").check(0).json
    again = synced.call("apply", str(planned["run"])).check(5)

    assert applied["state"] == "applied"
    assert synced.table()[3] == 30
    assert "has been applied already" in again.err


def test_given_a_dry_run_then_reconcile_is_plan(synced: Shop) -> None:
    synced.portal.bind(3, DEAL, 30)

    (report,) = synced.call("reconcile", "--dry-run", "--json").check(2).json

    assert report["state"] == "planned"
    assert synced.table()[3] == 13


def test_given_a_run_nobody_knows_then_apply_undo_and_show_end_with_64(synced: Shop) -> None:
    for command in ("apply", "undo", "show"):
        assert "There is no run 99" in synced.call(command, "99").check(64).err


def test_given_an_applied_run_then_undo_plans_its_reversal_and_applying_that_puts_it_back(synced: Shop) -> None:
    synced.sql("DELETE FROM bindings WHERE order_id = 3")
    (run,) = synced.call("reconcile", "--json").check(0).json

    undone = synced.call("undo", str(run["run"]), "--json").json
    synced.call("apply", str(undone["run"])).check(3)

    assert synced.crm()[3] == 13


def test_given_a_link_that_points_elsewhere_then_it_is_refused_until_rebase(synced: Shop) -> None:
    synced.sql("CREATE TABLE others (order_id INTEGER PRIMARY KEY, deal_id INTEGER)")
    synced.sql("INSERT INTO others SELECT * FROM bindings")
    synced.table_name = "others"

    refused = synced.call("reconcile").check(4)
    rebased = synced.call("rebase").check(0)

    assert refused.out.rstrip().endswith("syncd rebase shop")
    assert rebased.out.rstrip().endswith("syncd plan shop")
    synced.call("reconcile").check(0)


# ------------------------------------------------------------------------------------- several links


def two_links(shop: Shop, other: Shop) -> None:
    other.create_table([(1, 11)])
    shop.more_links = "\n".join(
        (
            f'[links.other.portal]\nwebhook = "{other.server.webhook_url}"',
            f'[links.other.table]\nurl = "sqlite:///{other.file}"\nname = "bindings"\ncolumns = {other.columns}',
        )
    )


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Shop]:
    (tmp_path / "other").mkdir()
    with open_shop(tmp_path / "other", {1: 11}) as made:
        yield made


def test_given_two_links_when_one_fails_then_the_other_is_done_and_the_most_serious_code_counts(
    shop: Shop, other: Shop
) -> None:
    two_links(shop, other)
    shop.webhook = shop.server.webhook_url.replace(SECRET, "wrong")

    ran = shop.call("reconcile", "--json").check(77)

    assert {one["link"]: one["state"] for one in ran.json} == {"shop": "failed", "other": "applied"}
    assert "shop:" in ran.err


def test_given_two_links_then_a_command_for_one_asks_which(shop: Shop, other: Shop) -> None:
    two_links(shop, other)

    ran = shop.call("plan").check(64)

    assert "Name one of: shop, other" in ran.err


def test_given_two_links_then_a_hold_names_its_link_in_json(contested: Shop, other: Shop) -> None:
    two_links(contested, other)

    (hold,) = contested.call("holds", "--json").check(0).json

    assert hold["link"] == "shop"


def test_given_an_unknown_link_then_it_is_a_usage_error_that_names_those_there_are(shop: Shop) -> None:
    ran = shop.call("reconcile", "shopp").check(64)

    assert "Its links: shop." in ran.err


# --------------------------------------------------------------------------------------------- holds


def test_given_a_conflict_then_holds_shows_both_sides_and_the_command_that_decides(contested: Shop) -> None:
    ran = contested.call("holds").check(0)

    assert "deal 77" in ran.out
    assert "deal 99" in ran.out
    assert "syncd resolve shop 2 --keep crm|table" in ran.out
    (hold,) = contested.call("holds", "shop", "--json").json
    assert list(hold)[:7] == ["order_id", "kind", "crm", "table", "agreed", "since", "detail"]


@pytest.mark.parametrize(("keep", "owner"), [("crm", 77), ("table", 99)])
def test_given_a_conflict_when_resolved_then_the_next_pass_gives_both_sides_the_kept_value(
    contested: Shop, keep: str, owner: int
) -> None:
    ran = contested.call("resolve", "2", "--keep", keep).check(0)
    contested.call("reconcile").check(0)

    assert f"both sides will have deal {owner}" in ran.out
    assert contested.crm()[2] == contested.table()[2] == owner


def test_given_an_order_that_another_link_took_over_when_it_is_let_go_then_neither_side_is_written(
    synced: Shop,
) -> None:
    synced.portal.bind(2, 31, 5)
    synced.sql("DELETE FROM bindings WHERE order_id = 2")
    synced.call("reconcile").check(3)
    assert "syncd resolve shop 2 --keep crm|table" in synced.call("holds").check(0).out

    ran = synced.call("resolve", "2", "--keep", "crm").check(0)
    assert "order 2: stays with smart invoice 5, and is no longer this link's" in ran.out
    (report,) = synced.call("reconcile", "--json").check(0).json

    assert report["changes"] == report["holds"] == []
    assert (2 in synced.table(), report["counts"]["in_step"]) == (False, 2)
    told = synced.call("history", "2").check(0).out
    assert "This link let it go in run 3" in told
    assert "let go" in told
    synced.call("reconcile").check(0)


def test_given_a_conflict_when_all_of_its_kind_are_resolved_then_it_is_decided(contested: Shop) -> None:
    (decided,) = contested.call("resolve", "shop", "--all", "--kind", "edit-edit", "--keep", "crm", "--json").json

    assert (decided["order_id"], decided["decision"]) == (2, "crm")


def test_given_a_decision_when_all_are_decided_then_it_stays_unless_it_is_overridden(contested: Shop) -> None:
    contested.call("resolve", "2", "--keep", "table", "--comment", "deal 99 has the invoice").check(0)

    ran = contested.call("resolve", "--all", "--kind", "edit-edit", "--keep", "crm").check(0)

    assert "order 2: left as it is; it is decided already (keep what the table says)" in ran.out
    everything = contested.call("history", "2").check(0).out
    assert "keep what the table says: deal 99 has the invoice" in everything
    assert "keep what the CRM says" not in everything

    contested.call("resolve", "--all", "--kind", "edit-edit", "--keep", "crm", "--override").check(0)
    contested.call("reconcile").check(0)
    assert contested.crm()[2] == contested.table()[2] == 77
    told = contested.call("history", "2").check(0).out
    assert told.index("keep what the table says: deal 99 has the invoice") < told.index("keep what the CRM says")
    assert f"@{socket.gethostname()}" in told


def test_given_a_spreadsheet_with_decisions_then_they_are_taken_and_what_changed_since_is_left(
    contested: Shop, tmp_path: Path
) -> None:
    sheet = tmp_path / "holds.csv"
    written = contested.call("holds", "--csv").check(0).out
    sheet.write_text(written.rstrip("\n").removesuffix(",,") + ",table,deal 99 has the invoice\n")

    ran = contested.call("resolve", "--from", str(sheet)).check(0)

    assert "both sides will have deal 99" in ran.out
    assert "deal 99 has the invoice" in contested.call("history", "2").check(0).out
    sheet.write_text(sheet.read_text().replace("type 2: 77", "type 2: 78"))
    ran = contested.call("resolve", "--from", str(sheet), "--override").check(0)
    assert "order 2: left as it is; a side has changed since the file was written" in ran.out


def test_given_a_plan_that_is_applied_then_show_says_by_whom_and_why(shop: Shop) -> None:
    number = shop.call("plan", "--json").json[0]["run"]
    done = shop.call("apply", str(number), "--comment", "looked at it with Boris", "--json").json["run"]

    (asked,) = shop.call("show", str(done), "--json").json["decided"]

    assert (asked["kind"], asked["run"], asked["comment"]) == ("apply", number, "looked at it with Boris")
    assert f"@{socket.gethostname()}" in shop.call("show", str(done)).out


def test_given_a_pause_with_an_end_then_by_whom_until_when_and_why(synced: Shop) -> None:
    synced.call("pause", "--for", "2h", "--comment", "the table is reloaded").check(0)

    (link,) = synced.call("status", "--json").json

    assert (link["health"], link["pause"]["comment"]) == ("paused", "the table is reloaded")
    assert link["pause"]["by"].endswith(f"@{socket.gethostname()}")
    assert link["pause"]["until"] is not None
    assert "the table is reloaded" in synced.call("status").out
    assert synced.call("status", "--check").code == 0
    synced.call("pause", "--for", "soon").check(64)


def test_given_a_way_to_notify_then_the_test_says_whether_it_took_it(synced: Shop, tmp_path: Path) -> None:
    synced.call("notify", "--test").check(78)
    out = tmp_path / "told.json"
    synced.more_links = f"[notify]\ncommand = ['/usr/bin/tee', '{out}']"

    assert "command: delivered" in synced.call("notify", "--test").check(0).out
    assert json.loads(out.read_text())["event"] == "test"


def test_given_a_decision_that_cannot_be_carried_out_then_it_ends_with_64_and_the_reason(shop: Shop) -> None:
    shop.sql("UPDATE bindings SET deal_id = 0 WHERE order_id = 2")
    shop.call("reconcile").check(3)

    ran = shop.call("resolve", "2", "--keep", "crm").check(64)

    assert "correct the rows" in ran.err


def test_given_an_order_that_is_not_held_then_resolve_ends_with_64(synced: Shop) -> None:
    assert "is not held" in synced.call("resolve", "2", "--retry").check(64).err


@pytest.mark.parametrize(
    "args",
    [
        ("resolve", "2"),
        ("resolve", "2", "--keep", "crm", "--retry"),
        ("resolve", "--all", "--keep", "crm"),
        ("resolve", "2", "--kind", "edit-edit", "--keep", "crm"),
        ("resolve", "--keep", "crm"),
        ("resolve", "shop", "2", "3", "--keep", "crm"),
        ("resolve", "2", "--keep", "crm", "--override"),
        ("resolve", "--from", "nowhere.csv"),
        ("history", "two"),
        ("history", "0"),
        ("history",),
        ("history", "shop", "2", "--owner", "2:77"),
        ("history", "--owner", "77"),
        ("holds", "--csv", "--json"),
        ("plan", "--csv", "--markdown"),
        ("show", "1", "--markdown", "--json"),
    ],
)
def test_given_words_that_make_no_sense_then_the_exit_is_64(synced: Shop, args: tuple[str, ...]) -> None:
    synced.call(*args).check(64)


# ----------------------------------------------------------------------------- looking and asking


def test_given_an_order_with_a_past_then_history_shows_it_and_why_it_is_as_it_is(contested: Shop) -> None:
    contested.call("resolve", "2", "--keep", "crm").check(0)
    contested.call("reconcile").check(0)

    ran = contested.call("history", "2").check(0)
    events = contested.call("history", "shop", "2", "--json").check(0).json

    assert "held: edit-edit" in ran.out
    assert "It has been bound to deal 77 (Desks for Alder School) on both sides since run 3" in ran.out
    assert [(one["action"], one["run"]) for one in events] == [("move", 3)]
    assert events[-1]["before"] == {"owner_type_id": 2, "owner_id": 99}
    assert all(one["at"] for one in events)


def test_given_an_order_nobody_ever_touched_then_history_says_so(synced: Shop) -> None:
    assert "syncd does not know this order" in synced.call("history", "55").check(0).out


def test_given_runs_then_they_are_listed_newest_first_and_each_can_be_shown(contested: Shop) -> None:
    listed = contested.call("runs", "--json").check(0).json
    shown = contested.call("show", "2", "--json").check(0).json

    assert [one["run"] for one in listed] == [2, 1]
    assert [one["order_id"] for one in shown["holds"]] == [2]
    assert "Pass: link shop, run 2" in contested.call("show", "2").out
    assert [one["run"] for one in contested.call("runs", "--before", "2", "--json").json] == [1]


def test_given_a_held_order_then_status_says_so_and_names_the_command(contested: Shop) -> None:
    ran = contested.call("status").check(0)
    (link,) = contested.call("status", "--json").json

    assert (link["health"], link["holds"], link["agreed"]) == ("held", 1, 3)
    assert "syncd holds shop" in ran.out


def test_given_a_link_then_pause_and_resume_are_kept_in_the_state_database(synced: Shop) -> None:
    synced.call("pause", "shop").check(0)
    assert synced.call("status", "--json").json[0]["health"] == "paused"

    synced.call("resume").check(0)
    assert synced.call("status", "--json").json[0]["health"] == "in-step"


def test_given_a_link_then_trigger_leaves_a_request_for_the_daemon(synced: Shop) -> None:
    async def taken() -> list[str]:
        async with open_state(synced) as store:
            return [request.kind for request in await store.open_requests(["shop"])]

    ran = synced.call("trigger").check(0)

    assert "Asked for a pass of shop" in ran.out
    assert asyncio.run(taken()) == ["trigger"]


def test_given_a_configuration_then_show_masks_its_secrets_and_names_their_origin(shop: Shop) -> None:
    ran = shop.call("config", "show").check(0)
    values = {one["key"]: one for one in shop.call("config", "show", "--json").json}

    assert "/rest/1/***" in ran.out
    assert values["links.shop.direction"]["origin"] == "default"


def test_given_the_example_and_the_schema_then_they_are_printed_without_a_configuration(tmp_path: Path) -> None:
    example = call("config", "example", directory=tmp_path).check(0)
    schema = call("config", "schema", directory=tmp_path).check(0)

    assert "[links.shop.portal]" in example.out
    assert json.loads(schema.out)["title"] == "syncd configuration"


def test_given_a_state_database_then_db_makes_it_shows_its_schema_and_finds_it_well(shop: Shop) -> None:
    made = shop.call("db", "upgrade", "--json").check(0).json
    current = shop.call("db", "current", "--json").check(0).json

    assert made["before"] is None
    assert current["revision"] == current["head"] == made["revision"]
    assert shop.call("db", "check", "--json").check(0).json["problems"] == []
    assert "has the newest schema" in shop.call("db", "upgrade").out


# ------------------------------------------------------------------------------------ errors and JSON


def test_given_a_refused_plan_then_json_is_all_there_is_on_stdout(shop: Shop) -> None:
    shop.sql("INSERT INTO bindings VALUES (4, 14)")

    (report,) = shop.call("reconcile", "--json").check(4).json

    assert report["state"] == "refused"
    assert [one["name"] for one in report["guards"]] == ["first_sync"]
    assert list(report) == [
        "run", "link", "state", "digest", "first_sync", "counts", "changes", "holds", "guards", "error", "portal",
        "covers", "part",
    ]  # fmt: skip


def test_given_a_run_that_fails_then_json_carries_its_error_and_stderr_the_sentence(shop: Shop) -> None:
    shop.webhook = shop.server.webhook_url.replace(SECRET, "wrong")

    ran = shop.call("reconcile", "--json").check(77)

    assert ran.json[0]["error"]
    assert ran.err.count("Error:") == 1


def test_given_no_configuration_then_stdout_is_empty_and_the_sentence_says_what_to_do(tmp_path: Path) -> None:
    ran = call("plan", "--json", directory=tmp_path).check(78)

    assert ran.out == ""
    assert "syncd init" in ran.err


def test_given_a_lease_held_by_another_then_the_exit_is_75_and_says_who_holds_it(synced: Shop) -> None:
    ran = asyncio.run(run_while_held(synced, "reconcile", "--json")).check(75)

    assert ran.json == []
    assert "another-host:1" in ran.err


def test_given_two_links_when_the_lease_of_one_is_held_then_the_other_is_done_all_the_same(
    synced: Shop, other: Shop
) -> None:
    two_links(synced, other)

    ran = asyncio.run(run_while_held(synced, "reconcile", "--json")).check(75)

    assert [one["link"] for one in ran.json] == ["other"]
    assert "Error: shop: " in ran.err


async def run_while_held(shop: Shop, *args: str) -> Ran:
    """Run a command while another process has the link's lease."""
    async with open_state(shop) as store:
        row = await store.find_link("shop")
        assert row is not None
        lease = await store.acquire(row, "another-host:1", 60, SystemClock().now())
        try:
            return await asyncio.to_thread(shop.run, *args)
        finally:
            await store.release(lease)


@asynccontextmanager
async def open_state(shop: Shop) -> AsyncIterator[SqlStore]:
    """Look into the state database as another process would."""
    store = open_store(f"sqlite:///{shop.directory / 'syncd.db'}", clock=SystemClock())
    try:
        yield store
    finally:
        await store.aclose()


def test_given_the_daemon_command_then_it_serves_the_configuration_and_its_exit_code_counts(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[object] = []

    def serve(loaded: Loaded) -> int:
        served.append(loaded.settings.links["shop"].table.name)
        return 0

    monkeypatch.setattr("syncd.daemon.service.run", serve)

    shop.call("run").check(0)
    assert served == ["bindings"]


# ----------------------------------------------------------------------------- metrics of a one-shot


def test_given_a_textfile_when_reconciling_then_it_holds_the_metrics_of_the_run(synced: Shop, tmp_path: Path) -> None:
    target = tmp_path / "syncd.prom"

    synced.call("reconcile", "--metrics-textfile", str(target)).check(0)

    assert 'syncd_runs_total{link="shop"' in target.read_text()


def test_given_a_textfile_that_cannot_be_written_then_the_run_counts_and_a_sentence_says_so(synced: Shop) -> None:
    target = synced.directory / "no_folder" / "syncd.prom"

    ran = synced.call("reconcile", "--metrics-textfile", str(target)).check(0)

    assert f"The metrics were not written to {target}" in ran.err


def test_given_latest_then_the_newest_plan_is_applied_but_none_that_a_guard_refused(shop: Shop) -> None:
    shop.sql("INSERT INTO bindings VALUES (4, 14)")
    shop.call("reconcile").check(4)
    refused = shop.call("apply", "latest").check(4)
    assert "run 1, is refused by first_sync; nothing was written" in refused.err
    assert "`syncd apply 1` applies it anyway" in refused.err
    assert 4 not in shop.crm()

    shop.call("plan").check(2)
    applied = shop.call("apply", "latest", "--json").check(0).json
    assert (shop.call("show", "2", "--json").json["state"], applied["state"]) == ("planned", "applied")
    assert shop.crm()[4] == 14


def test_given_latest_where_nothing_waits_or_several_links_are_configured_then_the_exit_is_64(synced: Shop) -> None:
    assert "No plan of shop waits" in synced.call("apply", "latest").check(64).err
    synced.call("show", "latest").check(64)

    synced.more_links = (
        '[links.other.portal]\nwebhook = "https://other.bitrix24.com/rest/1/CODE/"\n'
        f'[links.other.table]\nurl = "sqlite:///{synced.file}"\nname = "others"\ncolumns = {synced.columns}'
    )
    assert "several links" in synced.call("apply", "latest").check(64).err
