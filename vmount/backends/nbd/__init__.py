"""NBD: the protocol without I/O (wire, handshake), connections, and the backend over several of them."""
