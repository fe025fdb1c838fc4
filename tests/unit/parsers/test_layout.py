"""A layout's two decoders agree, and it encodes what it decodes."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmount.parsers
from vmount.parsers.errors import OutOfBounds
from vmount.parsers.layout import Field, Layout

SAMPLES = [
    Layout("little", Field("a", "H"), Field("gap", "3x"), Field("b", "Q"), Field("c", "5s")),
    Layout("big", Field("a", "i"), Field("b", "3I"), Field("c", "b"), byte_order=">"),
]


@pytest.mark.parametrize("layout", SAMPLES, ids=lambda layout: layout.name)
@given(data=st.data())
def test_struct_and_construct_agree_on_random_bytes(layout: Layout, data: st.DataObject) -> None:
    raw = data.draw(st.binary(min_size=layout.size, max_size=layout.size))
    names = [field.name for field in layout.fields if not field.format.endswith("x")]
    parsed = layout.parse(raw)
    flat: list[object] = []
    for name in names:
        value = parsed[name]
        flat.extend(value if isinstance(value, list) else [value])
    assert list(layout.picker(*names).unpack_from(raw)) == flat


def test_build_then_parse() -> None:
    built = SAMPLES[0].build(b=0x1122334455667788, c=b"hello")
    assert len(built) == SAMPLES[0].size == 18
    assert SAMPLES[0].parse(built).b == 0x1122334455667788
    assert SAMPLES[0].offset("b") == 5


def test_a_structure_that_does_not_fit_is_refused() -> None:
    with pytest.raises(OutOfBounds, match="at 0x1"):
        SAMPLES[0].parse(bytes(18), 1)


def test_a_picker_takes_fields_in_disk_order_only() -> None:
    with pytest.raises(ValueError, match="order"):
        SAMPLES[0].picker("b", "a")


def test_a_field_off_its_offset_is_refused_when_it_is_declared() -> None:
    with pytest.raises(ValueError, match=r"thing\.second is at 0x4, declared at 0x8"):
        Layout("thing", Field("first", "I", at=0), Field("second", "I", at=8))


def test_a_structure_of_another_size_is_refused_when_it_is_declared() -> None:
    with pytest.raises(ValueError, match="thing has 4 bytes, declared 8"):
        Layout("thing", Field("first", "I"), size=8)


def test_every_structure_names_its_page_and_its_offsets() -> None:
    found = {}
    for module in pkgutil.walk_packages(vmount.parsers.__path__, "vmount.parsers."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, Layout):
                found[f"{module.name}.{name}"] = value
    assert len(found) > 120
    assert [name for name, layout in found.items() if not layout.source] == []
    assert [
        f"{name}.{field.name}"
        for name, layout in found.items()
        for field in layout.fields
        if field.at is None
    ] == []


def test_whole_covers_a_structure_to_its_end() -> None:
    layout = Layout("padded", Field("a", "H"), Field("pad", "2x"))
    assert list(layout.whole().iter_unpack(bytes([1, 0, 9, 9, 2, 0, 9, 9]))) == [(1,), (2,)]
