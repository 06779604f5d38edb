"""Tables of many kinds of programs: partitions, policies, zero dates, histories, flags, padded codes, generated ids."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from syncd.core.ports import Effect, TableValue, Write
from syncd.db.backend import Limits
from syncd.db.postgresql import PostgreSQL
from syncd.errors import AuthError, ConfigError, UnavailableError
from syncd.state.store import open_store
from tests import permissions
from tests.databases import POSTGRES, SQLITE
from tests.fakes.clock import SetClock
from tests.unit.table.conftest import DEAL_7, DEAL_8, DEAL_9, MAPPING, Lab, effects, snapshot

pytestmark = pytest.mark.anyio


# -------------------------------------------------------------- row level security


@pytest.fixture
def tenant(postgres: Lab) -> Iterator[str]:
    """The URL of a role that a policy shows two of three rows."""
    role = f"t{uuid.uuid4().hex[:12]}"
    postgres.run(
        "CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT NOT NULL, tenant TEXT NOT NULL DEFAULT 'a')",
        "INSERT INTO m VALUES (1, 7, 'a'), (2, 7, 'a'), (3, 7, 'b')",
        f"CREATE ROLE {role} LOGIN PASSWORD 'tenant-secret'",
        f"GRANT USAGE ON SCHEMA public TO {role}",
        f"GRANT ALL ON m TO {role}",
        "ALTER TABLE m ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON m USING (tenant = 'a')",
    )
    url = sa.make_url(postgres.url).set(username=role, password="tenant-secret")
    yield url.render_as_string(hide_password=False)
    postgres.run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.postgres
async def test_given_a_policy_that_hides_rows_when_anything_is_asked_then_the_server_refuses(
    postgres: Lab, tenant: str
) -> None:
    table = postgres.table(url=tenant)
    for asked in (table.check(), snapshot(table), table.read([1]), table.write([Write(1, DEAL_7, DEAL_8)])):
        with pytest.raises(AuthError, match="Row level security") as told:
            await asked
        assert "row_security" in told.value.hint
    assert postgres.rows("SELECT deal_id FROM m WHERE order_id = 1") == [(7,)]


@pytest.mark.postgres
async def test_given_a_server_that_is_not_told_to_refuse_then_hidden_rows_would_look_gone(
    postgres: Lab, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_time = PostgreSQL.limit_time

    def forgetful(self: PostgreSQL, connection: sa.Connection, limits: Limits, **_: object) -> None:
        limit_time(self, connection, limits)

    monkeypatch.setattr(PostgreSQL, "limit_time", forgetful)
    assert (await snapshot(postgres.table(url=tenant)))[0] == [(1, 2, 7), (2, 2, 7)]


@pytest.mark.postgres
async def test_given_a_policy_and_as_is_when_read_and_written_then_what_it_shows_is_the_table(
    postgres: Lab, tenant: str
) -> None:
    table = postgres.table(url=tenant, row_security="as-is")
    found = await table.check()
    assert found.problems == []
    assert ["row_security" in warning for warning in found.warnings] == [True]
    assert (await snapshot(table))[0] == [(1, 2, 7), (2, 2, 7)]
    assert await effects(table, Write(1, DEAL_7, DEAL_8)) == [Effect.DONE]


@pytest.mark.postgres
async def test_given_policies_that_do_not_bind_this_user_when_checked_then_nothing_is_told(
    postgres: Lab, tenant: str
) -> None:
    assert tenant
    found = await postgres.table().check()
    assert (found.problems, found.warnings) == ([], [])


# -------------------------------------------------------------------- partitions


async def test_given_two_portals_in_one_table_when_synced_then_each_sees_its_own_rows_only(lab: Lab) -> None:
    lab.run(
        "CREATE TABLE m (branch VARCHAR(9), order_id BIGINT, deal_id BIGINT NOT NULL, PRIMARY KEY (branch, order_id))"
    )
    lab.run("INSERT INTO m VALUES ('north', 1, 7), ('south', 1, 8), ('south', 2, 8), ('north', 3, 7), ('south', 3, 8)")
    north = lab.table(rows={"branch": "north"})
    found = await north.check()
    assert (found.problems, found.warnings) == ([], [])
    assert (await snapshot(north))[0] == [(1, 2, 7), (3, 2, 7)]
    assert await north.read([1, 2, 3]) == {1: TableValue(DEAL_7), 3: TableValue(DEAL_7)}
    writes = [Write(1, DEAL_7, DEAL_9), Write(2, None, DEAL_9), Write(3, DEAL_7, None)]
    assert await effects(north, *writes) == [Effect.DONE] * 3
    assert sorted(lab.rows("SELECT branch, order_id, deal_id FROM m")) == [
        ("north", 1, 9), ("north", 2, 9), ("south", 1, 8), ("south", 2, 8), ("south", 3, 8),
    ]  # fmt: skip


async def test_given_a_partition_of_several_values_and_where_when_written_then_both_hold(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT, deal_id BIGINT, shop VARCHAR(20), country INT, open INT DEFAULT 1)")
    lab.run("INSERT INTO m VALUES (1, 7, 'it''s 100%', 49, 1), (2, 7, 'it''s 100%', 49, 0), (2, 7, 'x', 49, 1)")
    table = lab.table(rows={"shop": "it's 100%", "country": 49}, where="open = 1")
    assert (await snapshot(table))[0] == [(1, 2, 7)]
    assert await table.read([1, 2]) == {1: TableValue(DEAL_7), 2: TableValue(DEAL_7, selected=False)}
    assert await effects(table, Write(3, None, DEAL_8), Write(2, None, DEAL_8)) == [Effect.DONE, Effect.MOVED]
    assert lab.rows("SELECT shop, country FROM m WHERE order_id = 3") == [("it's 100%", 49)]


async def test_given_soft_delete_in_a_partition_when_added_again_then_others_rows_are_not_revived(lab: Lab) -> None:
    lab.run(
        "CREATE TABLE m (branch VARCHAR(9), order_id BIGINT, deal_id BIGINT, gone INT, PRIMARY KEY (branch, order_id))"
    )
    lab.run("INSERT INTO m VALUES ('north', 1, 7, 1), ('south', 1, 8, 1)")
    assert await effects(lab.table(rows={"branch": "north"}, deleted="gone"), Write(1, None, DEAL_9)) == [Effect.DONE]
    assert sorted(lab.rows("SELECT * FROM m")) == [("north", 1, 9, 0), ("south", 1, 8, 1)]


# ------------------------------------------------------------------ soft deletion


@pytest.mark.mysql
@pytest.mark.parametrize("kind", ["DATETIME", "DATE", "TIMESTAMP"])
@pytest.mark.parametrize("null", ["NULL", "NOT NULL"])
async def test_given_zero_dates_when_read_then_they_are_no_mark(mysql: Lab, kind: str, null: str) -> None:
    mysql.run(
        "SET sql_mode = ''",
        f"CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, gone {kind} {null} DEFAULT 0)",
    )
    mysql.run("SET sql_mode = ''", "INSERT INTO m VALUES (1, 7, 0), (2, 7, 0), (3, 7, '2026-01-01')")
    table = mysql.table(deleted="gone")
    assert (await table.check()).problems == []
    assert (await snapshot(table))[0] == [(1, 2, 7), (2, 2, 7)]
    assert await effects(table, Write(1, DEAL_7, None), Write(3, None, DEAL_8)) == [Effect.DONE] * 2
    assert await effects(table, Write(1, None, DEAL_9), Write(4, None, DEAL_9)) == [Effect.DONE] * 2
    assert (await snapshot(table))[0] == [(1, 2, 9), (2, 2, 7), (3, 2, 8), (4, 2, 9)]


async def test_given_a_history_table_when_an_order_is_bound_again_then_its_closed_rows_stay(lab: Lab) -> None:
    lab.run("CREATE TABLE m (id {serial}, order_id BIGINT, deal_id BIGINT, valid_to {time})")
    lab.run("INSERT INTO m (order_id, deal_id, valid_to) VALUES (1, 7, '2026-01-01 00:00:00'), (1, 8, NULL)")
    table = lab.table(deleted="valid_to")
    assert await effects(table, Write(1, DEAL_8, None)) == [Effect.DONE]
    assert await effects(table, Write(1, None, DEAL_9)) == [Effect.DONE]
    rows = lab.rows("SELECT deal_id, valid_to IS NULL FROM m ORDER BY id")
    assert [(deal, bool(open_)) for deal, open_ in rows] == [(7, False), (8, False), (9, True)]


@pytest.mark.parametrize("database_url", [SQLITE, POSTGRES], indirect=True)  # MariaDB and MySQL have no partial indexes
async def test_given_a_unique_index_over_live_rows_only_when_added_again_then_the_closed_row_stays(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT, deal_id BIGINT, deleted_at {time})")
    lab.run("CREATE UNIQUE INDEX live ON m (order_id) WHERE deleted_at IS NULL")
    lab.run("INSERT INTO m VALUES (1, 7, '2026-01-01 00:00:00')")
    assert await effects(lab.table(deleted="deleted_at"), Write(1, None, DEAL_8)) == [Effect.DONE]
    assert sorted(lab.rows("SELECT deal_id, count(deleted_at) FROM m GROUP BY deal_id")) == [(7, 1), (8, 0)]


FLAGS = {
    "active": ("BOOLEAN NOT NULL DEFAULT true", False, True),
    "letter": ("CHAR(1) NOT NULL DEFAULT 'N'", "Y", "N"),
    "status": ("VARCHAR(10)", "cancelled", "active"),
    "number": ("INT", 9, 1),
}


@pytest.mark.parametrize(("kind", "gone", "live"), FLAGS.values(), ids=FLAGS)
async def test_given_values_of_a_mark_then_a_life_of_an_order_is_told_by_them(
    lab: Lab, kind: str, gone: object, live: object
) -> None:
    lab.run(f"CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, flag {kind})")
    quoted = f"'{live}'" if isinstance(live, str) else str(live).lower()
    lab.run(f"INSERT INTO m VALUES (1, 7, {quoted}), (2, 7, {quoted})")
    table = lab.table(deleted={"column": "flag", "set": gone, "unset": live})
    found = await table.check()
    assert (found.problems, found.warnings) == ([], [])
    assert await effects(table, Write(1, DEAL_7, None)) == [Effect.DONE]
    assert (await snapshot(table))[0] == [(2, 2, 7)]
    assert await table.read([1]) == {1: TableValue(None, deleted=True)}
    assert await effects(table, Write(1, None, DEAL_8), Write(3, None, DEAL_9)) == [Effect.DONE] * 2
    assert (await snapshot(table))[0] == [(1, 2, 8), (2, 2, 7), (3, 2, 9)]


async def test_given_another_value_than_the_two_of_a_mark_when_read_then_the_row_is_live(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, status VARCHAR(10))")
    lab.run("INSERT INTO m VALUES (1, 7, 'paused'), (2, 7, NULL), (3, 7, 'cancelled')")
    table = lab.table(deleted={"column": "status", "set": "cancelled", "unset": "active"})
    assert (await snapshot(table))[0] == [(1, 2, 7), (2, 2, 7)]


async def test_given_a_day_that_means_for_ever_when_read_and_written_then_it_is_no_mark(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT, deal_id BIGINT, valid_to {time} NOT NULL)")
    lab.run("INSERT INTO m VALUES (1, 7, '9999-12-31 00:00:00'), (2, 7, '2026-01-01 00:00:00')")
    table = lab.table(deleted={"column": "valid_to", "unset": "9999-12-31 00:00:00"})
    assert (await table.check()).problems == []
    assert (await snapshot(table))[0] == [(1, 2, 7)]
    assert await effects(table, Write(1, DEAL_7, None), Write(2, None, DEAL_8)) == [Effect.DONE] * 2
    assert (await snapshot(table))[0] == [(2, 2, 8)]


async def test_given_a_flag_that_means_the_opposite_when_checked_then_that_is_a_warning(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, is_active BOOLEAN NOT NULL DEFAULT true)")
    lab.run("INSERT INTO m VALUES (1, 7, true), (2, 7, true)")
    (warning,) = (await lab.table(deleted="is_active").check()).warnings
    assert "all of the 2 rows count as deleted" in warning


# ------------------------------------------------------- values of inserted rows


async def test_given_sql_for_extra_columns_when_inserted_then_each_row_gets_its_own(lab: Lab) -> None:
    made = {"sqlite": "lower(hex(randomblob(16)))", "postgresql": "gen_random_uuid()", "mysql": "uuid()"}[lab.kind]
    kind = "UUID" if lab.kind == "postgresql" else "VARCHAR(36)"
    lab.run(
        f"CREATE TABLE m (id {kind} NOT NULL PRIMARY KEY, order_id BIGINT NOT NULL UNIQUE, deal_id BIGINT NOT NULL,"
        " note VARCHAR(20) NOT NULL, made {time} NOT NULL)"
    )
    extra = {"id": {"sql": made}, "note": {"sql": "'50% :x'"}, "made": {"sql": "CURRENT_TIMESTAMP"}}
    table = lab.table(extra=extra)
    assert (await table.check()).problems == []
    assert await effects(table, Write(1, None, DEAL_7), Write(2, None, DEAL_8)) == [Effect.DONE] * 2
    assert lab.rows("SELECT count(DISTINCT id), min(note) FROM m") == [(2, "50% :x")]


async def test_given_a_wrong_value_for_a_column_when_checked_then_trying_shows_it(server: Lab) -> None:
    # SQLite takes any value.
    server.run(
        "CREATE TABLE m (order_id BIGINT, deal_id BIGINT, made {time} NOT NULL)",
        "INSERT INTO m VALUES (1, 7, '2026-01-01')",
    )
    (problem,) = (await server.table(extra={"made": "now or so"}).check()).problems
    assert problem.startswith("links.shop.table.name: may not be written (insert): ")
    assert server.rows("SELECT count(*) FROM m") == [(1,)]


@pytest.mark.mysql
async def test_given_an_invisible_column_with_a_default_when_checked_then_no_value_is_asked_for(mariadb: Lab) -> None:
    mariadb.run("CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT, c INT INVISIBLE NOT NULL DEFAULT 3)")
    assert (await mariadb.table().check()).problems == []


@pytest.mark.mysql
async def test_given_a_table_with_a_history_of_its_own_when_checked_then_the_library_says_nothing_to_the_log(
    mariadb: Lab, recwarn: pytest.WarningsRecorder
) -> None:
    mariadb.run(
        "CREATE TABLE m (order_id BIGINT PRIMARY KEY, deal_id BIGINT,"
        " rs TIMESTAMP(6) GENERATED ALWAYS AS ROW START, re TIMESTAMP(6) GENERATED ALWAYS AS ROW END,"
        " PERIOD FOR SYSTEM_TIME (rs, re)) WITH SYSTEM VERSIONING"
    )
    assert (await mariadb.table().check()).problems == []
    assert [str(one.message) for one in recwarn if "schema content" in str(one.message)] == []


_VALID = "f DATE NOT NULL DEFAULT '2020-01-01', t DATE NOT NULL DEFAULT '2030-01-01', PERIOD FOR valid (f, t)"
_HISTORY = (
    "rs TIMESTAMP(6) GENERATED ALWAYS AS ROW START, re TIMESTAMP(6) GENERATED ALWAYS AS ROW END,"
    " PERIOD FOR SYSTEM_TIME (rs, re)"
)


@pytest.mark.mysql
@pytest.mark.parametrize(
    ("columns", "options", "is_unique"),
    [
        ("order_id BIGINT, deal_id BIGINT, {valid}, UNIQUE (order_id, valid WITHOUT OVERLAPS)", "", False),
        ("order_id BIGINT, deal_id BIGINT, {valid}, PRIMARY KEY (order_id, valid WITHOUT OVERLAPS)", "", False),
        ("order_id BIGINT, deal_id BIGINT, {valid}, UNIQUE (order_id)", "", True),
        ("order_id BIGINT PRIMARY KEY, deal_id BIGINT, {history}", "WITH SYSTEM VERSIONING", True),
        ("order_id BIGINT UNIQUE, deal_id BIGINT, {history}", "WITH SYSTEM VERSIONING", True),
        ("order_id BIGINT UNIQUE, deal_id BIGINT", "WITH SYSTEM VERSIONING", True),
        ("order_id BIGINT, deal_id BIGINT, {history}, UNIQUE (order_id, rs)", "WITH SYSTEM VERSIONING", False),
        ("order_id BIGINT, deal_id BIGINT, {valid}, {history}, UNIQUE (order_id, valid WITHOUT OVERLAPS)", "WITH SYSTEM VERSIONING", False),
    ],
    ids=["period", "period in the primary key", "beside a period", "history", "history, unique", "hidden history", "start of a row", "both"],
)  # fmt: skip
async def test_given_a_key_over_a_period_of_time_when_checked_then_it_is_known_whether_an_order_can_have_two_rows(
    mariadb: Lab, columns: str, options: str, is_unique: bool
) -> None:
    mariadb.run(f"CREATE TABLE m ({columns.format(valid=_VALID, history=_HISTORY)}) {options}")
    found = await mariadb.table().check()
    assert found.problems == []
    assert ["no unique index on the order id alone" in one for one in found.warnings] == ([] if is_unique else [True])
    try:
        mariadb.run("INSERT INTO m (order_id, deal_id) VALUES (1, 7)")
        second = "f, t" if "valid" in columns else "deal_id"
        values = "'2010-01-01', '2020-01-01'" if "valid" in columns else "8"
        mariadb.run(f"INSERT INTO m (order_id, {second}) VALUES (1, {values})")
    except sa.exc.IntegrityError:
        pass
    assert (mariadb.rows("SELECT count(*) FROM m") == [(1,)]) is is_unique


# -------------------------------------------------------------------------- keys


async def test_given_padded_codes_when_their_width_is_told_then_new_ones_are_padded(lab: Lab) -> None:
    lab.run("CREATE TABLE m (code VARCHAR(12) PRIMARY KEY, deal_id BIGINT)", "INSERT INTO m VALUES ('000000005', 7)")
    columns = {"order_id": {"column": "code", "width": 9}, "owner_type_id": 2, "owner_id": "deal_id"}
    table = lab.table(columns=columns)
    assert (await table.check()).problems == []
    assert await effects(table, Write(5, DEAL_7, DEAL_8), Write(12, None, DEAL_9)) == [Effect.DONE] * 2
    assert sorted(lab.rows("SELECT * FROM m")) == [("000000005", 8), ("000000012", 9)]
    assert (await snapshot(table))[0] == [(5, 2, 8), (12, 2, 9)]


async def test_given_padded_codes_when_their_width_is_not_told_then_no_other_code_is_written(lab: Lab) -> None:
    lab.run("CREATE TABLE m (code VARCHAR(12) PRIMARY KEY, deal_id BIGINT)")
    lab.run("INSERT INTO m VALUES ('000000005', 7), ('123456789', 7)")
    table = lab.table(columns={"order_id": "code", "owner_type_id": 2, "owner_id": "deal_id"})
    (problem,) = (await table.check()).problems
    assert "padded with zeros, such as '000000005'" in problem
    results = await table.write([Write(5, DEAL_7, DEAL_8), Write(12, None, DEAL_9)])
    assert [each.effect for each in results] == [Effect.DONE, Effect.REFUSED]
    assert (results[1].code, results[1].text[:39]) == ("", "the table's order ids are padded with z")
    assert lab.rows("SELECT count(*) FROM m") == [(2,)]


async def test_given_a_width_for_numbers_when_checked_then_that_is_a_problem(lab: Lab) -> None:
    lab.run(MAPPING)
    columns = {"order_id": {"column": "order_id", "width": 9}, "owner_type_id": 2, "owner_id": "deal_id"}
    (problem,) = (await lab.table(columns=columns).check()).problems
    assert problem.startswith("links.shop.table.columns.order_id.width: ")


async def test_given_no_key_that_is_an_order_id_when_checked_then_examples_are_shown(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id VARCHAR(30) PRIMARY KEY, deal_id BIGINT)")
    lab.run("INSERT INTO m VALUES ('WEB-1', 7), ('WEB-2', 7)")
    (problem,) = (await lab.table().check()).problems
    assert "none of the 2 rows that were read has an order id" in problem
    assert "'WEB-1', 'WEB-2'" in problem


# ----------------------------------------------------------- what a trial tells


async def test_given_rows_when_checked_then_a_write_is_tried_and_nothing_is_left_of_it(lab: Lab) -> None:
    lab.run(MAPPING, "INSERT INTO m VALUES (1, 7), (2, 8)")
    found = await lab.table().check()
    assert (found.problems, found.warnings, sorted(found.sample)) == ([], [], [1, 2])
    assert sorted(lab.rows("SELECT * FROM m")) == [(1, 7), (2, 8)]


async def test_given_a_generated_owner_column_when_checked_then_it_is_a_problem(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT, other BIGINT, deal_id BIGINT GENERATED ALWAYS AS (other + 1) STORED)")
    problems = (await lab.table().check()).problems
    assert any("is generated by the database" in problem for problem in problems)
    assert (await lab.table(writable=False).check()).problems == []


async def test_given_a_foreign_key_that_keeps_a_row_when_checked_then_that_is_only_a_warning(lab: Lab) -> None:
    lab.run(MAPPING, "INSERT INTO m VALUES (1, 7)")
    lab.run("CREATE TABLE child (o BIGINT, FOREIGN KEY (o) REFERENCES m (order_id))", "INSERT INTO child VALUES (1)")
    found = await lab.table().check()
    assert found.problems == []
    assert any("could not be tried (delete)" in warning for warning in found.warnings)


async def test_given_no_unique_index_on_the_order_id_when_checked_then_that_is_a_warning(lab: Lab) -> None:
    lab.run("CREATE TABLE m (order_id BIGINT, deal_id BIGINT)")
    (warning,) = (await lab.table().check()).warnings
    assert "no unique index on the order id" in warning
    lab.run("CREATE UNIQUE INDEX u ON m (order_id)")
    assert (await lab.table().check()).warnings == []


@pytest.mark.mysql
async def test_given_a_view_over_a_table_without_transactions_when_checked_then_it_is_a_problem(mysql: Lab) -> None:
    mysql.run(MAPPING.replace(" m ", " base ") + " ENGINE=MyISAM", "CREATE VIEW inner_view AS SELECT * FROM base")
    mysql.run("CREATE VIEW m AS SELECT order_id, deal_id FROM inner_view")
    (problem,) = (await mysql.table().check()).problems
    assert 'reads the table "base", which is kept by the engine MyISAM' in problem


CHECK = """
import asyncio, sys
from syncd.config.model import TableSettings
from syncd.core.model import Scope
from syncd.table.keyed import open_table
from tests.fakes.clock import SetClock
columns = {"order_id": "order_id", "owner_type_id": 2, "owner_id": "deal_id"}
settings = TableSettings(url=f"sqlite:///{sys.argv[1]}", name="m", columns=columns)
table = open_table(settings, scope=Scope(frozenset({2})), clock=SetClock(), link="shop")
print(asyncio.run(table.check()).problems)
"""


@pytest.mark.parametrize("closed", ["file", "folder"])
async def test_given_a_file_or_folder_that_may_not_be_written_when_checked_then_trying_shows_it(
    sqlite: Lab, tmp_path: Path, closed: str
) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    Lab(f"sqlite:///{folder / 'm.db'}").run(MAPPING, "INSERT INTO m VALUES (1, 7)")
    (folder / "m.db" if closed == "file" else folder).chmod(0o444 if closed == "file" else 0o555)
    command = [sys.executable, permissions.__file__, "-c", CHECK, str(folder / "m.db")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=Path.cwd())  # noqa: ASYNC221
    folder.chmod(0o755)
    assert "the database takes no writes" in ran.stdout, ran.stderr


async def test_given_a_row_that_another_program_writes_when_checked_then_that_is_only_a_warning(
    server: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.table.database.LOCK_SECONDS", 1)
    server.run(MAPPING, "INSERT INTO m VALUES (1, 7)")
    with server.engine.connect() as other:
        other.exec_driver_sql("UPDATE m SET deal_id = 8")
        found = await server.table().check()
        other.rollback()
    assert found.problems == []
    assert any("writing could not be tried" in warning for warning in found.warnings)


async def test_given_codes_that_are_padded_from_some_day_on_then_no_other_code_is_written_from_then_on(
    lab: Lab,
) -> None:
    lab.run("CREATE TABLE m (order_id VARCHAR(9) PRIMARY KEY, deal_id BIGINT)")
    table = lab.table()
    assert [each.effect for each in await table.write([Write(7, None, DEAL_7)])] == [Effect.DONE]
    lab.run("DELETE FROM m", "INSERT INTO m VALUES ('000000005', 7), ('000000006', 7)")

    await snapshot(table)
    results = await table.write([Write(8, None, DEAL_7)])

    assert [each.effect for each in results] == [Effect.REFUSED]
    assert results[0].text.startswith("the table's order ids are padded with zeros")


async def test_given_a_file_to_be_read_only_when_written_then_it_stays_as_it_is(sqlite: Lab) -> None:
    sqlite.run(MAPPING, "INSERT INTO m VALUES (5, 7)")
    table = sqlite.table(url=f"{sqlite.url}?mode=ro")

    assert (await snapshot(table))[0] == [(5, 2, 7)]
    assert (await sqlite.table(url=f"{sqlite.url}?mode=ro", writable=False).check()).problems == []
    assert any("the database takes no writes" in one for one in (await table.check()).problems)
    with pytest.raises(UnavailableError):
        await table.write([Write(5, DEAL_7, None)])
    assert sqlite.rows("SELECT * FROM m") == [(5, 7)]


async def test_given_a_state_to_be_read_only_then_that_is_a_matter_of_configuration(sqlite: Lab) -> None:
    with pytest.raises(ConfigError, match="mode=ro cannot be used"):
        open_store(f"{sqlite.url}?mode=ro", clock=SetClock(1.0))
