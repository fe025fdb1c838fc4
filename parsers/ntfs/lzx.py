"""LZX as WOF and WIM have it: a window of 32 KiB, every chunk on its own.

Source: MS-PATCH 2, for what is common to all variants; wimlib's documentation for what is not here: the
block header has a bit for "32768 bytes", and the addresses of x86 CALL instructions are always translated, as
if the file had 12,000,000 bytes. libfwnt has an LZX too: it translates the last calls of a chunk wrongly, takes no block without
lengths, and loses its place in stored ones.

Strategy: bits are taken from an int that is filled 32 at a time. A table has an entry for each string of
so many bits as all but rare codes have, so that one look-up decodes a symbol; larger ones would take
longer to make than they save, and a hostile chunk could ask for hundreds of them.
"""

from __future__ import annotations

import struct
from itertools import accumulate

from vmount.parsers.errors import Corrupt
from vmount.parsers.ntfs.errors import Damage
from vmount.parsers.reader import Buffer

WINDOW = 32768
"""Bytes that a chunk can have when decoded."""

_MOST_BLOCKS = 256
"""In a chunk: a block of less than 128 bytes takes more for its tables than it saves."""

_VERBATIM, _ALIGNED, _STORED = 1, 2, 3

_SLOTS = 30
"""Of distances in a window of 32 KiB."""

_MAIN = 256 + 8 * _SLOTS
_LENGTHS = 249
_PRE = 20

_FOOTER_BITS = tuple(max(0, slot // 2 - 1) for slot in range(_SLOTS))
_BASES = tuple(base - 2 for base in accumulate((1 << bits for bits in _FOOTER_BITS), initial=0))[
    :_SLOTS
]
"""Of each slot: bits that follow, and the distance if they are zero. The first three repeat distances."""

_LONGEST = 16
"""Bits in a code."""

_DIRECT = 11
"""Bits of a code that a table has entries for: longer codes are rare."""

_CODE_BITS = 5
"""That an entry of a table has for the length of its code; the symbol is above them."""

_CODE_MASK = (1 << _CODE_BITS) - 1

_MATCH = 256 << _CODE_BITS

_SPARE_WORDS = 8
"""Of zeros behind the stored bytes, for what is taken ahead and not used."""

_CALL = 0xE8
_CALL_SIZE = 5
_CALL_TAIL = 10
"""Calls in the last bytes of a chunk are not translated."""

_TRANSLATED_FILE = 12_000_000
_address = struct.Struct("<i")


def decode_lzx(stored: Buffer, length: int) -> bytes:
    """Decode a chunk of `length` bytes. Raises Corrupt if it has more, fewer, or none that make sense."""
    if not 0 <= length <= WINDOW:
        raise Corrupt(Damage.SIZE_OF_LZX_CHUNK, expected=f"at most {WINDOW:#x}", actual=length)
    decoder = _Decoder(bytes(stored), length)
    blocks = 0
    while len(decoder.out) < length:
        blocks += 1
        if blocks > _MOST_BLOCKS:
            raise Corrupt(Damage.NUMBER_OF_LZX_BLOCKS, expected=f"at most {_MOST_BLOCKS}")
        decoder.block()
    decoder.check_end()
    return _translate_calls(decoder.out)


class _Table:
    """A canonical Huffman code."""

    __slots__ = ("_longer", "entries", "mask", "width")

    def __init__(self, lengths: list[int]) -> None:
        """Take the length of each symbol's code, 0 for symbols that do not occur. Raises Corrupt."""
        used = sorted((bits, symbol) for symbol, bits in enumerate(lengths) if bits)
        self.width = width = min(used[-1][0], _DIRECT) if used else 1
        """Bits that are looked up at once."""
        self.mask = (1 << width) - 1
        self.entries: list[int] = []
        """By these bits: symbol and length of the code, -1 where the code is longer or there is none."""
        self._longer: dict[int, int] = {}
        """Entries of longer codes, each by its code with a 1 above it."""
        code = 0
        for bits, symbol in used:
            entry = symbol << _CODE_BITS | bits
            if bits <= width:
                self.entries += [entry] * (1 << width - bits)
            else:
                self._longer[(code >> _LONGEST - bits) | 1 << bits] = entry
            code += 1 << _LONGEST - bits
        if code > 1 << _LONGEST:
            raise Corrupt(Damage.LZX_CODE_HAS_TOO_MANY_SYMBOLS, actual=len(used))
        self.entries += [-1] * ((1 << width) - len(self.entries))

    def longer(self, buffer: int, bits: int) -> int:
        """Return the entry of a code of more than `width` bits at the top of the `bits` in a buffer.

        Raises Corrupt if there is none.
        """
        for length in range(self.width + 1, _LONGEST + 1):
            code = buffer >> bits - length & (1 << length) - 1
            if (entry := self._longer.get(code | 1 << length)) is not None:
                return entry
        raise Corrupt(Damage.LZX_CODE_WITHOUT_SYMBOL)


class _Decoder:
    """The state that blocks of a chunk hand on."""

    def __init__(self, stored: bytes, length: int) -> None:
        self.out = bytearray()
        self._length = length
        self._stored = stored
        self._size = len(stored) & ~1
        self._recent = (1, 1, 1)
        self._main = [0] * _MAIN
        self._lengths = [0] * _LENGTHS
        self._seek(0)

    def block(self) -> None:
        """Decode the next block."""
        kind = self._take(3)
        size = WINDOW if self._take(1) else self._take(16)
        if not 0 < size <= self._length - len(self.out):
            raise Corrupt(
                Damage.SIZE_OF_LZX_BLOCK, expected=self._length - len(self.out), actual=size
            )
        if kind == _STORED:
            self._copy(size)
        elif kind in (_VERBATIM, _ALIGNED):
            self._unpack(size, aligned=kind == _ALIGNED)
        else:
            raise Corrupt(Damage.TYPE_OF_LZX_BLOCK, actual=kind)

    def check_end(self) -> None:
        """Raise Corrupt if more bits were taken than there are."""
        if self._position() > 8 * self._size:
            raise Corrupt(Damage.LZX_DATA_ENDS_EARLY, self._size, expected=self._length)

    def _seek(self, offset: int) -> None:
        """Go on with the bits from `offset` of the stored bytes."""
        data = self._stored[offset : self._size]
        data += bytes(-len(data) % 4 + 2 * _SPARE_WORDS)
        words = struct.unpack(f"<{len(data) // 2}H", data)
        self._words = [high << 16 | low for high, low in zip(words[::2], words[1::2], strict=True)]
        self._next = 0
        self._start = offset
        self._buffer = 0
        self._bits = 0

    def _position(self) -> int:
        """Return which bit is next."""
        return 8 * self._start + 32 * self._next - self._bits

    def _fill(self) -> None:
        if self._next == len(self._words):
            raise Corrupt(Damage.LZX_DATA_ENDS_EARLY, self._size, actual=len(self.out))
        self._buffer = (self._buffer & (1 << self._bits) - 1) << 32 | self._words[self._next]
        self._next += 1
        self._bits += 32

    def _take(self, count: int) -> int:
        """Return the next bits, 16 at most."""
        if self._bits < count:
            self._fill()
        self._bits -= count
        return self._buffer >> self._bits & (1 << count) - 1

    def _symbol(self, table: _Table) -> int:
        if self._bits < _LONGEST:
            self._fill()
        entry = table.entries[self._buffer >> self._bits - table.width & table.mask]
        if entry < 0:
            entry = table.longer(self._buffer, self._bits)
        self._bits -= entry & _CODE_MASK
        return entry >> _CODE_BITS

    def _read_lengths(self, lengths: list[int], first: int, after: int) -> None:
        """Change the lengths of the codes of some symbols as the block says."""
        table = _Table([self._take(4) for _ in range(_PRE)])
        at = first
        while at < after:
            symbol = self._symbol(table)
            if symbol < 17:
                count, bits = 1, (lengths[at] - symbol) % 17
            elif symbol == 17:
                count, bits = self._take(4) + 4, 0
            elif symbol == 18:
                count, bits = self._take(5) + 20, 0
            else:
                count, symbol = self._take(1) + 4, self._symbol(table)
                if symbol > 16:
                    raise Corrupt(Damage.LENGTH_OF_LZX_CODE, self._position() // 8, actual=symbol)
                bits = (lengths[at] - symbol) % 17
            if at + count > after:
                raise Corrupt(Damage.LZX_CODES_OF_TOO_MANY_SYMBOLS, self._position() // 8)
            lengths[at : at + count] = [bits] * count
            at += count

    def _copy(self, size: int) -> None:
        """Copy a block that is stored as it is."""
        # One to sixteen bits lead to the next word.
        start = (self._position() // 16 + 1) * 2
        after = start + 12 + size
        if after > self._size:
            raise Corrupt(Damage.LZX_DATA_ENDS_EARLY, self._size, actual=after)
        self._recent = struct.unpack_from("<3I", self._stored, start)
        if 0 in self._recent:
            raise Corrupt(Damage.DISTANCES_IN_LZX_BLOCK, start, actual=0)
        self.out += self._stored[start + 12 : after]
        self._seek(after + (after & 1))

    def _unpack(self, size: int, *, aligned: bool) -> None:
        """Decode a block of codes."""
        tail = _Table([self._take(3) for _ in range(8)]) if aligned else None
        self._read_lengths(self._main, 0, 256)
        self._read_lengths(self._main, 256, _MAIN)
        self._read_lengths(self._lengths, 0, _LENGTHS)
        main, more = _Table(self._main), _Table(self._lengths)
        entries, width, mask = main.entries, main.width, main.mask
        out, words = self.out, self._words
        append = out.append
        buffer, bits, following = self._buffer, self._bits, self._next
        end = len(out) + size
        r0, r1, r2 = self._recent
        try:
            while len(out) < end:
                # A literal, or the head and the length of a match, has 32 bits at most.
                if bits < 32:
                    buffer = (buffer & (1 << bits) - 1) << 32 | words[following]
                    following += 1
                    bits += 32
                entry = entries[buffer >> bits - width & mask]
                if entry < 0:
                    entry = main.longer(buffer, bits)
                bits -= entry & _CODE_MASK
                if entry < _MATCH:
                    append(entry >> _CODE_BITS)
                    continue
                head = entry - _MATCH >> _CODE_BITS
                count = (head & 7) + 2
                slot = head >> 3
                if count == 9:
                    entry = more.entries[buffer >> bits - more.width & more.mask]
                    if entry < 0:
                        entry = more.longer(buffer, bits)
                    bits -= entry & _CODE_MASK
                    count += entry >> _CODE_BITS
                if slot == 0:
                    distance = r0
                elif slot == 1:
                    distance, r1 = r1, r0
                elif slot == 2:
                    distance, r2 = r2, r0
                else:
                    footer = _FOOTER_BITS[slot]
                    if bits < 32:
                        buffer = (buffer & (1 << bits) - 1) << 32 | words[following]
                        following += 1
                        bits += 32
                    distance = _BASES[slot]
                    if tail is not None and footer >= 3:
                        bits -= footer - 3
                        distance += (buffer >> bits & (1 << footer - 3) - 1) << 3
                        entry = tail.entries[buffer >> bits - tail.width & tail.mask]
                        if entry < 0:
                            entry = tail.longer(buffer, bits)
                        bits -= entry & _CODE_MASK
                        distance += entry >> _CODE_BITS
                    else:
                        bits -= footer
                        distance += buffer >> bits & (1 << footer) - 1
                    r1, r2 = r0, r1
                r0 = distance
                start = len(out) - distance
                if start < 0:
                    raise Corrupt(Damage.LZX_MATCH_BEFORE_CHUNK, 4 * following, actual=distance)
                if count <= distance:
                    out += out[start : start + count]
                else:
                    out += (bytes(out[start:]) * (count // distance + 1))[:count]
        except IndexError:
            raise Corrupt(
                Damage.LZX_DATA_ENDS_EARLY, self._size, expected=end, actual=len(out)
            ) from None
        if len(out) > end:
            raise Corrupt(Damage.LZX_BLOCK_OF_WRONG_SIZE, expected=end, actual=len(out))
        self._buffer, self._bits, self._next = buffer, bits, following
        self._recent = (r0, r1, r2)


def _translate_calls(chunk: bytearray) -> bytes:
    """Make the targets of x86 CALL instructions relative again."""
    last = len(chunk) - _CALL_TAIL
    at = chunk.find(_CALL, 0, max(0, last))
    while at >= 0:
        (address,) = _address.unpack_from(chunk, at + 1)
        if 0 <= address < _TRANSLATED_FILE:
            _address.pack_into(chunk, at + 1, address - at)
        elif -at <= address < 0:
            _address.pack_into(chunk, at + 1, address + _TRANSLATED_FILE)
        at = chunk.find(_CALL, at + _CALL_SIZE, last)
    return bytes(chunk)
