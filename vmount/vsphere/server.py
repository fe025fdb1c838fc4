"""What the modules here ask of a session with a vCenter or host."""

from __future__ import annotations

from http.client import HTTPException
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from pyVmomi import vim, vmodl

from vmount.errors import VmountError, explain

if TYPE_CHECKING:
    from collections.abc import Callable

    from vmount.state.things import Server

P = ParamSpec("P")
T = TypeVar("T")

TROUBLE = (vmodl.MethodFault, VmountError, OSError, HTTPException)
"""What a call to the server may raise."""


class Session(Protocol):
    """A session that logs in again when it has expired."""

    @property
    def server(self) -> Server:
        """Who is at the other end."""
        ...

    @property
    def is_vcenter(self) -> bool:
        """False: a host."""
        ...

    def vm(self, moref: str) -> vim.VirtualMachine:
        """Return the machine of that moRef, without asking whether there is one."""
        ...

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what blocks in a thread, with a deadline; once more after a new login if that is it."""
        ...

    async def wait_task(self, task: Any, timeout: float) -> Any:
        """Wait for a task; return its result. Raises what it failed with, or trio.TooSlowError."""
        ...


def fault_of(error: BaseException) -> BaseException:
    """Return the server's fault that an error tells of, or the error itself."""
    cause = error.__cause__
    return cause if isinstance(cause, vmodl.MethodFault) else error


def reason_of(error: BaseException) -> str:
    """Return what went wrong in one line."""
    if isinstance(error, vmodl.MethodFault):
        name = type(error).__name__.rpartition(".")[2]
        return f"{error.msg} ({name})" if error.msg else name
    if isinstance(error, OSError):
        return explain(error)
    return str(error) or type(error).__name__
