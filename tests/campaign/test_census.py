"""The census-income (KDD) table at full size: from raw CSV on both sides to a trained model, and its AUC.

Neither run file has a rule for any column. Beside the encrypted training: its twin, Adam in the clear, and
two of scikit-learn's models on the joined prepared table, for orientation.
"""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from moiety.config.listener import Listener
from moiety.contract.schedule import Split
from moiety.demo.compare import Joined, compare, join
from moiety.demo.local import simulate
from moiety.nn.metrics import METRICS
from tests.support.raw_tables import RUN, two_parties

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(7200)]

ROOT = Path(__file__).parents[2]

LABEL_OWNER = (
    RUN.format(role="label-owner", peer="bureau")
    + """\
[table]
source = "labels.csv"
id = ["person"]
target = "income"
features = "all"
[train]
epochs = 5
"""
)

DATA_OWNER = (
    RUN.format(role="data-owner", peer="bank")
    + """\
[table]
source = "features.csv"
id = ["person"]
"""
)


class Said(Listener):
    """A listener that prints what is said, and each epoch."""

    def say(self, sentence: str) -> None:
        sys.stdout.write(f"bank: {sentence}\n")

    def epoch(self, *, epoch: int, loss: float, metrics: dict[str, float]) -> None:
        sys.stdout.write(f"epoch {epoch + 1}: loss {loss:.4f}, {metrics}\n")
        sys.stdout.flush()


def orientation(joined: Joined) -> dict[str, float]:
    """Train scikit-learn's models on the joined prepared table; return their AUC on the test split."""
    assert joined.own is not None
    inputs_ND = np.hstack([np.clip(joined.values_NC, -8, 8), joined.own.values.numpy()])
    training, held_out = (joined.schedule.split_rows(split) for split in (Split.TRAIN, Split.TEST))
    target_N = joined.encoded.numpy().astype(np.float64)
    models: dict[str, Any] = {
        "logistic regression": LogisticRegression(max_iter=300),
        "gradient boosting": HistGradientBoostingClassifier(random_state=0),
    }
    reached = {}
    for name, model in models.items():
        begin = time.perf_counter()
        score_N: NDArray[np.float64] = model.fit(inputs_ND[training], target_N[training]).predict_proba(
            inputs_ND[held_out]
        )[:, 1]
        reached[name] = METRICS["binary"]["AUC"](target_N[held_out], score_N)
        sys.stdout.write(f"{name}: AUC {reached[name]:.4f}, {time.perf_counter() - begin:.0f} s\n")
    return reached


def test_census_income_goes_from_raw_files_to_a_model(tmp_path: Path) -> None:
    subprocess.run([ROOT / "scripts" / "get_census.sh"], check=True)
    files = two_parties(tmp_path, label_owner=LABEL_OWNER, data_owner=DATA_OWNER)
    shutil.copy(ROOT / "build" / "census" / "labels.csv", files.label_owner.parent)
    shutil.copy(ROOT / "build" / "census" / "features.csv", files.data_owner.parent)
    result = simulate(files.label_owner, files.data_owner, listener=Said())
    sys.stdout.write(json.dumps(asdict(result), indent=1) + "\n")
    rows = compare(files.label_owner, files.data_owner).rows
    for name, row in rows.items():
        sys.stdout.write(f"{name}: {row.metrics}, {row.seconds:.0f} s\n")
    others = orientation(join(files.label_owner, files.data_owner))
    assert result.rows == 199_523
    encrypted, twin = rows["encrypted"].metrics["AUC"], rows["twin, in the clear"].metrics["AUC"]
    # Two trainings that differ by dither alone drift apart; 0.005 is four times what was seen.
    assert encrypted == pytest.approx(twin, abs=0.005)
    assert encrypted > others["logistic regression"] - 0.01
