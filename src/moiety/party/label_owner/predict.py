"""Scores rows with a saved model: each side loads its own, the label owner gets the scores."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pyarrow import csv
from torch import nn

from moiety.config import LabelOwnerRun as Settings
from moiety.config import load_label_owner_run
from moiety.config.listener import SILENT, Listener
from moiety.contract.contract import Contract
from moiety.contract.schedule import Schedule, Split
from moiety.crypto.sampling import Randomness, SystemRandomness
from moiety.data.columns import exact_ids
from moiety.data.preparation import Preparation
from moiety.data.table import Table, read_table
from moiety.data.target import Target
from moiety.errors import CheckpointMismatchError, ConfigError
from moiety.net.channel import Channel
from moiety.net.events import ROWS_SCORED
from moiety.net.session import Session
from moiety.nn.layer import InteractiveLinear
from moiety.nn.step import PlainStep
from moiety.nn.top import apply_top, build_top
from moiety.party.alignment import align_with_data_owner
from moiety.party.label_owner.features import OwnFeatures, columns_to_read, inputs_of, own_features
from moiety.party.label_owner.link import LabelOwnerLink
from moiety.party.label_owner.session import agree, finish, open_machine, open_session, propose
from moiety.store.files import Arrays, Facts
from moiety.store.model import load_model


def predict(
    path: str | Path,
    output: Path,
    *,
    channel: Channel | None = None,
    randomness: Randomness | None = None,
    listener: Listener = SILENT,
) -> int:
    """Score the rows of the label owner's table and write a CSV; return the number of rows.

    Where there are id columns, these are the rows that the data owner has too, in the common order.

    One line a row: the id columns as the table has them (the row number where there are none), then
    `score` (probability of the higher class, or the value) or one column for each class,
    named after it.

    Args:
        path: the run file that the model was trained with; its table's source may be another by now.
        output: the CSV file to write; must not exist.
        channel: an open connection; made from the run file when left out.
        randomness: where seeds come from; the operating system when left out.
        listener: told how the tables were aligned, and how own columns differ from what was trained on.

    Raises:
        DataError: half the rows have categories in an own column that no training row had.
        CheckpointError: this side's model is missing, damaged or of another shape.
        ContractMismatchError, PolicyError: the parties do not agree.

    Leaks:
        To this side z of every row, counted by the data owner's policy; to the data owner, that these
        rows are scored.
    """
    settings = load_label_owner_run(Path(path))
    _check_output(output)
    arrays, facts = _load(settings.folder)
    source = randomness or SystemRandomness()
    preparation = _own_preparation(settings, facts)
    columns = _columns(settings, preparation)
    ids = exact_ids(settings)
    table = read_table(settings.table.source, columns=columns, ids=ids, scratch=settings.folder)
    own = own_features(preparation, table)  # what cannot be used is refused before anybody is connected
    target = Target.from_json(facts["target"])
    session = open_session(settings, channel=channel, listener=listener)
    try:
        aligned = align_with_data_owner(session, settings, table, randomness=source, listener=listener)
        if aligned.table is not table:
            table, own = aligned.table, own_features(preparation, aligned.table)
        _tell([aligned.sentence, *(() if own is None else own.notes)], listener)
        top = _load_top(settings, arrays, outputs=target.outputs, own=inputs_of(own))
        terms = propose(settings, aligned, purpose="predict", randomness=source, model=facts["model"])
        contract = agree(session, terms)
        layer = _layer(session, contract, arrays, facts, folder=settings.folder, randomness=source)
        scores = _score(contract.schedule, layer, top, own)
        finish(session)
    except BaseException as error:
        session.abort(error)
        raise
    _write(output, table, settings, target, scores)
    session.log.emit(ROWS_SCORED, rows=table.rows)
    return table.rows


def _check_output(output: Path) -> None:
    if output.exists():
        raise ConfigError(f"{output} exists", hint="name another file, or remove this one")
    if not output.parent.is_dir():
        raise ConfigError(f"there is no folder {output.parent}", hint="make it, or name another file")


def _load(folder: Path) -> tuple[Arrays, Facts]:
    arrays, facts = load_model(folder)
    if not {"model", "updates", "target"} <= facts.keys() or not {"share", "bias"} <= arrays.keys():
        raise CheckpointMismatchError(
            f"{folder} holds no label owner's side of a model",
            hint="give each party a folder of its own",
        )
    return arrays, facts


def _own_preparation(settings: Settings, facts: Facts) -> Preparation | None:
    saved = Preparation.from_json(facts["preparation"]) if "preparation" in facts else None
    if bool(settings.table.features) != (saved is not None):
        kinds = ("no own columns", "own columns")
        raise CheckpointMismatchError(
            f"the run file names {kinds[bool(settings.table.features)]}, and the saved model was trained "
            f"with {kinds[saved is not None]}",
            hint="restore features under [table], or train again",
        )
    return saved


def _columns(settings: Settings, preparation: Preparation | None) -> Sequence[str] | None:
    """Name the columns to read: where neither ids nor own columns are, any will do to count rows."""
    wanted = settings.table.id if preparation is None else columns_to_read(settings, saved=preparation)
    return list(wanted or ()) or None


def _load_top(settings: Settings, arrays: Arrays, *, outputs: int, own: int) -> nn.Module:
    top = build_top(settings, outputs=outputs, own=own)
    saved = {
        name.removeprefix("top."): torch.from_numpy(array.copy())
        for name, array in arrays.items()
        if name.startswith("top.")
    }
    try:
        top.load_state_dict(saved)
    except RuntimeError as error:
        raise CheckpointMismatchError(
            "the saved top network has another shape than [model] describes",
            hint="restore the [model] section that the run was trained with",
        ) from error
    return top.eval()


def _layer(
    session: Session,
    contract: Contract,
    arrays: Arrays,
    facts: Facts,
    *,
    folder: Path,
    randomness: Randomness,
) -> InteractiveLinear:
    share = arrays["share"]
    if share.shape != (contract.in_features, contract.out_features):
        raise CheckpointMismatchError(
            f"the saved share has shape {share.shape}, and the parties agreed on "
            f"{(contract.in_features, contract.out_features)}",
            hint="predict with the columns and units that the run was trained with",
        )
    machine = open_machine(
        session,
        contract,
        randomness=randomness,
        folder=folder,
        share=share,
        updates=int(facts["updates"]),
    )
    link = LabelOwnerLink(session, machine, rounding_seed=randomness.seed())
    layer = InteractiveLinear(
        link,
        in_features=contract.in_features,
        out_features=contract.out_features,
        rule=PlainStep(0.0),
    )
    layer.bias.data = torch.from_numpy(arrays["bias"].copy())
    return layer


def _score(
    schedule: Schedule, layer: InteractiveLinear, top: nn.Module, own: OwnFeatures | None
) -> NDArray[np.float64]:
    parts = []
    with torch.no_grad():
        for handle in schedule.batches(Split.ALL, epoch=0):
            rows = schedule.rows_of(handle)
            features = None if own is None else own.of(rows)
            parts.append(apply_top(top, layer(handle), features))
    return torch.cat(parts).numpy().astype(np.float64)


def _write(
    output: Path, table: Table, settings: Settings, target: Target, scores: NDArray[np.float64]
) -> None:
    names = settings.table.id
    columns = {name: table.read(name) for name in names}
    if not names:
        columns = {"row": pa.array(np.arange(table.rows))}
    columns |= {name: pa.array(values) for name, values in _readable(settings, target, scores)}
    csv.write_csv(pa.table(columns), output)


def _readable(
    settings: Settings, target: Target, scores: NDArray[np.float64]
) -> list[tuple[str, NDArray[np.float64]]]:
    logits = torch.from_numpy(scores)
    if settings.task.kind == "binary":
        return [("score", torch.sigmoid(logits[:, 0]).numpy())]
    if settings.task.kind == "regression":
        return [("score", target.restore(scores[:, 0]))]
    probabilities = torch.softmax(logits, dim=1).numpy()
    names = [_class_name(each) for each in target.classes]
    return [(f"class_{name}", probabilities[:, index]) for index, name in enumerate(names)]


def _class_name(value: str | float) -> str:
    """Write a class as in the table, a whole number without its point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _tell(sentences: Iterable[str], listener: Listener) -> None:
    for sentence in filter(None, sentences):
        listener.say(sentence)
