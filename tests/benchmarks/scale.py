"""`make bench`, second part: passes over a million bindings, and 200 links in one process.

The portal is a sandbox without latency, in a process of its own; each pass is a process of its own. PostgreSQL is
measured where a server answers on 127.0.0.1:5432.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from syncd.status.fire_times import PAGE_SECONDS
from tests.children import Child

ROOT = Path(__file__).parents[2]
Mark = tuple[str, float, float]
POSTGRES = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"


@contextlib.contextmanager
def portal(rows: int) -> Iterator[str]:
    with tempfile.NamedTemporaryFile() as lasting:
        options = json.dumps({"rows": rows, "limits": False, "lasting": lasting.name})
        process = Child(
            [sys.executable, "-m", "tests.benchmarks.portal_server", options],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=4 * 3600,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.communicate(timeout=120)


def child(**options: Any) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.scale_child", json.dumps(options)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=3000,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def fill(
    url: str, rows: int, tables: tuple[str, ...] = ("order_bindings",), *, key: str = "BIGINT", order: str = "n"
) -> None:
    """Make tables of orders 1 to `rows`; the key's type, and the order the rows lie in, as SQL."""
    engine = sa.create_engine(url)
    numbers = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers"
    numbers = f"{numbers} WHERE n < {rows}) SELECT n, mod(n, {rows}) + 1 FROM numbers"
    if engine.dialect.name == "postgresql":
        numbers = f"SELECT CAST(n AS {key}), mod(n, {rows}) + 1 FROM generate_series(1, {rows}) n"
    with engine.begin() as connection:
        for name in tables:
            connection.exec_driver_sql(f"CREATE TABLE {name} (order_id {key} PRIMARY KEY, deal_id BIGINT)")
            if rows:
                connection.exec_driver_sql(f"INSERT INTO {name} {numbers} ORDER BY {order}")
    engine.dispose()


def spoil(url: str, rows: int, one_in: int = 100) -> None:
    """One order in so many is moved in the table."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"UPDATE order_bindings SET deal_id = deal_id + {rows} WHERE mod(order_id, {one_in}) = 7"
        )
    engine.dispose()


def written(url: str) -> int:
    """How many rows of `binding` there are with their newest values, as a number that changes with any write."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
            query = "SELECT n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE relname = 'binding'"
            number = connection.exec_driver_sql(query).scalar() or 0
        else:
            query = "SELECT count(*) + total(crm_id) + total(agreed_id) FROM binding"
            number = connection.exec_driver_sql(query).scalar() or 0
    engine.dispose()
    return int(number)


def measure(
    kind: str, rows: int, table: str, state: str
) -> tuple[list[dict[str, Any]], list[tuple[str, float, float]]]:
    """Measure the four jobs over one kind of database; return the table's rows and the marks."""
    fill(table, rows)
    with portal(rows) as webhook:
        ends = {"webhook": webhook, "table": table, "state": state}
        first = {"what": f"first sync, all equal, {kind}", **child(job="pass", **ends)}
        before = written(state)
        nothing = {"what": f"nothing changed, {kind}", **child(job="pass", **ends)}
        nothing["binding rows written"] = int(written(state) != before)
        newest = {"what": f"the 2,000 newest, nothing changed, {kind}", **child(job="recent", **ends)}
        floor = {"what": f"merely listing and reading, {kind}", **child(job="floor", **ends)}
        spoil(table, rows)
        some = {"what": f"1 % moved in the table, {kind}", **child(job="pass", **ends)}
    marks: list[tuple[str, float, float]] = [
        (f"{kind}: nothing changed: peak memory, MB", nothing["peak"], 150),
        (f"{kind}: nothing changed: binding rows written", nothing["binding rows written"], 0),
        (f"{kind}: nothing changed: CPU, s", nothing["cpu"], 15),
        (f"{kind}: nothing changed: CPU / merely listing and reading", nothing["cpu"] / floor["cpu"], 3),
    ]
    marks += recent_marks(kind, newest)
    return [first, nothing, newest, floor, some], marks


def recent_marks(kind: str, newest: dict[str, Any]) -> list[tuple[str, float, float]]:
    """What a pass over the newest orders must reach, however many bindings there are."""
    return [
        (f"{kind}: the 2,000 newest: requests", newest["requests"], 3),
        (f"{kind}: the 2,000 newest: operating time of the portal, s", newest["calls"] * PAGE_SECONDS, 2),
        (f"{kind}: the 2,000 newest: CPU, s", newest["own cpu"], 0.5),
    ]


FEW = 20_000
"""Bindings of a link that is not large; a pass over the newest of a large one takes no more memory."""


def newest_of_few(kind: str, table: str, state: str, large: dict[str, Any]) -> tuple[dict[str, Any], Mark]:
    """Measure a pass over the newest orders of a small link beside that of a large one."""
    fill(table, FEW)
    with portal(FEW) as webhook:
        ends = {"webhook": webhook, "table": table, "state": state}
        child(job="pass", **ends)
        few = {"what": f"the 2,000 newest of {FEW:,}, nothing changed, {kind}", **child(job="recent", **ends)}
    return few, (f"{large['what']}: peak memory / the same of {FEW:,}", large["peak"] / few["peak"], 1.03)


def order_numbers(
    kind: str, rows: int, table: str, state: str, by_ids: float
) -> tuple[list[dict[str, Any]], list[tuple[str, float, float]]]:
    """Measure a first sync and a pass that finds nothing changed where the table holds the shop's order numbers.

    `by_ids` is the CPU time of such a pass over a table of order ids.
    """
    engine = sa.create_engine(table)
    number, series = "'WEB-' || n", f"generate_series(1, {rows}) n"
    if engine.dialect.name == "sqlite":
        counted = f"WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {rows}) SELECT n FROM s"
        series = f"({counted})"
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE order_bindings (order_id VARCHAR(40) PRIMARY KEY, deal_id BIGINT)")
        connection.exec_driver_sql(f"INSERT INTO order_bindings SELECT {number}, mod(n, {rows}) + 1 FROM {series}")
    engine.dispose()
    with portal(rows) as webhook:
        ends = {"webhook": webhook, "table": table, "state": state, "key": "order_number"}
        first = {"what": f"first sync, all equal, order numbers, {kind}", **child(job="pass", **ends)}
        nothing = {"what": f"nothing changed, order numbers, {kind}", **child(job="pass", **ends)}
    marks: list[tuple[str, float, float]] = [
        (f"{nothing['what']}: peak memory, MB", nothing["peak"], 150),
        (f"{nothing['what']}: CPU / the same with order ids", nothing["cpu"] / by_ids, 3),
    ]
    return [first, nothing], marks


def text_ids(
    kind: str, rows: int, table: str, state: str, by_ids: float
) -> tuple[list[dict[str, Any]], list[tuple[str, float, float]]]:
    """Measure the same where order ids are kept as text; see `order_numbers`."""
    fill(table, rows, key="VARCHAR(20)")
    with portal(rows) as webhook:
        ends = {"webhook": webhook, "table": table, "state": state}
        first = {"what": f"first sync, all equal, {rows:,} ids as text, {kind}", **child(job="pass", **ends)}
        nothing = {"what": f"nothing changed, {rows:,} ids as text, {kind}", **child(job="pass", **ends)}
    marks: list[tuple[str, float, float]] = [
        (f"{nothing['what']}: peak memory, MB", nothing["peak"], 150),
        (f"{nothing['what']}: CPU / the same with order ids", nothing["cpu"] / by_ids, 2),
    ]
    return [first, nothing], marks


def keys(
    kind: str, rows: int, by_ids: float, fresh: Callable[[], AbstractContextManager[tuple[str, str] | None]]
) -> tuple[list[dict[str, Any]], list[tuple[str, float, float]]]:
    """Measure tables whose rows name orders by texts, and by the shop's numbers; `fresh` gives two new databases."""
    results: list[dict[str, Any]] = []
    marks: list[tuple[str, float, float]] = []
    for measured in (order_numbers, text_ids):
        with fresh() as urls:
            assert urls is not None
            more, reached = measured(kind, rows, *urls, by_ids)
        results += more
        marks += reached
    with fresh() as urls:
        assert urls is not None
        tenth = text_ids(kind, rows // 10, *urls, by_ids)[0]
    for few, all_ in zip(tenth, results[-2:], strict=True):
        marks.append((f"{all_['what']}: CPU / a tenth of them", all_["cpu"] / few["cpu"], 12))
    return [*results, *tenth], marks


def empty_table(folder: Path, rows: int) -> dict[str, Any]:
    """A first sync that inserts every row into an empty table."""
    table = f"sqlite:///{folder / f'empty-{rows}.db'}"
    fill(table, 0)
    with portal(rows) as webhook:
        ends = {"webhook": webhook, "table": table, "state": f"sqlite:///{folder / f'empty-{rows}-state.db'}"}
        return {"what": f"first sync, {rows:,} into an empty table", **child(job="pass", **ends)}


def moves(folder: Path, rows: int, number: int) -> dict[str, Any]:
    """A pass that moves so many of the orders in the portal."""
    table = f"sqlite:///{folder / f'moves-{number}.db'}"
    fill(table, rows)
    with portal(rows) as webhook:
        ends = {"webhook": webhook, "table": table, "state": f"sqlite:///{folder / f'moves-{number}-state.db'}"}
        child(job="pass", **ends)
        spoil(table, rows, one_in=rows // number)
        return {"what": f"{number:,} of {rows:,} moved in the table", **child(job="pass", **ends)}


def growth(folder: Path, rows: int) -> tuple[list[dict[str, Any]], list[tuple[str, float, float]]]:
    """Measure plans of many changes, and of a tenth of them: time may grow in proportion, memory hardly at all."""
    few, all_ = empty_table(folder, rows // 10), empty_table(folder, rows)
    some, many = moves(folder, rows, rows // 100), moves(folder, rows, rows // 10)
    marks = [
        (f"{all_['what']}: peak memory, MB", all_["peak"], 200),
        (f"{all_['what']}: CPU / a tenth of them", all_["cpu"] / few["cpu"], 12),
        (f"{all_['what']}: peak memory / a tenth of them", all_["peak"] / few["peak"], 1.5),
        (f"{many['what']}: peak memory, MB", many["peak"], 200),
        (f"{many['what']}: CPU / a tenth of them", many["cpu"] / some["cpu"], 12),
        (f"{many['what']}: peak memory / a tenth of them", many["peak"] / some["peak"], 1.5),
    ]
    return [few, all_, some, many], marks


def links(folder: Path, number: int) -> dict[str, Any]:
    table = f"sqlite:///{folder / 'links.db'}"
    fill(table, 1_000, tuple(f"order_bindings_{one}" for one in range(number)))
    with portal(1_000) as webhook:
        ends = {"webhook": webhook, "table": table, "state": f"sqlite:///{folder / 'links-state.db'}"}
        child(job="links", links=number, **ends)
        return {"what": f"{number} links of 1,000, nothing changed", **child(job="links", links=number, **ends)}


@contextlib.contextmanager
def sqlite() -> Iterator[tuple[str, str]]:
    """Two places for databases, for table and state."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/table.db", f"sqlite:///{folder}/state.db"


@contextlib.contextmanager
def postgres() -> Iterator[tuple[str, str] | None]:
    """Two fresh databases on the local server, for table and state; None where there is no server."""
    names = [f"syncd_bench_{what}_{uuid.uuid4().hex[:8]}" for what in ("table", "state")]
    engine = sa.create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            for name in names:
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
    except sa.exc.OperationalError:
        yield None
        return
    table, state = (POSTGRES.rsplit("/", 1)[0] + f"/{name}" for name in names)
    try:
        # What is noted of a server's state outside of it belongs to this measurement only.
        with tempfile.TemporaryDirectory() as notes, pytest.MonkeyPatch.context() as patch:
            patch.setenv("STATE_DIRECTORY", notes)
            yield table, state
    finally:
        with engine.connect() as connection:
            for name in names:
                connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        engine.dispose()


def run(*, rows: int) -> tuple[str, list[tuple[str, float, float]]]:
    """Measure all passes; return the table, and (mark, reached, at most)."""
    results: list[dict[str, Any]] = []
    marks: list[tuple[str, float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        measured, more = measure("SQLite", rows, f"sqlite:///{place / 't.db'}", f"sqlite:///{place / 's.db'}")
        results += measured
        marks += more
        with sqlite() as urls:
            few, mark = newest_of_few("SQLite", *urls, measured[2])
        results.append(few)
        marks.append(mark)
        measured, more = keys("SQLite", rows, measured[1]["cpu"], sqlite)
        results += measured
        marks += more
        with postgres() as urls:
            found = urls is not None
            if urls is not None:
                measured, more = measure("PostgreSQL", rows, *urls)
                results += measured
                marks += more
        if found:
            with postgres() as urls:
                assert urls is not None
                few, mark = newest_of_few("PostgreSQL", *urls, measured[2])
            results.append(few)
            marks.append(mark)
            measured, more = keys("PostgreSQL", rows, measured[1]["cpu"], postgres)
            results += measured
            marks += more
        measured, more = growth(place, rows)
        results += measured
        marks += more
        results.append(links(place, 200))
    columns = {"wall": "wall s", "cpu": "CPU s", "peak": "peak MB", "listing": "listing s", "requests": "requests", "changes": "changes"}  # fmt: skip
    lines = [f"### Passes over {rows:,} bindings, portal without latency", ""]
    lines += ["| pass | " + " | ".join(columns.values()) + " |", "|---|" + "---:|" * len(columns)]
    for row in results:
        cells = [f"{row[key]:.1f}" if isinstance(row.get(key), float) else str(row.get(key, "")) for key in columns]
        lines.append(f"| {row['what']} | " + " | ".join(cells) + " |")
    page = "\n".join([*lines, ""])
    print(page, flush=True)
    return page, marks
