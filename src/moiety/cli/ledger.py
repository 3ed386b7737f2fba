"""`moiety ledger`: what was released to the peer beside what the policy allows. Imported by `cli`."""

from pathlib import Path
from typing import Any, Final

from moiety.cli.contract import said
from moiety.config import Policy, Totals, limit_label, load_data_owner_run
from moiety.store.ledger import Entries, read_ledger

_WIDTH: Final = 36


def ledger_values(path: Path) -> dict[str, Any]:
    """Return the totals and limits of a data owner's run file, for `--json`; the ledger is not locked.

    Raises:
        ConfigError: it is no data owner's run file.
        CheckpointCorruptError: the ledger is damaged.
    """
    settings = load_data_owner_run(path)
    entries, policy = read_ledger(settings.ledger), settings.limits
    return {
        "peer": settings.peer[0].name,
        "ledger": str(settings.ledger),
        "entries": entries.lines,
        "last": {"at": entries.at, "run": entries.run} if entries.lines else None,
        "totals": {name: _counted(name, entries, policy) for name in Totals.model_fields},
        "limits": {name: value for name, value in policy if name not in Totals.model_fields},
    }


def ledger_lines(path: Path) -> list[str]:
    """Return the same for a person who has not read anything else.

    Raises:
        ConfigError: it is no data owner's run file.
        CheckpointCorruptError: the ledger is damaged.
    """
    values, settings = ledger_values(path), load_data_owner_run(path)
    lines = [
        f"released to {values['peer']} of table {settings.ledger.stem}, over all runs",
        f"{'':{_WIDTH}}{'so far':>12}{'allowed':>12}{'left':>12}",
    ]
    for name, each in values["totals"].items():
        allowed, left = (said(each[key]) for key in ("limit", "left"))
        lines.append(f"{limit_label(name):<{_WIDTH}}{each['total']:>12}{allowed:>12}{left:>12}")
    lines += [f"{limit_label(name):<{_WIDTH}}{said(value)}" for name, value in values["limits"].items()]
    return [*lines, _source(values)]


def _counted(name: str, entries: Entries, policy: Policy) -> dict[str, int | None]:
    total, limit = getattr(entries.totals, name), getattr(policy, name)
    return {"total": total, "limit": limit, "left": None if limit is None else max(0, limit - total)}


def _source(values: dict[str, Any]) -> str:
    if not values["entries"]:
        return f"nothing is on record in {values['ledger']}"
    last = values["last"]
    written = f", the last of {last['at']} for run {last['run']}" if last["at"] else ""
    entries = "1 entry" if values["entries"] == 1 else f"{values['entries']} entries"
    return f"{entries} in {values['ledger']}{written}"
