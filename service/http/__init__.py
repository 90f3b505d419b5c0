"""The HTTP surface of the service: Litestar handlers over the turns of the process."""
