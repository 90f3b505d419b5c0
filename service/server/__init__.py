"""The HTTP servers that the service runs on, each made to end turns before it cuts connections."""
