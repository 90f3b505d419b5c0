"""What can be wrong with the order of events, and with the done record."""

from tests.conformance.broken.registry import breaks
from tests.conformance.reference import Reference


@breaks("G15", "without a terminal")
class NoTerminal(Reference):
    """Has forgotten that an event of the provider may be unreadable: the turn just stops."""

    def unreadable(self, error):
        return error

    def unexpected(self, turn, error):
        turn.terminal = {"type": "none", "metadata": {}}
        turn.wake()


@breaks("G16", "an error follows visible text")
class ErrorAfterText(Reference):
    """Ends a cut answer with an error."""

    def after_text(self, turn, fault):
        self.error(turn, fault)


@breaks("G17", "a chunk has the text ''")
class EmptyChunks(Reference):
    """Shows every delta, also those without text."""

    def worth_showing(self, text):
        return True


@breaks("G18", "chunkCount is")
class CountsPieces(Reference):
    """Counts its chunks before the first."""

    def metadata(self, turn, status, stop, reason):
        done = super().metadata(turn, status, stop, reason)
        return done | {"chunkCount": done["chunkCount"] - 1}


@breaks("G18b", "is not the digest")
class DigestOfAnswer(Reference):
    """Takes the digest of something else."""

    def metadata(self, turn, status, stop, reason):
        turn.texts.append(" ")
        digest = turn.digest()
        turn.texts.pop()
        return super().metadata(turn, status, stop, reason) | {"streamedSha256": digest}


@breaks("G19", "partial is False with truncated")
class TruncatedIsWhole(Reference):
    """Takes an answer at the token limit for whole."""

    def partial(self, turn, status):
        return status != "truncated" and super().partial(turn, status)


@breaks("G20", "usage lacks cacheWriteTokens")
class LacksField(Reference):
    """Leaves out a count that was zero at home."""

    def metadata(self, turn, status, stop, reason):
        done = super().metadata(turn, status, stop, reason)
        return done | {"usage": {name: value for name, value in done["usage"].items() if name != "cacheWriteTokens"}}


@breaks("G20b", "done.metadata")
class WrongType(Reference):
    """Tells the start as a number."""

    def metadata(self, turn, status, stop, reason):
        return super().metadata(turn, status, stop, reason) | {"attempts": "1"}


@breaks("G21", "streamMs is 0")
class ZeroForAbsent(Reference):
    """Fills in zeros for what did not run."""

    def timings(self, turn):
        return {"streamMs": 0} | super().timings(turn)


@breaks("G21b", "the stages sum to")
class OverlappingStages(Reference):
    """Counts the wait for the model to the end of the stream."""

    def timings(self, turn):
        times = super().timings(turn)
        return times | {"modelWaitMs": times["totalMs"]} if turn.texts else times


@breaks("G22", "a page is listed twice")
class RawSources(Reference):
    """Takes URLs as they come."""

    def normal_url(self, url):
        return url


@breaks("G22b", "not in the order of their first evidence")
class SortedSources(Reference):
    """Sorts its sources by name."""

    def metadata(self, turn, status, stop, reason):
        turn.sources = dict(sorted(turn.sources.items()))
        return super().metadata(turn, status, stop, reason)


@breaks("G23", "toolsWithResults is")
class AllToolsCount(Reference):
    """Counts every tool that was called."""

    def tools_with_results(self, turn):
        return list(dict.fromkeys(call["name"] for call in turn.tool_calls))


@breaks("G24", "answerMatchesStream is not False")
class AlwaysMatches(Reference):
    """Says that the answer is what was streamed, whatever was cleaned."""

    def metadata(self, turn, status, stop, reason):
        return super().metadata(turn, status, stop, reason) | {"answerMatchesStream": True}


@breaks("G24b", "answer is")
class KeepsMarkers(Reference):
    """Leaves citation markers in the answer."""

    def canonical(self, turn):
        return "".join(turn.texts)


@breaks("G15b", "the stream has 2 terminals")
class TwoTerminals(Reference):
    """Ends a turn that failed with an error, and then with a done record too."""

    def error(self, turn, fault):
        super().error(turn, fault)
        turn.terminal = None
        self.finish(turn, "interrupted", None, fault.reason)


@breaks("G20c", "error lacks retryable")
class BareError(Reference):
    """Says of an error only what a person needs."""

    def error_fields(self, turn, fault):
        return {name: value for name, value in super().error_fields(turn, fault).items() if name != "retryable"}


@breaks("G21c", "though the model was silent")
class Seconds(Reference):
    """Measures in seconds."""

    def timings(self, turn):
        return {name: value and value // 1000 for name, value in super().timings(turn).items()}


@breaks("G22c", "is no source")
class ForgetsSearches(Reference):
    """Takes citations for sources, and forgets what the provider searched itself."""

    def find_sources(self, turn, block):
        pass
