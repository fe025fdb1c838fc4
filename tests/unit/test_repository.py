"""The files around the code agree with each other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from scripts import requirements
from scripts.tables import filled_in, pages
from tests.support.paths import ROOT

PACKAGE_LISTS = ["packages.txt", "packages-demo.txt", "packages-test.txt", "packages-release.txt"]


def lines(name: str) -> list[str]:
    """Return a file's lines without comments and empty ones."""
    stripped = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [line for line in stripped if line]


def normal(name: str) -> str:
    """Return a distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_constraints_pin_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    names = {normal(re.split(r"[^\w.-]", requirement)[0]) for requirement in wanted}
    pinned = {normal(line.partition("==")[0]) for line in lines("constraints.txt")}
    assert names <= pinned


def test_constraints_hold_versions_and_nothing_else() -> None:
    pattern = re.compile(r"[A-Za-z0-9_.-]+==[0-9a-z.+]+")
    assert [line for line in lines("constraints.txt") if not pattern.fullmatch(line)] == []


def test_no_package_is_listed_twice() -> None:
    names = [name for path in PACKAGE_LISTS for name in lines(path)]
    assert sorted(set(names)) == sorted(names)
    assert [name for name in names if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]+", name)] == []


@pytest.mark.parametrize("folder", ["vmount", "parsers", "tests", "fixtures", "scripts", "docs"])
def test_no_file_holds_the_marks_of_a_merge(folder: str) -> None:
    marks = re.compile(rb"^(<{7}|>{7}) ", re.MULTILINE)
    files = [path for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".md", ".go"}]
    assert files
    assert [path.name for path in files if marks.search(path.read_bytes())] == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")), ids=lambda page: page.name)
def test_pages_name_only_targets_that_exist(page: Path) -> None:
    code = re.findall(r"```.*?```|`[^`\n]+`", page.read_text(), re.DOTALL)
    named = {target for span in code for target in re.findall(r"\bmake ([a-z]+)", span)}
    assert named <= make_targets()


def test_the_targets_that_people_expect_exist() -> None:
    assert {"help", "demo", "test", "check", "clean"} <= make_targets()


@pytest.mark.parametrize("page", list(pages()), ids=lambda page: page.name)
def test_tables_are_as_the_code_has_them(page: Path) -> None:
    text = page.read_text()
    assert filled_in(text) == text, "run: make tables"


def test_the_page_of_requirements_is_as_the_tests_have_it() -> None:
    assert requirements.PAGE.read_text("utf-8") == requirements.page(), "run: make tables"


def test_every_requirement_is_shown_by_a_test_or_says_why_not() -> None:
    texts, tests = requirements.requirements(), requirements.marked_tests()
    assert set(tests) <= set(texts)
    assert [one for one in texts if not tests.get(one) and "not_shown" not in texts[one]] == []
