"""The errors of parsers.

Three answers that a caller treats differently: `NotRecognised` lets detection try the next format,
`Corrupt` costs the object that was asked for, `Unsupported` names a feature that could be added.
An error of the reader (`OSError`) is never turned into one of these.
"""

from __future__ import annotations


class ParseError(Exception):
    """Something on a disk that cannot be decoded.

    `source` names the file or volume; the nearest caller that knows it fills it in.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.source: str | None = None

    def named(self, source: str) -> ParseError:
        """Note where this happened, unless a nearer caller has; return self, to be raised."""
        if self.source is None:
            self.source = source
        return self

    def __str__(self) -> str:
        return self.message if self.source is None else f"{self.source}: {self.message}"


class NotRecognised(ParseError):
    """This is some other format: the magic is not there."""


class Corrupt(ParseError):
    """The format is the right one, and this is wrong in it.

    `kind` says what is wrong in a few words ("grain table entry past the end of the file"): a member of the
    package's `Damage` where it has one. `of` stands for the {} in it, such as an inode's number.
    `where` is the offset in bytes from the start of the reader at hand, None if there is no one place.
    """

    def __init__(
        self,
        kind: str,
        where: int | None = None,
        *,
        of: object = None,
        expected: object = None,
        actual: object = None,
    ) -> None:
        message = str(kind) if of is None else kind.format(of)
        if where is not None:
            message += f" at {where:#x}"
        if expected is not None:
            message += f": expected {_text(expected)}"
        if actual is not None:
            message += f"{',' if expected is not None else ':'} found {_text(actual)}"
        super().__init__(message)
        self.kind = kind
        self.where = where


class OutOfBounds(Corrupt):
    """A structure points beyond the end of what holds it."""

    def __init__(self, offset: int, length: int, size: int) -> None:
        super().__init__(
            "read beyond the end",
            offset,
            expected=f"at most {size} bytes",
            actual=f"{length} bytes there",
        )


class Unsupported(ParseError):
    """The format is the right one and uses something that is not implemented here.

    `feature` is its name as its specification has it.
    """

    def __init__(self, feature: str, *, remedy: str = "") -> None:
        super().__init__(f"not supported: {feature}" + (f" ({remedy})" if remedy else ""))
        self.feature = feature


def _text(value: object) -> str:
    return f"{value:#x}" if isinstance(value, int) else str(value)
