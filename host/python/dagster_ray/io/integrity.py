"""Signs stored values with an operator's key, and verifies them before they are unpickled.

A signed file ends with the key's id and an HMAC-SHA256 of the value's key and of all bytes before
it. The value's key is included, so that a value that is copied to another key is refused.
"""

import hashlib
import hmac
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dagster_ray import _library
from dagster_ray.component_files import native
from dagster_ray.errors import BackendError, InvalidConfigError
from dagster_ray.io.frames import Part

_library.register()

_VARIABLE = "DAGSTER_RAY_VALUE_KEYS"
_SHORTEST_KEY = 32
_ID_BYTES = 8
_MAC_BYTES = 32
TRAILER_BYTES = _ID_BYTES + _MAC_BYTES


@dataclass(frozen=True)
class ValueKeys:
    """The operator's keys. The first one signs, and all of them are accepted."""

    keys: Sequence[bytes] = field(repr=False)
    # The keys' origin in errors.
    origin: str

    def signed(self, name: str, pieces: Iterable[Part]) -> Iterator[Part]:
        """Yields the pieces of a value's file, and the trailer that signs them."""
        key = self.keys[0]
        mac = _mac(key, name)
        for piece in pieces:
            mac.update(piece)
            yield piece
        yield _key_id(key) + mac.digest()

    def verify(self, name: str, content: Part, location: str) -> None:
        """Raises `BackendError` unless one of the keys has signed the content under `name`."""
        view = memoryview(content)
        end = view.nbytes - TRAILER_BYTES
        signer = bytes(view[end : end + _ID_BYTES]) if end >= 0 else b""
        key = next((key for key in self.keys if _key_id(key) == signer), None)
        if key is None:
            raise refused(
                name,
                location,
                f"none of the keys of {self.origin} has signed it, or it is truncated. If a key "
                "was replaced, keep the old one after the new one until its values have expired",
            )
        mac = _mac(key, name)
        mac.update(view[:end])
        if not hmac.compare_digest(mac.digest(), bytes(view[end + _ID_BYTES :])):
            raise refused(
                name,
                location,
                "its signature does not match: the file was changed, or copied from another value",
            )


def operator_keys(policy_root: str | None) -> ValueKeys | None:
    """Returns the keys of the policy or the environment, or `None` if values are not signed.

    `policy_root` is the root directory of the instance, by default DAGSTER_HOME.
    """
    files = native().value_key_files(policy_root)
    if files is not None:
        keys = [_checked(_read(file), f"the file {file}") for file in files]
        return ValueKeys(keys, "[values] in the instance's policy")
    text = os.environ.get(_VARIABLE)
    if text is None:
        return None
    keys = [_checked(key.encode(), f"a key of {_VARIABLE}") for key in text.split()]
    if not keys:
        raise _invalid(_VARIABLE, "is empty; write keys, separated by spaces, or unset it")
    return ValueKeys(keys, _VARIABLE)


def refused(name: str, location: str, problem: str) -> BackendError:
    """Returns the error for a value that is not unpickled."""
    return BackendError(
        f"the value {name} in {location} was refused before it was unpickled: {problem}. To "
        "replace the value, remove its file and materialize it again",
        reason="UntrustedValue",
    )


def _mac(key: bytes, name: str) -> hmac.HMAC:
    mac = hmac.new(key, digestmod=hashlib.sha256)
    encoded = name.encode()
    # The length separates the name from the content.
    mac.update(len(encoded).to_bytes(8, "little") + encoded)
    return mac


def _key_id(key: bytes) -> bytes:
    """Returns a key's id, which says nothing about the key."""
    return hmac.new(key, b"dagster-ray value key id", hashlib.sha256).digest()[:_ID_BYTES]


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes().strip()
    except OSError as error:
        raise _invalid(file, f"cannot be read: {error.strerror}; values need this key") from error


def _checked(key: bytes, what: str) -> bytes:
    if len(key) < _SHORTEST_KEY:
        raise _invalid(
            what,
            f"has {len(key)} bytes, fewer than {_SHORTEST_KEY}; write one that "
            "`openssl rand -base64 32` has made",
        )
    return key


def _invalid(what: str, problem: str) -> InvalidConfigError:
    return InvalidConfigError(
        f"{what} {problem}", fields=[{"path": what, "problem": problem, "hint": None}]
    )


__all__ = ["TRAILER_BYTES", "ValueKeys", "operator_keys", "refused"]
