"""Writes the generated parts of the documentation: `python docs/generate.py`, or `--check` to fail where they are stale.

Whatever stands between `<!-- generated:NAME -->` and `<!-- /generated -->` in docs/*.md is replaced by what the function of that name returns.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from msgspec import Struct, structs

from collector.receive.aliases import ALIASES, OPERATIONS, OWN_OPERATIONS
from collector.settings import CollectorSettings
from collector.store.describe import TABLES_TEXT, column_text
from collector.store.store import Store
from dashboard.settings import DashboardSettings
from lastword import states
from lastword.check.case import Need, all_cases
from lastword.schema import done_schema_text
from lastword.settings import Common, describe
from lastword.states import PHASE_OF, STAGE_OF, Stage
from service.routes import Retrieval, Route
from service.settings import ServiceSettings
from service.turn.failures import REASON_OF, FailureKind
from service.turn.policy import RETRYABLE_BY_CLIENT, Budget, Closed, decide

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


_SITUATIONS = {
    "tries left": (Closed(), 1, True),
    "no try left, a cheaper tier": (Closed(), 0, True),
    "neither": (Closed(), 0, False),
    "a tool changed something": (Closed(side_effects=True), 1, True),
    "text visible": (Closed(visible=True), 1, True),
}
"""Situation: what closes the window, tries left in the tier, and whether there is a cheaper one."""


def policy() -> str:
    """What the policy decides in every situation. Kinds that are decided alike stand together; a slash parts routes with a safe answer from those without."""
    rows: dict[tuple[str, ...], list[FailureKind]] = {}
    for kind in FailureKind:
        cells = []
        for closed, attempts, cheaper in _SITUATIONS.values():
            budget = Budget(attempts_left=attempts, left_ms=10_000, wait_ms=100)
            decided = [
                decide(kind, closed=closed, budget=budget, cheaper_tier=cheaper, fallback=safe).value for safe in (True, False)
            ]
            cells.append(" / ".join(dict.fromkeys(f"`{word}`" for word in decided)))
        rows.setdefault(tuple(cells), []).append(kind)
    return table(
        ["failure", *_SITUATIONS], [[", ".join(f"`{kind.value}`" for kind in kinds), *cells] for cells, kinds in rows.items()]
    )


def policy_budget() -> str:
    """What the time that is left does to a transient failure."""
    rows = []
    for text, left_ms, wait_ms in (
        ("the pause fits", 1_000, 999),
        ("the pause takes all that is left, or more", 1_000, 1_000),
        ("nothing is left", 0, 0),
    ):
        cells = []
        for cheaper in (True, False):
            budget = Budget(attempts_left=1, left_ms=left_ms, wait_ms=wait_ms)
            decided = decide(FailureKind.OVERLOADED, closed=Closed(), budget=budget, cheaper_tier=cheaper, fallback=True)
            cells.append(f"`{decided.value}`")
        rows.append([text, *cells])
    return table(["time", "a cheaper tier", "none"], rows)


def reasons() -> str:
    """The contract's reason for each kind of failure, and whether asking again may help a client that got an `error`."""
    return table(
        ["failure", "`reason`", "`retryable`"],
        [
            [f"`{kind.value}`", f"`{REASON_OF[kind].value}`", "yes" if kind in RETRYABLE_BY_CLIENT else "no"]
            for kind in FailureKind
        ],
    )


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


def sql_tables() -> str:
    """Every table and view of the SQL surface."""
    return table(["name", "a row is"], [[f"`{name}`", text] for name, text in TABLES_TEXT.items()])


def sql_columns() -> str:
    """The columns of every table and view, as a store that was just made has them."""
    parts = []
    with TemporaryDirectory() as folder:
        store = Store(Path(folder), memory_limit_mib=256, threads=1, abandoned_grace_ms=0)
        with store.reading() as reader:
            for name in TABLES_TEXT:
                columns = reader.execute(f"DESCRIBE {name}").fetchall()
                rows = [[f"`{column}`", _kind(kind), column_text(name, column)] for column, kind, *_ in columns]
                parts.append(
                    f"<details><summary><code>{name}</code></summary>\n\n{table(['column', 'type', 'what it is'], rows)}\n</details>\n"
                )
        store.close()
    return "\n".join(parts)


def _kind(kind: str) -> str:
    """A type in small letters; the names of a struct's fields stay as they are."""
    return re.sub(r"\b[A-Z]+\b", lambda word: word[0].lower(), kind)


def aliases() -> str:
    """Every name that fills a column, in the order in which names are tried."""
    rows = []
    for alias in ALIASES:
        name = f"event `{alias.name}`" if alias.event else f"`{alias.name}`"
        inside = f", under {' or '.join(f'`{key}`' for key in alias.inside)}" if alias.inside else ""
        rows.append([f"`{alias.column}`", name, f"{alias.read.value}{inside}", alias.whose])
    return table(["column", "name", "read as", "whose"], rows)


def operations() -> str:
    """Words for a kind of span."""
    words: dict[str, list[str]] = {}
    for word, operation in OPERATIONS.items():
        words.setdefault(operation, []).append(f"`{word}`")
    return table(
        ["`operation`", "other words for it"],
        [[f"`{name}`", ", ".join(words.get(name, []))] for name in sorted(OWN_OPERATIONS)],
    )


PARTS: dict[str, Callable[[], str]] = {
    "states": lambda: f"```mermaid\n{states.diagram()}```\n",
    "stages": stages,
    "policy": policy,
    "policy_budget": policy_budget,
    "reasons": reasons,
    "routes": routes,
    "aliases": aliases,
    "operations": operations,
    "cases": cases,
    "retrieval": retrieval,
    "smallest_server": lambda: example("smallest_server.py"),
    "fastapi_example": lambda: example("fastapi_app.py"),
    "django_example": lambda: example("django_app.py"),
    "routes_example": lambda: example("routes.toml", "toml"),
    "tools_example": lambda: example("shop_tools.py"),
    "sql_tables": sql_tables,
    "sql_columns": sql_columns,
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
