"""`python -m service`: runs the turn service until SIGTERM or Ctrl-C."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from types import FrameType

import uvicorn

from lastword.errors import SettingsError
from service.app import Parts, create_app
from service.settings import load_settings
from service.store.engine import StoreError


class DrainingServer(uvicorn.Server):
    """Ends the running turns before the server cuts its connections, so that every stream gets its terminal."""

    def __init__(self, config: uvicorn.Config, parts: Parts) -> None:
        super().__init__(config)
        self._parts = parts

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Runs in the signal handler: the drain goes to a thread, because it takes locks."""
        threading.Thread(target=self._parts.service.begin_drain, name="drain").start()
        super().handle_exit(sig, frame)


def main() -> int:
    """Runs the service; the exit status."""
    try:
        settings = load_settings()
        logging.basicConfig(level=settings.log_level, format="%(levelname)s %(name)s: %(message)s")
        for chatty in ("httpx2", "alembic", "uvicorn.error"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        parts = Parts(settings)
    except (SettingsError, StoreError) as error:
        print(f"service: {error}", file=sys.stderr)
        return 2
    config = uvicorn.Config(
        create_app(parts),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain_s) + 2,
        lifespan="on",
    )
    server = DrainingServer(config, parts)
    # The server ends by raising the signal that stopped it once more, at the handlers of before: these, so that a clean end has status 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
