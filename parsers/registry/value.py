"""The data of a value, by its type."""

from __future__ import annotations

from dataclasses import dataclass

SZ = 1
EXPAND_SZ = 2
BINARY = 3
DWORD = 4
DWORD_BIG_ENDIAN = 5
LINK = 6
MULTI_SZ = 7
QWORD = 11


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a key."""

    name: str
    """Empty: the key's default value."""
    type: int
    """REG_SZ is 1, REG_DWORD 4 ..."""
    raw: bytes

    @property
    def text(self) -> str | None:
        """The text of a string, up to the NUL that should end it; None for other types."""
        if self.type not in (SZ, EXPAND_SZ, LINK):
            return None
        return self._decoded().partition("\0")[0]

    @property
    def texts(self) -> list[str] | None:
        """The strings of a REG_MULTI_SZ; None for other types."""
        if self.type != MULTI_SZ:
            return None
        strings = self._decoded().split("\0")
        return strings[: strings.index("")] if "" in strings else strings

    @property
    def number(self) -> int | None:
        """The value of an integer; None for other types, or if the data is not as long as the type."""
        match self.type, len(self.raw):
            case (4, 4) | (11, 8):
                return int.from_bytes(self.raw, "little")
            case 5, 4:
                return int.from_bytes(self.raw, "big")
        return None

    def _decoded(self) -> str:
        whole = len(self.raw) & ~1
        return self.raw[:whole].decode("utf-16-le", "surrogatepass")
