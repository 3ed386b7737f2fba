"""Encryption of checkpoints at rest, in the format of the `age` tool.

A passphrase from the environment protects an age identity, `key.age`, and the checkpoints are encrypted to
it: the slow derivation from the passphrase runs once a process and not once a checkpoint. `age -d -i key.age
FILE` reads a checkpoint without moiety. Needs the extra `age`. Imported by `checkpoints`.
"""

import os
from pathlib import Path
from typing import Any, Final

from moiety.crypto.secret import Secret
from moiety.errors import CheckpointError, ConfigError
from moiety.store.files import read, replace, writing

KEY_FILE: Final = "key.age"


class Vault(Secret):
    """Encrypts and decrypts with one age identity.

    Args:
        folder: where `key.age` lies; it is made where it is missing.
        passphrase: what protects it.

    Raises:
        ConfigError: the extra `age` is not installed.
        CheckpointError: the passphrase is another one, or the folder cannot be written to.
    """

    def __init__(self, folder: Path, passphrase: str) -> None:
        self._age = _pyrage()
        path = folder / KEY_FILE
        self._identity = self._unlock(path, passphrase) if path.exists() else self._make(path, passphrase)

    def seal(self, data: bytes) -> bytes:
        """Encrypt."""
        sealed: bytes = self._age.encrypt(data, [self._identity.to_public()])
        return sealed

    def open(self, data: bytes) -> bytes:
        """Decrypt.

        Raises:
            CheckpointError: it was encrypted to another key, or is damaged.
        """
        try:
            opened: bytes = self._age.decrypt(data, [self._identity])
        except self._age.DecryptError as error:
            raise CheckpointError("it cannot be decrypted with key.age", hint="restore both") from error
        return opened

    def _make(self, path: Path, passphrase: str) -> Any:
        identity = self._age.x25519.Identity.generate()
        with writing(path.parent, then="begin anew"):
            replace(path, self._age.passphrase.encrypt(f"{identity}\n".encode(), passphrase))
        return identity

    def _unlock(self, path: Path, passphrase: str) -> Any:
        try:
            text = self._age.passphrase.decrypt(read(path), passphrase).decode()
        except self._age.DecryptError as error:
            raise CheckpointError(
                f"{path} does not open with this passphrase",
                hint="set the environment variable to the passphrase that the run began with",
            ) from error
        return self._age.x25519.Identity.from_str(text.strip())


def passphrase_from(variable: str) -> str:
    """Return a passphrase from the environment.

    Raises:
        ConfigError: the variable is not set, or empty.
    """
    passphrase = os.environ.get(variable, "")
    if not passphrase:
        raise ConfigError(
            f"checkpoint.passphrase names the environment variable {variable}, which is not set",
            hint="set it, or leave checkpoint.passphrase out",
        )
    return passphrase


def _pyrage() -> Any:
    try:
        import pyrage  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            "encrypted checkpoints need the package pyrage", hint="install it with pip install 'moiety[age]'"
        ) from error
    return pyrage
