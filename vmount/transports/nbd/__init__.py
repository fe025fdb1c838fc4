"""NBD: the protocol without I/O (wire, handshake), connections, and the transport over several of them."""
