"""AuthorizationManager's DisableMethods and EnableMethods, which pyvmomi does not know.

They are of vCenter's internal interface (namespace urn:internalvim25), the one that VMware's own backup
library uses to keep a machine where it is while its disks are read. `vm.disabledMethod` of the public
interface shows the result.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from pyVmomi import SoapAdapter, VmomiSupport, vim, vmodl

RELOCATE = "RelocateVM_Task"
LONGEST_SOURCE_ID = 50
"""Characters: vCenter takes no longer ones."""
REASON = "vmount reads the disks"

ENVELOPE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>'
    '<{method} xmlns="urn:internalvim25">{arguments}</{method}>'
    "</soapenv:Body></soapenv:Envelope>"
)

VmomiSupport.CreateDataType(
    "vim.fault.MethodAlreadyDisabledFault",
    "MethodAlreadyDisabledFault",
    "vmodl.RuntimeFault",
    "vim.version.version1",
    [("sourceId", "string", "vim.version.version1", VmomiSupport.F_OPTIONAL)],
)


def disable_relocation(vm: vim.VirtualMachine, source_id: str) -> str | None:
    """Keep a machine from being relocated until `enable_relocation` is called with the same source.

    Returns None if that is so now, or whose lock is in the way ("" if the server does not say). Blocks.
    Raises what pyvmomi raises.
    """
    assert 0 < len(source_id) <= LONGEST_SOURCE_ID
    request = f"<method>{RELOCATE}</method><reasonId>{escape(REASON)}</reasonId>"
    try:
        # sessionScope false: the lock outlives a session that is lost in between.
        _invoke(
            vm,
            "DisableMethods",
            f"<method>{request}</method><sourceId>{escape(source_id)}</sourceId>"
            "<sessionScope>false</sessionScope>",
        )
    except vmodl.RuntimeFault as fault:
        if type(fault).__name__.rpartition(".")[2] != "MethodAlreadyDisabledFault":
            raise
        return str(getattr(fault, "sourceId", None) or "")
    return None


def enable_relocation(vm: vim.VirtualMachine, source_id: str) -> None:
    """Undo `disable_relocation`; locks of other sources stay. Blocks. Raises what pyvmomi raises."""
    _invoke(
        vm, "EnableMethods", f"<method>{RELOCATE}</method><sourceId>{escape(source_id)}</sourceId>"
    )


def is_relocation_disabled(vm: vim.VirtualMachine) -> bool:
    """Say whether a machine cannot be relocated, whatever the reason. Blocks."""
    return RELOCATE in (vm.disabledMethod or [])


class _InternalStub(SoapAdapter.SoapStubAdapter):  # type: ignore[misc] # pyvmomi is untyped there
    """A stub's connections and session, for requests whose text is given."""

    __slots__ = ("_request",)

    def __init__(self, stub: SoapAdapter.SoapStubAdapter, request: str) -> None:
        # Shared, not copied: the pool of connections is one attribute among others.
        self.__dict__ = stub.__dict__  # type: ignore[misc] # not a slot, and not meant to be one
        self._request = request

    def SerializeRequest(self, *_: object) -> bytes:  # noqa: N802 (pyvmomi's name)
        return self._request.encode()


def _invoke(vm: vim.VirtualMachine, method: str, arguments: str) -> None:
    stub = vm._stub  # noqa: SLF001 (there is no other way to it)
    manager = vim.ServiceInstance("ServiceInstance", stub).content.authorizationManager
    assert manager is not None, "vCenter has one"
    this = f'<_this type="AuthorizationManager">{escape(manager._moId)}</_this>'  # noqa: SLF001
    entity = f"<entity type={quoteattr('VirtualMachine')}>{escape(vm._moId)}</entity>"  # noqa: SLF001
    text = ENVELOPE.format(method=method, arguments=this + entity + arguments)
    returns_nothing: Any = SimpleNamespace(result=VmomiSupport.NoneType)
    _InternalStub(stub, text).InvokeMethod(manager, returns_nothing, ())
