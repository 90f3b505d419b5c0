"""Whole events for tests."""

import hashlib

from lastword.events import (
    Ack,
    Attempt,
    Chunk,
    CompletionStatus,
    Done,
    DoneMetadata,
    Error,
    ErrorMetadata,
    Origin,
    Reason,
    ServiceInfo,
    SourceDetail,
    Timings,
    ToolCall,
    ToolOutcome,
    Usage,
)
from service.clock import as_datetime

TURN = "trn_" + "a" * 32
INFO = ServiceInfo(name="lastword", version="0", instance="test")
STARTED = as_datetime(1_700_000_000_123_456_789)
TIMINGS = Timings(auth_ms=1, model_wait_ms=20, stream_ms=30, first_token_ms=25, total_ms=60)

ACK = Ack(
    turn_id=TURN,
    seq=1,
    t_ms=1,
    trace_id="b" * 32,
    route="knowledge",
    model_tier="smart",
    conversation_id="cnv_1",
    deadline_ms=1000,
    heartbeat_ms=15000,
    on_disconnect="continue",
    resume_url=f"/v1/turns/{TURN}/events",
)


def chunk(seq, text):
    return Chunk(turn_id=TURN, seq=seq, t_ms=seq, text=text)


def done(texts=("Hello", " world"), status=CompletionStatus.SUCCESS, **changes):
    text = "".join(texts)
    fields = {
        "answer": text,
        "chunk_count": len(texts),
        "streamed_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "answer_matches_stream": True,
        "sources": ("https://a.example/",),
        "source_details": (SourceDetail(url="https://a.example/", title="A", origins=(Origin.RETRIEVAL,), score=1.5),),
        "tools_used": ("search",),
        "tools_with_results": ("search",),
        "tool_calls": (ToolCall(name="search", outcome=ToolOutcome.RESULTS, duration_ms=3),),
        "route": "knowledge",
        "model_tier": "smart",
        "model": "m",
        "conversation_id": "cnv_1",
        "completion_status": status,
        "partial": False,
        "reason": None,
        "finish_reason": "end_turn",
        "usage": Usage(input_tokens=1, output_tokens=2),
        "attempts": (Attempt(n=1, model="m", model_tier="smart", outcome="ok", visible=True, duration_ms=50),),
        "degraded": False,
        "fallback": False,
        "started_at": STARTED,
        "stage_timings": TIMINGS,
        "service": INFO,
    }
    return Done(turn_id=TURN, seq=len(texts) + 2, t_ms=60, metadata=DoneMetadata(**(fields | changes)))


def error(seq=2):
    metadata = ErrorMetadata(
        reason=Reason.DEADLINE, started_at=STARTED, stage_timings=Timings(first_token_ms=None, total_ms=5), service=INFO
    )
    return Error(turn_id=TURN, seq=seq, t_ms=5, code="deadline", message="Too slow.", retryable=True, metadata=metadata)


DONE = done()
WHOLE = [ACK, chunk(2, "Hello"), chunk(3, " world"), DONE]
