"""Defaults of options in the configuration file, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vmount.cli import load, parser_of
from vmount.commands.defaults import apply_defaults, options_of
from vmount.configuration import read_config
from vmount.errors import UsageError

COMMANDS = ("mount", "ls", "cp")


def parsed(tmp_path: Path, text: str, command: str, *words: str) -> Any:
    """Return the arguments of a command with a configuration file."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    parser = parser_of(command, load(command))
    known = {option for name in COMMANDS for option in options_of(parser_of(name, load(name)))}
    tables = read_config(path).get("defaults", {})
    apply_defaults(parser, command, tables, path, COMMANDS, lambda: known)
    return parser.parse_intermixed_args(words)


def test_a_default_holds_for_each_command_that_has_the_option(tmp_path: Path) -> None:
    text = '[defaults]\ncache-size = "1G"\nallow-other = true\nsnapshot = "current"\n'
    arguments = parsed(tmp_path, text, "ls", "e.img")
    assert arguments.cache_size == 1 << 30
    assert arguments.snapshot == "current"
    assert not hasattr(arguments, "allow_other")
    assert parsed(tmp_path, text, "mount", "e.img", "mnt").allow_other is True


def test_the_command_line_comes_first_then_the_table_of_the_command(tmp_path: Path) -> None:
    text = '[defaults]\ntimeout = 5\nlog-level = "info"\n[defaults.ls]\ntimeout = 7.5\n'
    assert parsed(tmp_path, text, "ls", "e.img").timeout == 7.5
    assert parsed(tmp_path, text, "cp", "e.img", "a", "b").timeout == 5
    assert parsed(tmp_path, text, "ls", "--timeout", "9", "e.img").timeout == 9
    assert parsed(tmp_path, text, "ls", "e.img").log_level == "info"


def test_what_may_be_given_several_times_is_a_list_and_added_to(tmp_path: Path) -> None:
    text = '[defaults]\nlun-deny = ["/dev/sda*", "/dev/sdb"]\n'
    arguments = parsed(tmp_path, text, "ls", "--lun-deny", "/dev/sdc", "e.img")
    assert arguments.lun_deny == ["/dev/sda*", "/dev/sdb", "/dev/sdc"]
    assert parsed(tmp_path, text, "ls", "e.img").lun_deny == ["/dev/sda*", "/dev/sdb"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('cache_size = "1G"', "unknown key 'cache_size'; known keys: default, profiles"),
        ("[defaults]\ncach-size = 1", "defaults.cach-size: unknown option"),
        ("[defaults.mnt]\njson = true", "defaults.mnt: unknown command; known commands: mount"),
        ("[defaults.ls]\nallow-other = true", "defaults.ls.allow-other: unknown option"),
        ("[defaults]\njson = 1", "defaults: json: must be true or false"),
        ('[defaults]\ntimeout = "soon"', "defaults: timeout: "),
        ("[defaults]\ntimeout = [1, 2]", "defaults: timeout: must be a string or a number"),
        ('[defaults]\nlog-level = "loud"', "invalid value 'loud'; choose from error, warning"),
        ("defaults = 1", "defaults: must be a table"),
        ("[defaults\n", "config.toml: "),
    ],
)
def test_a_mistake_is_an_error_that_names_the_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(tmp_path, text, "ls", "e.img")
    assert words in str(caught.value)
    assert str(tmp_path) in str(caught.value)
