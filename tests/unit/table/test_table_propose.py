"""What `syncd init` is offered when it looks through a database."""

from __future__ import annotations

import pytest

from syncd.errors import ConfigError, UnavailableError
from syncd.table.proposals import Proposal, propose_columns
from tests.unit.table.conftest import Lab

pytestmark = pytest.mark.anyio


async def test_given_a_database_when_looked_through_then_the_likeliest_table_comes_first(lab: Lab) -> None:
    lab.run(
        "CREATE TABLE users (id BIGINT PRIMARY KEY, name VARCHAR(9))",
        "CREATE TABLE orders (id BIGINT PRIMARY KEY, total INT, deal_id BIGINT, note VARCHAR(9), sum INT, a INT, b INT)",
        "CREATE TABLE order_bindings (order_id BIGINT, entity_type_id INT, owner_id BIGINT, updated_at {time},"
        " deleted_at {time})",
    )
    first, second, third = propose_columns(lab.url)
    assert first == Proposal(
        name="order_bindings",
        columns={"order_id": "order_id", "owner_type_id": "entity_type_id", "owner_id": "owner_id"},
        order_settings={"order_id": "order_id"},
        deleted="deleted_at",
        touched="updated_at",
        found=("order_id", "entity_type_id", "owner_id", "updated_at", "deleted_at"),
    )
    assert (second.name, second.columns) == ("orders", {"order_id": "id", "owner_type_id": 2, "owner_id": "deal_id"})
    assert (third.name, third.columns) == ("users", {})


async def test_given_a_proposal_when_taken_as_it_is_then_the_table_fits(lab: Lab) -> None:
    lab.run("CREATE TABLE map (order_id BIGINT, smart_invoice_id BIGINT, updated_at {time})")
    (proposal,) = propose_columns(lab.url)
    assert proposal.columns["owner_type_id"] == 31
    table = lab.table(proposal.name, columns=proposal.columns, touched=proposal.touched)
    assert (await table.check()).problems == []


@pytest.mark.parametrize(
    ("column", "kind", "setting"),
    [
        ("order_number", "VARCHAR(40)", "order_number"),
        ("order_number", "BIGINT", "order_number"),
        ("number", "VARCHAR(40)", "order_number"),
        ("order_no", "VARCHAR(40)", "order_number"),
        ("order_no", "BIGINT", "order_id"),
        ("order_id", "VARCHAR(40)", "order_id"),
        ("xml_id", "VARCHAR(40)", "order_xml_id"),
        ("id_1c", "VARCHAR(40)", "order_1c_id"),
    ],
)
async def test_given_a_column_of_the_order_then_it_is_proposed_for_what_its_name_and_type_say(
    lab: Lab, column: str, kind: str, setting: str
) -> None:
    lab.run(f"CREATE TABLE map ({column} {kind} PRIMARY KEY, deal_id BIGINT)")
    (proposal,) = propose_columns(lab.url)
    assert proposal.columns == {setting: column, "owner_type_id": 2, "owner_id": "deal_id"}


async def test_given_order_ids_beside_order_numbers_then_the_ids_are_proposed(lab: Lab) -> None:
    lab.run("CREATE TABLE map (number VARCHAR(40), order_id BIGINT PRIMARY KEY, deal_id BIGINT)")
    (proposal,) = propose_columns(lab.url)
    assert proposal.columns["order_id"] == "order_id"
    assert proposal.order_settings["number"] == "order_number"


@pytest.mark.postgres
async def test_given_other_schemas_of_postgresql_when_looked_through_then_they_are_named(postgres: Lab) -> None:
    postgres.run("CREATE SCHEMA crm", "CREATE TABLE crm.bindings (order_id BIGINT, deal_id BIGINT)")
    assert [proposal.name for proposal in propose_columns(postgres.url)] == ["crm.bindings"]


async def test_given_an_empty_database_when_looked_through_then_nothing_is_offered(lab: Lab) -> None:
    assert propose_columns(lab.url) == []


def test_given_a_closed_port_when_looked_through_then_it_is_unavailable_without_the_password() -> None:
    with pytest.raises(UnavailableError) as raised:
        propose_columns("postgresql://u:open-sesame@127.0.0.1:1/db")
    assert "open-sesame" not in raised.value.message


def test_given_what_is_no_url_when_looked_through_then_that_is_said_without_repeating_it() -> None:
    with pytest.raises(ConfigError) as raised:
        propose_columns("user:open-sesame@somewhere")
    assert "open-sesame" not in raised.value.message
