"""Everything that does not fit is told at once, with the key it is about."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from syncd.core.model import Owner
from syncd.core.ports import Write
from syncd.errors import AuthError, ConfigError, UnavailableError
from tests.unit.table.conftest import MAPPING, Lab, snapshot

pytestmark = pytest.mark.anyio


def _add(order_id: int) -> Write:
    return Write(order_id, None, Owner(2, 7))


async def test_given_a_fitting_table_when_checked_then_nothing_is_told_and_nothing_written(lab: Lab) -> None:
    lab.run(MAPPING)
    assert (await lab.table().check()).problems == []
    assert lab.rows("SELECT * FROM m") == []


async def test_given_no_such_table_when_checked_then_the_ones_there_are_named(lab: Lab) -> None:
    lab.run("CREATE TABLE mapping (a INT)")
    assert (await lab.table("maping").check()).problems == [
        'links.shop.table.name: the database has no table "maping"; it has mapping'
    ]


async def test_given_no_such_schema_when_checked_then_that_is_a_problem_of_the_name(lab: Lab) -> None:
    (problem,) = (await lab.table("nowhere_at_all.m").check()).problems
    assert problem.startswith('links.shop.table.name: the database has no table "nowhere_at_all.m"')


async def test_given_many_problems_when_checked_then_all_are_told_at_once(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_no BIGINT, deal_id {time}, flag DATE, note VARCHAR(50) NOT NULL, short VARCHAR(3))")
    table = lab.table(deleted="short", touched="updated", extra={"source": "x"})
    problems = (await table.check()).problems
    keys = [problem.split(":")[0].removeprefix("links.shop.table.") for problem in problems]
    assert keys == ["columns.order_id", "columns.owner_id", "deleted", "touched", "extra.source", "extra"]
    assert 'has no column "order_id"; it has order_no, deal_id' in problems[0]
    assert "ids are whole numbers, or text" in problems[1]


async def test_given_problems_when_snapshot_then_it_ends_with_all_of_them(lab: Lab) -> None:
    lab.run("CREATE TABLE m (a INT)")
    with pytest.raises(ConfigError) as raised:
        await snapshot(lab.table())
    assert len(raised.value.problems) == 2
    with pytest.raises(ConfigError):
        await lab.table().read([1])
    with pytest.raises(ConfigError):
        await lab.table().write([])


@pytest.mark.parametrize(
    "kind", ["INT", "BIGINT", "SMALLINT", "NUMERIC(20,0)", "DECIMAL(10,2)", "VARCHAR(20)", "CHAR(12)", "TEXT"]
)
async def test_given_a_type_that_holds_ids_when_checked_then_it_is_taken(lab: Lab, kind: str) -> None:
    lab.run(f"CREATE TABLE m (order_id {kind}, deal_id {kind})")
    assert (await lab.table().check()).problems == []


@pytest.mark.parametrize("kind", ["DATE", "{time}", "FLOAT", "DOUBLE PRECISION", "REAL"])
async def test_given_a_type_that_holds_no_ids_when_checked_then_it_is_a_problem(lab: Lab, kind: str) -> None:
    lab.run(f"CREATE TABLE m (order_id {kind}, deal_id BIGINT)")
    (problem,) = (await lab.table().check()).problems
    assert problem.startswith('links.shop.table.columns.order_id: the column "order_id" is of type ')


@pytest.mark.postgres
@pytest.mark.parametrize("kind", ["boolean", "jsonb", "uuid", "bytea", "mood"])
async def test_given_a_type_of_postgresql_that_holds_no_ids_when_checked_then_it_is_a_problem(
    postgres: Lab, kind: str
) -> None:
    postgres.run("CREATE TYPE mood AS ENUM ('1', '2')", f"CREATE TABLE m (order_id {kind}, deal_id BIGINT)")
    assert len((await postgres.table().check()).problems) == 1


@pytest.mark.postgres
async def test_given_a_domain_over_a_number_when_checked_then_it_is_taken(postgres: Lab) -> None:
    postgres.run("CREATE DOMAIN order_no AS bigint", "CREATE TABLE m (order_id order_no, deal_id BIGINT)")
    assert (await postgres.table().check()).problems == []


async def test_given_columns_that_fill_themselves_when_checked_then_no_value_is_asked_for(lab: Lab) -> None:
    lab.run(
        "CREATE TABLE m (id {serial}, order_id BIGINT, deal_id BIGINT, note VARCHAR(9), kind INT NOT NULL DEFAULT 2)"
    )
    assert (await lab.table().check()).problems == []


async def test_given_a_column_syncd_cannot_fill_when_it_never_writes_then_it_is_no_problem(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT, deal_id BIGINT, note INT NOT NULL)")
    (problem,) = (await lab.table().check()).problems
    assert problem == (
        'links.shop.table.extra: the column "note" is NOT NULL and has no default: give a value for rows syncd inserts'
    )
    assert (await lab.table(extra={"note": 1}).check()).problems == []
    assert (await lab.table(writable=False).check()).problems == []


@pytest.mark.parametrize(
    ("keys", "settings", "named"),
    [
        ("PRIMARY KEY (tag)", {"extra": {"tag": "x"}}, '"tag"'),
        ("UNIQUE (branch)", {"rows": {"branch": "north"}, "extra": {"tag": "x"}}, '"branch"'),
        ("UNIQUE (tag)", {"extra": {"tag": "x"}}, '"tag"'),
        ("UNIQUE (branch, tag)", {"extra": {"branch": "north", "tag": "x"}}, '"branch" and "tag"'),
        ("UNIQUE (branch, tag)", {"rows": {"branch": "north"}, "extra": {"tag": "x"}}, '"branch" and "tag"'),
        ("UNIQUE (branch, tag)", {"extra": {"tag": "x"}}, None),
        ("UNIQUE (order_id, tag)", {"extra": {"tag": "x"}}, None),
        ("UNIQUE (deal_id, tag)", {"extra": {"tag": "x"}}, None),
        ("UNIQUE (tag)", {"extra": {"tag": {"sql": "'x'"}}}, None),
        ("UNIQUE (tag)", {"extra": {"branch": "north"}}, None),
    ],
)
async def test_given_one_value_for_a_column_that_takes_it_only_once_when_checked_then_that_is_a_problem(
    lab: Lab, keys: str, settings: dict[str, Any], named: str | None
) -> None:
    lab.run(
        "CREATE TABLE m (order_id BIGINT, deal_id BIGINT, branch VARCHAR(9) DEFAULT 'b' NOT NULL, "
        f"tag VARCHAR(9) DEFAULT 't' NOT NULL, {keys})"
    )

    problems = (await lab.table(**settings).check()).problems

    told = f"every row that syncd inserts would have the same {named}, which the table allows only once"
    advice = '; give an expression that differs from row to row, as { sql = "…" }'
    of_extra, of_rows = f"links.shop.table.extra: {told}{advice}", f"links.shop.table.rows: {told}"
    assert problems == ([of_rows if keys == "UNIQUE (branch)" else of_extra] if named else [])
    assert (await lab.table(writable=False, **settings).check()).problems == []


async def test_given_a_where_that_does_not_parse_when_checked_then_the_database_says_why(lab: Lab) -> None:
    lab.run(MAPPING)
    (problem,) = (await lab.table(where="chanel = 'web'").check()).problems
    assert problem.startswith("links.shop.table.where: is not accepted by the database: ")
    assert "chanel" in problem


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"rows": {"branch": "north"}}, "rows.branch"),
        ({"rows": {"note": 5}}, "rows.note"),
        ({"deleted": {"column": "branch", "set": "gone", "unset": 1}}, "deleted"),
        ({"deleted": {"column": "branch", "set": 0, "unset": "live"}}, "deleted"),
        ({"deleted": {"column": "at", "unset": "never"}}, "deleted"),
        ({"where": "note = 5"}, "where"),
    ],
)
async def test_given_a_value_that_does_not_fit_its_column_then_check_and_a_pass_say_the_same(
    postgres: Lab, settings: dict[str, Any], setting: str
) -> None:
    postgres.run("CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, branch INT, note TEXT, at TIMESTAMP)")
    table = postgres.table(**settings)
    (problem,) = (await table.check()).problems
    assert problem.startswith(f"links.shop.table.{setting}: is not accepted by the database: ")
    for asked in (snapshot(table), table.read([1])):
        with pytest.raises(ConfigError, match="is not as configured") as told:
            await asked
        assert told.value.problems == (problem,)


@pytest.mark.postgres
async def test_given_a_where_that_fails_at_some_rows_when_read_then_no_setting_is_blamed(postgres: Lab) -> None:
    postgres.run(MAPPING.replace("deal_id", "note TEXT, deal_id"), "INSERT INTO m VALUES (1, 'x', 7)")
    with pytest.raises(UnavailableError, match="answered with an error"):
        await snapshot(postgres.table(where="note::int > 5"))


async def test_given_a_where_with_percent_colon_and_comment_when_checked_then_it_is_taken_as_it_is(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT, deal_id BIGINT, note VARCHAR(20))")
    lab.run("INSERT INTO m VALUES (1, 7, '100% :x'), (2, 8, 'other')")
    table = lab.table(where="note = '100% :x' -- a comment", extra={"note": "100% :x"})
    assert (await table.check()).problems == []
    rows, _, _ = await snapshot(table)
    assert rows == [(1, 2, 7)]
    assert {order: value.selected for order, value in (await table.read([1, 2])).items()} == {1: True, 2: False}


async def test_given_a_time_that_may_not_be_null_when_it_marks_deletion_then_it_is_a_problem(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT, deal_id BIGINT, gone {time} NOT NULL DEFAULT '2000-01-01 00:00:00')")
    problems = (await lab.table(deleted="gone").check()).problems
    # SQLite's times are texts, which may be empty; those of MySQL may be zero.
    assert bool(problems) is (lab.kind == "postgresql")
    assert all("NOT NULL, so every row would be deleted" in problem for problem in problems)


async def test_given_another_case_in_a_column_name_when_the_database_folds_it_then_it_is_found(lab: Lab) -> None:
    lab.run(MAPPING)
    columns = {"order_id": "Order_ID", "owner_type_id": 2, "owner_id": "deal_id"}
    assert bool((await lab.table(columns=columns).check()).problems) is (lab.kind == "postgresql")


@pytest.mark.mysql
async def test_given_a_table_without_transactions_when_checked_then_it_is_a_problem(mysql: Lab) -> None:
    mysql.run(MAPPING + " ENGINE=MyISAM")
    (problem,) = (await mysql.table().check()).problems
    assert "MyISAM, which has no transactions" in problem


# ------------------------------------------------------------------------ rights


@pytest.mark.postgres
async def test_given_a_role_that_may_only_read_then_each_missing_right_is_told_and_no_order_is_blamed(
    postgres: Lab,
) -> None:
    postgres.run(
        MAPPING,
        "DROP ROLE IF EXISTS syncd_reader",
        "CREATE ROLE syncd_reader LOGIN PASSWORD 'reader-secret'",
        "GRANT USAGE ON SCHEMA public TO syncd_reader",
        "GRANT SELECT ON m TO syncd_reader",
    )
    url = sa.make_url(postgres.url).set(username="syncd_reader", password="reader-secret")
    reader = url.render_as_string(hide_password=False)
    try:
        with pytest.raises(AuthError) as told:
            await postgres.table(url=reader).check()
        assert [problem.split(":")[1] for problem in told.value.message.split("; ")] == [
            f" may not be written ({what})" for what in ("insert", "update", "delete")
        ]
        assert "grants" in told.value.hint
        assert (await postgres.table(url=reader, writable=False).check()).problems == []
        assert len((await postgres.table(url=reader, deleted="nothing").check()).problems) == 1
        with pytest.raises(AuthError, match="Nothing was written"):
            await postgres.table(url=reader).write([_add(1)])
    finally:
        postgres.run("REVOKE ALL ON m FROM syncd_reader", "REVOKE ALL ON SCHEMA public FROM syncd_reader")
        postgres.run("DROP ROLE syncd_reader")


@pytest.mark.postgres
async def test_given_a_policy_that_refuses_a_row_then_only_that_order_fails(postgres: Lab) -> None:
    postgres.run(
        MAPPING,
        "DROP ROLE IF EXISTS syncd_tenant",
        "CREATE ROLE syncd_tenant LOGIN PASSWORD 'tenant-secret'",
        "GRANT USAGE ON SCHEMA public TO syncd_tenant",
        "GRANT ALL ON m TO syncd_tenant",
        "ALTER TABLE m ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY small ON m USING (true) WITH CHECK (order_id < 100)",
    )
    url = sa.make_url(postgres.url).set(username="syncd_tenant", password="tenant-secret")
    try:
        table = postgres.table(url=url.render_as_string(hide_password=False), row_security="as-is")
        first, second = await table.write([_add(1), _add(100)])
        assert (first.effect, second.effect, second.code) == ("done", "refused", "42501")
    finally:
        postgres.run("REVOKE ALL ON m FROM syncd_tenant", "REVOKE ALL ON SCHEMA public FROM syncd_tenant")
        postgres.run("DROP POLICY small ON m", "DROP ROLE syncd_tenant")


@pytest.mark.postgres
async def test_given_a_database_set_to_read_only_when_checked_then_that_is_the_problem(postgres: Lab) -> None:
    postgres.run(MAPPING)
    url = sa.make_url(postgres.url).update_query_dict({"options": "-c default_transaction_read_only=on"})
    table = postgres.table(url=url.render_as_string(hide_password=False))
    assert (await table.check()).problems == ["links.shop.table.url: the database is read-only"]
    with pytest.raises(UnavailableError):
        await table.write([_add(1)])


@pytest.mark.mysql
async def test_given_a_user_that_may_only_read_then_each_missing_right_is_told_and_no_order_is_blamed(
    mysql: Lab,
) -> None:
    mysql.run(MAPPING)
    user = f"r{os.getpid()}"
    database = sa.make_url(mysql.url).database
    mysql.run(
        f"CREATE USER '{user}'@'%' IDENTIFIED BY 'reader-secret'", f"GRANT SELECT ON {database}.m TO '{user}'@'%'"
    )
    try:
        url = sa.make_url(mysql.url).set(username=user, password="reader-secret")
        reader = mysql.table(url=url.render_as_string(hide_password=False))
        with pytest.raises(AuthError) as told:
            await reader.check()
        assert [problem.split(":")[1] for problem in told.value.message.split("; ")] == [
            f" may not be written ({what})" for what in ("insert", "update", "delete")
        ]
        with pytest.raises(AuthError, match="Nothing was written"):
            await reader.write([_add(1)])
    finally:
        mysql.run(f"DROP USER '{user}'@'%'")


async def test_given_a_read_only_file_when_checked_then_that_is_a_problem_and_not_an_error(
    sqlite: Lab,
) -> None:
    sqlite.run(MAPPING)
    # As root every file is writable; SQLite's own switch stands for the file's mode.
    table = sqlite.table()
    sa.event.listen(table._home.engine, "connect", lambda raw, _: raw.execute("PRAGMA query_only = ON"))
    (problem,) = (await table.check()).problems
    assert problem.startswith("links.shop.table.url: the database takes no writes")
    with pytest.raises(UnavailableError, match="readonly"):
        await table.write([_add(1)])


# ------------------------------------------------------------------- unreachable


async def test_given_no_file_when_anything_is_asked_then_it_is_unavailable_and_none_is_made(
    sqlite: Lab, tmp_path: Path
) -> None:
    table = sqlite.table(url=f"sqlite:///{tmp_path}/missing.db")
    for asked in (table.check(), snapshot(table), table.read([1]), table.write([_add(1)])):
        with pytest.raises(UnavailableError, match=r"there is no file .*missing\.db"):
            await asked
    assert not (tmp_path / "missing.db").exists()


async def test_given_a_file_of_another_kind_when_checked_then_it_is_unavailable(sqlite: Lab, tmp_path: Path) -> None:
    path = tmp_path / "letter.db"
    path.write_text("Dear Sir or Madam, this is no database at all. " * 100)
    with pytest.raises(UnavailableError, match="not a database"):
        await sqlite.table(url=f"sqlite:///{path}").check()


@pytest.mark.parametrize(
    "url", ["postgresql://syncd:pg-secret@127.0.0.1:1/db", "mysql://syncd:my-secret@127.0.0.1:1/db"]
)
async def test_given_a_closed_port_when_checked_then_it_is_unavailable_without_the_password(
    sqlite: Lab, url: str
) -> None:
    with pytest.raises(UnavailableError) as raised:
        await sqlite.table(url=url).check()
    assert "cannot be reached" in raised.value.message
    assert "secret" not in raised.value.message
    assert raised.value.hint


@pytest.mark.mysql
async def test_given_a_wrong_password_when_checked_then_the_credentials_are_refused(mysql: Lab) -> None:
    url = sa.make_url(mysql.url).set(username="nobody_at_all", password="wrong-secret")
    with pytest.raises(AuthError) as raised:
        await mysql.table(url=url.render_as_string(hide_password=False)).check()
    assert "wrong-secret" not in str(raised.value)


async def test_given_no_such_database_when_checked_then_it_is_a_matter_of_configuration(lab: Lab) -> None:
    url = sa.make_url(lab.url).set(database="no_such_database")
    # A missing file may be on a disk that is not mounted yet.
    with pytest.raises(UnavailableError if lab.kind == "sqlite" else ConfigError):
        await lab.table(url=url.render_as_string(hide_password=False)).check()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("oracle://u:p@h/db", "names a oracle database"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
async def test_given_a_url_syncd_cannot_use_when_opened_then_it_is_a_matter_of_configuration(
    sqlite: Lab, url: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        sqlite.table(url=url)


@pytest.mark.parametrize(("kind", "module"), [("postgresql", "psycopg"), ("mysql", "pymysql"), ("mariadb", "pymysql")])
async def test_given_no_driver_when_opened_then_the_packages_to_install_are_named(
    sqlite: Lab, monkeypatch: pytest.MonkeyPatch, kind: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError) as raised:
        sqlite.table(url=f"{kind}://u@h/db")
    packages = "'psycopg[binary]'" if kind == "postgresql" else "pymysql cryptography"
    assert raised.value.hint == f"Install it with: pip install {packages}"


@pytest.mark.postgres
async def test_given_two_schemas_when_the_name_says_which_then_that_one_is_read_and_written(postgres: Lab) -> None:
    postgres.run("CREATE SCHEMA crm", "CREATE TABLE crm.m (order_id BIGINT, deal_id BIGINT)", MAPPING)
    postgres.run("INSERT INTO crm.m VALUES (1, 7)", "INSERT INTO m VALUES (2, 8)")
    table = postgres.table("crm.m")
    assert (await table.check()).problems == []
    assert (await snapshot(table))[0] == [(1, 2, 7)]
    await table.write([_add(3)])
    assert postgres.rows("SELECT count(*) FROM crm.m") == [(2,)]


@pytest.mark.mysql
async def test_given_another_database_of_the_server_when_the_name_says_so_then_it_is_read(mysql: Lab) -> None:
    mysql.run(MAPPING, "INSERT INTO m VALUES (1, 7)")
    url = sa.make_url(mysql.url)
    elsewhere = url.set(database="information_schema").render_as_string(hide_password=False)
    table = mysql.table(f"{url.database}.m", url=elsewhere)
    assert (await snapshot(table))[0] == [(1, 2, 7)]


async def test_given_odd_names_when_read_and_written_then_they_are_quoted(lab: Lab) -> None:
    quote = lab.words["q"]
    name = f"{quote}order; DROP TABLE m{quote}"
    odd = ["select", "Deal Id", "100%", "it's", "syncd_is_0 (new):x"]
    columns = ", ".join(f"{quote}{column}{quote} BIGINT" for column in odd)
    lab.run(f"CREATE TABLE {name} ({columns})", "CREATE TABLE m (a INT)")
    table = lab.table(
        "order; DROP TABLE m",
        columns={"order_id": "select", "owner_type_id": "100%", "owner_id": "Deal Id"},
        extra={"it's": 3},
        touched="syncd_is_0 (new):x",
    )
    assert (await table.check()).problems == []
    assert [each.effect for each in await table.write([_add(1)])] == ["done"]
    assert (await snapshot(table))[0] == [(1, 2, 7)]
    assert (await table.read([1]))[1].owner == (2, 7)
    assert lab.rows(f"SELECT {quote}it's{quote}, {quote}select{quote} FROM {name}".replace("%", "%%")) == [(3, 1)]
    assert lab.rows("SELECT * FROM m") == []


async def test_given_a_view_when_syncd_never_writes_then_it_is_as_good_as_a_table(lab: Lab) -> None:
    lab.run(MAPPING, "INSERT INTO m VALUES (1, 7), (2, 8)", "CREATE VIEW v AS SELECT * FROM m WHERE deal_id > 7")
    table = lab.table("v", writable=False)
    assert (await table.check()).problems == []
    assert (await snapshot(table))[0] == [(2, 2, 8)]
    assert sorted(await table.read([1, 2])) == [2]


@pytest.mark.postgres
async def test_given_a_where_that_writes_when_snapshot_then_the_database_forbids_it(postgres: Lab) -> None:
    postgres.run(
        MAPPING,
        "INSERT INTO m VALUES (1, 7)",
        "CREATE TABLE log (a INT)",
        "CREATE FUNCTION noted() RETURNS boolean LANGUAGE sql AS 'INSERT INTO log VALUES (1) RETURNING true'",
    )
    with pytest.raises(UnavailableError, match="read-only"):
        await snapshot(postgres.table(where="noted()"))
    assert postgres.rows("SELECT * FROM log") == []
