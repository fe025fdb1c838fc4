"""Certificates named by their hashes."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from vmount.errors import UsageError

_ALGORITHMS = {40: "sha1", 64: "sha256"}
"""By the number of hexadecimal digits. VMware's own tools print SHA-1, newer ones SHA-256."""


@dataclass(frozen=True)
class Thumbprint:
    """The hash of a certificate."""

    algorithm: str
    digest: bytes

    @classmethod
    def parse(cls, text: str) -> Thumbprint:
        """Parse hexadecimal digits, with or without colons between bytes. Raises UsageError."""
        digits = re.sub(r"[:\s]", "", text.strip()).lower()
        algorithm = _ALGORITHMS.get(len(digits))
        if algorithm is None or not re.fullmatch("[0-9a-f]+", digits):
            raise UsageError(
                f"invalid thumbprint {text!r}",
                remedy="a thumbprint has 20 (SHA-1) or 32 (SHA-256) hexadecimal bytes, as in 0A:1B:...",
            )
        return cls(algorithm, bytes.fromhex(digits))

    @classmethod
    def of(cls, certificate: bytes, algorithm: str = "sha256") -> Thumbprint:
        """Return the hash of a certificate in DER."""
        return cls(algorithm, hashlib.new(algorithm, certificate).digest())

    def matches(self, certificate: bytes) -> bool:
        """Say whether a certificate in DER is the one that is named."""
        return hmac.compare_digest(Thumbprint.of(certificate, self.algorithm).digest, self.digest)

    def __str__(self) -> str:
        return self.digest.hex(":").upper()
