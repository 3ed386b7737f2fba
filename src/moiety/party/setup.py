"""Setting a party up: `moiety init` and `moiety trust`."""

import re
from pathlib import Path
from typing import Final

from moiety.config import load_run
from moiety.errors import ConfigError
from moiety.net.identity import CERTIFICATE_FILE, create_identity, fingerprint, load_pinned, same_certificate

RUN_FILE: Final = "run.toml"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

_COMMON: Final = """\
version = 1
role = "{role}"
run = "{run}"                        # the same on both sides
own = {{ key = "own.key", certificate = "own.crt" }}

[[peer]]
name = "peer"
certificate = "peer.crt"             # moiety trust run.toml CERTIFICATE puts it here
{connection}

"""
_LABEL_OWNER: Final = (
    _COMMON
    + """\
[table]
source = "labels.parquet"            # or .csv, a Parquet folder, {{ postgresql = "select ..." }}
target = "target"
# id = ["customer_id"]               # compared with the peer's, in order
# features = ["age", "branch"]       # own columns for the top model; they never leave this side

[task]
kind = "binary"                      # or multiclass, regression

[split]
validation = 0.1
test = 0.2
# stratify = "metrics"               # weigh classes as in the whole table; stays on this side
# by = "application_date"            # newest rows are test rows; reveals = "periods" on both sides

[model]
units = 32                           # of the interactive layer; fewer than the peer's columns
hidden = [32]                        # behind it; or top = "module:factory"

[train]
epochs = 10
batch = 1024
learning_rate = 0.01
optimizer = "adam"                   # of the local network
# early_stopping = {{ patience = 3 }}  # the peer learns when it stops; keeps the best epoch
"""
)
_DATA_OWNER: Final = (
    _COMMON
    + """\
[table]
source = "features.parquet"          # or .csv, a Parquet folder, {{ postgresql = "select ..." }}
features = "all"                     # or a list of columns
# name = "customers"                 # what `moiety ledger` counts under; the file's name if left out
# id = ["customer_id"]               # compared with the peer's, in order

[prepare]                            # only where the usual rule does not suit: standard, log, quantile,
# income = "log"                     # min-max, bins, one-hot, none
# branch = {{ rule = "one-hot", max_inputs = 50, min_rows = 20 }}

[policy]                             # totals for this peer on this table, over all runs
released_z_per_row = 640             # values of z for any one row: units x passes
predictions = 100000                 # rows scored
smallest_batch = 256
# steps = 20000                      # training steps
# runs = 20                          # trainings
# early_stopping = false             # no training that may end early
"""
)
_TEMPLATES: Final = {"label-owner": _LABEL_OWNER, "data-owner": _DATA_OWNER}
_CONNECTIONS: Final = {
    "label-owner": 'listen = "0.0.0.0:7443"              # exactly one side listens, the other dials',
    "data-owner": 'dial = "bank.example:7443"           # exactly one side listens, the other dials',
}


def initialise(folder: Path, *, role: str, name: str, run: str) -> str:
    """Write key, certificate and a run file to fill in; return the certificate's fingerprint.

    Raises:
        ConfigError: no such role, a name that cannot be used, or a folder that cannot be written to or
            holds a run file or a key already.
    """
    if role not in _TEMPLATES:
        raise ConfigError(f"there is no role {role!r}", hint=f"choose one of {', '.join(_TEMPLATES)}")
    _require_name("name", name)
    _require_name("run", run)
    run_file = folder / RUN_FILE
    if run_file.exists():
        raise ConfigError(f"{run_file} exists", hint="name another folder")
    text = _TEMPLATES[role].format(role=role, run=run, connection=_CONNECTIONS[role])
    try:
        printed = create_identity(folder, name)
        run_file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written to: {error.strerror}",
            hint="name a folder that this user may write to",
        ) from error
    load_run(run_file)
    return printed


def _require_name(option: str, value: str) -> None:
    if not _NAME.fullmatch(value):
        raise ConfigError(
            f"{option} cannot be used as a name",
            hint=f"write {option} with up to 64 of a-z, 0-9, dot, hyphen and underscore",
        )


def trust(run_file: Path, certificate: Path) -> str:
    """Pin the peer's certificate where the run file expects it; return its fingerprint.

    Raises:
        ConfigError: it is this party's own certificate, or another one is pinned already.
        PeerIdentityError: not a certificate, or not valid today.
    """
    settings = load_run(run_file)
    pem = load_pinned(certificate)
    own = settings.own.certificate
    if own.exists() and same_certificate(own.read_bytes(), pem):
        raise ConfigError(
            f"{certificate} is this party's own certificate",
            hint=f"ask the peer for its {CERTIFICATE_FILE}",
        )
    target = settings.peer[0].certificate
    if target.exists() and not same_certificate(target.read_bytes(), pem):
        raise ConfigError(
            f"{target} pins another certificate",
            hint="remove it if the peer really has a new one",
        )
    target.write_bytes(pem)
    return fingerprint(pem)
