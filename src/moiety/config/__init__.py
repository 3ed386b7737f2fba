"""Run files: the TOML that tells one party what to do, checked once and immutable afterwards.

One shape for both roles. Relative paths count from the run file's folder. Whether the files named in it
exist is asked by whoever opens them: `trust` needs the run file before the peer's certificate is there.
Imported by everything that works on behalf of one party; imports only errors.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from pydantic import ValidationError

from moiety.config.policy import LIMITS, Policy, Totals, limit_label
from moiety.config.prepare import RULE_NAMES, ColumnRule, PrepareRule, RuleName
from moiety.config.problems import shown, translated
from moiety.config.protocols import ProtocolName
from moiety.config.sections import (
    Checkpointing,
    DataOwnerRun,
    LabelCheckpointing,
    LabelOwnerRun,
    Peer,
)
from moiety.config.split import PeriodSplit, SplitBy
from moiety.config.training import LocalTraining
from moiety.config.values import Revealed, SchemeName
from moiety.errors import ConfigError

__all__ = [
    "LIMITS",
    "RULE_NAMES",
    "AnyRun",
    "Checkpointing",
    "ColumnRule",
    "DataOwnerRun",
    "LabelCheckpointing",
    "LabelOwnerRun",
    "LocalTraining",
    "Peer",
    "PeriodSplit",
    "Policy",
    "PrepareRule",
    "ProtocolName",
    "Revealed",
    "RuleName",
    "SchemeName",
    "SplitBy",
    "Totals",
    "limit_label",
    "load_data_owner_run",
    "load_label_owner_run",
    "load_run",
]

SIZE_LIMIT: Final = 2**20
"""Bytes of the largest run file."""
RUN_VERSION: Final = 1
"""Version of the shape of run files."""

AnyRun: TypeAlias = LabelOwnerRun | DataOwnerRun

_ROLES: Final[Mapping[str, type[LabelOwnerRun] | type[DataOwnerRun]]] = {
    "label-owner": LabelOwnerRun,
    "data-owner": DataOwnerRun,
}

# What tomllib refuses by other errors than its own.
_TOO_MUCH: Final[Mapping[type[Exception], str]] = {
    UnicodeDecodeError: "it is not UTF-8 text",
    RecursionError: "tables or lists are nested too deeply",
}
_OTHERWISE: Final = "a number is too long"


def load_run(path: Path) -> AnyRun:
    """Read and check the run file of either role.

    Raises:
        ConfigError: the file is missing or is not TOML, or a key is missing, unknown or unusable.
    """
    document = _read_toml(path)
    # These two come first: they decide what all the rest should look like.
    _require(document, "version", known=[RUN_VERSION], path=path)
    _require(document, "role", known=list(_ROLES), path=path)
    model = _ROLES[document["role"]]
    try:
        return model.model_validate(document, context={"folder": path.absolute().parent})
    except ValidationError as error:
        raise translated(error, model=model, path=path) from error


def load_label_owner_run(path: Path) -> LabelOwnerRun:
    """Read and check a label owner's run file.

    Raises:
        ConfigError: as `load_run`, or the run file is a data owner's.
    """
    run = load_run(path)
    if not isinstance(run, LabelOwnerRun):
        raise ConfigError(
            f"{path}: role is data-owner, and a label owner's run file is needed",
            hint="use `moiety provide`, the data owner's command",
        )
    return run


def load_data_owner_run(path: Path) -> DataOwnerRun:
    """Read and check a data owner's run file.

    Raises:
        ConfigError: as `load_run`, or the run file is a label owner's.
    """
    run = load_run(path)
    if not isinstance(run, DataOwnerRun):
        raise ConfigError(
            f"{path}: role is label-owner, and a data owner's run file is needed",
            hint="use `moiety train` or `moiety predict`, the label owner's commands",
        )
    return run


def _require(document: Mapping[str, Any], key: str, *, known: list[int] | list[str], path: Path) -> None:
    if document.get(key) not in known:
        found = f"is {shown(document[key])}" if key in document else "is missing"
        choices = " or ".join(f"{key} = {shown(value)}" for value in known)
        raise ConfigError(f"{path}: {key} {found}", hint=f"write {choices}")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
        if len(data) > SIZE_LIMIT:
            raise ConfigError(f"{path} is larger than any run file", hint="name a run file")
        return tomllib.loads(data.decode())
    except FileNotFoundError as error:
        raise ConfigError(
            f"no run file at {path}", hint="name an existing one, or make one with `moiety init`"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"the run file {path} cannot be read: {error.strerror}",
            hint="name a TOML file that this user may read",
        ) from error
    except (ValueError, RecursionError) as error:
        where = (
            error if isinstance(error, tomllib.TOMLDecodeError) else _TOO_MUCH.get(type(error), _OTHERWISE)
        )
        raise ConfigError(f"the run file {path} is not TOML: {where}", hint="mend the line named") from error
