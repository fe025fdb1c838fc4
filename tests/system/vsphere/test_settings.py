"""From the command line, govc's environment and profiles to one connection."""

from __future__ import annotations

import os
import pickle
import pty
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from vmount.errors import UsageError
from vmount.vsphere import passwords
from vmount.vsphere.address import Address, join_host_port, parse_address
from vmount.vsphere.layer import Layer
from vmount.vsphere.passwords import known
from vmount.vsphere.profiles import from_profile
from vmount.vsphere.secret import Secret
from vmount.vsphere.settings import ConnectionSettings, resolve

NOTHING = Layer("command line")
SHA1 = "AB" * 20
SHA256 = "CD" * 32
HIDDEN = "p@ss:w/rd?%"


@pytest.fixture
def profiles(tmp_path: Path) -> dict[str, str]:
    """Return an environment with a configuration file."""
    folder = tmp_path / "vmount"
    folder.mkdir()
    (folder / "config.toml").write_text(
        textwrap.dedent(f"""\
        default = "lab"
        [profiles.lab]
        host = "vc.lab"
        user = "lab@vsphere.local"
        password-command = ["printf", "from command\\nmore\\n"]
        thumbprint = "{SHA256}"
        timeout = 7
        [profiles.six]
        host = "[2001:db8::1]:8443"
        user = "six"
        password-file = "{tmp_path}/secret"
        """)
    )
    (tmp_path / "secret").write_text("from file\n")
    (tmp_path / "secret").chmod(0o600)
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def password(settings: ConnectionSettings) -> str:
    return settings.password.read().reveal()


@pytest.mark.requirement("R40")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vc.example", Address("vc.example")),
        ("VC.example:8443", Address("vc.example", 8443)),
        ("https://vc.example/sdk", Address("vc.example")),
        ("https://me@vsphere.local@vc", Address("vc", None, "me@vsphere.local")),
        ("me:pw@vc:1", Address("vc", 1, "me", Secret("pw"))),
        ("https://me:p%40ss%3Aw%2Frd%3F%25@vc/sdk", Address("vc", None, "me", Secret(HIDDEN))),
        ("DOMAIN\\me:a:b@vc", Address("vc", None, "DOMAIN\\me", Secret("a:b"))),
        ("2001:db8::1", Address("2001:db8::1")),
        ("[2001:DB8::1]", Address("2001:db8::1")),
        ("https://me@[2001:db8::1]:8443/sdk", Address("2001:db8::1", 8443, "me")),
        ("[fe80::1%25eth0]:443", Address("fe80::1%eth0", 443)),
        ("::ffff:192.0.2.1", Address("::ffff:192.0.2.1")),
        ("192.0.2.1:8989", Address("192.0.2.1", 8989)),
    ],
)
def test_addresses(text: str, expected: Address) -> None:
    assert parse_address(text, "test") == expected
    assert parse_address(join_host_port(expected.host, 1), "test").host == expected.host


@pytest.mark.parametrize(
    "text",
    ["", "http://vc", "vc:0", "vc:65536", "vc:x", "[vc]:1", "[::1", "a b", "me:s3cret@", "x" * 300],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text, "test")
    assert "s3cret" not in str(caught.value)


def test_govc_s_environment(tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"other:443 {SHA256}\nvc.example:8443 {SHA1}\n")
    settings = resolve(
        NOTHING,
        {
            "HOME": str(tmp_path),
            "GOVC_URL": "https://me:p%40ss%3Aw%2Frd%3F%25@vc.example:8443/sdk",
            "GOVC_TLS_KNOWN_HOSTS": str(known_hosts),
            "GOVC_TLS_CA_CERTS": "/ca.pem",
            "GOVC_INSECURE": "true",
        },
    )
    assert (settings.address, settings.user) == ("vc.example:8443", "me")
    assert password(settings) == HIDDEN
    assert str(settings.thumbprint).replace(":", "") == SHA1
    assert (settings.ca_file, settings.insecure) == (Path("/ca.pem"), True)


def test_govc_s_user_and_password_prevail_over_those_of_its_address(tmp_path: Path) -> None:
    environment = {
        "HOME": str(tmp_path),
        "GOVC_URL": "a:b@vc",
        "GOVC_USERNAME": "c",
        "GOVC_PASSWORD": "d",
    }
    settings = resolve(NOTHING, environment)
    assert (settings.user, password(settings)) == ("c", "d")
    assert settings.password.origin == "GOVC_PASSWORD"


def test_the_default_profile(profiles: dict[str, str]) -> None:
    settings = resolve(NOTHING, profiles)
    assert (settings.host, settings.user, settings.profile) == (
        "vc.lab",
        "lab@vsphere.local",
        "lab",
    )
    assert (password(settings), settings.timeout) == ("from command", 7)
    assert str(settings.thumbprint).replace(":", "") == SHA256


def test_the_order(profiles: dict[str, str]) -> None:
    """Command line, named profile, environment, default profile."""
    govc = {**profiles, "GOVC_URL": "g:pg@vc.govc"}
    assert resolve(NOTHING, govc).host == "vc.govc"
    assert resolve(NOTHING, govc).profile == ""
    six = resolve(NOTHING, govc, "six")
    assert (six.address, six.user, password(six)) == ("[2001:db8::1]:8443", "six", "from file")
    chosen = Layer("command line", user="other", password=known("test", Secret("x")))
    six = resolve(chosen, govc, "six")
    assert (six.host, six.user, password(six)) == ("2001:db8::1", "other", "x")


@pytest.mark.requirement("R19")
def test_no_password_goes_to_another_server(profiles: dict[str, str]) -> None:
    govc = {**profiles, "GOVC_URL": "g:pg@vc.govc", "GOVC_INSECURE": "1"}
    chosen = Layer("command line", host="vc.other", user="g")
    settings = resolve(chosen, govc)
    assert (settings.insecure, settings.thumbprint) == (False, None)
    assert settings.password.origin == "keyring or terminal"
    for host, port in (("vc.govc", 8443), ("vc.lab", 1)):
        chosen = Layer("command line", host=host, port=port, user="g")
        assert resolve(chosen, govc).password.origin == "keyring or terminal"
    chosen = Layer("command line", host="vc.govc", user="somebody else")
    assert resolve(chosen, govc).password.origin == "keyring or terminal"


def test_a_pin_is_not_undone_from_below(profiles: dict[str, str]) -> None:
    environment = {**profiles, "GOVC_URL": "vc.lab", "GOVC_INSECURE": "0"}
    settings = resolve(NOTHING, environment)
    assert settings.thumbprint is not None
    assert settings.insecure is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[profiles.p]\npassword = 'x'",
            "a password must not be stored in this file; use password-command",
        ),
        ("[profiles.p]\nhost = 'u:s3cret@h'", "a password must not be stored in this file"),
        ("[profiles.p]\nhots = 'x'", "unknown key 'hots'; known keys: host, port"),
        ("[profiles.p]\nport = '443'", "port: '443' must be a number"),
        ("[profiles.p]\nport = 70000", "port: 70000 is not a port number"),
        ("[profiles.p]\ntimeout = -1", "timeout: -1 must be greater than zero"),
        ("[profiles.p]\ninsecure = 1", "insecure: 1 must be true or false"),
        ("[profiles.p]\ntimeout = true", "timeout: True must be a number"),
        ("[profiles.p]\npassword-command = [1]", "must be a list of strings"),
        (
            "[profiles.p]\nkeyring = true\npassword-file = 'x'",
            "password-file and keyring exclude each other",
        ),
        ("[profiles.q]\nhost = 'x'", "no profile 'p'; profiles: q"),
        ("profiles = 3", "profiles: must be a table"),
        ("[profiles", "Expected ']'"),
    ],
)
def test_what_is_wrong_with_a_profile(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "vmount").mkdir()
    (tmp_path / "vmount/config.toml").write_text(text)
    (tmp_path / "vmount/config.toml").chmod(0o600)
    with pytest.raises(UsageError) as caught:
        resolve(NOTHING, {"XDG_CONFIG_HOME": str(tmp_path)}, "p")
    assert message in caught.value.as_command()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "no vCenter or ESXi host given; use --vcenter HOST, GOVC_URL, or a profile"),
        ({"GOVC_URL": "vc"}, "no user name for vc:443; use --user, GOVC_USERNAME or a profile"),
        ({"GOVC_URL": "u@vc", "GOVC_INSECURE": "maybe"}, "'maybe' is not true or false"),
        ({"GOVC_URL": "u@vc", "GOVC_TLS_KNOWN_HOSTS": "/none"}, "/none: No such file"),
        ({"GOVC_URL": "u@vc", "GOVC_TLS_CA_CERTS": "/a:/b"}, "supports only one file"),
    ],
)
def test_what_is_missing(environment: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(NOTHING, {"HOME": "/nonexistent", **environment})
    assert message in caught.value.as_command()


def test_a_profile_that_is_named_and_not_there() -> None:
    with pytest.raises(UsageError, match=r"no profile 'x': .*: No such file"):
        resolve(NOTHING, {"HOME": "/nonexistent"}, "x")


def test_passwords_from_elsewhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "password"
    file.write_bytes("pässword \r\nsecond line".encode())
    file.chmod(0o644)
    assert passwords.from_file(file).read().reveal() == "pässword "
    assert "every user can read this password; run: chmod 600" in caplog.text
    receiving, sending = os.pipe()
    os.write(sending, b"piped\n")
    os.close(sending)
    assert passwords.from_descriptor(receiving).read().reveal() == "piped"
    assert passwords.from_command("printf '%s' 'a b'").read().reveal() == "a b"


def test_passwords_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\n")
    for way, message in (
        (passwords.from_file(tmp_path / "none"), "No such file"),
        (passwords.from_file(tmp_path / "empty"), "contains no password"),
        (passwords.from_file(tmp_path / "bytes"), "is not UTF-8"),
        (passwords.from_descriptor(987), "Bad file descriptor"),
        (passwords.from_command("false"), "false: exit code 1"),
        (passwords.from_command(["/none"]), "No such file"),
        (passwords.from_keyring("service", "me"), "run: keyring set service me"),
        (passwords.from_keyring_or_terminal("service", "me", "vc"), "no password for me at vc"),
    ):
        with pytest.raises(UsageError, match=message):
            way.read()


KEYRING = """
class KeyringError(Exception):
    pass

def get_password(service, user):
    if service == "locked":
        raise KeyringError("locked")
    return {("vmount:vc:443", "me"): "from keyring"}.get((service, user))
"""
READ = """
from vmount.vsphere import passwords
print(passwords.from_keyring_or_terminal({service!r}, "me", "vc").read().reveal())
"""


def run(code: str, folder: Path, terminal: int | None = None) -> subprocess.Popen[str]:
    stream = subprocess.DEVNULL if terminal is None else terminal
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=stream,
        stdout=subprocess.PIPE,
        stderr=stream if terminal else subprocess.PIPE,
        env={"PYTHONPATH": f"{folder}:{ROOT}"},
        start_new_session=True,
        text=True,
    )


def test_the_keyring(tmp_path: Path) -> None:
    """A stand-in with the two names of the library that are used."""
    (tmp_path / "keyring").mkdir()
    (tmp_path / "keyring/__init__.py").write_text(KEYRING)
    (tmp_path / "keyring/errors.py").write_text("from keyring import KeyringError")
    found, _ = run(READ.format(service="vmount:vc:443"), tmp_path).communicate(timeout=30)
    assert found == "from keyring\n"
    locked, error = run(READ.format(service="locked"), tmp_path).communicate(timeout=30)
    assert locked == ""
    assert "no password for me at vc" in error


def test_the_terminal_is_asked_and_shows_nothing(tmp_path: Path) -> None:
    outer, inner = pty.openpty()
    with run(READ.format(service="none"), tmp_path, inner) as process:
        asked = b""
        while b"Password of me at vc: " not in asked:
            asked += os.read(outer, 1000)
        os.write(outer, b"typed\n")
        assert process.stdout is not None
        assert process.stdout.read() == "typed\n"
        process.wait(30)
    assert b"typed" not in asked + os.read(outer, 1000)
    os.close(outer)
    os.close(inner)


@pytest.mark.requirement("R19")
def test_a_secret_does_not_show_itself() -> None:
    secret = Secret(HIDDEN)
    settings = ConnectionSettings("vc", "me", known("test", secret))
    for text in (
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r}",
        repr(settings),
        str([secret]),
    ):
        assert HIDDEN not in text
    with pytest.raises(TypeError, match="cannot leave its process"):
        pickle.dumps(secret)
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize(
    ("mode", "owner", "message"),
    [
        (0o602, None, "another user owns it, or every user can write to it; run: chown"),
        (0o600, 65534, "another user owns it"),
        (0o640, None, "it contains a password, and other users can read it; change the password"),
    ],
)
def test_a_configuration_that_others_may_write_or_read(
    tmp_path: Path, mode: int, owner: int | None, message: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[profiles.p]\npassword = 'x'")
    path.chmod(mode)
    if owner is not None:
        if os.geteuid() != 0:
            pytest.skip("only root gives files away")
        os.chown(path, owner, owner)
    with pytest.raises(UsageError) as caught:
        from_profile(path, "p")
    assert message in caught.value.as_command()
