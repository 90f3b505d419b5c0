"""`python -m collector`: runs the collector until SIGTERM or Ctrl-C."""

from __future__ import annotations

import logging
import signal
import sys

import uvicorn

from collector.app import Parts, create_app
from collector.settings import load_settings
from collector.store.store import StoreError
from lastword import logs
from lastword.errors import SettingsError

_DRAIN_S = 10


def main() -> int:
    """Runs the collector; the exit status."""
    try:
        settings = load_settings()
        logs.configure(settings.log_level)
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        parts = Parts(settings)
    except (SettingsError, StoreError) as error:
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
    # The server ends by raising the signal that stopped it once more, at the handlers of before: these, so that a clean end has status 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
