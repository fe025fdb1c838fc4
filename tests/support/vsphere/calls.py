"""Calls of pyvmomi that tests make in a session."""

from __future__ import annotations

from pyVmomi import vim

from vmount.vsphere.snapshot_tree import read_tree


def remove_all_snapshots(vm: vim.VirtualMachine) -> object:
    for node in read_tree(vm.snapshot):
        vim.vm.Snapshot(node.moref, vm._stub).RemoveSnapshot_Task(False)
    return vm.snapshot


def destroy(vm: vim.VirtualMachine) -> object:
    vm.PowerOffVM_Task()
    return vm.Destroy_Task()


def snapshots(vm: vim.VirtualMachine) -> list[str]:
    return [node.moref for node in read_tree(vm.snapshot)]
