"""Where alerts are told: a webhook, a chat, an Alertmanager. Each sends one thing once and says how that went; trying again is the courier's."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx2

from collector.alerts.messages import slack

TIMEOUT_S = 10.0
_ERROR_CHARS = 300


class SendFailed(Exception):
    """A message was not taken. With `final`, it never will be."""

    def __init__(self, detail: str, *, final: bool = False) -> None:
        super().__init__(detail)
        self.final = final


class SecretUnusable(Exception):
    """A secret is not of the form `whsec_` and base64."""


def client() -> httpx2.Client:
    """A client that follows no proxy of the environment and no redirect: a message goes where the settings say."""
    return httpx2.Client(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False)


def _post(http: httpx2.Client, url: str, body: bytes, headers: dict[str, str]) -> None:
    try:
        with http.stream("POST", url, content=body, headers={"content-type": "application/json", **headers}) as response:
            said = b""
            if not response.is_success:  # the words of one that took it are nobody's business
                end = time.monotonic() + TIMEOUT_S
                for part in response.iter_bytes():
                    said += part
                    if len(said) > _ERROR_CHARS or time.monotonic() > end:
                        break
            status = response.status_code
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise SendFailed(f"no answer: {str(error) or type(error).__name__}") from error
    if not 200 <= status < 300:
        detail = f"HTTP {status}: {said[:_ERROR_CHARS].decode(errors='replace')}"
        raise SendFailed(detail, final=status == 410)  # Gone: the receiver wants no more


class Webhook:
    """Standard Webhooks (standardwebhooks.com): the id stays the same over tries, and every secret of a rotation signs."""

    name = "webhook"

    def __init__(self, http: httpx2.Client, url: str, secrets: Sequence[str], clock: Callable[[], float] = time.time) -> None:
        """Raises SecretUnusable."""
        self._http = http
        self._url = url
        self._clock = clock
        self._keys = []
        for number, secret in enumerate(secrets, 1):
            try:
                self._keys.append(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
                if not self._keys[-1]:
                    raise ValueError("empty")
            except ValueError as error:  # the secret itself is not for a log
                raise SecretUnusable(f"secret {number} of the webhook is not whsec_ and base64") from error

    def send(self, delivery_id: str, message: dict[str, Any]) -> None:
        """Sends a message.

        Raises:
            SendFailed: it was not taken.
        """
        body = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
        stamp = str(int(self._clock()))
        headers = {"webhook-id": delivery_id, "webhook-timestamp": stamp}
        signed = b".".join((delivery_id.encode(), stamp.encode(), body))
        signatures = [base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in self._keys]
        if signatures:
            headers["webhook-signature"] = " ".join(f"v1,{signature}" for signature in signatures)
        _post(self._http, self._url, body, headers)


class Slack:
    """An incoming webhook of Slack, or of what reads the same."""

    name = "slack"

    def __init__(self, http: httpx2.Client, url: str) -> None:
        self._http = http
        self._url = url

    def send(self, delivery_id: str, message: dict[str, Any]) -> None:
        """Sends a message.

        Raises:
            SendFailed: it was not taken.
        """
        _post(self._http, self._url, json.dumps(slack(message), ensure_ascii=False).encode(), {})


class Alertmanager:
    """Alertmanager's API v2. It is told the whole state, since it forgets on restart."""

    name = "alertmanager"

    def __init__(self, http: httpx2.Client, url: str) -> None:
        self._http = http
        self._url = f"{url.rstrip('/')}/api/v2/alerts"

    def tell(self, alerts: Sequence[dict[str, Any]]) -> dict[int, str]:
        """Tells the alerts that fire, and those that ended lately; the places of those that are refused, with the reason.

        Raises:
            SendFailed: none was taken.
        """
        try:
            self._send(alerts)
        except SendFailed as error:
            if "HTTP 400" not in str(error):
                raise
            # It took those of the batch that it understood, and does not say which: one by one it does.
            refused = {}
            for place, alert in enumerate(alerts):
                try:
                    self._send([alert])
                except SendFailed as one:
                    if "HTTP 400" not in str(one):
                        raise
                    refused[place] = str(one)
            return refused
        return {}

    def _send(self, alerts: Sequence[dict[str, Any]]) -> None:
        _post(self._http, self._url, json.dumps(list(alerts)).encode(), {})
