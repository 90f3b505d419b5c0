"""A client that never gives up: asks with an idempotency key, and resumes behind the last whole event until it has the terminal.

Keeps the raw blocks that it was sent, so that a test can compare them, byte by byte, with a replay.
"""

import asyncio
import contextlib
import secrets

import httpx2

from lastword.wire import decode_stream

PAUSE_S = 0.05


class ResumingClient:
    """One question, over as many connections as it takes."""

    def __init__(self, http, url, body, api_key=None):
        self._http = http
        self._url = url
        self._body = body
        self.key = secrets.token_hex(8)
        self._auth = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self.blocks = []
        self.turn_id = None
        self.connections = 0
        self.refused = 0

    @property
    def ended(self):
        return bool(self.blocks) and self.blocks[-1].startswith((b"event: done", b"event: error"))

    async def run(self):
        """Reads to the terminal."""
        while not self.ended:
            with contextlib.suppress(httpx2.HTTPError):
                await self._connect()
            if not self.ended:
                await asyncio.sleep(PAUSE_S)

    async def _connect(self):
        self.connections += 1
        if self.turn_id is None:
            headers = {**self._auth, "idempotency-key": self.key}
            request = self._http.stream("POST", f"{self._url()}/v1/turns", json=self._body, headers=headers)
        else:
            headers = {**self._auth, "last-event-id": f"{self.turn_id}.{len(self.blocks)}"}
            request = self._http.stream("GET", f"{self._url()}/v1/turns/{self.turn_id}/events", headers=headers)
        async with request as response:
            if response.status_code in {429, 503}:
                self.refused += 1
                return
            assert response.status_code == 200, (response.status_code, self.turn_id, self.blocks, await response.aread())
            rest = b""
            async for data in response.aiter_raw():
                *whole, rest = (rest + data).split(b"\n\n")
                self.blocks += [block + b"\n\n" for block in whole if not block.startswith(b":")]
                if self.turn_id is None and self.blocks:
                    self.turn_id = decode_stream(self.blocks[0])[0].turn_id
