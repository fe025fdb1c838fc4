"""Where a password may come from. None of them is the command line, which all users of a system can read."""

from __future__ import annotations

import getpass
import logging
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vmount.errors import Remedy, UsageError, explain
from vmount.vsphere.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

LONGEST = 64 << 10
"""Bytes of a password with whatever follows it; a token may take a few KiB."""
COMMAND_LIMIT = 300.0
"""Seconds for a password command: it may ask its user to unlock something."""


@dataclass(frozen=True)
class Password:
    """A password that is known or can be asked for."""

    origin: str
    """In words, for messages: "GOVC_PASSWORD"."""
    read: Callable[[], Secret] = field(repr=False, compare=False)
    """Returns it; blocks. Raises UsageError."""


def known(origin: str, secret: Secret) -> Password:
    """Return a password that is known."""
    return Password(origin, lambda: secret)


def from_file(path: Path) -> Password:
    """Return the first line of a file."""

    def read() -> Secret:
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                data = file.read(LONGEST)
        except OSError as error:
            raise UsageError(f"password file {explain(error)}") from None
        if stat.S_ISREG(mode) and mode & stat.S_IROTH:
            log.warning("%s: every user can read this password; run: chmod 600 %s", path, path)
        return _first_line(data, str(path))

    return Password(f"file {path}", read)


def from_descriptor(descriptor: int) -> Password:
    """Return the first line of what a file descriptor gives. It is read and closed once."""

    def read() -> Secret:
        try:
            with open(descriptor, "rb") as file:
                return _first_line(file.read(LONGEST), f"file descriptor {descriptor}")
        except OSError as error:
            raise UsageError(f"password file descriptor {descriptor}: {explain(error)}") from None

    return Password(f"file descriptor {descriptor}", read)


def from_command(command: Sequence[str] | str) -> Password:
    """Return the first line that a command prints. It is no shell's: words are split, nothing more."""
    words = shlex.split(command) if isinstance(command, str) else list(command)
    if not words:
        raise UsageError("password-command: is empty")

    def read() -> Secret:
        try:
            done = subprocess.run(words, stdout=subprocess.PIPE, check=False, timeout=COMMAND_LIMIT)
        except OSError as error:
            raise UsageError(f"password command {explain(error)}") from None
        except subprocess.TimeoutExpired:
            raise UsageError(
                f"password command {words[0]}: still running after {COMMAND_LIMIT:.0f} s"
            ) from None
        if done.returncode:
            raise UsageError(f"password command {words[0]}: exit code {done.returncode}")
        return _first_line(done.stdout, f"password command {words[0]}")

    return Password(f"command {words[0]}", read)


def from_keyring(service: str, user: str) -> Password:
    """Return what the user's keyring holds under a service's and a user's name."""

    def read() -> Secret:
        secret = look_in_keyring(service, user)
        if secret is None:
            raise UsageError(
                f"the keyring has no password for {user} at {service}",
                remedy=f"run: keyring set {service} {user}",
            )
        return secret

    return Password(f"keyring, {service}", read)


def from_keyring_or_terminal(service: str, user: str, host: str) -> Password:
    """Return what the keyring holds, or else what is typed at the terminal."""

    def read() -> Secret:
        secret = look_in_keyring(service, user)
        if secret is not None:
            return secret
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(
                f"no password for {user} at {host}",
                remedy=Remedy(
                    "set GOVC_PASSWORD, use --password-file or a profile, or run vmount in a terminal",
                    "set GOVC_PASSWORD, or use a profile",
                ),
            )
        try:
            return Secret(getpass.getpass(f"Password of {user} at {host}: "))
        except EOFError:
            raise UsageError(f"no password for {user} at {host}") from None

    return Password("keyring or terminal", read)


def look_in_keyring(service: str, user: str) -> Secret | None:
    """Return what the keyring holds; None if there is nothing, or no keyring."""
    try:
        import keyring
        import keyring.errors
    except ImportError:
        return None
    try:
        found = keyring.get_password(service, user)
    except keyring.errors.KeyringError as error:
        log.info("no answer from the keyring: %s", error)
        return None
    return None if found is None else Secret(found)


def _first_line(data: bytes, origin: str) -> Secret:
    line = data.split(b"\n", 1)[0].removesuffix(b"\r")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{origin}: the password is not UTF-8") from None
    if not text:
        raise UsageError(f"{origin}: contains no password")
    return Secret(text)
