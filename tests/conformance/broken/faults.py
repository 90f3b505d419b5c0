"""What can go wrong when the model breaks."""

import asyncio

from tests.conformance.broken.registry import breaks
from tests.conformance.reference import Reference
from tests.conformance.reference.turn import Fault


@breaks("P25", "ended as fallback")
class NoRetryInsideStream(Reference):
    """Retries HTTP errors only."""

    def may_retry(self, turn, fault):
        return super().may_retry(turn, fault) and fault.kind != "overloaded_error"


@breaks("P26", "the text arrived as|ended as success|called 2 times")
class RetriesAfterText(Reference):
    """Tries again, though something was shown."""

    def may_retry(self, turn, fault):
        return fault.retry


class _CutIsEnd(Reference):
    """Takes a response that ended for a message that ended, as the SDK does."""

    def cut_off(self, turn):
        return "end_turn" if self.fooled(turn) else super().cut_off(turn)

    def fooled(self, turn):
        raise NotImplementedError


@breaks("P27", "called 1 times")
class EmptyIsDone(_CutIsEnd):
    """Is fooled before text: an empty answer is an answer."""

    def fooled(self, turn):
        return not turn.texts

    async def attempt(self, turn, degraded):
        try:
            return await super().attempt(turn, degraded)
        except Fault as fault:
            if fault.kind == "empty_answer":
                return "success", "end_turn"
            raise


@breaks("P28", "ended as success")
class HalfIsDone(_CutIsEnd):
    """Is fooled after text: half an answer is an answer."""

    def fooled(self, turn):
        return bool(turn.texts)


@breaks("P29", "ended as success")
class ResetIsDone(Reference):
    """Has a handler for resets that returns what there is."""

    async def converse(self, turn, note, span):
        try:
            return await super().converse(turn, note, span)
        except Fault as fault:
            if turn.texts and fault.kind in {"ConnectionResetError", "IncompleteReadError"}:
                return "success", "end_turn"
            raise


@breaks("P30", "ended as fallback")
class CorruptIsFinal(Reference):
    """Does not retry what it cannot read."""

    def unreadable(self, error):
        return Fault("provider_error", type(error).__name__, retry=False)


@breaks("P31", "reason is 'deadline'")
class NoStallWatchdog(Reference):
    """Waits for the next piece as long as the turn lasts."""

    def patience(self, turn):
        return (60.0, "stall_timeout") if turn.texts else super().patience(turn)


@breaks("P32", "reason is 'deadline'")
class PingsCount(Reference):
    """Takes a ping for a sign of progress."""

    def is_content(self, event):
        return True


@breaks("P33", "did not come in time|the turn took")
class ObeysRetryAfter(Reference):
    """Waits as long as the provider asks for."""

    def arm_deadline(self, turn):
        pass

    def affordable(self, turn, pause):
        return True


@breaks("P34", "ended as success")
class LimitIsEnd(Reference):
    """Takes the token limit for the end."""

    def status_of(self, stop):
        return "success" if stop == "max_tokens" else super().status_of(stop)


@breaks("P35", "ended as")
class RefusalIsFault(Reference):
    """Retries a refusal."""

    def status_of(self, stop):
        if stop == "refusal":
            raise Fault("refusal", "refusal")
        return super().status_of(stop)


@breaks("P36", "ended as|called 1 times")
class NoPauses(Reference):
    """Does not know that a turn may pause."""

    def resumes_pauses(self):
        return False

    def status_of(self, stop):
        return "success" if stop == "pause_turn" else super().status_of(stop)


@breaks("P37", "ended as success")
class TrustsAnyStop(Reference):
    """Takes every stop reason for a good one."""

    def status_of(self, stop):
        return super().status_of(stop if stop in {"max_tokens", "refusal", "model_context_window_exceeded"} else "end_turn")


@breaks("P38", "not retryable")
class NotRetryable(Reference):
    """Says that asking again is of no use."""

    def retryable(self, fault):
        return False


@breaks("P38b", "ended as (fallback|error)")
class NoCheaperTier(Reference):
    """Asks the cheaper tier, and does not say so."""

    def metadata(self, turn, status, stop, reason):
        return super().metadata(turn, "fallback" if status == "degraded" else status, stop, reason)


@breaks("P39", "usage is")
class LastUsage(Reference):
    """Reports what the last try cost."""

    def metadata(self, turn, status, stop, reason):
        done = super().metadata(turn, status, stop, reason)
        return done | {"usage": turn.attempts[-1]["usage"]} if turn.attempts else done


@breaks("P40", "ended as")
class ToolErrorIsFatal(Reference):
    """Lets a tool's exception end the try."""

    async def use_tool(self, turn, use):
        result = await super().use_tool(turn, use)
        if result["is_error"]:
            raise Fault("internal_error", "tool", retry=False)
        return result


@breaks("P40b", "did not come in time|has the outcomes|ended as")
class NoToolLimit(Reference):
    """Waits for a tool as long as it takes."""

    async def use_tool(self, turn, use):
        if "hang" in str(use["input"]):
            await asyncio.sleep(60)
        return await super().use_tool(turn, use)


@breaks("P41", "a secret of the provider's error")
class TellsAll(Reference):
    """Passes the provider's own words on."""

    def error_type(self, fault):
        return f"{fault.kind}: key sk-ant-000 was refused"


@breaks("P30b", "ended as success")
class CorruptIsEnd(Reference):
    """Takes what it cannot read for the end."""

    async def converse(self, turn, note, span):
        try:
            return await super().converse(turn, note, span)
        except Fault as fault:
            if turn.texts and fault.kind == "JSONDecodeError":
                return "success", "end_turn"
            raise


@breaks("P31b", "ended as (fallback|error)")
class NoFirstTokenWatchdog(Reference):
    """Waits for the first piece as long as the turn lasts."""

    def patience(self, turn):
        return super().patience(turn) if turn.texts else (60.0, "first_token_timeout")


@breaks("P32b", "ended as (fallback|error)")
class PingsCountBeforeText(Reference):
    """Takes a ping for a sign of progress until there is a better one."""

    async def watched(self, turn, events):
        self.waiting = turn
        async for event in super().watched(turn, events):
            yield event

    def is_content(self, event):
        return not self.waiting.texts or super().is_content(event)


@breaks("P36b", "ended as|without a bound")
class PausesForEver(Reference):
    """Takes the end of its patience with pauses for the end of the answer."""

    def status_of(self, stop):
        return super().status_of(stop)

    async def converse(self, turn, note, span):
        status, stop = await super().converse(turn, note, span)
        return ("success", stop) if stop == "pause_turn" else (status, stop)


@breaks("P38c", "fallback is not said")
class QuietFallback(Reference):
    """Shows its safe answer as if it were a real one."""

    def metadata(self, turn, status, stop, reason):
        return super().metadata(turn, status, stop, reason) | {"fallback": False}
