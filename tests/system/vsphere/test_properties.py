"""What a server's answers leave out, and why: the simulator lets everybody read everything.

The answers are pyvmomi's own objects, written and read again as they are on the wire.
"""

from __future__ import annotations

from typing import Any

import pytest
from pyVmomi import SoapAdapter, vim, vmodl

from vmount.vsphere.properties import Properties, retrieve

QUERY: Any = vmodl.query.PropertyCollector
STUB = SoapAdapter.SoapStubAdapter(host="h", version="vim.version.version11")
VM = vim.VirtualMachine("vm-1", STUB)


def machine(moref: str, fault: Any = None) -> Any:
    """Return what is told of a machine; with a fault, one of its properties may not be read."""
    missing = [] if fault is None else [QUERY.MissingProperty(path="config", fault=fault)]
    name = vmodl.DynamicProperty(name="name", val="web")
    vm = vim.VirtualMachine(moref, STUB)
    return QUERY.ObjectContent(obj=vm, propSet=[name], missingSet=missing)


class Collector:
    """Answers in pages."""

    def __init__(self, *pages: list[Any]) -> None:
        self.pages = list(pages)
        self.tokens: list[str] = []

    def RetrievePropertiesEx(self, _filters: Any, _options: Any) -> Any:  # noqa: N802 (vSphere's name)
        page = self.pages.pop(0)
        token = f"page {len(self.pages)}" if self.pages else None
        text = SoapAdapter.SerializeToStr(
            QUERY.RetrieveResult(objects=page, token=token), version="vim.version.version11"
        )
        return SoapAdapter.Deserialize(text, QUERY.RetrieveResult, STUB)

    def ContinueRetrievePropertiesEx(self, token: str) -> Any:  # noqa: N802 (vSphere's name)
        self.tokens.append(token)
        return self.RetrievePropertiesEx(None, None)


def read(collector: Any) -> list[Properties]:
    start = QUERY.ObjectSpec(obj=VM)
    return retrieve(collector, [start], {vim.VirtualMachine: ("name", "config")})


@pytest.mark.requirement("R14")
def test_what_may_not_be_read_has_its_reason() -> None:
    fault = vim.fault.NoPermission(object=VM, privilegeId="System.Read")
    (found,) = read(Collector([machine("vm-1", fault)]))
    assert dict(found) == {"name": "web"}
    assert found.moref == "vm-1"
    refusal: Any = found.refused["config"]
    assert refusal.privilegeId == "System.Read"


def test_an_expired_session_is_no_missing_property() -> None:
    fault = vim.fault.NotAuthenticated(object=VM, privilegeId="System.View")
    with pytest.raises(vim.fault.NotAuthenticated):
        read(Collector([machine("vm-1", fault)]))


def test_all_pages_are_read() -> None:
    collector = Collector([machine("vm-1"), machine("vm-2")], [machine("vm-3")], [machine("vm-4")])
    assert [one.moref for one in read(collector)] == ["vm-1", "vm-2", "vm-3", "vm-4"]
    assert collector.tokens == ["page 2", "page 1"]
