"""Files on an HTTPS server, read by ranges."""
