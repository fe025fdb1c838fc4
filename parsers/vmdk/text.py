"""The text of VMware's own files: an encoding that the text itself names, lines, quoted excerpts."""

from __future__ import annotations

import re

from vmount.parsers.errors import Corrupt, Unsupported

_CODE_PAGE = re.compile(r"(?:windows|ibm)-?(?=\d)", re.IGNORECASE)
_LINE_END = re.compile(r"\r\n|\n|\r")
_PLAIN = rb"\x41\u0041+AGE-", bytes(range(0x20, 0x7F))
"""What every superset of ASCII leaves as it is; first what codecs that read escapes do not."""


def decode_text(raw: bytes, key: str) -> tuple[str, str]:
    """Decode text by the encoding that its line `key = "name"` names; return it and that name.

    Without such a line the name is "" and the text is taken for UTF-8, or for ISO 8859-1 if it is
    not that. Raises Unsupported for an unknown encoding (unless all is ASCII anyway) and for one that is
    no superset of ASCII, Corrupt if the text is not in the encoding that it names.
    """
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    line = rb'(?:\A|[\r\n])[ \t]*%s[ \t]*=[ \t]*"?([\w.:+-]+)"?[ \t]*(?=[\r\n]|\Z)'
    declared = re.search(line % re.escape(key).encode(), raw, re.IGNORECASE)
    if declared is None:
        try:
            return raw.decode(), ""
        except UnicodeDecodeError:
            return raw.decode("latin-1"), ""
    name = declared[1].decode("ascii")
    if raw.isascii():
        return raw.decode("ascii"), name
    codec = _CODE_PAGE.sub("cp", name)
    try:
        if any(plain.decode(codec) != plain.decode("ascii") for plain in _PLAIN):
            raise LookupError(codec)
        return raw.decode(codec), name
    except LookupError:
        raise Unsupported(f"text encoding {name}") from None
    except UnicodeError as error:
        raise Corrupt(f"text is not {name}", getattr(error, "start", None)) from None


def split_lines(text: str) -> list[str]:
    """Return the lines of a text from Windows, Linux or an old Mac, without blanks around them."""
    return [line.strip(" \t") for line in _LINE_END.split(text)]


def excerpt(text: str) -> str:
    """Show text from a file in an error: on one line, in ASCII, not at length."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")
