"""How files are read over HTTPS."""

from __future__ import annotations

from dataclasses import dataclass, field

from vmount.backends.retry import Backoff


@dataclass(frozen=True)
class HttpsOptions:
    """Times in seconds, sizes in bytes."""

    connections: int = 4
    """To a server. Also the most requests in flight: HTTP/1.1 has one to a connection."""
    max_request: int = 4 << 20
    connect_timeout: float = 10.0
    reply_timeout: float = 30.0
    """For one request, from its start to its last byte."""
    total_timeout: float = 60.0
    """For one read, with all that is asked for again."""
    backoff: Backoff = field(default_factory=Backoff)
