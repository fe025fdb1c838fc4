"""Names of encrypted files as Linux shows them to those who have no key.

A name is the base64url form (RFC 4648, section 5, without padding) of two hashes that order the directory, the
encrypted name up to 149 bytes, and of a longer one the SHA-256 of the rest.
Source: Linux kernel documentation, filesystems/fscrypt, "Filenames hashing and encoding" and "Encryption policy
enforcement".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct

from vmount.parsers.errors import Corrupt
from vmount.parsers.ext.errors import Damage

MIN_ENCRYPTED = 16
"""Bytes of the shortest encrypted name: a block of the cipher."""
_KEPT = 149
"""Bytes of an encrypted name that are kept."""
_pack_hashes = struct.Struct("<II").pack
_HASHES = 8
_LINK_HEADER = struct.Struct("<H")


def no_key_name(encrypted: bytes, where: int, hashes: tuple[int, int] = (0, 0)) -> bytes:
    """Return what is shown for an encrypted name; `hashes` are those of its place in a hash tree.

    Raises Corrupt if it is too short to be encrypted.
    """
    if len(encrypted) < MIN_ENCRYPTED:
        raise Corrupt(
            Damage.ENCRYPTED_NAME_LENGTH,
            where,
            expected=f"at least {MIN_ENCRYPTED}",
            actual=len(encrypted),
        )
    shown = _pack_hashes(*hashes) + encrypted[:_KEPT]
    if len(encrypted) > _KEPT:
        shown += hashlib.sha256(encrypted[_KEPT:]).digest()
    return base64.urlsafe_b64encode(shown).rstrip(b"=")


def encrypted_name(shown: bytes) -> bytes | None:
    """Return the encrypted name that is shown so, None if it is too long to be known or there is none."""
    try:
        raw = base64.b64decode(shown + b"=" * (-len(shown) % 4), b"-_", validate=True)
    except binascii.Error:
        return None
    return raw[_HASHES:] if len(raw) <= _HASHES + _KEPT else None


def link_size(stored: int) -> int:
    """Return the length of the target shown for a symbolic link of `stored` bytes."""
    length = max(0, stored - _LINK_HEADER.size)
    shown = _HASHES + min(length, _KEPT) + (hashlib.sha256().digest_size if length > _KEPT else 0)
    return -(-shown * 4 // 3)


def link_target(stored: bytes, where: int) -> bytes:
    """Return what is shown for the target of a symbolic link that is stored so. Raises Corrupt."""
    if len(stored) < _LINK_HEADER.size:
        raise Corrupt(Damage.ENCRYPTED_LINK_LENGTH, where, actual=len(stored))
    (length,) = _LINK_HEADER.unpack_from(stored)
    target = stored[_LINK_HEADER.size :]
    if length != len(target):
        raise Corrupt(Damage.ENCRYPTED_LINK_LENGTH, where, expected=len(target), actual=length)
    return no_key_name(target, where)
