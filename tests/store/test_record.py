"""Records: whole, of this version and unchanged, or refused with a hint."""

import json
from hashlib import sha256
from pathlib import Path

import pytest

from moiety.errors import CheckpointCorruptError, CheckpointError
from moiety.store.files import writing
from moiety.store.record import digest, read_record, seal, unseal, write_record

FACTS = {"rows": [3, 1], "name": "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "rate": 0.5, "none": None}


def test_record_returns_with_its_version(tmp_path: Path) -> None:
    write_record(tmp_path / "record.json", FACTS)
    assert read_record(tmp_path / "record.json") == {**FACTS, "version": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_digest_is_over_canonical_json_of_everything_else() -> None:
    stated = json.dumps({**FACTS, "version": 1}, sort_keys=True, separators=(",", ":"))
    assert seal(FACTS)["digest"] == sha256(stated.encode()).hexdigest()


def test_order_of_facts_stays_and_means_nothing() -> None:
    assert list(seal({"b": 1, "a": 2})) == ["b", "a", "version", "digest"]
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})


def test_facts_cannot_overrule_version_and_digest() -> None:
    assert unseal(json.dumps(seal({"version": 7, "digest": "0"})), name="it") == {"version": 1}


def test_record_of_an_alignment_before_records_had_versions_is_read() -> None:
    facts = {"key": "ab", "rows": [0]}
    assert unseal(json.dumps({**facts, "digest": digest(facts)}), name="it") == facts


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\xff", "is not JSON"),
        ("[1]", "is not of version 1"),
        (json.dumps(seal({}) | {"version": 2}), "is not of version 1"),
        (json.dumps(seal({}) | {"version": None}), "is not of version 1"),
        ("{}", "does not match its digest"),
        (json.dumps(seal({"steps": 3}) | {"steps": 4}), "does not match its digest"),
        (json.dumps(seal({}) | {"more": 1}), "does not match its digest"),
        (json.dumps(seal({}) | {"digest": None}), "does not match its digest"),
    ],
)
def test_record_that_was_changed_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointCorruptError, match=f"record.json {why}") as caught:
        read_record(path)
    assert caught.value.hint


def test_digest_of_a_part_that_is_not_there_is_refused() -> None:
    with pytest.raises(CheckpointCorruptError, match="has nothing that its digest is of"):
        unseal("{}", name="it", digest_of=lambda facts: str(facts["content"]))


def test_record_larger_than_any_model_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "record.json").open("wb") as file:
        file.truncate(2**32 + 1)  # sparse: takes no room
    with pytest.raises(CheckpointCorruptError, match="larger than any model"):
        read_record(tmp_path / "record.json")


def test_folder_that_cannot_be_written_says_what_to_do_then(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(CheckpointError, match="file cannot be written: File exists") as caught,
        writing(tmp_path / "file", then="align again"),
    ):
        write_record(tmp_path / "file" / "record.json", FACTS)
    assert caught.value.hint.endswith("; then align again")
