import json
from pathlib import Path

import pytest

from benchmarks.epoch_fate import Epoch, bytes_records, clear_times, read_result, set_up
from benchmarks.measure import Stages
from benchmarks.party import used
from benchmarks.peer_paillier import PheProduct, operations
from benchmarks.peer_seal import DEGREE, Geometry, SealProduct, geometries
from benchmarks.peer_tenseal import Tensor, Vector
from benchmarks.peers import with_ratios
from benchmarks.products import Product, product_records, total_of
from benchmarks.results import single
from benchmarks.shapes import STAGES, Size, signed
from moiety.config import load_data_owner_run
from moiety.demo.local import simulate

SMALL = Size(rows=6, contraction=5, kept=3, runs=1)


def test_bench_product_is_checked_and_its_bytes_are_the_plan_s() -> None:
    product, stages = Product(SMALL), Stages()
    crossed = product.run(stages)
    assert crossed.request == sum(product.plan.request_sizes)
    assert crossed.response == sum(product.plan.response_sizes)
    assert len(total_of(stages, warm_up=0).cpu) == 1
    product._evaluator = Product(SMALL)._evaluator  # of another key
    with pytest.raises(AssertionError, match="is not the product"):
        product.run(stages)


def test_bench_product_records_name_every_stage() -> None:
    records = list(product_records(SMALL))
    names = {each.name for each in records if each.system == "moiety"}
    assert {"product", "product, wall", *(f"product, {stage}" for stage in STAGES)} <= names
    assert {"bytes, request", "bytes, response"} <= names


@pytest.mark.parametrize("constant", [True, False])
def test_bench_seal_product_is_the_product(*, constant: bool) -> None:
    product, stages = SealProduct(SMALL, constant=constant), Stages()
    assert product.geometry.constant == constant
    product.run(stages)
    product._right = product._right + 1
    with pytest.raises(AssertionError, match="is not the product"):
        product.run(stages)


@pytest.mark.parametrize("swapped", [False, True])
def test_bench_seal_geometries_all_give_the_product(*, swapped: bool) -> None:
    size = Size(rows=3, contraction=5, kept=4)
    product = SealProduct(size, constant=False)
    for n, d in ((1024, 2), (2, 4), (1, 1024)):
        rows, columns = (size.kept, size.rows) if swapped else (size.rows, size.kept)
        sizes = {"rows": rows, "contraction": size.contraction, "columns": columns}
        product.geometry = Geometry(**sizes, n=n, d=d, k=DEGREE // n // d, swapped=swapped)
        product._prepare()
        product.run(Stages())


def test_bench_seal_geometries_fill_a_ciphertext() -> None:
    found = geometries(SMALL)
    assert {each.n * each.d * each.k for each in found} == {DEGREE}
    assert {each.swapped for each in found} == {False, True}


@pytest.mark.parametrize("kind", [Tensor, Vector])
def test_bench_tenseal_products_are_the_product(kind: type[Tensor | Vector]) -> None:
    product, stages = kind(SMALL), Stages()
    product.run(stages)
    assert len(total_of(stages, warm_up=0).cpu) == 1


def test_bench_python_paillier_product_is_the_product() -> None:
    pytest.importorskip("phe")
    size, stages = Size(rows=2, contraction=3, kept=2), Stages()
    PheProduct(size, key_bits=512).run(stages)
    assert operations(size) == {"encrypt": 6, "respond": 12, "mask": 4, "decrypt": 4}
    assert all(stages.times(stage).cpu for stage in operations(size))


def test_bench_ratios_are_to_the_same_shape() -> None:
    total = single("product", shape="a", system="SEAL", value=6.0, unit="ms of CPU")
    part = single("product, respond", shape="a", system="SEAL", value=5.0, unit="ms of CPU")
    (ratio,) = [each for each in with_ratios([total, part], {"a": 2.0, "b": 1.0}) if each.unit == "times"]
    assert (ratio.value, ratio.system) == (3.0, "SEAL over moiety")


def test_bench_signed_matrices_have_the_bits_asked_for() -> None:
    matrix = signed(50, 50, b"matrix", bits=12)
    assert matrix.max() < 2**12
    assert matrix.min() >= -(2**12)
    assert abs(matrix).max() >= 2**11
    assert (matrix < 0).any()


def test_bench_epoch_trains_from_its_run_files(tmp_path: Path) -> None:
    epoch = Epoch(rows=768, features=6, units=2, batch=256)
    assert epoch.steps == 3
    parties = set_up(tmp_path, epoch, address="127.0.0.1:7443", dialled="127.0.0.1:7444")
    assert load_data_owner_run(parties.data_owner).peer[0].dial == "127.0.0.1:7444"
    trained = simulate(parties.label_owner, parties.data_owner)
    assert trained.steps == epoch.steps
    result = read_result(parties)
    sizes = {(each.name, each.system): each.value for each in bytes_records(epoch, result)}
    assert sizes["bytes, of a row", "label owner to data owner"] == trained.bytes_sent / 768
    assert sizes["bytes, of a step", "data owner to label owner"] == trained.bytes_received / 3 / 1e6
    assert [name for name, times in clear_times(parties) if times.cpu] == [
        "twin, in the clear",
        "Adam, in the clear",
    ]


def test_bench_party_notes_what_it_used() -> None:
    noted = json.loads(json.dumps(used()))
    assert noted["cpu"] > 0
    assert noted["peak"] > 2**20
