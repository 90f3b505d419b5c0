"""`python -m collector`: runs the collector until SIGTERM or Ctrl-C."""

from __future__ import annotations

import gc
import ipaddress
import logging
import signal
import socket
import sys

import uvicorn

from collector.alerts.receivers import SecretUnusable
from collector.alerts.rules import RulesError
from collector.app import Parts, create_app
from collector.lake.dsn import LakeUnusable
from collector.receive.grpc_server import PortTaken
from collector.settings import CollectorSettings, load_settings
from collector.store.hot import StoreError
from lastword import logs
from lastword.errors import SettingsError

_DRAIN_S = 10
_YOUNG_OBJECTS = 20_000


def main() -> int:
    """Runs the collector; the exit status."""
    try:
        settings = load_settings()
        logs.configure(settings.log_level)
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        _check_port(settings)
        _warn_of_strangers(settings)
        parts = Parts(settings)
    except (SettingsError, StoreError, PortTaken, RulesError, SecretUnusable, LakeUnusable) as error:
        print(f"collector: {error}", file=sys.stderr)
        return 2
    config = uvicorn.Config(
        create_app(parts),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_DRAIN_S,
        lifespan="on",
    )
    server = uvicorn.Server(config)
    # Rows are many, live for a moment and have no cycles: the collector of garbage looks for some more seldom, and not through what was made until now.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 10, 10)
    # The server ends by raising the signal that stopped it once more, at the handlers of before: these, so that a clean end has status 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    server.run()
    return 0 if server.started else 1


def _check_port(settings: CollectorSettings) -> None:
    """Finds out about a port that is taken before the store is opened.

    Raises:
        PortTaken: another program listens there.
    """
    if not settings.grpc_port:
        return
    try:
        with socket.create_server((settings.host, settings.grpc_port), family=_family(settings.host)):
            pass
    except OSError as error:
        raise PortTaken(
            f"port {settings.grpc_port} of OTLP/gRPC cannot be listened on ({error.strerror}): set LASTWORD_COLLECTOR_GRPC_PORT, 0 turns it off"
        ) from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _warn_of_strangers(settings: CollectorSettings) -> None:
    """Says so where everybody on the network may send."""
    try:
        loopback = settings.host == "localhost" or ipaddress.ip_address(settings.host).is_loopback
    except ValueError:  # a name of the network
        loopback = False
    if not loopback and not settings.tokens.strip():
        logging.getLogger("collector").warning(
            "listening on %s without LASTWORD_COLLECTOR_TOKENS: whoever reaches the port may send", settings.host
        )


if __name__ == "__main__":
    sys.exit(main())
