"""The stages of a turn as the pages name, order and colour them.

Derived from the contract's enumeration; nothing in here is a second list of stages.
"""

from __future__ import annotations

from lastword.states import Stage

_MARKS = {"first_token_ms": "firstToken", "total_ms": "total"}
_PHASE_OF_STAGE = {
    Stage.AUTH: "prepare",
    Stage.PRECHECK: "prepare",
    Stage.CONTEXT: "prepare",
    Stage.ROUTE: "prepare",
    Stage.RETRIEVAL: "retrieval",
    Stage.AGENT_SETUP: "prepare",
    Stage.MODEL_WAIT: "model",
    Stage.STREAM: "stream",
    Stage.POST_PROCESS: "finish",
    Stage.FINALIZE: "finish",
}


def column_of(stage: Stage) -> str:
    """The column of `turns` that holds a stage's milliseconds."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in stage.value)


STAGES: tuple[tuple[Stage, str, str], ...] = tuple((stage, column_of(stage), stage.value.removesuffix("Ms")) for stage in Stage)
"""Stage, column and label, in the machine's order."""

ORDER: tuple[tuple[str, str, str], ...] = (
    *((column, label, _PHASE_OF_STAGE[stage]) for stage, column, label in STAGES),
    *((column, label, "turn") for column, label in _MARKS.items()),
)
"""Column, label (the contract's word) and phase of each row, in the machine's order, the two marks last."""

LABELS: dict[str, str] = {column: label for column, label, _ in ORDER}
"""The contract's word for each column, in the machine's order, the two marks last."""

PHASES: dict[str, str] = {label: phase for _, label, phase in ORDER}
"""The phase of each stage, by the contract's word."""
