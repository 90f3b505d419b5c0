"""What can go wrong with one try at the model, as data that the policy decides on.

Providers map every exception of their SDK onto these kinds; nothing above a provider sees an SDK's own types.
"""

from __future__ import annotations

from enum import StrEnum

from lastword.events import Reason


class FailureKind(StrEnum):
    """Why a try at the model ended without a whole answer."""

    OVERLOADED = "overloaded"  # 529, or `overloaded_error` inside the stream
    RATE_LIMITED = "rate_limited"  # 429
    SERVER_ERROR = "server_error"  # any other 5xx, `api_error`
    NETWORK = "network"  # refused, reset, broken pipe
    TRUNCATED = "truncated"  # the stream ended without its last message
    CORRUPT = "corrupt"  # an event that cannot be read
    BAD_REQUEST = "bad_request"  # 4xx that a second try would not change
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"
    STALL_TIMEOUT = "stall_timeout"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    DISCONNECTED = "disconnected"
    SHUTDOWN = "shutdown"
    INTERNAL = "internal"  # a bug of ours


REASON_OF: dict[FailureKind, Reason] = {
    FailureKind.OVERLOADED: Reason.PROVIDER_OVERLOADED,
    FailureKind.RATE_LIMITED: Reason.PROVIDER_OVERLOADED,
    FailureKind.SERVER_ERROR: Reason.PROVIDER_ERROR,
    FailureKind.NETWORK: Reason.PROVIDER_ERROR,
    FailureKind.TRUNCATED: Reason.PROVIDER_TRUNCATED,
    FailureKind.CORRUPT: Reason.PROVIDER_ERROR,
    FailureKind.BAD_REQUEST: Reason.PROVIDER_ERROR,
    FailureKind.FIRST_TOKEN_TIMEOUT: Reason.FIRST_TOKEN_TIMEOUT,
    FailureKind.STALL_TIMEOUT: Reason.STALL_TIMEOUT,
    FailureKind.DEADLINE: Reason.DEADLINE,
    FailureKind.CANCELLED: Reason.CLIENT_CANCELLED,
    FailureKind.DISCONNECTED: Reason.CLIENT_DISCONNECTED,
    FailureKind.SHUTDOWN: Reason.SERVER_SHUTDOWN,
    FailureKind.INTERNAL: Reason.INTERNAL_ERROR,
}
"""The contract's reason for each kind. Total: a test fails where a kind has none."""


class AttemptFailed(Exception):
    """One try at the model failed.

    Attributes:
        kind: what the policy decides on.
        error_type: a short stable name for telemetry (an exception's class, or the provider's own error type).
        retry_after_s: how long the provider asked us to wait, in seconds.
        request_id: the provider's id of the request, where it told one.

    The message is for logs of the operator. It never reaches the wire.
    """

    def __init__(
        self,
        kind: FailureKind,
        detail: str = "",
        *,
        error_type: str | None = None,
        retry_after_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(f"{kind}: {detail}" if detail else str(kind))
        self.kind = kind
        self.error_type = error_type or kind.value
        self.retry_after_s = retry_after_s
        self.request_id = request_id
