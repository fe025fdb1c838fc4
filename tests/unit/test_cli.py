"""The boundary of the command line: what an exception that nothing expects ends with."""

from __future__ import annotations

import pytest

from vmount import cli
from vmount.errors import Exit


class Faulty:
    """A command with a bug."""

    def add_arguments(self, parser: object) -> None:
        """It has none."""

    def run(self, arguments: object) -> int:
        """Fail as no command should."""
        raise ZeroDivisionError("division\nby zero")


@pytest.mark.parametrize("level", ["warning", "debug"])
def test_a_bug_is_one_line_and_never_the_exit_code_of_a_find(
    level: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "load", lambda name: Faulty())
    code = cli.main(["scan", "--log-level", level])
    assert code == Exit.INTERNAL
    err = capfd.readouterr().err
    assert "vmount: internal error (ZeroDivisionError: division by zero); report this bug" in err
    assert ("Traceback" in err) is (level == "debug")
    assert level == "debug" or err.count("\n") == 1
