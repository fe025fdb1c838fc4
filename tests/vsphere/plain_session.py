"""A session of the least kind: what the modules under test ask of one."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import trio
from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim

from vmount.state.things import Server

P = ParamSpec("P")
T = TypeVar("T")


class PlainSession:
    def __init__(self, service: Any, host: str, port: int, user: str) -> None:
        about = service.RetrieveContent().about
        self.is_vcenter = about.apiType == "VirtualCenter"
        self.server = Server(host, port, user, instance=about.instanceUuid)
        self._service = service

    def vm(self, moref: str) -> vim.VirtualMachine:
        return vim.VirtualMachine(moref, self._service._stub)

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await trio.to_thread.run_sync(partial(function, *args, **kwargs))

    async def wait_task(self, task: Any, timeout: float) -> Any:
        with trio.fail_after(timeout):
            while (info := await self.call(_info, task)).state in ("queued", "running"):  # noqa: ASYNC110
                await trio.sleep(0.02)
        if info.state == "error":
            raise info.error
        return info.result


def _info(task: Any) -> Any:
    return task.info


@asynccontextmanager
async def connected(
    host: str,
    port: int,
    certificate: Path,
    user: str,
    password: str,
    *,
    kind: type[PlainSession] = PlainSession,
) -> AsyncIterator[PlainSession]:
    context = ssl.create_default_context(cafile=str(certificate))
    connect = partial(
        SmartConnect,
        host=host,
        port=port,
        user=user,
        pwd=password,
        sslContext=context,
        httpConnectionTimeout=5,
    )
    service = await trio.to_thread.run_sync(connect)
    try:
        yield kind(service, host, port, user)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(Disconnect, service)
