"""What can be wrong with a database or a query, in words of our own.

The server's words are read to tell one fault from another, and never repeated: they quote the query, values
of the table and connection data. Imported by postgresql.
"""

from typing import Any, Final

from moiety.errors import ConfigError, DataError, MoietyError

URI_VARIABLE: Final = "MOIETY_POSTGRESQL"
"""Environment variable with a libpq URI; what it leaves out, libpq's own variables say."""

_POSITION: Final = "PG_DIAG_STATEMENT_POSITION"
_ENDED: Final = ("08", "53", "57P", "58")  # connection, resources, shutdown, system
_PSQL: Final = "run the query in psql, which shows what the server says"
_WRONG: Final = {
    "42501": (
        "names something that this database user may not read",
        "grant it select, or ask as another user",
    ),
    "42601": ("is not correct SQL", _PSQL),
    "42P01": ("names a table that is not there", "check its name, schema and spelling, or PGDATABASE"),
    "42703": (
        "names a column that is not there",
        "check its spelling; values are written in 'single quotes'",
    ),
    "25006": ("would change the database", "write a select: the query is asked in a read-only transaction"),
}


def connection_refused(said: str) -> MoietyError:
    """Tell why there is no connection.

    Args:
        said: what libpq said; only told apart, never repeated.
    """
    if "SSL" in said or "certificate" in said:
        return ConfigError(
            "the connection to the database cannot be encrypted as asked for",
            hint="check PGSSLMODE and PGSSLROOTCERT against what the server offers",
        )
    if "no password supplied" in said or "password authentication failed" in said:
        return ConfigError(
            "the database does not accept the password",
            hint=f"correct PGPASSWORD, ~/.pgpass or {URI_VARIABLE} in the environment of this process",
        )
    if "FATAL" in said:
        return ConfigError(
            "the database refuses the connection",
            hint="check user, password and database (PGUSER, PGPASSWORD, PGDATABASE), and whether this user "
            "may connect from here",
        )
    if "connection to server" in said or "could not translate host name" in said:
        return DataError(
            "the database cannot be reached",
            hint=f"check that it runs, and PGHOST and PGPORT or {URI_VARIABLE} in this process's environment",
        )
    return ConfigError(
        f"{URI_VARIABLE} or a PG variable is not in a form that libpq reads",
        hint=f"write {URI_VARIABLE}=postgresql://user@host:5432/database, and the password in PGPASSWORD",
    )


def query_refused(error: Any, *, text: str) -> MoietyError:
    """Tell why the database gives nothing for a query.

    Args:
        error: the driver's, with the server's SQLSTATE.
        text: the query, in which the server may have named a place.
    """
    state = error.sqlstate or ""
    if state in _WRONG:
        problem, hint = _WRONG[state]
        return ConfigError(f"the query {problem}{_place(error, text)}", hint=hint)
    if state.startswith("42"):
        return ConfigError(
            f"the query cannot be understood{_place(error, text)} (SQLSTATE {state})", hint=_PSQL
        )
    if state.startswith(_ENDED):
        return DataError(
            "the database stopped answering", hint="check that it runs and has resources left, then try again"
        )
    if state:
        return DataError(f"the query fails at the database (SQLSTATE {state})", hint=_PSQL)
    return ConfigError("the query cannot be asked", hint=_PSQL)


def changes_nothing() -> ConfigError:
    """Make the error for a statement that gives no columns."""
    return ConfigError(
        "the query gives no table", hint='write a select: source = { postgresql = "select ..." }'
    )


def broke_off() -> DataError:
    """Make the error for rows that stop coming."""
    return DataError(
        "the database broke off while the query's rows were read",
        hint=f"{_PSQL}, or see the server's log",
    )


def _place(error: Any, text: str) -> str:
    """Say where in the query, if the server did: `, line 2, character 5`."""
    told = [value for name, value in error.details if name.decode() == _POSITION]
    if not told or not text:
        return ""
    before = text[: int(told[0]) - 1]
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    return f" at line {line}, character {column}"
