"""`python -m tests.conformance.reference [BROKEN]`: runs the reference server, or one of its broken ones, by the environment of `lastword check --start`."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.conformance.broken import BROKEN
from tests.conformance.reference.server import Reference
from tests.conformance.reference.settings import Settings


async def main() -> None:
    """Until SIGTERM, and then as long as the drain takes."""
    work = os.environ.get("WORK")
    settings = Settings(
        provider=os.environ["ANTHROPIC_BASE_URL"],
        otlp=os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
        port=int(os.environ["PORT"]),
        work=Path(work) if work else None,
        deadline_s=60.0,
    )
    server = (BROKEN[sys.argv[1]] if len(sys.argv) > 1 else Reference)(settings)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.on_term, stopping)
    await server.start()
    await stopping.wait()
    await server.drain()
    await server.close()


asyncio.run(main())
