"""What can be wrong with refusals and with telemetry."""

import asyncio

from tests.conformance.broken.registry import breaks
from tests.conformance.reference import Reference
from tests.conformance.reference.http import Reject
from tests.conformance.reference.turn import Span


@breaks("V71", "answered 200, expected 406")
class AnyVersion(Reference):
    """Speaks every version."""

    def check_version(self, request):
        pass


@breaks("V72", "the answer is 400")
class StrictFields(Reference):
    """Refuses what it does not know."""

    def question(self, request):
        body = super().question(request)
        if set(body) - {"message", "conversationId", "route", "modelTier", "deadlineMs", "onDisconnect", "metadata"}:
            raise Reject(400, "unknown field")
        return body


@breaks("V73", "has the content type")
class PlainProblems(Reference):
    """Refuses in plain JSON."""

    def problem(self, reject):
        headers, body = super().problem(reject)
        return headers | {"Content-Type": "application/json"}, body


@breaks("V74", "expected .* .flags 03")
class OnlyKnownFlags(Reference):
    """Continues a trace only with the flags that it knows."""

    def continue_trace(self, turn, traceparent):
        if traceparent.endswith(("-00", "-01")):
            super().continue_trace(turn, traceparent)


@breaks("V74b", "after a malformed traceparent")
class TrustsTraceparent(Reference):
    """Takes any trace id."""

    def continue_trace(self, turn, traceparent):
        turn.trace_id = traceparent[3:35] or turn.trace_id


@breaks("V75", "spans 'turn.stream'")
class SpanOfAbsentStage(Reference):
    """Draws a stage that did not run."""

    def spans(self, turn):
        spans = super().spans(turn)
        streamed = any(span.name == "turn.stream" for span in spans)
        return spans if streamed else [*spans, Span("turn.stream", turn.wall, turn.wall, {}, turn.root)]


@breaks("V75b", "the roots are")
class LooseSpans(Reference):
    """Loses the parents of its stages."""

    def spans(self, turn):
        spans = super().spans(turn)
        spans[1].parent = "00" * 7 + "01"
        return spans


@breaks("V76", "as a span")
class OtherClock(Reference):
    """Measures its spans with another clock."""

    def spans(self, turn):
        spans = super().spans(turn)
        for span in spans:
            if span.name == "turn.stream":
                span.end += 40_000_000
        return spans


@breaks("V77", "60 made")
class SpanPerChunk(Reference):
    """Draws every chunk."""

    def spans(self, turn):
        return [*super().spans(turn), *(Span("chunk", turn.wall, turn.wall, {}, turn.root) for _ in turn.texts)]


@breaks("V78", "carry tokens")
class CountsTwice(Reference):
    """Lets the SDK draw the call as well."""

    def spans(self, turn):
        spans = super().spans(turn)
        chats = [span for span in spans if span.name.startswith("chat")]
        return [*spans, *(Span("anthropic.chat", chat.start, chat.end, dict(chat.attributes), chat.id) for chat in chats)]


@breaks("V79", "have no 'turn.done' record")
class RecordsSuccess(Reference):
    """Records what went well."""

    def record(self, turn):
        return super().record(turn) if turn.terminal["type"] == "done" and turn.terminal["metadata"]["reason"] is None else None


@breaks("V80", "a word of the prompt")
class TellsPrompts(Reference):
    """Puts the prompt on its root span."""

    def spans(self, turn):
        spans = super().spans(turn)
        spans[0].attributes["gen_ai.prompt"] = turn.request.get("message", "")
        return spans


@breaks("V73b", "detail=None")
class NoDetail(Reference):
    """Leaves its refusals unexplained."""

    def problem(self, reject):
        headers, body = super().problem(reject)
        return headers, body.replace(b'"detail"', b'"text"')


@breaks("V79b", "2 different records")
class RecordsTwice(Reference):
    """Records a turn once more when it is read again, with the time of that."""

    async def events(self, turn, request, query, reader, writer):
        if turn.terminal is not None:
            turn.terminal["metadata"]["readAgain"] = True
            self.exporter.turn_ended(self, turn)
            await asyncio.sleep(0.3)
        await super().events(turn, request, query, reader, writer)


@breaks("V80b", "a word of the answer")
class TellsAnswers(Reference):
    """Keeps the answer in its record."""

    def record(self, turn):
        return f"{super().record(turn)} {''.join(turn.texts)}"
