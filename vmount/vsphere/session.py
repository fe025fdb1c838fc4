"""A session with a vCenter or ESXi host: pyvmomi's blocking calls under trio.

Strategy: one stub for the whole life of a session, so that managed objects stay usable when it has
expired and was opened again. Every call runs in a thread and has two deadlines: that of each socket
operation, which frees the thread, and that of the whole call, after which nobody waits for it any more.
"""

from __future__ import annotations

import logging
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from xml.parsers.expat import ExpatError

import trio

from vmount.errors import VmountError
from vmount.vsphere.certificates import context_for, not_trusted
from vmount.vsphere.errors import (
    ConnectError,
    NoAnswer,
    TaskTimeout,
    VsphereError,
    from_fault,
    from_trouble,
)
from vmount.vsphere.properties import Properties, retrieve
from vmount.vsphere.secret import Secret
from vmount.vsphere.versions import choose_version, read_versions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from pyVmomi import SoapAdapter, vim

    from vmount.vsphere.settings import ConnectionSettings

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 8
"""Calls at a time: vCenter allows many more, but nothing here gains by it."""
IDLE_CONNECTION = 20
"""Seconds after which a kept connection is not used again: the server may hang up on it."""
LOGOUT_LIMIT = 5.0
"""Seconds for logging out: who leaves does not want to wait for a dead server."""
KEEPALIVE = 600.0
"""Seconds between signs of life; vCenter ends a session that is silent for 1800."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds between looking at a task."""


BROKEN = (ConnectionError, ssl.SSLEOFError, HTTPException)
"""How a connection ends that the server has given up."""


@dataclass(frozen=True)
class About:
    """What a server says of itself."""

    name: str
    """As in "VMware vCenter Server 8.0.2 build-22385739"."""
    version: str
    build: str
    api_type: str
    api_version: str
    instance: str
    """The vCenter's own UUID; empty for a host."""

    @property
    def is_vcenter(self) -> bool:
        """False: an ESXi host."""
        return self.api_type == "VirtualCenter"


@dataclass(frozen=True)
class Reached:
    """A server that is the right one and speaks our language; nobody has logged in."""

    context: ssl.SSLContext
    version: str
    """Of the API, as pyvmomi calls it."""


class Session:
    """A session that logs in again when it has expired. Made by `open`, ended by `aclose`."""

    def __init__(
        self, settings: ConnectionSettings, reached: Reached, stub: SoapAdapter.SoapStubAdapter
    ) -> None:
        self.settings = settings
        self.ssl_context = reached.context
        """For every connection to this server, of whatever kind."""
        self.stub = stub
        self.content: vim.ServiceInstanceContent
        """pyvmomi's: the managers and the root folder."""
        self.about: About
        self.key = ""
        """What the server calls the session; not enough to take part in it."""
        self._logins = 0
        self._cookie = ""
        self._login_lock = trio.Lock()
        self._limiter = trio.CapacityLimiter(THREADS)

    @classmethod
    async def open(cls, settings: ConnectionSettings) -> Session:
        """Connect and log in.

        Raises ConnectError, CertificateError, LoginError, NoAnswer; UsageError if there is no password.
        """
        settings = await trio.to_thread.run_sync(settings.with_password_read)
        reached = await reach(settings)
        session = cls(settings, reached, _new_stub(settings, reached))
        try:
            session.content = await session._in_thread(session._retrieve_content, shield=False)
            session.about = _about(session.content.about)
            await session._log_in(0)
        except BaseException:
            session.stub.DropConnections()
            raise
        log.info("%s: logged in as %s: %s", settings.address, settings.user, session.about.name)
        return session

    @property
    def is_vcenter(self) -> bool:
        """False: an ESXi host."""
        return self.about.is_vcenter

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function that blocks in a thread; once more after a new login if that is why it fails.

        A cancellation waits for it, so that it is always known what was done in the server: this is
        for what changes something, one thing a call. Raises VsphereError with pyvmomi's fault as its
        `__cause__`, NoAnswer after the deadline, and what else the function raises.
        """
        return await self._call(partial(function, *args, **kwargs), shield=True)

    async def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do as `call` does, for what changes nothing.

        A cancellation does not wait for it, and it is repeated once if the connection breaks.
        """
        try:
            return await self._call(partial(function, *args, **kwargs), shield=False)
        except ConnectError as error:
            if not isinstance(error.__cause__, BROKEN):
                raise
            log.info("%s; trying again", error.message)
        return await self._call(partial(function, *args, **kwargs), shield=False)

    async def properties(self, undo_record: Any, *paths: str) -> Properties:
        """Return properties of one object. Raises VsphereError: ObjectGone if it is not there."""
        found = await self.read(self._properties, undo_record, paths)
        return found[0] if found else Properties(undo_record, {})

    async def wait_task(self, task: vim.Task, timeout: float) -> Any:
        """Wait until a task has ended and return its result.

        Raises what it failed with as a VsphereError whose `__cause__` is the fault, and TaskTimeout,
        which is a trio.TooSlowError as well. When this is cancelled the task goes on.
        """
        pause = FIRST_PAUSE
        with trio.move_on_after(timeout) as scope:
            while not scope.cancel_called:
                # Never the whole info: its entity may be of a type that pyvmomi does not expect there.
                info = await self.properties(task, "info.state", "info.error", "info.result")
                if info.get("info.state") == "success":
                    return info.get("info.result")
                if info.get("info.state") == "error":
                    fault = info["info.error"]
                    raise from_fault(fault, self.settings.address, self.settings.user) from fault
                await trio.sleep(pause)
                pause = min(pause * 1.5, LONGEST_PAUSE)
        raise TaskTimeout(f"{self.settings.address}: a task did not end within {timeout:g} s")

    def vm(self, moref: str) -> vim.VirtualMachine:
        """Return the machine of a moRef, without asking whether there is one."""
        from pyVmomi import vim

        return vim.VirtualMachine(moref, self.stub)

    def cookie(self) -> Secret:
        """Return what a Cookie header must say for requests within this session."""
        return Secret(self._cookie.partition(";")[0])

    async def renewed_cookie(self, refused: Secret) -> Secret:
        """Return the cookie to be used instead of one that was refused, logging in again if need be."""
        if self.cookie() == refused:
            await self.read(self._check_session)
        return self.cookie()

    async def keep_alive(self, interval: float = KEEPALIVE) -> None:
        """Give a sign of life again and again, until cancelled; a server that is away is waited for."""
        while True:
            await trio.sleep(interval)
            try:
                await self.read(self._check_session)
            except VsphereError as error:
                log.warning("%s", error)

    async def aclose(self) -> None:
        """Log out, if the server lets us in time, and close all connections."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + LOGOUT_LIMIT):
            try:
                await self._in_thread(self._manager().Logout, shield=False)
            except VmountError as error:
                log.info("not logged out: %s", error)
        self.stub.DropConnections()

    async def _call(self, function: Callable[[], T], *, shield: bool) -> T:
        logins = self._logins
        try:
            return await self._in_thread(function, shield=shield)
        except VsphereError as error:
            if not _is_logged_out(error.__cause__):
                raise
            log.info("%s: the session has expired, logging in again", self.settings.address)
        await self._log_in(logins)
        return await self._in_thread(function, shield=shield)

    async def _in_thread(self, function: Callable[[], T], *, shield: bool) -> T:
        """Run a function in a thread and translate what pyvmomi raises."""
        from pyVmomi import vmodl

        address, timeout = self.settings.address, self.settings.timeout
        try:
            with trio.fail_after(timeout, shield=shield):
                return await trio.to_thread.run_sync(
                    function, abandon_on_cancel=True, limiter=self._limiter
                )
        except trio.TooSlowError as error:
            raise NoAnswer(f"{address}: no answer within {timeout:g} s") from error
        except vmodl.MethodFault as fault:
            raise from_fault(fault, address, self.settings.user) from fault
        except (OSError, HTTPException) as error:
            raise from_trouble(error, address, timeout) from error
        except ExpatError as error:
            raise ConnectError(f"{address}: the answer is not XML") from error

    async def _log_in(self, seen: int) -> None:
        """Log in, unless another task has done so since the number of logins was `seen`."""
        async with self._login_lock:
            if self._logins == seen:
                # Shielded: a session that nobody knows of would stay in the server.
                await self._in_thread(self._blocking_login, shield=True)
                self._logins += 1
                self._cookie = self.stub.cookie
            else:
                # A late answer to a call outside the session may have brought another cookie.
                self.stub.cookie = self._cookie

    def _blocking_login(self) -> None:
        secret = self.settings.password.read()
        # Without the old cookie: who is logged in still cannot log in.
        self.stub.cookie = ""
        self.key = self._manager().Login(self.settings.user, secret.reveal(), None).key

    def _manager(self) -> vim.SessionManager:
        manager = self.content.sessionManager
        assert manager is not None, "every server has one"
        return manager

    def _retrieve_content(self) -> vim.ServiceInstanceContent:
        from pyVmomi import vim

        return vim.ServiceInstance("ServiceInstance", self.stub).RetrieveContent()

    def _check_session(self) -> None:
        from pyVmomi import vim

        if self._manager().currentSession is None:
            raise vim.fault.NotAuthenticated

    def _properties(self, undo_record: Any, paths: tuple[str, ...]) -> list[Properties]:
        from pyVmomi import vmodl

        objects = [vmodl.query.PropertyCollector.ObjectSpec(obj=undo_record)]
        return retrieve(self.content.propertyCollector, objects, {type(undo_record): paths})


@asynccontextmanager
async def connected(settings: ConnectionSettings) -> AsyncIterator[Session]:
    """Give a session, and log out at the end."""
    session = await Session.open(settings)
    try:
        yield session
    finally:
        await session.aclose()


async def reach(settings: ConnectionSettings) -> Reached:
    """Connect to a server, make sure that it is the right one, and ask which API it speaks.

    Raises ConnectError, CertificateError, NoAnswer.
    """
    try:
        with trio.fail_after(settings.connect_timeout):
            return await trio.to_thread.run_sync(_reach, settings, abandon_on_cancel=True)
    except trio.TooSlowError as error:
        late = TimeoutError()
        raise from_trouble(late, settings.address, settings.connect_timeout) from error
    except (OSError, HTTPException) as error:
        raise from_trouble(error, settings.address, settings.connect_timeout) from error


def _reach(settings: ConnectionSettings) -> Reached:
    context = context_for(settings)
    try:
        return Reached(context, choose_version(read_versions(settings, context)))
    except ssl.SSLCertVerificationError as error:
        raise not_trusted(error, settings) from error


def _new_stub(settings: ConnectionSettings, reached: Reached) -> SoapAdapter.SoapStubAdapter:
    from pyVmomi import SoapAdapter

    return SoapAdapter.SoapStubAdapter(
        host=settings.host,
        port=settings.port,
        version=reached.version,
        sslContext=reached.context,
        httpConnectionTimeout=settings.timeout,
        connectionPoolTimeout=IDLE_CONNECTION,
    )


def _about(about: vim.AboutInfo) -> About:
    return About(
        name=about.fullName,
        version=about.version,
        build=about.build or "",
        api_type=about.apiType,
        api_version=about.apiVersion or "",
        instance=about.instanceUuid or "",
    )


def _is_logged_out(fault: BaseException | None) -> bool:
    from pyVmomi import vim

    return isinstance(fault, vim.fault.NotAuthenticated)
