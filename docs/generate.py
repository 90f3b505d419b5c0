"""Writes the generated parts of the documentation: `python docs/generate.py`, or `--check` to fail where they are stale.

Whatever stands between `<!-- generated:NAME -->` and `<!-- /generated -->` in docs/*.md is replaced by what the function of that name returns.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from collector.settings import CollectorSettings
from dashboard.settings import DashboardSettings
from lastword import states
from lastword.check.case import Need, all_cases
from lastword.schema import done_schema_text
from lastword.settings import Common, describe
from lastword.states import PHASE_OF, STAGE_OF, Stage
from service.routes import Retrieval, Route
from service.settings import ServiceSettings
from service.turn.failures import REASON_OF, FailureKind
from service.turn.policy import Budget, Closed, decide

DOCS = Path(__file__).parent
_PART = re.compile(r"(<!-- generated:(\w+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def settings(cls: type[Common], section: str) -> str:
    """The settings of one program."""
    return table(
        ["variable", "default", "what it is"], [[f"`{n}`", f"`{d}`" if d else "", t] for n, d, t in describe(cls, section)]
    )


def stages() -> str:
    """Stages with their keys and states."""
    rows = []
    for stage in Stage:
        inside = ", ".join(state.value for state, of in STAGE_OF.items() if of is stage)
        rows.append([PHASE_OF[stage].value, f"`{stage.value}`", inside])
    return table(["phase", "key in `stageTimings`", "states whose time it is"], rows)


def policy() -> str:
    """What the policy decides for every kind of failure, in four situations."""
    plenty = Budget(attempts_left=1, left_ms=10_000, wait_ms=100)
    spent = Budget(attempts_left=0, left_ms=10_000, wait_ms=100)
    rows = []
    for kind in FailureKind:
        cells = [
            decide(kind, closed=Closed(), budget=plenty, cheaper_tier=True, fallback=True),
            decide(kind, closed=Closed(), budget=spent, cheaper_tier=True, fallback=True),
            decide(kind, closed=Closed(), budget=spent, cheaper_tier=False, fallback=True),
            decide(kind, closed=Closed(), budget=spent, cheaper_tier=False, fallback=False),
            decide(kind, closed=Closed(visible=True), budget=plenty, cheaper_tier=True, fallback=True),
        ]
        rows.append([f"`{kind.value}`", f"`{REASON_OF[kind].value}`", *(cell.value for cell in cells)])
    head = ["failure", "`reason`", "tries left", "tries spent", "no cheaper tier", "no safe answer", "text visible"]
    return table(head, rows)


def routes() -> str:
    """The fields of a route with their defaults."""
    return _fields(Route)


def retrieval() -> str:
    """The fields of a route's retrieval."""
    return _fields(Retrieval)


def _fields(cls: type[Struct]) -> str:
    rows = []
    for info in structs.fields(cls):
        default = "required" if info.required else "" if info.default in (None, (), "") else f"`{info.default}`"
        meta: Any = getattr(info.type, "__metadata__", ())
        rows.append([f"`{info.name}`", default, " ".join(one.description for one in meta if one.description)])
    return table(["field", "default", "what it is"], rows)


def cases() -> str:
    """Every case of the checker."""
    sides = {Need.PROVIDER: "provider", Need.TELEMETRY: "telemetry", Need.PROCESS: "`--start`"}
    rows = []
    for case in all_cases():
        needs = ", ".join(name for need, name in sides.items() if need in case.needs)
        rows.append([case.id, case.level.value, case.title, needs, case.rule])
    return table(["case", "level", "what holds", "needs", "rule"], rows)


def example(name: str, language: str = "python") -> str:
    """An example as it stands in its file."""
    return f"```{language}\n{(DOCS / 'examples' / name).read_text(encoding='utf-8')}```\n"


PARTS: dict[str, Callable[[], str]] = {
    "states": lambda: f"```mermaid\n{states.diagram()}```\n",
    "stages": stages,
    "policy": policy,
    "routes": routes,
    "cases": cases,
    "retrieval": retrieval,
    "smallest_server": lambda: example("smallest_server.py"),
    "fastapi_example": lambda: example("fastapi_app.py"),
    "django_example": lambda: example("django_app.py"),
    "routes_example": lambda: example("routes.toml", "toml"),
    "tools_example": lambda: example("shop_tools.py"),
    "settings_common": lambda: settings(Common, ""),
    "settings_service": lambda: settings(ServiceSettings, "service"),
    "settings_collector": lambda: settings(CollectorSettings, "collector"),
    "settings_dashboard": lambda: settings(DashboardSettings, "dashboard"),
}


def render(text: str) -> str:
    """The page with its generated parts made anew."""
    return _PART.sub(lambda match: match[1] + PARTS[match[2]]() + match[3], text)


def pages() -> dict[Path, str]:
    """Every file with generated content, as it should be."""
    made = {path: render(path.read_text(encoding="utf-8")) for path in sorted(DOCS.rglob("*.md"))}
    return made | {DOCS / "done.schema.json": done_schema_text()}


def main() -> int:
    """Writes, or checks; the exit status."""
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(DOCS.parent)} is stale: run `make docs`", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(pages()[path], encoding="utf-8")
        print(f"wrote {path.relative_to(DOCS.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
