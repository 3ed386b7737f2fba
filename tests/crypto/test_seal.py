"""Our ciphertexts under Microsoft SEAL: an independent decryptor of the same scheme.

SEAL's plaintext modulus ends at 60 bits, ours is 2^64: messages that are multiples of 2^5 are the
same thing under plaintext modulus 2^59. Key and ciphertexts are handed over in SEAL's documented
serialisation without compression. A fourth prime is there because SEAL sets the last one aside for
key switching; nothing is computed modulo it.
"""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tenseal import sealapi

from moiety.crypto import rlwe
from moiety.crypto.packing import PackingPlan, pack_request, read_rows
from moiety.crypto.parameters import LISTED, transform
from moiety.crypto.rlwe import RlweEvaluator, RlweKeyHolder, _uniform
from moiety.crypto.sampling import SEED_BYTES, Seed
from moiety.crypto.scheme import ProductShape
from tests.support.randomness import RecordedRandomness, words_of

PARAMETERS = LISTED[0]
SPECIAL_PRIME = LISTED[2].primes[3]
PUBLIC_SEED = Seed(bytes(32))
SHIFT = 5
SHAPE = ProductShape(rows=6, contraction=100, kept=30, multiplier_bits=15)
PLAN = PackingPlan(parameters=PARAMETERS, shape=SHAPE, slots=32, contracted_per_ciphertext=64)

Residues = NDArray[np.uint64]


class Seal:
    """SEAL's BFV with our primes, holding our secret key."""

    def __init__(self, secret_PL: Residues, folder: Path) -> None:
        self._folder = folder
        self._context = self._make_context()
        self._version = self._read_version()
        key = sealapi.SecretKey()
        # At the key level all four primes count; the fourth is never used to decrypt.
        padded = np.concatenate([secret_PL, np.zeros((1, PARAMETERS.degree), dtype=np.uint64)])
        parms = struct.pack("<4Q", *self._context.key_parms_id())
        count = struct.pack("<Qd", padded.size, 1.0)
        key.load(self._context, self._file(parms + count + self._array(padded)))
        self._decryptor = sealapi.Decryptor(self._context, key)

    @staticmethod
    def _make_context() -> Any:
        terms = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
        terms.set_poly_modulus_degree(PARAMETERS.degree)
        terms.set_coeff_modulus([sealapi.Modulus(prime) for prime in (*PARAMETERS.primes, SPECIAL_PRIME)])
        terms.set_plain_modulus(2 ** (64 - SHIFT))
        return sealapi.SEALContext(terms, True, sealapi.SEC_LEVEL_TYPE.TC128)

    def _read_version(self) -> bytes:
        path = self._folder / "sample"
        sealapi.Plaintext("1").save(str(path))
        return path.read_bytes()[3:5]

    def _framed(self, body: bytes) -> bytes:
        """SEAL's header: magic, own size, version, no compression, two bytes unused, total size."""
        return b"\x5e\xa1\x10" + self._version + bytes(3) + struct.pack("<Q", 16 + len(body)) + body

    def _array(self, numbers: Residues) -> bytes:
        return self._framed(struct.pack("<Q", numbers.size) + numbers.astype("<u8").tobytes())

    def _file(self, body: bytes) -> str:
        path = self._folder / "object"
        path.write_bytes(self._framed(body))
        return str(path)

    def decrypt(self, c0_PL: Residues, c1_PL: Residues) -> tuple[list[int], int]:
        """Return the plaintext's coefficients, and the bits of noise budget that SEAL sees."""
        body = struct.pack("<4Q", *self._context.first_parms_id())
        body += struct.pack("<BQQQdQ", 0, 2, PARAMETERS.degree, len(PARAMETERS.primes), 1.0, 1)
        ciphertext, plain = sealapi.Ciphertext(), sealapi.Plaintext()
        body += self._array(np.stack([c0_PL, c1_PL]))
        ciphertext.load(self._context, self._file(body))
        self._decryptor.decrypt(ciphertext, plain)
        found = [plain.data(place) for place in range(plain.coeff_count())]
        budget = self._decryptor.invariant_noise_budget(ciphertext)
        return found + [0] * (PARAMETERS.degree - len(found)), budget


class Exchange:
    """One product by `moiety`, and SEAL with the key holder's key."""

    def __init__(self, folder: Path) -> None:
        self.randomness = RecordedRandomness(b"seal")
        self.holder = RlweKeyHolder(PARAMETERS, public_seed=PUBLIC_SEED, randomness=self.randomness)
        words = words_of("seal", SHAPE.contraction * SHAPE.kept) << np.uint64(SHIFT)
        self.matrix_DK = words.reshape(SHAPE.contraction, SHAPE.kept)
        self.requests = list(self.holder.encrypt(self.matrix_DK, plan=PLAN, randomness=self.randomness))
        self.seal = Seal(self.holder._secret, folder)


@pytest.fixture
def exchange(tmp_path: Path) -> Exchange:
    return Exchange(tmp_path)


def _unpacked(data: bytes) -> Residues:
    shape = (-1, len(PARAMETERS.primes), PARAMETERS.degree, PARAMETERS.residue_bytes)
    return transform(PARAMETERS).unpack(np.frombuffer(data, dtype=np.uint8).reshape(shape))


def test_seal_decrypts_requests(exchange: Exchange) -> None:
    (block,) = exchange.requests
    c0 = _unpacked(block[SEED_BYTES:])
    transform(PARAMETERS).inverse(c0)
    messages = pack_request(PLAN, exchange.matrix_DK, range(PLAN.requests))
    assert PLAN.requests == 2
    for number, message in enumerate(messages):
        c1 = _uniform(PARAMETERS, Seed(block[:SEED_BYTES]), b"uniform part", number)
        transform(PARAMETERS).inverse(c1)
        found, budget = exchange.seal.decrypt(c0[number], c1[0])
        assert found == (message >> np.uint64(SHIFT)).tolist()
        # log2 q - log2 t - 1 = 140.99 - 59 - 1 bits, less at most log2(19.5) of fresh noise.
        assert 76 <= budget <= 81


@pytest.mark.parametrize("response_bytes", [14, 19])
@pytest.mark.parametrize("contracted", [64, 85])
def test_seal_decrypts_response_with_what_was_kept(
    monkeypatch: pytest.MonkeyPatch, exchange: Exchange, *, contracted: int, response_bytes: int
) -> None:
    plan = replace(PLAN, contracted_per_ciphertext=contracted, response_bytes=response_bytes)
    plain_ND = words_of("plain", SHAPE.rows * SHAPE.contraction).astype(np.int16) >> 1
    plain_ND = plain_ND.reshape(SHAPE.rows, SHAPE.contraction)
    kept: list[Residues] = []

    def keeping(plan: PackingPlan, c0: Residues, numbers: range) -> Residues:
        kept.extend(c0.copy())
        return read_rows(plan, c0, numbers)

    monkeypatch.setattr(rlwe, "read_rows", keeping)
    requests = exchange.holder.encrypt(exchange.matrix_DK, plan=plan, randomness=exchange.randomness)
    evaluator = RlweEvaluator(PARAMETERS, public_key=exchange.holder.public_key(), public_seed=PUBLIC_SEED)
    answers = evaluator.respond(plain_ND, list(requests), plan=plan, randomness=exchange.randomness)
    ((block, _),) = answers
    cut = np.frombuffer(block, dtype=np.uint8).reshape(plan.responses, PARAMETERS.degree, response_bytes)
    rows = []
    for g in range(plan.responses):
        found, budget = exchange.seal.decrypt(kept[g], transform(PARAMETERS).restore(cut[g : g + 1])[0])
        assert budget > 40
        coefficients = np.array([[found]], dtype=np.uint64) << np.uint64(SHIFT)
        rows.append(read_rows(plan, coefficients, range(g, g + 1)))
    product = plain_ND.astype(np.int64).view(np.uint64) @ exchange.matrix_DK
    assert np.array_equal(np.concatenate(rows, axis=-1).reshape(product.shape), product)


@pytest.mark.parametrize("request_bytes", [16, 19])
def test_seal_decrypts_cut_requests(exchange: Exchange, request_bytes: int) -> None:
    plan = replace(PLAN, request_bytes=request_bytes)
    requests = exchange.holder.encrypt(exchange.matrix_DK, plan=plan, randomness=exchange.randomness)
    (block,) = requests
    cut = np.frombuffer(block[SEED_BYTES:], dtype=np.uint8)
    c0 = transform(PARAMETERS).restore(cut.reshape(plan.requests, PARAMETERS.degree, request_bytes))
    for number, message in enumerate(pack_request(plan, exchange.matrix_DK, range(plan.requests))):
        c1 = _uniform(PARAMETERS, Seed(block[:SEED_BYTES]), b"uniform part", number)
        transform(PARAMETERS).inverse(c1)
        found, budget = exchange.seal.decrypt(c0[number], c1[0])
        assert found == (message >> np.uint64(SHIFT)).tolist()
        # Cut to b bits, log2 t = 59: b - 59, and 1 for rounding; fresh noise as above.
        assert min(76, 8 * request_bytes - 61) <= budget <= 81
