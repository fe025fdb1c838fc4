"""Messages, --help texts and pages are in plain English: words that crept in once do not come back."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT

BANNED = {
    r"\bwhoever\b": "the user, or the program",
    r"\banew\b": "again",
    r"\bis told of\b": "knows, or is informed",
    r"\bleads? round\b": "has a cycle",
    r"\bno (?:date|size|age) such as\b": "invalid date",
    r"\bwhat it has\b": "name the thing",
    r": is there\b": "already exists",
    r"\bto read it all the same\b": "to ignore this",
    r"\bthither\b|\bwhence\b|\bhence\b|\bthereof\b|\bwherein\b": "where, from, so",
}
"""Patterns, and what to write instead."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = sorted((ROOT / "vmount").rglob("*.py"))


def found_in(text: str) -> list[str]:
    return [
        f"{match[0]!r}: write {instead!r}"
        for pattern, instead in BANNED.items()
        for match in re.finditer(pattern, text, re.IGNORECASE)
    ]


def strings(path: Path) -> list[str]:
    """Return the string constants of a module that are no docstrings."""
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages(page: Path) -> None:
    assert found_in(page.read_text("utf-8")) == []


def test_messages_and_help_texts() -> None:
    found = {str(path): found_in("\n".join(strings(path))) for path in MODULES}
    assert {path: words for path, words in found.items() if words} == {}
