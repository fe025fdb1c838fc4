"""A stream of bytes for the codec, as a connection would give it."""

from __future__ import annotations

from vmount.backends.nbd.wire import Reply, Transmission


def feed(codec: Transmission, data: bytes) -> list[Reply]:
    """Give the codec bytes of the stream; return the replies that ended by them."""
    view, done = memoryview(data), []
    while view:
        room = codec.buffer()
        count = min(len(room), len(view))
        room[:count] = view[:count]
        done += codec.received(count)
        view = view[count:]
    return done
