"""Write docs/requirements.md: what each requirement asks, and which tests show it.

The tests carry `@pytest.mark.requirement("R16")`; docs/requirements.toml holds the texts.
"""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING

from scripts.tables import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TEXTS = ROOT / "docs" / "requirements.toml"
PAGE = ROOT / "docs" / "requirements.md"
MARKER = "requirement"

HEAD = """\
# Requirements

VMware's own mount library has twenty years of release notes. Each row below is an issue that they tell of, turned
into what vmount must do, with the tests that show it. `make tables` writes this page from the tests' markers.

| | vmount must | shown by |
|---|---|---|
"""


def requirements() -> Mapping[str, Mapping[str, str]]:
    """Return the texts by id: `asks`, and `not_shown` where no test shows a row."""
    return tomllib.loads(TEXTS.read_text("utf-8"))


@cache
def marked_tests() -> dict[str, list[str]]:
    """Return the tests that show each requirement, as "path::name", by id."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for number in _ids(node):
                    found[number].append(f"{path.relative_to(ROOT / 'tests')}::{node.name}")
    return found


def _ids(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in node.decorator_list:
        if (
            isinstance(decorator, ast.Call)
            and isinstance(decorator.func, ast.Attribute)
            and decorator.func.attr == MARKER
        ):
            for argument in decorator.args:
                yield ast.literal_eval(argument)


def page() -> str:
    """Return the page."""
    tests = marked_tests()
    rows = []
    for number, texts in requirements().items():
        names: dict[str, list[str]] = defaultdict(list)
        for test in tests.get(number, ()):
            path, _, name = test.partition("::")
            names[path].append(f"`{name}`")
        shown = "<br>".join(f"{path}: {', '.join(found)}" for path, found in names.items())
        if "not_shown" in texts:
            shown = "<br>".join(filter(None, [shown, f"*{texts['not_shown']}*"]))
        rows.append(f"| {number} | {texts['asks']} | {shown} |")
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
