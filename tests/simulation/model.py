"""The model and the tools of a simulated turn: plans drawn from the seed, with a fault at any place, and what each plan must lead to."""

from dataclasses import dataclass, field

from lastword.events import ToolOutcome, Usage
from service.providers.port import Ended, Evidence, Passage, Started, TextDelta, ToolSpec, ToolUse
from service.tools.registry import ToolRun
from service.turn.failures import AttemptFailed, FailureKind

K = FailureKind

BEFORE_TEXT = {
    "overloaded": K.OVERLOADED,
    "rate_limited": K.RATE_LIMITED,
    "server_error": K.SERVER_ERROR,
    "refused_connection": K.NETWORK,
    "bad_request": K.BAD_REQUEST,
    "cut_before_text": K.TRUNCATED,
    "corrupt_before_text": K.CORRUPT,
}
AFTER_TEXT = {
    "overloaded_after_text": K.OVERLOADED,
    "reset_after_text": K.NETWORK,
    "cut_after_text": K.TRUNCATED,
    "corrupt_after_text": K.CORRUPT,
}
STOPS = {
    "ok": "end_turn",
    "stop_sequence": "stop_sequence",
    "max_tokens": "max_tokens",
    "context_window": "model_context_window_exceeded",
    "refusal": "refusal",
    "refusal_before_text": "refusal",
    "null_stop": None,
    "unknown_stop": "something_new",
    "empty": "end_turn",
    "blank": "end_turn",
}
SILENCES = ("silent", "stall")
TOOLS = ("tools", "pause", "tool_loop", "pause_loop")
BUGS = ("bug", "bug_after_text")
ALL = (*STOPS, *BEFORE_TEXT, *AFTER_TEXT, *SILENCES, *SILENCES, *TOOLS, *BUGS, "huge")
LIKELY = ("ok", "ok", "ok", "ok", "tools", "tools")

TOOL_KINDS = ("lookup", "nothing", "broken", "hang", "book")
LIMIT_S = 0.8
WORDS = (
    "The ",
    "stream ",
    "was [1]",
    "cut ",
    "after\n\n",
    "text. ",
    "  ",
    "`a[2]` ",
    "é世",
    "\ud83d",
    "\ude00",
    "Retry ",
    "never.",
)


@dataclass
class Plan:
    """What one call of the model does: pieces of text with pauses, then an end."""

    kind: str
    texts: list = field(default_factory=list)
    pauses_ms: list = field(default_factory=list)
    retry_after_s: float | None = None
    tools: list = field(default_factory=list)


def draw(rng, kind):
    """A plan of this kind."""
    texts = [rng.choice(WORDS) for _ in range(rng.randrange(1, 12))]
    if kind in BEFORE_TEXT or kind in {"refusal_before_text", "empty", "silent", "bug", "blank"}:
        texts = []
    elif kind == "huge":
        texts = ["lorem ipsum " * 40] * 60
    elif not "".join(texts).strip(" \n") or (kind in {*AFTER_TEXT, "stall", "bug_after_text"}):
        texts.insert(0, "Seen ")
        texts.append("seen again. ")
    if kind == "blank":
        texts = [" ", "\n"]
    plan = Plan(kind, texts, [rng.expovariate(1) * rng.choice((2, 20, 200)) for _ in range(len(texts) + 1)])
    if kind in {"overloaded", "rate_limited"} and rng.random() < 0.5:
        plan.retry_after_s = rng.choice((0.01, 0.5, 3.0, 600.0))
    if kind in {"tools", "tool_loop"}:
        plan.texts = plan.texts if rng.random() < 0.4 else []
        plan.tools = [rng.choice(TOOL_KINDS) for _ in range(rng.randrange(1, 4))]
    if kind in {"pause", "pause_loop"}:
        plan.texts = plan.texts if rng.random() < 0.5 else []
    return plan


class Model:
    """The provider port over plans. Notes every call, with what the turn had shown when it began."""

    name = "simulated"

    def __init__(self, world, choose):
        self._world = world
        self._choose = choose
        self.calls = []

    def start(self, request):
        call = Call(self._world, self._choose(request), request)
        self.calls.append(call)
        return call

    def close(self):
        pass


class Call:
    """One call: an iterator that waits in virtual time, and that anybody can abort."""

    def __init__(self, world, plan, request):
        self._world = world
        self.plan = plan
        self.request = request
        self.aborted = False
        self.begun_ns = world.now_ns
        self.said = []
        self.usage = Usage(input_tokens=3, output_tokens=0, complete=False)

    def abort(self):
        self.aborted = True
        self._world.poke()

    def _wait(self, ms=None):
        if self._world.wait(None if ms is None else ms / 1000, lambda: self.aborted):
            raise AttemptFailed(K.NETWORK, "aborted")

    def __iter__(self):
        plan, kind = self.plan, self.plan.kind
        if self.aborted:
            raise AttemptFailed(K.NETWORK, "aborted")
        self._wait(plan.pauses_ms[0])
        if kind in {"overloaded", "rate_limited", "server_error", "refused_connection", "bad_request"}:
            raise AttemptFailed(BEFORE_TEXT[kind], retry_after_s=plan.retry_after_s, request_id="req")
        yield Started(response_id="msg", model=self.request.model, request_id="req")
        if kind == "bug":
            raise RuntimeError("a bug of ours")
        if kind == "silent":
            self._wait()
        for text, pause_ms in zip(plan.texts, plan.pauses_ms[1:], strict=False):
            self.said.append(text)
            yield TextDelta(text)
            self._wait(pause_ms)
        if kind == "bug_after_text":
            raise RuntimeError("a bug of ours")
        if kind == "stall":
            self._wait()
        if kind in BEFORE_TEXT or kind in AFTER_TEXT:
            raise AttemptFailed({**BEFORE_TEXT, **AFTER_TEXT}[kind], request_id="req")
        if kind == "ok":
            yield Evidence(url="https://cited.example/page#part", title="Cited")
        yield from self._end()

    def _end(self):
        plan = self.plan
        self.usage = Usage(input_tokens=3, output_tokens=len(plan.texts), complete=True)
        for number, name in enumerate(plan.tools):
            yield ToolUse(id=f"use{number}", name=name, input={})
        stop = "tool_use" if plan.tools else "pause_turn" if plan.kind.startswith("pause") else STOPS.get(plan.kind, "end_turn")
        yield Ended(stop_reason=stop, usage=self.usage, blocks=({"type": "text", "text": "".join(plan.texts)},))


class Tools:
    """The registry's port: outcomes by the tool's name, within the time limit, and never longer than the turn."""

    names = TOOL_KINDS

    def __init__(self, world):
        self._world = world
        self.ran = []

    def specs(self, names):
        return tuple(ToolSpec(name=name, description=name, input_schema={"type": "object"}) for name in names)

    def time_limit_s(self, name):
        return LIMIT_S

    def has_side_effects(self, name):
        return name == "book"

    def run(self, name, arguments, context):
        self.ran.append((context.turn_id, name))
        begun = self._world.now_ns
        outcome = {"lookup": "results", "book": "results", "nothing": "empty", "broken": "error", "hang": "timeout"}[name]
        limit_s = min(LIMIT_S, max(0.0, (context.deadline_ns - begun) / 1e9))
        takes_s = limit_s if name == "hang" else min(limit_s, self._world.rng.random() * 0.1)
        if self._world.wait(takes_s, context.cancelled.is_set):
            return ToolRun(outcome=ToolOutcome.ERROR, text="cancelled", error_type="cancelled")
        passages = (Passage(url=f"https://{name}.example/", title=name, text=name),) if outcome == "results" else ()
        return ToolRun(outcome=ToolOutcome(outcome), text=name, passages=passages, duration_ns=self._world.now_ns - begun)

    def close(self):
        pass
