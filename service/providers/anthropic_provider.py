"""The provider `anthropic`: Claude models through Anthropic's own SDK. The only module that imports it.

Owns the translation: the stream of events of the Messages API to ours, and every exception of the SDK and of the
HTTP library below it to a kind of failure. The SDK's retries are off, because retries belong to the policy, and so is its tracing, or
tokens would be counted twice. A call can be aborted in every phase: each has a connection of its own (see `connections`).
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import anthropic
import h11
import httpcore2
import httpx2
from anthropic.types import RawContentBlockDeltaEvent, RawContentBlockStartEvent, RawMessageDeltaEvent, RawMessageStartEvent

from lastword.errors import SettingsError
from lastword.events import Usage
from service.providers.anthropic_request import render
from service.providers.connections import Line, LineTransport
from service.providers.port import Ended, Evidence, ModelEvent, ModelRequest, Started, TextDelta, ToolUse, Working
from service.turn.failures import AttemptFailed, FailureKind

_K = FailureKind
KIND_OF_CLASS: dict[type[BaseException], FailureKind] = {
    anthropic.RateLimitError: _K.RATE_LIMITED,
    anthropic._exceptions.OverloadedError: _K.OVERLOADED,  # noqa: SLF001 - the SDK raises it and does not export it
    anthropic._exceptions.ServiceUnavailableError: _K.OVERLOADED,  # noqa: SLF001 - likewise
    anthropic.RequestTimeoutError: _K.SERVER_ERROR,
    anthropic.ConflictError: _K.SERVER_ERROR,
    anthropic.InternalServerError: _K.SERVER_ERROR,
    anthropic.APIStatusError: _K.BAD_REQUEST,  # every other 4xx: the same request would fail again
    anthropic.APITimeoutError: _K.NETWORK,
    anthropic.APIConnectionError: _K.NETWORK,
    anthropic.APIResponseValidationError: _K.CORRUPT,
    anthropic.APIWebhookValidationError: _K.INTERNAL,
    anthropic.APIError: _K.SERVER_ERROR,
    anthropic._exceptions.CredentialsError: _K.BAD_REQUEST,  # noqa: SLF001 - likewise
    anthropic._exceptions.RetryableError: _K.SERVER_ERROR,  # noqa: SLF001 - likewise
    anthropic.AnthropicError: _K.INTERNAL,
    httpx2.UnsupportedProtocol: _K.BAD_REQUEST,
    httpx2.LocalProtocolError: _K.INTERNAL,
    httpx2.RemoteProtocolError: _K.NETWORK,
    httpx2.DecodingError: _K.CORRUPT,
    httpx2.TooManyRedirects: _K.BAD_REQUEST,
    httpx2.TransportError: _K.NETWORK,
    httpx2.RequestError: _K.NETWORK,
    httpx2.HTTPStatusError: _K.SERVER_ERROR,
    httpx2.HTTPError: _K.NETWORK,
    httpx2.InvalidURL: _K.BAD_REQUEST,
    httpx2.CookieConflict: _K.INTERNAL,
    httpx2.StreamError: _K.NETWORK,
    httpx2.SSEError: _K.CORRUPT,
    httpcore2.UnsupportedProtocol: _K.BAD_REQUEST,
    httpcore2.LocalProtocolError: _K.INTERNAL,
    httpcore2.ProtocolError: _K.NETWORK,
    httpcore2.TimeoutException: _K.NETWORK,
    httpcore2.NetworkError: _K.NETWORK,
    httpcore2.ProxyError: _K.NETWORK,
    httpcore2.ConnectionNotAvailable: _K.NETWORK,
    h11.LocalProtocolError: _K.INTERNAL,
    h11.ProtocolError: _K.NETWORK,
    anthropic._response.MissingStreamClassError: _K.INTERNAL,  # noqa: SLF001 - likewise
    json.JSONDecodeError: _K.CORRUPT,
    UnicodeDecodeError: _K.CORRUPT,
    OSError: _K.NETWORK,
}
"""What each exception means. The nearest base class counts; a test walks every class of the libraries, those below HTTP too."""

_BUSY = {"overloaded_error": _K.OVERLOADED, "rate_limit_error": _K.RATE_LIMITED}
"""Words of the provider's that count with any status."""
_OURS = frozenset(
    "invalid_request_error authentication_error billing_error permission_error not_found_error request_too_large".split()
)
"""Words that blame the request. Inside a stream they are all there is: every error arrives with status 200 there."""
_WORD = re.compile(r"[a-z_]{1,64}")
_STOPPED_SHORT = frozenset({"max_tokens", "model_context_window_exceeded", "refusal"})
"""Stop reasons behind which a tool's input may be incomplete: the answer was stopped then, and nothing is corrupt."""


def kind_of_class(cls: type[BaseException]) -> FailureKind | None:
    """The kind of an exception class, by its nearest base class in the table."""
    return next((KIND_OF_CLASS[base] for base in cls.__mro__ if base in KIND_OF_CLASS), None)


def failure_of(error: Exception) -> AttemptFailed:
    """The failure that an exception means. Carries no text of the provider's: that could hold anything."""
    kind = kind_of_class(type(error)) or FailureKind.INTERNAL
    error_type = type(error).__name__
    request_id, retry_after_s = None, None
    if isinstance(error, anthropic.APIStatusError):
        word: object = error.type  # what the provider sent, of whatever type
        if error.response.is_success:
            kind = _K.BAD_REQUEST if word in _OURS else _K.SERVER_ERROR
        if isinstance(word, str) and _WORD.fullmatch(word):
            kind, error_type = _BUSY.get(word, kind), word
        request_id = error.request_id
        retry_after_s = _retry_after_s(error.response.headers.get("retry-after"))
    return AttemptFailed(kind, type(error).__name__, error_type=error_type, retry_after_s=retry_after_s, request_id=request_id)


def _retry_after_s(text: str | None) -> float | None:
    """Seconds from a `retry-after` header, which holds seconds or a date."""
    if not text:
        return None
    with contextlib.suppress(ValueError):
        seconds = float(text)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    return None


class AnthropicProvider:
    """Starts calls to the Messages API. Thread-safe: one client, one connection a call.

    Raises:
        SettingsError: the key can be in no header. Found later, it would stand in the HTTP library's error, and so in a log.
    """

    name = "anthropic"

    def __init__(self, *, api_key: str, base_url: str | None = None) -> None:
        key = api_key.strip()  # read from a file, it often ends in a line break
        if not re.fullmatch(r"[!-~]+", key):
            raise SettingsError("the API key is empty, or holds characters that no header may carry")
        self._transport = LineTransport()
        self._http = httpx2.Client(transport=self._transport, trust_env=False)
        self._client = anthropic.Anthropic(
            api_key=key, base_url=base_url, max_retries=0, http_client=self._http, open_telemetry=False
        )

    def start(self, request: ModelRequest) -> AnthropicCall:
        """A call, not yet begun."""
        return AnthropicCall(self._client, self._transport, request)

    def close(self) -> None:
        """Closes the client."""
        self._http.close()


class AnthropicCall:
    """One call to the Messages API."""

    def __init__(self, client: anthropic.Anthropic, transport: LineTransport, request: ModelRequest) -> None:
        self._client = client
        self._transport = transport
        self._request = request
        self._line = Line()
        self._usage = Usage(complete=False)
        self._stop_reason: str | None = None
        self._blocks: dict[int, dict[str, Any]] = {}
        self._pieces: dict[tuple[int, str], list[str]] = {}  # of the texts of blocks, by index and key
        self._json: dict[int, list[str]] = {}
        self._broken_input = False

    @property
    def usage(self) -> Usage:
        """Tokens as far as the provider has told."""
        return self._usage

    def abort(self) -> None:
        """Wakes the reader, wherever it waits; a call that has not begun will not."""
        self._line.cut()

    def __iter__(self) -> Iterator[ModelEvent]:
        """Runs the call."""
        try:
            if self._line.is_cut:
                raise AttemptFailed(FailureKind.NETWORK, "aborted", error_type="aborted")
            with self._transport.using(self._line):
                opened = self._client.messages.create(**render(self._request), stream=True, timeout=self._timeout())
            with opened as stream:
                request_id = stream.response.headers.get("request-id")
                for event in stream:
                    for item in self._read(event, request_id):
                        yield item
                        if isinstance(item, Ended):
                            return  # nothing that breaks behind the end of the message can break the message
            # The SDK does not notice: a stream that was cut looks finished to it.
            raise AttemptFailed(FailureKind.TRUNCATED, "no message_stop", error_type="stream_truncated", request_id=request_id)
        except AttemptFailed:
            raise
        except Exception as error:  # the boundary to the SDK: every exception becomes a failure that the policy knows
            raise failure_of(error) from error
        finally:
            self._line.release()

    def _timeout(self) -> httpx2.Timeout:
        return httpx2.Timeout(self._request.read_timeout_s, connect=self._request.connect_timeout_s)

    def _read(self, event: Any, request_id: str | None) -> list[ModelEvent]:
        """What an event means. The SDK does not check what it reads, so a field may be missing or of another type."""
        try:
            return list(self._translate(event, request_id))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            word = type(error).__name__
            raise AttemptFailed(FailureKind.CORRUPT, word, error_type="unreadable_event", request_id=request_id) from error

    def _translate(self, event: Any, request_id: str | None) -> Iterator[ModelEvent]:
        match event.type:
            case "message_start":
                started: RawMessageStartEvent = event
                message = started.message
                self._usage = Usage(
                    input_tokens=message.usage.input_tokens or 0,
                    output_tokens=message.usage.output_tokens or 0,
                    cache_read_tokens=message.usage.cache_read_input_tokens or 0,
                    cache_write_tokens=message.usage.cache_creation_input_tokens or 0,
                    complete=False,
                )
                yield Started(response_id=message.id, model=message.model, request_id=request_id)
            case "content_block_start":
                yield from self._begin_block(event)
            case "content_block_delta":
                yield from self._extend_block(event)
            case "content_block_stop":
                yield from self._end_block(event.index)
            case "message_delta":
                self._finish(event)
            case "message_stop":
                if self._broken_input and self._stop_reason not in _STOPPED_SHORT:
                    raise AttemptFailed(FailureKind.CORRUPT, "tool input", error_type="unreadable_input", request_id=request_id)
                yield Ended(stop_reason=self._stop_reason, usage=self._usage, blocks=self._whole_blocks())
            case _:
                pass  # kinds of events that later versions add

    def _finish(self, event: RawMessageDeltaEvent) -> None:
        """The last word on the stop reason and on tokens; counts are cumulative."""
        self._stop_reason = event.delta.stop_reason
        told, known = event.usage, self._usage
        self._usage = Usage(
            input_tokens=known.input_tokens if told.input_tokens is None else told.input_tokens,
            output_tokens=told.output_tokens or known.output_tokens,
            cache_read_tokens=told.cache_read_input_tokens or known.cache_read_tokens,
            cache_write_tokens=told.cache_creation_input_tokens or known.cache_write_tokens,
            complete=True,
        )

    def _begin_block(self, event: RawContentBlockStartEvent) -> Iterator[ModelEvent]:
        block = event.content_block.model_dump(mode="json", exclude_unset=True)
        self._blocks[event.index] = block
        for key in ("text", "thinking"):  # an index that begins again is another block
            self._pieces.pop((event.index, key), None)
        if block["type"] == "text" and block.get("text"):
            yield TextDelta(block["text"])
        yield from _found(block)

    def _extend_block(self, event: RawContentBlockDeltaEvent) -> Iterator[ModelEvent]:
        block, delta = self._blocks.setdefault(event.index, {"type": "text", "text": ""}), event.delta
        match delta.type:
            case "text_delta":
                self._add(event.index, "text", delta.text)
                if delta.text:
                    yield TextDelta(delta.text)
            case "input_json_delta":
                self._json.setdefault(event.index, []).append(delta.partial_json)
                yield Working()
            case "thinking_delta":
                self._add(event.index, "thinking", delta.thinking)
                yield Working()
            case "signature_delta":
                block["signature"] = delta.signature
            case "citations_delta":
                citation = delta.citation.model_dump(mode="json", exclude_unset=True)
                if not isinstance(block.get("citations"), list):
                    block["citations"] = []
                block["citations"].append(citation)
                yield from _cited(citation)

    def _add(self, index: int, key: str, piece: object) -> None:
        """Keeps a piece of a block's text. They are joined once, at the end: to extend the text itself with each would copy it each time."""
        begun = self._blocks[index].get(key, "")
        if not (isinstance(begun, str) and isinstance(piece, str)):
            raise TypeError(f"{key} is no text")
        self._pieces.setdefault((index, key), [begun]).append(piece)

    def _whole_blocks(self) -> tuple[dict[str, Any], ...]:
        for (index, key), pieces in self._pieces.items():
            self._blocks[index][key] = "".join(pieces)
        return tuple(self._blocks[index] for index in sorted(self._blocks))

    def _end_block(self, index: int) -> Iterator[ModelEvent]:
        block = self._blocks.get(index, {})
        if index in self._json:
            text = "".join(self._json.pop(index))
            try:
                block["input"] = json.loads(text) if text.strip() else {}
            except json.JSONDecodeError:
                block["input"] = None
            # Judged at the end of the message, which tells whether the model was stopped in the middle of it.
            self._broken_input = self._broken_input or not isinstance(block["input"], dict)
        if block.get("type") == "tool_use" and isinstance(block.get("input"), dict):
            yield ToolUse(id=block["id"], name=block["name"], input=block["input"])


# --- evidence


def _cited(citation: dict[str, Any]) -> Iterator[Evidence]:
    """The source that a citation names. Places in a document that was sent along have no address, so they are none."""
    url = citation.get("url") or citation.get("source")
    if isinstance(url, str):
        yield Evidence(url=url, title=citation.get("title"))


def _found(block: dict[str, Any]) -> Iterator[Evidence]:
    """The pages that the provider's own tools have found or fetched. A search or a fetch that failed has none."""
    content = block.get("content")
    if block["type"] == "web_search_tool_result" and isinstance(content, list):
        for result in content:
            if isinstance(result.get("url"), str):
                yield Evidence(url=result["url"], title=result.get("title"))
    elif block["type"] == "web_fetch_tool_result" and isinstance(content, dict) and isinstance(content.get("url"), str):
        fetched = content.get("content")
        yield Evidence(url=content["url"], title=fetched.get("title") if isinstance(fetched, dict) else None)
