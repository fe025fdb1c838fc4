"""Write the manual page docs/vmount.1 from the command's own definition: python -m scripts.man."""

from __future__ import annotations

import os
import re
from pathlib import Path

from argparse_manpage.manpage import Manpage

from vmount.cli import EPILOG, whole_parser

PAGE = Path(__file__).parents[1] / "docs" / "vmount.1"


def manual_page() -> str:
    """Return the page. It does not depend on the day, nor on the width of a terminal."""
    os.environ["COLUMNS"] = "80"
    parser = whole_parser()
    parser.man_short_description = "mount the disks of a VMware virtual machine, read-only"  # type: ignore[attr-defined]
    parser.epilog = EPILOG
    page = str(Manpage(parser, format="single-commands-section"))
    return re.sub(r'^\.TH (\S+) "1" "[^"]*"', r'.TH \1 "1" ""', page, flags=re.MULTILINE)


if __name__ == "__main__":
    PAGE.write_text(manual_page())
