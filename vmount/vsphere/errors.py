"""What goes wrong with a vCenter or host, as errors for the user. The fault itself is the `__cause__`.

Callers that must tell faults apart catch pyvmomi's own inside the function that they give to
`Session.call`, or look at `__cause__`.
"""

from __future__ import annotations

import socket
import ssl
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

import trio

from vmount.errors import Exit, Remedy, VmountError, explain, printable

if TYPE_CHECKING:
    from pyVmomi import vmodl

PRIVILEGES_TOLD = "the README explains each privilege"


class VsphereError(VmountError):
    """A vCenter or host did not do what was asked."""

    exit_code = Exit.SOURCE


class ConnectError(VsphereError):
    """It cannot be reached, or is not what it should be."""


class CertificateError(ConnectError):
    """Its certificate is not trusted."""


class LoginError(VsphereError):
    """It does not take user and password."""


class PermissionDenied(VsphereError):
    """The user lacks a privilege."""

    def __init__(self, message: str, *, privilege: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.privilege = privilege
        """As vSphere calls it: VirtualMachine.State.CreateSnapshot."""


class ObjectGone(VsphereError):
    """What a moRef named is not there, or not any more."""


class NoAnswer(VsphereError):
    """No answer within the deadline: whether it was done is not known."""


class TaskTimeout(VsphereError, trio.TooSlowError):
    """A task has not ended within its deadline: it goes on in the server."""


def from_fault(fault: vmodl.MethodFault, server: str, user: str) -> VsphereError:
    """Return the error that tells of a fault."""
    from pyVmomi import vim, vmodl

    said = reason(fault)
    if isinstance(fault, vim.fault.InvalidLogin):
        return LoginError(
            f"{server} refused the login of {user}",
            remedy="check the user name (with its domain) and the password",
        )
    if isinstance(fault, vim.fault.NotAuthenticated):
        return LoginError(f"{server}: the session of {user} has ended")
    if isinstance(fault, vim.fault.NoPermission):
        return _no_permission(fault, server, user)
    if isinstance(fault, vmodl.fault.ManagedObjectNotFound):
        return ObjectGone(f"{server}: {_name(fault.obj)} does not exist, or no longer")
    if isinstance(fault, vim.fault.RestrictedVersion):
        return VsphereError(
            f"{server}: its licence does not allow this ({said})",
            remedy="the free ESXi licence disables the API that vmount needs",
        )
    if isinstance(fault, vim.fault.HostAccessRestrictedToManagementServer):
        return VsphereError(
            f"{server} is managed by a vCenter, which must do this ({said})",
            remedy=Remedy(
                f"connect to the vCenter: --vcenter {fault.managementServer}",
                f"connect to the vCenter {fault.managementServer}",
            ),
        )
    if isinstance(fault, vmodl.fault.MethodNotFound | vmodl.fault.NotSupported):
        return VsphereError(f"{server} does not support this ({said})")
    return VsphereError(f"{server}: {said}")


def reason(fault: vmodl.MethodFault) -> str:
    """Return what a fault says in one line: its message and what vSphere calls it."""
    kind = type(fault).__name__.rpartition(".")[2]
    messages = [fault.msg, *(getattr(item, "message", None) for item in fault.faultMessage or ())]
    file = getattr(fault, "file", None)
    text = "; ".join(dict.fromkeys(filter(None, [*messages, file])))
    return printable(f"{text} ({kind})" if text else kind)


def from_trouble(error: OSError | HTTPException, server: str, timeout: float) -> VsphereError:
    """Return the error that tells of a broken connection."""
    if isinstance(error, socket.gaierror):
        return ConnectError(
            f"{server}: unknown host name ({error.strerror})",
            remedy="check the name and this system's name resolution",
        )
    if isinstance(error, TimeoutError):
        return NoAnswer(
            f"{server}: no answer within {timeout:g} s",
            remedy="check the address and the firewalls in between",
        )
    if isinstance(error, ConnectionRefusedError):
        return ConnectError(
            f"{server}: refused the connection", remedy="check the address and the port"
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return CertificateError(
            f"{server}: the certificate is not trusted: {error.verify_message}",
            remedy="it differs from the first certificate",
        )
    if isinstance(error, ssl.SSLError):
        return ConnectError(
            f"{server}: no TLS ({error.reason or error})", remedy="check the port (usually 443)"
        )
    if isinstance(error, HTTPException) and not isinstance(error, OSError):
        return ConnectError(f"{server}: the answer is not that of a vCenter or ESXi host ({error})")
    return ConnectError(f"{server}: {explain(error)}")


def _no_permission(fault: Any, server: str, user: str) -> PermissionDenied:
    needed = [
        (entity.entity, privilege)
        for entity in getattr(fault, "missingPrivileges", None) or ()
        for privilege in entity.privilegeIds or ()
    ] or [(fault.object, fault.privilegeId or "an unnamed privilege")]
    return PermissionDenied(
        f"{server}: {user} lacks the privilege "
        + ", ".join(f"{name} on {_name(undo_record)}" for undo_record, name in needed),
        privilege=needed[0][1],
        remedy=f"grant it there or above; {PRIVILEGES_TOLD}",
    )


def _name(undo_record: Any) -> str:
    """Return a managed object's type and moRef; its name would take another call."""
    if undo_record is None:
        return "an unnamed object"
    kind = type(undo_record).__name__.rpartition(".")[2]
    return f"{kind} {undo_record._moId}"  # noqa: SLF001 (there is no other way to it)
