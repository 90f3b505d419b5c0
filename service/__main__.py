"""`python -m service`: runs the turn service until SIGTERM or Ctrl-C."""

from __future__ import annotations

import gc
import logging
import sys

from lastword import logs
from lastword.errors import SettingsError
from service.app import Parts, create_app
from service.providers.port import Provider
from service.server.listening import bind
from service.settings import load_settings
from service.store.engine import StoreError


def run(provider: Provider | None = None) -> int:
    """Runs the service, with another provider than the one of the settings where one is given; the exit status."""
    try:
        settings = load_settings()
        logs.configure(settings.log_level)
        for chatty in ("httpx2", "alembic", "uvicorn.error", "_granian"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        listening = bind(settings.host, settings.port, send_timeout_ms=settings.send_timeout_ms)
        parts = Parts(settings, provider)
    except (SettingsError, StoreError) as error:
        print(f"service: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"service: cannot listen on {settings.host}:{settings.port}: {error.strerror}", file=sys.stderr)
        return 1
    app, service = create_app(parts), parts.service
    # What was made until now lives as long as the process. To look through it again at every full collection would hold up every stream for 0.1 s and more.
    gc.collect()
    gc.freeze()
    if settings.server == "granian":
        from service.server import granian_server  # each server is imported where it is chosen

        return granian_server.serve(
            app, listening, begin_drain=service.begin_drain, busy=lambda: service.busy, drain_s=settings.drain_s
        )
    from service.server import uvicorn_server

    return uvicorn_server.serve(app, listening, begin_drain=service.begin_drain, drain_s=settings.drain_s)


if __name__ == "__main__":
    sys.exit(run())
