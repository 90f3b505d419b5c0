"""The outbox's one sender thread: turn records go to the collector until it has acknowledged them.

At least once: a record leaves the database only after a 2xx. What the collector refuses for good is kept aside with its reason, so that one bad record never
holds up the others. Invariant: it never blocks a turn; a turn only wakes it.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import Protocol

import httpx2
from msgspec import Struct

from service.store.data import Record
from service.store.store import TurnStore

logger = logging.getLogger(__name__)

BATCH_RECORDS = 200
LINGER_S = 0.1
"""How long a record waits for others to go with: a request costs more than the records in it."""
IDLE_S = 1.0
BACKOFF_BASE_S = 0.5
BACKOFF_CAP_S = 15.0
SEND_TIMEOUT_S = 10.0
RETRYABLE = frozenset({401, 403, 408, 429, 502, 503, 504})
"""Statuses after which the same request may be sent again (OTLP 1.11; 408 from proxies; 401 and 403 until the operator has set the token right)."""


class Answer(Struct, frozen=True):
    """What the collector said: acknowledged, refused for good with a reason, or neither, which means again later."""

    acknowledged: bool
    refused: str | None = None


class Sender(Protocol):
    """Carries a batch of records to the collector."""

    def __call__(self, records: list[Record]) -> Answer:
        """Sends once; never raises for what the network or the collector did."""
        ...


class HttpSender:
    """Sends records as OTLP/HTTP."""

    def __init__(
        self,
        collector_url: str,
        encode: Callable[[list[Record]], bytes],
        read_rejections: Callable[[bytes], tuple[int, str]],
        *,
        token: str = "",
    ) -> None:
        self._client = httpx2.Client(timeout=SEND_TIMEOUT_S, trust_env=False)
        self._url = f"{collector_url.rstrip('/')}/v1/logs"
        self._headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._encode = encode
        self._read_rejections = read_rejections

    def __call__(self, records: list[Record]) -> Answer:
        """Sends once."""
        try:
            response = self._client.post(self._url, content=self._encode(records), headers=self._headers)
        except httpx2.HTTPError:
            return Answer(acknowledged=False)
        if response.is_success:
            rejected, why = self._read_rejections(response.content)
            return Answer(acknowledged=rejected == 0, refused=why or "rejected" if rejected else None)
        if response.status_code in RETRYABLE or response.status_code >= 500:
            return Answer(acknowledged=False)
        return Answer(acknowledged=False, refused=f"HTTP {response.status_code}")

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()


class Outbox:
    """The sender thread. `wake` it after a record was stored."""

    def __init__(self, store: TurnStore, send: Sender, rng: random.Random) -> None:
        self._store = store
        self._send = send
        self._rng = rng
        self._changed = threading.Condition()
        self._work = True  # records of an earlier run may wait
        self._closing = False
        self.sent = 0
        self.refused = 0
        self.failures = 0
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something to send."""
        with self._changed:
            self._work = True
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Sends what waits, once more and within a bound, then ends the thread. What is left is sent by the next process."""
        with self._changed:
            self._closing = True
            self._work = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        failed = 0
        while True:
            try:
                clear = self._send_pending()
            except Exception:  # the boundary of this thread: the database may come back, and records wait meanwhile
                logger.exception("the outbox could not be sent")
                clear = False
            failed = 0 if clear else failed + 1
            with self._changed:
                if self._closing:
                    return
                if failed:
                    ceiling = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** min(failed, 10))
                    self._changed.wait_for(lambda: self._closing, ceiling * (0.5 + self._rng.random() / 2))
                elif not self._work:
                    self._changed.wait(IDLE_S)
                if self._work and not failed:
                    self._changed.wait_for(lambda: self._closing, LINGER_S)
                self._work = False

    def _send_pending(self) -> bool:
        """Sends batch after batch; false where the collector could not be reached."""
        while records := self._store.pending_records(BATCH_RECORDS):
            answer = self._send(records)
            if answer.refused is not None:
                self._isolate(records, answer.refused)
            elif answer.acknowledged:
                self._store.forget_records([record.record_id for record in records])
                self.sent += len(records)
                if len(records) < BATCH_RECORDS:
                    return True  # what has come since wakes us
            else:
                self.failures += 1
                if self.failures == 1 or self.failures % 20 == 0:
                    logger.warning("the collector does not take turn records; they are kept and sent again")
                return False
        return True

    def _isolate(self, records: list[Record], why: str) -> None:
        """A batch was refused, in part or whole: sends its records one by one, to find those that are to blame."""
        for record in records:
            answer = self._send([record]) if len(records) > 1 else Answer(acknowledged=False, refused=why)
            if answer.refused is not None:
                logger.error("the collector refuses the %s record of %s: %s", record.event_name, record.turn_id, answer.refused)
                self._store.refuse_records([record.record_id], answer.refused)
                self.refused += 1
            elif answer.acknowledged:
                self._store.forget_records([record.record_id])
                self.sent += 1
            else:
                return  # unreachable now: the rest stays for the next round
