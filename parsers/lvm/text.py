"""LVM2's configuration text: sections, numbers, strings and arrays of them (lvm.conf(5)).

The parser keeps its own stack, and its one regular expression cannot backtrack far: hostile text costs
time in proportion to its length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from vmount.parsers.errors import Corrupt

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 12
"""Of sections. LVM2 writes four."""
MAX_TOKENS = 1 << 21
"""Names, values and marks in a text. LVM2 writes some fifty for a volume of one segment, and advises against
more than a few thousand volumes in a group."""

Scalar: TypeAlias = int | str
Value: TypeAlias = "Scalar | list[Scalar]"

_TOKEN = re.compile(
    r"""[\s,]*(?:\#[^\n]*\n?[\s,]*)*(?:
      "(?P<string>[^"\\]*(?:\\.[^"\\]*)*)"
    | (?P<number>[+-]?[0-9]{1,20}(?:\.[0-9]{0,20})?)(?![^\s,=\[\]{}"\#])
    | (?P<mark>[={}\[\]])
    | (?P<word>[^\s,={}\[\]"\#]+)
    | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Section:
    """Named values and sections. The accessors raise Corrupt if something is not there or of another kind."""

    name: str
    values: dict[str, Value] = field(default_factory=dict)
    sections: dict[str, Section] = field(default_factory=dict)

    def number(self, name: str, default: int | None = None) -> int:
        """Return a number that is not negative."""
        value = self.values.get(name, default)
        if not isinstance(value, int) or value < 0:
            raise self._wrong(name, "a number", value)
        return value

    def string(self, name: str, default: str | None = None) -> str:
        """Return a string."""
        value = self.values.get(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, "a string", value)
        return value

    def strings(self, name: str) -> list[str]:
        """Return an array of strings; a string is an array of one, nothing an empty one."""
        value = self.values.get(name, [])
        items = value if isinstance(value, list) else [value]
        strings = [item for item in items if isinstance(item, str)]
        if len(strings) != len(items):
            raise self._wrong(name, "strings", value)
        return strings

    def pairs(self, name: str) -> list[tuple[str, int]]:
        """Return an array in which a name and a number follow each other."""
        value = self.values.get(name)
        if not isinstance(value, list) or len(value) % 2:
            raise self._wrong(name, "pairs", value)
        found = []
        for first, second in zip(value[::2], value[1::2], strict=True):
            if not isinstance(first, str) or not isinstance(second, int) or second < 0:
                raise self._wrong(name, "pairs of a name and a number", value)
            found.append((first, second))
        return found

    def section(self, name: str) -> Section:
        """Return a section."""
        found = self.sections.get(name)
        if found is None:
            raise self._wrong(name, "a section", self.values.get(name))
        return found

    def _wrong(self, name: str, expected: str, actual: object) -> Corrupt:
        return Corrupt(
            f"LVM2 metadata: {name} of {self.name or 'the text'}",
            expected=expected,
            actual="nothing" if actual is None else repr(actual)[:80],
        )


def parse_text(text: str) -> Section:
    """Return the outermost section. Raises Corrupt with the position in characters."""
    root = Section("")
    stack = [root]
    tokens = _tokens(text)
    for kind, item, where in tokens:
        if kind == "end":
            if len(stack) > 1:
                raise Corrupt("LVM2 metadata: a section without an end", where)
            return root
        if kind == "mark" and item == "}" and len(stack) > 1:
            stack.pop()
            continue
        if kind not in ("word", "string", "number"):
            raise Corrupt("LVM2 metadata: no name", where, actual=repr(item))
        name, here = str(item), stack[-1]
        if name in here.values or name in here.sections:
            raise Corrupt(f"LVM2 metadata: {name[:80]!r} twice", where)
        kind, mark, where = next(tokens)
        if mark == "{" and kind == "mark":
            if len(stack) == MAX_DEPTH:
                raise Corrupt("LVM2 metadata: too many nested sections", where)
            here.sections[name] = section = Section(name)
            stack.append(section)
        elif mark == "=" and kind == "mark":
            here.values[name] = _value(tokens)
        else:
            raise Corrupt("LVM2 metadata: neither a value nor a section", where, actual=repr(mark))
    raise AssertionError("the tokens have an end")


def _value(tokens: Iterator[tuple[str, Scalar, int]]) -> Value:
    kind, item, where = next(tokens)
    if kind in ("string", "number", "word"):
        return item
    items: list[Scalar] = []
    if item != "[" or kind != "mark":
        raise Corrupt("LVM2 metadata: no value", where, actual=repr(item))
    for kind, item, _ in tokens:
        if kind in ("string", "number", "word"):
            items.append(item)
        elif kind == "mark" and item == "]":
            return items
        else:
            break
    raise Corrupt("LVM2 metadata: an array without an end", where)


def _tokens(text: str) -> Iterator[tuple[str, Scalar, int]]:
    """Yield kind, value and position; the last is of kind "end"."""
    position = 0
    for _ in range(MAX_TOKENS):
        found = _TOKEN.match(text, position)
        if found is None or found.lastgroup is None:
            raise Corrupt(
                "LVM2 metadata: invalid text", position, actual=repr(text[position : position + 20])
            )
        kind = found.lastgroup
        item: Scalar = found[kind]
        if kind == "number":
            item = int(found[kind].partition(".")[0])
        elif kind == "string":
            item = _ESCAPED.sub(r"\1", found[kind])
        yield kind, item, found.start(kind)
        position = found.end()
        if kind == "end":
            return
    raise Corrupt("LVM2 metadata: too long", position, expected=f"at most {MAX_TOKENS} words")
