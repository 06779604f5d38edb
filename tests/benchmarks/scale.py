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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

ROOT = Path(__file__).parents[2]
POSTGRES = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"


@contextlib.contextmanager
def portal(rows: int) -> Iterator[str]:
    with tempfile.NamedTemporaryFile() as lasting:
        options = json.dumps({"rows": rows, "limits": False, "lasting": lasting.name})
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.portal_server", options],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
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


def fill(url: str, rows: int, tables: tuple[str, ...] = ("order_bindings",)) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for name in tables:
            connection.exec_driver_sql(f"CREATE TABLE {name} (order_id BIGINT PRIMARY KEY, deal_id BIGINT)")
            if engine.dialect.name == "postgresql":
                connection.exec_driver_sql(
                    f"INSERT INTO {name} SELECT n, mod(n, {rows}) + 1 FROM generate_series(1, {rows}) n"
                )
                continue
            values = [(order, order % rows + 1) for order in range(1, rows + 1)]
            connection.exec_driver_sql(f"INSERT INTO {name} VALUES (?, ?)", values)
    engine.dispose()


def spoil(url: str, rows: int) -> None:
    """One order in a hundred is moved in the table."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE order_bindings SET deal_id = deal_id + {rows} WHERE mod(order_id, 100) = 7")
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
        floor = {"what": f"merely listing and reading, {kind}", **child(job="floor", **ends)}
        spoil(table, rows)
        some = {"what": f"1 % moved in the table, {kind}", **child(job="pass", **ends)}
    marks = [
        (f"{kind}: nothing changed: peak memory, MB", nothing["peak"], 150),
        (f"{kind}: nothing changed: binding rows written", nothing["binding rows written"], 0),
        (f"{kind}: nothing changed: CPU, s", nothing["cpu"], 15),
        (f"{kind}: nothing changed: CPU / merely listing and reading", nothing["cpu"] / floor["cpu"], 3),
    ]
    return [first, nothing, floor, some], marks


def links(folder: Path, number: int) -> dict[str, Any]:
    table = f"sqlite:///{folder / 'links.db'}"
    fill(table, 1_000, tuple(f"order_bindings_{one}" for one in range(number)))
    with portal(1_000) as webhook:
        ends = {"webhook": webhook, "table": table, "state": f"sqlite:///{folder / 'links-state.db'}"}
        child(job="links", links=number, **ends)
        return {"what": f"{number} links of 1,000, nothing changed", **child(job="links", links=number, **ends)}


@contextlib.contextmanager
def postgres() -> Iterator[tuple[str, str] | None]:
    """Two fresh databases on the local server, for table and state; None where there is no server."""
    names = ("syncd_bench_table", "syncd_bench_state")
    engine = sa.create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            for name in names:
                connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
    except sa.exc.OperationalError:
        yield None
        return
    table, state = (POSTGRES.rsplit("/", 1)[0] + f"/{name}" for name in names)
    try:
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
        with postgres() as urls:
            if urls is not None:
                measured, more = measure("PostgreSQL", rows, *urls)
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
