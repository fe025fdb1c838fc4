"""Defaults of options from the configuration file.

[defaults]
cache-size = "1G"              # for each command that has the option
log-level = "info"

[defaults.mount]               # for one command
allow-other = true
lun-deny = ["/dev/sda*"]       # a list for an option that may be given several times
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from vmount.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

NEVER = frozenset({"help", "version", "password-fd"})
"""Options that make no sense as a default."""


def apply_defaults(
    parser: argparse.ArgumentParser,
    command: str,
    tables: Mapping[str, Any],
    path: Path,
    commands: Collection[str],
    options_of_all: Callable[[], Collection[str]],
) -> None:
    """Make the defaults of the configuration file those of a command's parser.

    `tables` is the table [defaults] of the file `path`. What is given on the command line comes before
    them, and for options that may be given several times it is added. `options_of_all` returns the names
    of all commands' options. Raises UsageError for an unknown key, and for a value that its option refuses.
    """
    options = options_of(parser)
    own: dict[str, Any] = {}
    for key, value in tables.items():
        place = f"{path}: defaults.{key}"
        if isinstance(value, dict):
            if key not in commands:
                raise UsageError(
                    f"{place}: unknown command", remedy=f"known commands: {', '.join(commands)}"
                )
            if key != command:
                continue
            for name in value:
                if name not in options:
                    raise UsageError(
                        f"{place}.{name}: unknown option", remedy=f"see vmount {key} --help"
                    )
            own = value
        elif key not in options and key not in options_of_all():
            raise UsageError(f"{place}: unknown option", remedy="see vmount COMMAND --help")
    general = {key: value for key, value in tables.items() if not isinstance(value, dict)}
    for name, value in (general | own).items():
        if name in options:
            _set(parser, options[name], value, f"{path}: defaults: {name}")


def options_of(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Return a parser's options by their long names without dashes."""
    return {
        text.removeprefix("--"): action
        for action in parser._actions  # noqa: SLF001 (argparse has no public list of them)
        for text in action.option_strings
        if text.startswith("--") and text.removeprefix("--") not in NEVER
    }


def _set(parser: argparse.ArgumentParser, action: argparse.Action, value: Any, place: str) -> None:
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise UsageError(f"{place}: must be true or false")
        if value:
            parser.set_defaults(**{action.dest: action.const})
        return
    values = value if isinstance(value, list) else [value]
    is_list = isinstance(action.default, list)
    if (isinstance(value, list) and not is_list) or not all(
        isinstance(each, str | int | float) and not isinstance(each, bool) for each in values
    ):
        raise UsageError(f"{place}: must be a string or a number{' or a list' * is_list}")
    read = [_converted(action, str(each), place) for each in values]
    parser.set_defaults(**{action.dest: read if is_list else read[0]})


def _converted(action: argparse.Action, text: str, place: str) -> Any:
    value: Any = text
    if callable(action.type):
        try:
            value = action.type(text)
        except (argparse.ArgumentTypeError, ValueError) as error:
            raise UsageError(f"{place}: {error}") from None
    if action.choices is not None and value not in action.choices:
        choices = ", ".join(map(str, action.choices))
        raise UsageError(f"{place}: invalid value {text!r}", remedy=f"choose from {choices}")
    return value
