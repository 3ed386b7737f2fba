"""Queries as sources of tables, asked of a real server."""

import builtins
import os
import resource
import shutil
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from adbc_driver_postgresql import dbapi
from pyarrow import parquet

from moiety.config import load_data_owner_run
from moiety.config.source import Query, ledger_name
from moiety.data import parquet_file as parquet_copy
from moiety.data import postgresql
from moiety.data.postgresql_errors import connection_refused, query_refused
from moiety.data.table import Table, read_table
from moiety.errors import CheckpointError, ConfigError, DataError, MoietyError
from moiety.party.label_owner.train import train
from tests.support.parties import configure, make_parties, wire
from tests.support.postgres import PASSWORD, USER, Server
from tests.support.randomness import RecordedRandomness


def ask(text: str, *, columns: list[str] | None = None, scratch: Path | None = None) -> Table:
    return read_table(Query(postgresql=text), columns=columns, scratch=scratch)


def refused(text: str, kind: type[MoietyError], **named: Any) -> MoietyError:
    with pytest.raises(kind) as caught:
        ask(text, **named)
    assert type(caught.value) is kind
    assert caught.value.hint
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


@pytest.mark.usefixtures("database")
def test_query_gives_numbers_and_text() -> None:
    table = ask(
        "select * from (values"
        " (1::int2, 2::int4, (2^60)::int8, 0.5::float4, 0.1::float8, true, 'x', 'y'::char(3)),"
        " (null, null, null, null, null, null, null, null)) as t (a, b, c, d, e, f, g, h)"
    )
    assert (table.rows, table.names) == (2, tuple("abcdefgh"))
    numbers = [table.column(name) for name in "abcdef"]
    np.testing.assert_array_equal([values[0] for values in numbers], [1, 2, 2**60, 0.5, 0.1, 1])
    assert np.isnan([values[1] for values in numbers]).all()
    assert table.column("g").tolist() == ["x", None]
    assert table.column("h").tolist() == ["y", None]  # without what CHAR is padded with


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("123456789012345678::numeric(18,0)", "int64", 123456789012345678),
        ("(-5)::numeric(3,0)", "int64", -5),
        ("'nan'::numeric(3,0)", "int64", None),
        ("12345::numeric(3,-2)", "double", 12300.0),
        ("1234567890123456789::numeric(19,0)", "double", 1234567890123456768.0),
        ("0.1::numeric", "double", 0.1),
        ("123456789012345678901234567890.12::numeric", "double", 1.2345678901234568e29),
        ("'-infinity'::numeric", "double", -np.inf),
        ("null::numeric", "double", None),
    ],
)
def test_numeric_is_exact_where_it_is_whole_and_else_the_nearest_number(
    value: str, kind: str, expected: float | None
) -> None:
    column = ask(f"select 1 as id, {value} as v").read("v")
    assert (str(column.type), column.to_pylist()) == (kind, [expected])


@pytest.mark.usefixtures("database")
def test_dates_and_times_are_numbers_and_infinite_ones_are_missing() -> None:
    table = ask(
        "select date '1970-01-03' a, timestamp '1970-01-01 00:01:00.25' b, time '00:00:02' c,"
        " timestamptz '1970-01-01 01:00:00+01' d, date 'infinity' e, timestamp '-infinity' f,"
        " timestamptz 'infinity' g, date '-infinity' h, date '4713-01-01 BC' i, timestamp '4713-01-01 BC' j"
    )
    assert [table.column(name)[0] for name in "abcd"] == [2, 60.25, 2, 0]
    assert np.isnan([table.column(name)[0] for name in "efgh"]).all()
    assert [table.column(name)[0] for name in "ij"] == [-2440550, -2440550 * 86400]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("12.5::money", "money"),
        ("'{}'::jsonb", "jsonb"),
        ("gen_random_uuid()", "uuid"),
        ("'x'::bytea", "bytea"),
        ("array[1]", "_int4"),
        ("interval '1 day'", "interval"),
        ("inet '127.0.0.1'", "inet"),
        ("5::oid", "oid"),
    ],
)
def test_column_of_another_type_is_refused_only_if_wanted(value: str, kind: str) -> None:
    text = f"select 1 as good, {value} as bad"
    assert ask(text, columns=["good"]).names == ("good",)
    error = refused(text, DataError)
    assert "column 'bad' of the query has the type" in error.message
    assert kind in error.message
    assert '"bad"::text' in error.hint


def test_rows_come_in_the_order_of_the_query_and_stay_what_they_were(
    database: Server, tmp_path: Path
) -> None:
    database.run("create table snapshot as select i, -i as v from generate_series(1, 50000) i")
    table = ask("select * from snapshot order by i desc;\n", scratch=tmp_path / "run")
    database.run("update snapshot set v = 0; delete from snapshot where i < 9")
    np.testing.assert_array_equal(table.column("v"), np.arange(-50000, 0))
    assert not list(tmp_path.iterdir())  # the copy has no name


@pytest.mark.usefixtures("database")
def test_query_is_copied_group_by_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moiety.data.postgresql._BATCH_BYTES", 64)
    monkeypatch.setattr("moiety.data.parquet_file._GROUP_VALUES", 20)
    groups: list[int] = []

    def counted(batches: Iterable[Any], *, rows: int) -> Iterator[Any]:
        for group in joined(batches, rows=rows):
            groups.append(group.num_rows)
            yield group

    joined = parquet_copy._groups
    monkeypatch.setattr(parquet_copy, "_groups", counted)
    table = ask("select i, i::text as t, (i / 2.0)::numeric as n from generate_series(1, 100) i")
    assert sum(groups) == 100
    assert 6 <= max(groups) < 12
    np.testing.assert_array_equal(table.column("n"), np.arange(1, 101) / 2)
    assert table.column("t").tolist() == [str(number) for number in range(1, 101)]


def test_uri_variable_comes_before_the_others(database: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGUSER", "PGDATABASE", "PGPASSWORD"):
        monkeypatch.setenv(name, "wrong")
    monkeypatch.setenv("MOIETY_POSTGRESQL", f"postgresql://{USER}:{PASSWORD}@/postgres")
    assert ask("select 1 as a").rows == 1
    assert database.folder.exists()


@pytest.mark.parametrize(
    ("variables", "uri"),
    [
        ({}, "postgresql://?connect_timeout=10"),
        ({"PGCONNECT_TIMEOUT": "3"}, "postgresql://"),
        ({"MOIETY_POSTGRESQL": "postgres://me@db/x"}, "postgres://me@db/x?connect_timeout=10"),
        ({"MOIETY_POSTGRESQL": "postgresql://db?user=me"}, "postgresql://db?user=me&connect_timeout=10"),
        ({"MOIETY_POSTGRESQL": "postgresql://db?connect_timeout=3"}, "postgresql://db?connect_timeout=3"),
        ({"MOIETY_POSTGRESQL": "host=db"}, "host=db"),
    ],
)
def test_database_that_does_not_answer_is_given_up_after_ten_seconds(
    variables: dict[str, str], uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PGCONNECT_TIMEOUT", "MOIETY_POSTGRESQL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert postgresql._uri() == uri


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("variables", "kind", "says", "hint"),
    [
        ({"PGHOST": "/nowhere"}, DataError, "cannot be reached", "PGHOST"),
        ({"PGHOST": "127.0.0.1", "PGPORT": "1"}, DataError, "cannot be reached", "PGHOST"),
        ({"PGHOST": "no.such.host.invalid"}, DataError, "cannot be reached", "PGHOST"),
        ({"PGPASSWORD": "alligator-78"}, ConfigError, "does not accept the password", "PGPASSWORD"),
        ({"PGPASSWORD": ""}, ConfigError, "does not accept the password", "PGPASSWORD"),
        ({"PGDATABASE": "alligator-78"}, ConfigError, "refuses the connection", "PGDATABASE"),
        ({"MOIETY_POSTGRESQL": "alligator-78"}, ConfigError, "not in a form", "postgresql://"),
        (
            {"MOIETY_POSTGRESQL": "postgresql://[::alligator-78"},
            ConfigError,
            "not in a form",
            "postgresql://",
        ),
        (
            {"MOIETY_POSTGRESQL": "postgresql://alligator-78:alligator-78@127.0.0.1:1/alligator-78"},
            DataError,
            "cannot be reached",
            "MOIETY_POSTGRESQL",
        ),
    ],
)
def test_database_that_gives_no_connection_is_named_without_connection_data(
    variables: dict[str, str],
    kind: type[MoietyError],
    says: str,
    hint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    error = refused("select 1 as a", kind)
    assert says in error.message
    assert hint in error.hint
    shown = error.message + error.hint + repr(error)
    for secret in ("alligator", PASSWORD, USER, "nowhere", "no.such.host"):
        assert secret not in shown


@pytest.mark.parametrize(
    "said",
    [
        'connection to server at "db" failed: server does not support SSL, but SSL was required',
        'connection to server at "db" failed: root certificate file "/root.crt" does not exist',
        'connection to server at "db" failed: SSL error: certificate verify failed',
    ],
)
def test_connection_that_is_not_as_safe_as_asked_for_is_named(said: str) -> None:
    error = connection_refused(said)
    assert "encrypted" in error.message
    assert "PGSSLMODE" in error.hint


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("select 'lynx-4711'\nfrom faults were 1", ConfigError, "not correct SQL at line 2, character 18"),
        (
            "select lynx4711 from faults",
            ConfigError,
            "names a column that is not there at line 1, character 8",
        ),
        ("select 1 from lynx4711", ConfigError, "names a table that is not there at line 1, character 15"),
        (
            "select f('lynx-4711')",
            ConfigError,
            r"cannot be understood at line 1, character 8 (SQLSTATE 42883)",
        ),
        ("select 'lynx-4711'; select 2", ConfigError, "not correct SQL"),
        ("explain select 'lynx-4711'", ConfigError, "not correct SQL"),
        ("insert into faults values ('lynx-4711') returning v", ConfigError, "would change the database"),
        ("delete from faults", ConfigError, "would change the database"),
        ("set application_name = 'lynx-4711'", ConfigError, "gives no table"),
        ("select 'lynx-4711'::int as a", DataError, "fails at the database (SQLSTATE 22P02)"),
        ("select 1 / 0 as a", DataError, "fails at the database (SQLSTATE 22012)"),
        ("select v::int from faults", DataError, "broke off"),
        ("select pg_terminate_backend(pg_backend_pid())", DataError, "broke off"),
        ("select v from faults where false", DataError, "the query has no rows"),
        ("select v, v from faults", DataError, "more than one column 'v'"),
    ],
)
def test_query_that_gives_nothing_is_named_without_quoting_it(
    text: str, kind: type[MoietyError], says: str, database: Server
) -> None:
    database.run("drop table if exists faults; create table faults as select 'lynx-4711' as v")
    error = refused(text, kind)
    assert says in error.message
    assert "4711" not in error.message + error.hint
    assert database.run("select count(*) from faults") == "1\n"


@pytest.mark.parametrize(
    ("state", "kind", "says"),
    [
        ("57P01", DataError, "stopped answering"),
        ("53200", DataError, "stopped answering"),
        ("08006", DataError, "stopped answering"),
        ("57014", DataError, "fails at the database (SQLSTATE 57014)"),
        (None, ConfigError, "cannot be asked"),
    ],
)
def test_query_that_the_server_ends_is_told_apart(
    state: str | None, kind: type[MoietyError], says: str
) -> None:
    error = query_refused(SimpleNamespace(sqlstate=state, details=[]), text="select 1")
    assert type(error) is kind
    assert says in error.message
    assert error.hint


def test_query_of_a_table_that_may_not_be_read_is_refused(
    database: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.run(
        "drop table if exists theirs; create table theirs (a int); drop role if exists stranger;"
        f" create role stranger login password '{PASSWORD}'"
    )
    monkeypatch.setenv("PGUSER", "stranger")
    error = refused("select * from theirs", ConfigError)
    assert "may not read" in error.message
    assert "grant" in error.hint


@pytest.mark.usefixtures("database")
def test_column_that_the_query_lacks_is_suggested() -> None:
    error = refused("select 1 as income, 2 as age", DataError, columns=["incone"])
    assert (error.message, error.hint) == ("the query has no column 'incone'", "did you mean 'income'?")


def test_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def lacking(name: str, *arguments: Any, **named: Any) -> Any:
        if name.startswith("adbc_driver_postgresql"):
            raise ModuleNotFoundError(name)
        return found(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(ConfigError, match="driver for PostgreSQL is not installed") as caught:
        ask("select 1 as a")
    assert caught.value.hint == 'install it with pip install "moiety[postgresql]"'


@pytest.mark.usefixtures("database")
def test_query_without_room_for_the_copy_is_refused(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(CheckpointError, match=r"run cannot be written: File too large"):
            ask("select i, random() from generate_series(1, 5000) i", scratch=tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Handle Ctrl-C as a program does in which no library has put a handler of its own (fpylll does)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupt_ends_a_query_that_takes_long(database: Server) -> None:
    """Without it Ctrl-C would wait for the next rows, which may take hours."""
    running = "select count(*) from pg_stat_activity where query like '%pg_sleep(9999)%' and state = 'active'"

    def interrupt() -> None:
        while database.run(f"{running} and pid <> pg_backend_pid()") == "0\n":
            pass
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        ask("select 1 as a from pg_sleep(9999)")
    thread.join()


def test_query_shows_nothing_of_itself() -> None:
    query = Query(postgresql="select 'lynx-4711'")
    assert "lynx" not in repr(query) + str(query) + query.name
    assert ledger_name(query) == ledger_name(Query(postgresql="select 2"))
    assert ledger_name(Path("a/t.csv")) == ledger_name(Path("b/t.parquet")) == "t"


@pytest.mark.usefixtures("database")
@pytest.mark.slow
def test_training_from_queries_is_training_from_files(tmp_path: Path) -> None:
    """Both parties' tables come from the database, in the order that the files have."""
    files = make_parties(tmp_path, ids=True)
    tables = {
        "features": tmp_path / "telco" / "features.parquet",
        "labels": tmp_path / "bank" / "labels.parquet",
    }
    expected = train(files.label_owner, channel=wire(files), randomness=RecordedRandomness(b"trainer"))
    with dbapi.connect("postgresql://") as connection, connection.cursor() as cursor:
        for name, path in tables.items():
            numbered = parquet.read_table(path)
            numbered = numbered.append_column("rank", pa.array(range(numbered.num_rows)))
            cursor.adbc_ingest(name, numbered, mode="replace")
        connection.commit()
    for run_file, name in ((files.data_owner, "features"), (files.label_owner, "labels")):
        columns = ", ".join(parquet.read_schema(tables[name]).names)
        query = f"select {columns} from {name} order by rank"  # noqa: S608
        configure(run_file, {"table.source": {"postgresql": query}})
        tables[name].unlink()
        shutil.rmtree(run_file.parent / "small")  # an alignment that is kept there would draw less randomness
    found = train(files.label_owner, channel=wire(files), randomness=RecordedRandomness(b"trainer"))
    assert found.test == expected.test
    assert found.validation == expected.validation
    settings = load_data_owner_run(files.data_owner)
    assert "postgresql" in settings.ledger.name
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(PASSWORD.encode() in content for content in written)
