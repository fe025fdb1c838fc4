"""Connecting to an NBD server, and driving a handshake with it."""

from __future__ import annotations

import socket

import trio

from vmount.backends.channel import Channel, Tls, dial_tcp
from vmount.backends.nbd.handshake import Dialogue, Receive, Send, T
from vmount.backends.nbd.uri import NbdUri


async def dial(uri: NbdUri) -> Channel:
    """Connect to the server of a URI; raises OSError."""
    if uri.socket is not None:
        stream = await trio.open_unix_socket(uri.socket)
        return Channel(socket.socket(fileno=stream.socket.detach()))
    assert uri.host is not None
    return await dial_tcp(uri.host, uri.port)


async def converse(dialogue: Dialogue[T], channel: Channel, tls: Tls | None) -> T:
    """Drive a handshake over a channel and return what it agrees on.

    Raises what the dialogue raises, and OSError.
    """
    answer = b""
    try:
        step = next(dialogue)
        while True:
            answer = b""
            if isinstance(step, Receive):
                answer = await channel.receive_exactly(step.length)
            elif isinstance(step, Send):
                await channel.send_all(step.data)
            else:
                assert tls is not None
                await channel.start_tls(tls)
            step = dialogue.send(answer)
    except StopIteration as stop:
        agreed: T = stop.value
        return agreed
