import copy
import pickle  # noqa: TID251 - that it is refused is what is tested
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from moiety.errors import ConfigError, PeerIdentityError
from moiety.net.identity import (
    Identity,
    create_identity,
    fingerprint,
    host_name,
    load_identity,
    load_pinned,
    same_certificate,
)

DAY = timedelta(days=1)


def certificate(*, start: timedelta, end: timedelta, authority: bool | None = False) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "telco")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now + start).not_valid_after(now + end)
    if authority is not None:
        builder = builder.add_extension(x509.BasicConstraints(authority, None), critical=True)
    return builder.sign(key, SHA256()).public_bytes(serialization.Encoding.PEM)


def written(folder: Path, pem: bytes) -> Path:
    path = folder / "peer.crt"
    path.write_bytes(pem)
    return path


def test_identity_created_can_be_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "bank"
    printed = create_identity(folder, "bank")
    identity = load_identity(folder / "own.key", folder / "own.crt")
    assert identity.certificate == (folder / "own.crt").read_bytes()
    assert identity.key == (folder / "own.key").read_bytes()
    assert fingerprint(identity.certificate) == printed
    assert (folder / "own.key").stat().st_mode & 0o777 == 0o600


def test_certificate_created_is_a_p256_leaf_with_the_name(tmp_path: Path) -> None:
    create_identity(tmp_path, "bank")
    pem = (tmp_path / "own.crt").read_bytes()
    parsed = x509.load_pem_x509_certificate(pem)
    key, now = parsed.public_key(), datetime.now(UTC)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert host_name(pem) == "bank"
    assert parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "bank"
    assert not parsed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert now - 10 * DAY / 1440 < parsed.not_valid_before_utc < now - 4 * DAY / 1440
    assert parsed.not_valid_after_utc > now + 1824 * DAY
    parsed.verify_directly_issued_by(parsed)


@pytest.mark.parametrize("kept", ["own.key", "own.crt"])
def test_create_identity_overwrites_neither_file(tmp_path: Path, kept: str) -> None:
    (tmp_path / kept).write_text("kept", encoding="ascii")
    with pytest.raises(ConfigError, match=kept):
        create_identity(tmp_path, "bank")
    assert [path.name for path in tmp_path.iterdir()] == [kept]
    assert (tmp_path / kept).read_text(encoding="ascii") == "kept"


def test_two_identities_of_one_name_differ(tmp_path: Path) -> None:
    assert create_identity(tmp_path / "a", "bank") != create_identity(tmp_path / "b", "bank")


def test_fingerprint_is_the_sha256_of_der_in_groups_of_four(tmp_path: Path) -> None:
    create_identity(tmp_path, "bank")
    pem = (tmp_path / "own.crt").read_bytes()
    der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    groups = fingerprint(pem).split(" ")
    assert [len(group) for group in groups] == [4] * 16
    assert "".join(groups).lower() == sha256(der).hexdigest()


def test_same_certificate_tells_two_of_one_name_apart(tmp_path: Path) -> None:
    create_identity(tmp_path / "a", "bank")
    create_identity(tmp_path / "b", "bank")
    left, right = ((tmp_path / x / "own.crt").read_bytes() for x in "ab")
    assert same_certificate(left, b"a comment\n" + left)
    assert not same_certificate(left, right)


def test_identity_is_redacted_and_cannot_be_copied(tmp_path: Path) -> None:
    create_identity(tmp_path, "bank")
    identity = load_identity(tmp_path / "own.key", tmp_path / "own.crt")
    for text in (repr(identity), str(identity), f"{identity}"):
        assert "redacted" in text
        assert "PRIVATE" not in text
    for action in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            action(identity)


@pytest.mark.parametrize("missing", ["own.key", "own.crt"])
def test_missing_file_of_an_identity_is_named(tmp_path: Path, missing: str) -> None:
    create_identity(tmp_path, "bank")
    (tmp_path / missing).unlink()
    with pytest.raises(ConfigError, match=missing) as caught:
        load_identity(tmp_path / "own.key", tmp_path / "own.crt")
    assert "moiety init" in caught.value.hint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_key_that_others_can_use_is_refused(tmp_path: Path, mode: int) -> None:
    create_identity(tmp_path, "bank")
    (tmp_path / "own.key").chmod(mode)
    with pytest.raises(ConfigError, match=r"own\.key") as caught:
        load_identity(tmp_path / "own.key", tmp_path / "own.crt")
    assert "chmod 600" in caught.value.hint


def test_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    create_identity(tmp_path / "a", "bank")
    create_identity(tmp_path / "b", "bank")
    with pytest.raises(PeerIdentityError, match="is not the key of"):
        load_identity(tmp_path / "a" / "own.key", tmp_path / "b" / "own.crt")


@pytest.mark.parametrize("passphrase", [None, b"word"])
def test_unreadable_key_is_refused(tmp_path: Path, passphrase: bytes | None) -> None:
    create_identity(tmp_path, "bank")
    key = ec.generate_private_key(ec.SECP256R1())
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase or b"x"),
    )
    (tmp_path / "own.key").write_bytes(locked if passphrase else b"no key")
    with pytest.raises(PeerIdentityError, match=r"own\.key is not a private key"):
        load_identity(tmp_path / "own.key", tmp_path / "own.crt")


def test_own_expired_certificate_is_named_with_its_date(tmp_path: Path) -> None:
    create_identity(tmp_path, "bank")
    (tmp_path / "own.crt").write_bytes(certificate(start=-9 * DAY, end=-2 * DAY))
    day = f"{datetime.now(UTC) - 2 * DAY:%Y-%m-%d}"
    with pytest.raises(PeerIdentityError, match=f"expired on {day}"):
        load_identity(tmp_path / "own.key", tmp_path / "own.crt")


def test_pinned_expired_certificate_is_named_with_its_date(tmp_path: Path) -> None:
    path = written(tmp_path, certificate(start=-9 * DAY, end=-2 * DAY))
    day = f"{datetime.now(UTC) - 2 * DAY:%Y-%m-%d}"
    with pytest.raises(PeerIdentityError, match=rf"peer\.crt expired on {day}"):
        load_pinned(path)


def test_pinned_certificate_of_the_future_points_at_the_clock(tmp_path: Path) -> None:
    with pytest.raises(PeerIdentityError, match="valid from") as caught:
        load_pinned(written(tmp_path, certificate(start=2 * DAY, end=9 * DAY)))
    assert "clock" in caught.value.hint


@pytest.mark.parametrize("authority", [True, None])
def test_pinned_authority_is_refused(tmp_path: Path, *, authority: bool | None) -> None:
    with pytest.raises(PeerIdentityError, match="authority"):
        load_pinned(written(tmp_path, certificate(start=-DAY, end=DAY, authority=authority)))


def test_pinned_file_with_two_certificates_pins_only_the_first(tmp_path: Path) -> None:
    first, second = (certificate(start=-DAY, end=DAY) for _ in range(2))
    assert load_pinned(written(tmp_path, first + second)) == first


def test_pinned_file_missing_points_at_trust(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"peer\.crt cannot be read") as caught:
        load_pinned(tmp_path / "peer.crt")
    assert "moiety trust" in caught.value.hint


def test_pinned_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PeerIdentityError, match="not a PEM certificate"):
        load_pinned(written(tmp_path, b"-----BEGIN CERTIFICATE-----\n"))


def test_certificate_without_a_name_is_refused() -> None:
    with pytest.raises(PeerIdentityError, match="no name"):
        host_name(certificate(start=-DAY, end=DAY))


def test_identity_error_never_shows_the_key(tmp_path: Path) -> None:
    create_identity(tmp_path / "a", "bank")
    create_identity(tmp_path / "b", "bank")
    key = (tmp_path / "a" / "own.key").read_text(encoding="ascii")
    with pytest.raises(PeerIdentityError) as caught:
        load_identity(tmp_path / "a" / "own.key", tmp_path / "b" / "own.crt")
    assert key.splitlines()[1] not in f"{caught.value}{caught.value.hint}"
    assert isinstance(load_identity(tmp_path / "a/own.key", tmp_path / "a/own.crt"), Identity)
