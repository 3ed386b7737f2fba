"""Write the known-answer vectors: `python -m tests.support.make_vectors`. Every answer is the oracle's.

Integers of a matrix are hexadecimal, 8 little-endian bytes each, row after row. The seeds are
those of the secret key, the uniform part, the request's errors and the response's errors.
A bad vector is one edit of the bytes that a good one produces.
"""

import json
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

from tests.support import oracle

FOLDER = Path(__file__).parents[1] / "vectors"
PRIMES = (140737488125953, 140737487306753, 140737486716929)
SEEDS = ("secret_key", "uniform_part", "request_errors", "response_errors")
SMALL = 256
SHAPES = {
    # name: degree, (rows, contraction, kept), slots, contracted, request bytes, response bytes
    "one-by-one": (SMALL, (1, 1, 1), 1, 1, 14, 13),
    "one-by-one-packed": (SMALL, (1, 1, 1), 1, 256, 15, 14),
    "powers-of-two": (SMALL, (8, 16, 4), 4, 8, 16, 14),
    "kept-below-slots": (SMALL, (5, 7, 3), 4, 4, 17, 16),
    "several-ciphertexts": (SMALL, (9, 19, 3), 4, 16, None, 15),
    "several-ciphertexts-cut": (SMALL, (9, 19, 3), 4, 16, 16, 14),
    "contracted-no-power-of-two": (SMALL, (43, 13, 3), 4, 3, 16, 14),
    "rows-no-power-of-two": (SMALL, (7, 50, 3), 4, 21, 16, 14),
    "one-row-per-ciphertext": (SMALL, (3, 70, 4), 4, 64, 18, 17),
    "one-entry-per-ciphertext": (SMALL, (70, 3, 2), 2, 1, 19, 18),
    "all-slots-kept": (SMALL, (2, 2, 256), 256, 1, None, 19),
    "rlwe-8192-141": (8192, (5, 70, 3), 4, 64, 16, 14),
}


def matrix(name: str, rows: int, columns: int, *, bits: int) -> oracle.Matrix:
    """Integers below 2^bits that follow from a name, signed below 64 bits."""

    def entry(place: int) -> int:
        digest = blake2b(f"{name} {place}".encode(), digest_size=8).digest()
        word = int.from_bytes(digest, "little")
        return word if bits == 64 else word % (2 ** (bits + 1) - 1) - (2**bits - 1)

    return [[entry(row * columns + column) for column in range(columns)] for row in range(rows)]


def to_hex(numbers: oracle.Matrix) -> str:
    return b"".join((each % 2**64).to_bytes(8, "little") for row in numbers for each in row).hex()


def from_hex(text: str, *, columns: int, signed: bool) -> oracle.Matrix:
    data = bytes.fromhex(text)
    flat = [int.from_bytes(data[at : at + 8], "little", signed=signed) for at in range(0, len(data), 8)]
    return [flat[at : at + columns] for at in range(0, len(flat), columns)]


def layout_of(vector: dict[str, Any]) -> oracle.Layout:
    ring = oracle.Ring(degree=vector["degree"], primes=tuple(vector["primes"]))
    names = ("rows", "contraction", "kept", "slots", "contracted", "request_bytes", "response_bytes")
    return oracle.Layout(ring=ring, **{name: vector[name] for name in names})


def inputs(name: str) -> dict[str, Any]:
    degree, (rows, contraction, kept), slots, contracted, request_bytes, response_bytes = SHAPES[name]
    plain = matrix(f"{name} plain", rows, contraction, bits=15)
    secret_matrix = matrix(f"{name} matrix", contraction, kept, bits=64)
    purposes = ("public", *SEEDS)
    seeds = {each: blake2b(f"{name} {each}".encode(), digest_size=32).hexdigest() for each in purposes}
    return {
        "name": name,
        "degree": degree,
        "primes": list(PRIMES),
        "rows": rows,
        "contraction": contraction,
        "kept": kept,
        "slots": slots,
        "contracted": contracted,
        "request_bytes": request_bytes,
        "response_bytes": response_bytes,
        "public_seed": seeds.pop("public"),
        "seeds": seeds,
        "plain": to_hex(plain),
        "matrix": to_hex(secret_matrix),
    }


def answers(vector: dict[str, Any]) -> dict[str, Any]:
    """Run both sides of the oracle on a vector's inputs."""
    layout = layout_of(vector)
    public_seed = bytes.fromhex(vector["public_seed"])
    seeds = {name: bytes.fromhex(seed) for name, seed in vector["seeds"].items()}
    holder = oracle.KeyHolder(layout.ring, public_seed=public_seed, seed=seeds["secret_key"])
    requests = holder.encrypt(
        layout,
        from_hex(vector["matrix"], columns=layout.kept, signed=False),
        public=seeds["uniform_part"],
        secret=seeds["request_errors"],
    )
    evaluator = oracle.Evaluator(layout.ring, public_key=holder.public_key(), public_seed=public_seed)
    plain = from_hex(vector["plain"], columns=layout.contraction, signed=True)
    responses = evaluator.respond(layout, plain, requests, secret=seeds["response_errors"])
    blocks = [block for block, _ in responses]
    return {
        "public_key": sha256(holder.public_key()).hexdigest(),
        "requests": [sha256(each).hexdigest() for each in requests],
        "responses": [sha256(each).hexdigest() for each in blocks],
        "share_evaluator": to_hex([row for _, rows in responses for row in rows]),
        "share_key_holder": to_hex(holder.decrypt(layout, blocks)),
    }


def bad_vectors() -> list[dict[str, Any]]:
    """One edit each of what "several-ciphertexts" sends."""
    over = PRIMES[0].to_bytes(6, "little").hex()
    last = (2**48 - 1).to_bytes(6, "little").hex()
    residues: dict[str, dict[str, Any]] = {
        "residue-equal-to-prime": {"write": over, "at_polynomial": 0},
        "residue-all-ones-at-the-end": {"write": last, "at_end": True},
    }
    sizes: dict[str, dict[str, Any]] = {
        "one-byte-short": {"cut": 1},
        "one-byte-long": {"append": "00"},
        "empty": {"cut_to": 0},
    }
    counted: dict[str, dict[str, Any]] = {
        "no-block": {"blocks": 0},
        "one-block-too-many": {"blocks": 2},
    }
    # Every number of bytes that were cut stands for a residue: only their size can be wrong.
    targets = {
        "public-key": ("several-ciphertexts", residues | sizes),
        "request": ("several-ciphertexts", residues | sizes | counted),
        "cut-request": ("several-ciphertexts-cut", sizes | counted),
        "response": ("several-ciphertexts", sizes | counted),
    }
    return [
        {
            "name": f"{target}-{name}",
            "of": of,
            "target": target,
            "edit": edit,
            "expect": "MalformedMessageError",
        }
        for target, (of, chosen) in targets.items()
        for name, edit in chosen.items()
    ]


def write(name: str, vectors: list[dict[str, Any]]) -> None:
    text = json.dumps(vectors, indent=1) + "\n"
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    good = [inputs(name) for name in SHAPES]
    write("good", [vector | {"expect": answers(vector)} for vector in good])
    write("bad", bad_vectors())


if __name__ == "__main__":
    main()
