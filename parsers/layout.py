"""One declaration of an on-disk structure, three uses.

`Layout.parse` (construct) is for what is read once a disk or volume; its errors and its printed form
are made for reading. `Layout.build` makes test data. `Layout.picker` derives a `struct.Struct` that
decodes only the named fields, for what is read once a record: a fraction of a microsecond a call.
"""

from __future__ import annotations

import re
import struct
from functools import cached_property
from typing import Any, NamedTuple

import construct

from vmount.parsers.reader import Buffer, check_bounds

_FORMAT = re.compile(r"(\d*)([bBhHiIqQsx])")
_CONSTRUCT = {"i": "l", "I": "L"}
"""construct has the standard sizes, where l is four bytes, and no i."""


class Field(NamedTuple):
    """A field of a structure.

    `format` is a `struct` code with an optional count: "I", "16s" (bytes), "12I" (an array),
    "4x" (padding, which has no value).
    """

    name: str
    """The specification's name, in our spelling."""
    format: str
    at: int | None = None
    """Offset in bytes that the specification gives; checked when the structure is declared."""
    note: str = ""
    """What the field means, its unit, and the specification's name where ours differs."""


class Layout:
    """A structure of fixed size without alignment gaps.

    `byte_order` is "<" (little-endian) or ">" (big-endian). `size` is the structure's size in bytes as the
    specification has it, `source` names the specification and the section. Raises ValueError, when the module
    is imported, if a field is not `at` its offset or the fields do not add up to `size`.
    """

    def __init__(
        self,
        name: str,
        *fields: Field,
        byte_order: str = "<",
        size: int | None = None,
        source: str = "",
    ) -> None:
        self.name = name
        self.fields = fields
        self.byte_order = byte_order
        self.source = source
        self._offsets: dict[str, int] = {}
        position = 0
        for field in fields:
            if field.name in self._offsets:
                raise ValueError(f"{name} has two fields {field.name}")
            if field.at is not None and field.at != position:
                raise ValueError(
                    f"{name}.{field.name} is at {position:#x}, declared at {field.at:#x}"
                )
            self._offsets[field.name] = position
            position += struct.calcsize(byte_order + field.format)
        if size is not None and size != position:
            raise ValueError(f"{name} has {position} bytes, declared {size}")
        self.size = position
        """Bytes on disk."""

    def offset(self, name: str) -> int:
        """Return the offset of a field in bytes."""
        return self._offsets[name]

    def picker(self, *names: str) -> struct.Struct:
        """Return a Struct that decodes just these fields, in the order they have on disk.

        It covers the structure up to the last of them; what lies between is skipped.
        Raises ValueError if the names are not in the order of the declaration.
        """
        wanted = [field for field in self.fields if field.name in names]
        if [field.name for field in wanted] != list(names):
            raise ValueError(f"{self.name}: {names} are not fields in the order on disk")
        code, position = self.byte_order, 0
        for field in wanted:
            start = self._offsets[field.name]
            code += f"{start - position}x{field.format}"
            position = start + struct.calcsize(self.byte_order + field.format)
        return struct.Struct(code)

    def whole(self) -> struct.Struct:
        """Return a Struct that decodes all fields and covers the structure to its end: for `iter_unpack`.

        Padding has no value.
        """
        return struct.Struct(self.byte_order + "".join(field.format for field in self.fields))

    @cached_property
    def construct(self) -> Any:
        """The structure as a construct."""
        members = []
        for field in self.fields:
            matched = _FORMAT.fullmatch(field.format)
            if matched is None:
                raise ValueError(f"{self.name}.{field.name}: format {field.format!r}")
            count, code = int(matched[1] or 1), matched[2]
            member: Any
            if code == "x":
                member = construct.Padding(count)
            elif code == "s":
                member = construct.Bytes(count)
            else:
                member = construct.FormatField(self.byte_order, _CONSTRUCT.get(code, code))
                if matched[1]:
                    member = construct.Array(count, member)
            members.append(field.name / member)
        return construct.Struct(*members)

    def parse(self, data: Buffer, offset: int = 0) -> Any:
        """Decode the structure at `offset` of `data`; fields are attributes of the result.

        Raises OutOfBounds if it does not fit.
        """
        check_bounds(offset, self.size, len(data))
        return self.construct.parse(bytes(data[offset : offset + self.size]))

    def build(self, **values: object) -> bytes:
        """Encode the structure; a field that is not given is zero."""
        unknown = values.keys() - self._offsets.keys()
        if unknown:
            raise ValueError(f"{self.name} has no fields {sorted(unknown)}")
        complete = {field.name: self._zero(field) for field in self.fields} | values
        encoded: bytes = self.construct.build(complete)
        return encoded

    @staticmethod
    def _zero(field: Field) -> object:
        matched = _FORMAT.fullmatch(field.format)
        if matched is None:
            raise ValueError(f"{field.name}: format {field.format!r}")
        if matched[2] == "s":
            return bytes(int(matched[1] or 1))
        if matched[2] == "x":
            return None
        return [0] * int(matched[1]) if matched[1] else 0
