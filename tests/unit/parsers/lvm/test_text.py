"""The parser of LVM2's configuration text."""

from __future__ import annotations

import contextlib
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.parsers.volume_images import load
from tests.unit.parsers.lvm.test_lvm import text_of
from vmount.parsers.errors import Corrupt, ParseError
from vmount.parsers.lvm.group import decode_group
from vmount.parsers.lvm.text import MAX_DEPTH, Section, parse_text

ALPHABET = st.sampled_from([*'{}[]=",#\\\n ab1-.', "segment1 ", 'type = "x"', "\0", "é"])


def test_what_lvm2_writes() -> None:
    root = parse_text(
        '# a comment\nvg-0.a {\n\tid = "x\\"y\\\\z"\t# another\n\tflags = []\n\tn = -12\n'
        'stripes = [\n"pv0", 0,\n"pv1", 7 # end\n]\n\tf = 1.5\nsub { a = "#{}" } }\nversion = 1\n'
    )
    group = root.section("vg-0.a")
    assert group.string("id") == 'x"y\\z'
    assert group.strings("flags") == []
    assert group.pairs("stripes") == [("pv0", 0), ("pv1", 7)]
    assert group.values["n"] == -12
    assert group.values["f"] == 1
    assert group.section("sub").string("a") == "#{}"
    assert root.number("version") == 1


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a {",
        "a = ",
        "a = [",
        "a = [1",
        "}",
        "a }",
        "= 1",
        'a = "',
        "a = {",
        "a = [[",
        "a = 1 a = 2",
    ],
)
def test_text_that_is_no_text(text: str) -> None:
    with pytest.raises(Corrupt, match="LVM2 metadata"):
        parse_text(text)


def test_accessors_check_kinds() -> None:
    section = Section("s", {"a": "x", "b": 1, "c": [1, "x"], "d": -1})
    for read in (section.number, section.strings, section.pairs, section.section):
        for name in ("a", "b", "c", "d"):
            if (read, name) in ((section.number, "b"), (section.strings, "a")):
                continue
            with pytest.raises(Corrupt, match=f"{name} of s"):
                read(name)
    with pytest.raises(Corrupt, match="nothing"):
        section.string("e")


def test_depth_is_bounded() -> None:
    parse_text("a {" * (MAX_DEPTH - 1) + "}" * (MAX_DEPTH - 1))
    with pytest.raises(Corrupt, match="too many nested sections"):
        parse_text("a {" * MAX_DEPTH + "}" * MAX_DEPTH)


@pytest.mark.parametrize(
    "text",
    ["#" * 300_000, "#\n" * 150_000, '"' * 300_001, "\\" * 300_000, 'a = "' + "\\" * 300_001, "," * 300_000,
     "1" * 300_000, "a=[" + "1," * 150_000, "a" * 300_000, " \n" * 150_000 + "\x00" + "# " * 9],
)  # fmt: skip
def test_hostile_text_takes_time_in_proportion(text: str) -> None:
    started = time.monotonic()
    with contextlib.suppress(ParseError):
        parse_text(text)
    assert time.monotonic() - started < 3


@given(st.lists(ALPHABET, max_size=60).map("".join))
def test_any_text(text: str) -> None:
    with contextlib.suppress(ParseError):
        assert isinstance(parse_text(text), Section)


def test_mutated_groups() -> None:
    chosen = random.Random(3)
    text = text_of(load("lvm-plain").members["lvm-plain-0"]).decode().rstrip("\0")
    words = [
        '"',
        "{",
        "}",
        "[",
        "]",
        "=",
        "-1",
        "99999999999999999999",
        "segment1",
        '"pv0"',
        "#",
        "",
    ]
    decoded = 0
    for _ in range(1500):
        at = chosen.randrange(len(text))
        mutated = text[:at] + chosen.choice(words) + text[at + chosen.randrange(9) :]
        try:
            decode_group(mutated)
            decoded += 1
        except ParseError:
            pass
    assert 50 < decoded < 1450
