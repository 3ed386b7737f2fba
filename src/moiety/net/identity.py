"""Who a party is: a key and a self-signed certificate, which the peer pins.

There is no authority: the two organisations exchange certificates and compare fingerprints by telephone.
Everything that can be wrong with a key or a certificate is found here, locally, before a connection is
tried: a refused certificate gives the two ends of a TLS handshake next to no information.
"""

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from moiety.contract.agreement import grouped
from moiety.crypto.secret import Secret
from moiety.errors import ConfigError, PeerIdentityError

KEY_FILE: Final = "own.key"
CERTIFICATE_FILE: Final = "own.crt"
VALIDITY: Final = timedelta(days=5 * 365)
CLOCK_TOLERANCE: Final = timedelta(minutes=5)
_OTHERS_CAN_READ: Final = 0o077
_SIZE_LIMIT: Final = 2**16
_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")


class Identity(Secret):
    """A party's private key and certificate, as PEM."""

    def __init__(self, *, key: bytes, certificate: bytes) -> None:
        self.key = key
        self.certificate = certificate


def create_identity(folder: Path, name: str) -> str:
    """Write a new key and certificate into a folder; return the certificate's fingerprint.

    Raises:
        ConfigError: there is a key or certificate already, or the name does not fit a certificate.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            "the name is not one for a certificate",
            hint="use up to 63 letters, digits, dots and hyphens, for example bank.example",
        )
    for file in (KEY_FILE, CERTIFICATE_FILE):
        if (folder / file).exists():
            raise ConfigError(f"{folder / file} exists", hint="name another folder; keys are not overwritten")
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _self_signed(key, name)
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    descriptor = os.open(folder / KEY_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as key_file:
        key_file.write(key_pem)
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / CERTIFICATE_FILE).write_bytes(pem)
    return fingerprint(pem)


def fingerprint(certificate_pem: bytes) -> str:
    """Return the SHA-256 fingerprint in groups of four, to be read out by telephone."""
    return grouped(_parse(certificate_pem, "the certificate").fingerprint(SHA256()).hex())


def load_identity(key_path: Path, certificate_path: Path) -> Identity:
    """Read own key and certificate and check that they can be used today.

    Raises:
        ConfigError: a file is missing, or the key is readable by others.
        PeerIdentityError: not a certificate, not valid today, or not the key's.
    """
    key_pem, pem = _read(key_path), _read(certificate_path)
    if key_path.stat().st_mode & _OTHERS_CAN_READ:
        raise ConfigError(f"{key_path} can be read by others", hint=f"chmod 600 {key_path}")
    certificate = _parse(pem, str(certificate_path))
    _require_valid_today(certificate, certificate_path)
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError) as error:
        raise PeerIdentityError(
            f"{key_path} is not a private key without a passphrase",
            hint="make a key and a certificate with moiety init",
        ) from error
    if key.public_key() != certificate.public_key():
        raise PeerIdentityError(
            f"{key_path} is not the key of {certificate_path}",
            hint="use the two files that moiety init wrote together",
        )
    return Identity(key=key_pem, certificate=pem)


def load_pinned(path: Path) -> bytes:
    """Read the peer's certificate, the only one that is accepted, as PEM.

    Raises:
        ConfigError: the file is missing.
        PeerIdentityError: not a certificate, or not valid today.
    """
    pem = _read(path, hint="moiety trust RUN_FILE CERTIFICATE pins the certificate the peer gave you")
    certificate = _parse(pem, str(path))
    _require_valid_today(certificate, path)
    _require_no_authority(certificate, path)
    return certificate.public_bytes(serialization.Encoding.PEM)


def host_name(certificate_pem: bytes) -> str:
    """Return the name a certificate was made for.

    Raises:
        PeerIdentityError: it names none.
    """
    certificate = _parse(certificate_pem, "the certificate")
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return str(names.value.get_values_for_type(x509.DNSName)[0])
    except (x509.ExtensionNotFound, IndexError) as error:
        raise PeerIdentityError(
            "the peer's certificate has no name", hint="ask for one made by moiety init"
        ) from error


def same_certificate(left_pem: bytes, right_pem: bytes) -> bool:
    """Tell whether two PEM texts hold one certificate."""
    left, right = _parse(left_pem, "a certificate"), _parse(right_pem, "a certificate")
    return left.fingerprint(SHA256()) == right.fingerprint(SHA256())


def _self_signed(key: ec.EllipticCurvePrivateKey, name: str) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, SHA256())
    )


def _require_valid_today(certificate: x509.Certificate, path: Path) -> None:
    now = datetime.now(UTC)
    if now > certificate.not_valid_after_utc:
        raise PeerIdentityError(
            f"{path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}",
            hint="make a new one on its owner's side with moiety init, and trust it on the other",
        )
    if now < certificate.not_valid_before_utc:
        raise PeerIdentityError(
            f"{path} is valid from {certificate.not_valid_before_utc:%Y-%m-%d}",
            hint="check the clock of this machine",
        )


def _require_no_authority(certificate: x509.Certificate, path: Path) -> None:
    """Refuse what could vouch for others: TLS would accept every certificate that it has signed."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        authority = constraints.ca
    except x509.ExtensionNotFound:
        authority = True
    if authority:
        raise PeerIdentityError(
            f"{path} is an authority's certificate, and a peer's own is needed",
            hint="ask the peer for the own.crt that moiety init made",
        )


def _parse(pem: bytes, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise PeerIdentityError(
            f"{what} is not a PEM certificate", hint="take own.crt, which moiety init makes"
        ) from error


def _read(path: Path, hint: str = "make a key and a certificate with moiety init") -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_SIZE_LIMIT)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint=hint) from error
