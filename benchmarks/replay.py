"""Replays real questions at real arrival times through the whole product, and counts on every side.

    python -m benchmarks.replay --turns 500 --speed 2

Indexes the answers of a public collection of questions (not the questions), starts the product in a temporary folder, and asks at the arrivals of a public trace. It then compares what the
client read, what the service counted and what DuckDB stored, and how often the right source was among the sources. The data files are found by LASTWORD_TEST_DATA, or in ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2
from msgspec import Struct

from tests.support.product import ROOT, Product, wait_for

DATA = Path(os.environ.get("LASTWORD_TEST_DATA", ROOT.parent / "shared" / "data"))
QUESTIONS = DATA / "medquad.jsonl.gz"
ARRIVALS = DATA / "azure-llm-conv-2023.csv.gz"
MAX_SOURCES = 5


class Replay(Struct, frozen=True, kw_only=True):
    """What each side counted."""

    planned: int
    terminals: int
    broken: dict[str, int]
    by_status: dict[str, int]
    service_turns: int
    stored_turns: int
    stored_ids: int
    stored_by_status: dict[str, int]
    stored_spans_turns: int
    most_sources: int
    expected: int
    found: int
    first_token_ms: dict[str, int]
    seconds: float

    @property
    def found_share(self) -> float:
        """Share of questions with the right source among their sources."""
        return self.found / self.expected

    @property
    def agrees(self) -> bool:
        """Whether client, service and store counted the same."""
        same = self.planned == self.terminals == self.service_turns == self.stored_turns == self.stored_ids
        return same and not self.broken and self.by_status == self.stored_by_status


def replay(folder: Path, *, turns: int, speed: float, faults: float, seed: int) -> Replay:
    """Runs the replay in a folder of its own."""
    start = time.monotonic()
    with Product(folder, LASTWORD_SERVICE_CORPUS=str(QUESTIONS)) as product:
        out = folder / "counts.json"
        options = {
            "--turns": turns,
            "--questions": QUESTIONS,
            "--arrivals": ARRIVALS,
            "--speed": speed,
            "--faults": faults,
            "--seed": seed,
            "--json": out,
        }
        arguments = [str(part) for pair in options.items() for part in pair]
        done = product.run("demo", *arguments, timeout_s=60 + turns)
        if not out.exists():
            raise RuntimeError(done.stdout + done.stderr)
        counts: dict[str, Any] = json.loads(out.read_text())
        wait_for(lambda: product.sql("select count(*) from turns")[0][0] >= counts["terminals"], 20, "all rows are stored")
        wait_for(
            lambda: product.sql("select count(*) from spans where name = 'turn'")[0][0] >= counts["terminals"],
            20,
            "all spans are stored",
        )
        status = "select coalesce(completion_status, 'error'), count(*) from turns group by 1"
        (turns_stored, ids, most_sources), *_ = product.sql(
            "select count(*), count(distinct turn_id), max(sources_count) from turns"
        )
        metrics = httpx2.get(f"{product.service}/metrics", trust_env=False).text
        return Replay(
            planned=counts["planned"],
            terminals=counts["terminals"],
            broken=counts["broken"],
            by_status=counts["byStatus"],
            service_turns=int(
                sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith("lastword_turns_total{"))
            ),
            stored_turns=turns_stored,
            stored_ids=ids,
            stored_by_status=dict(product.sql(status)),
            stored_spans_turns=product.sql("select count(distinct turn_id) from spans")[0][0],
            most_sources=most_sources,
            expected=counts["expectedSources"],
            found=counts["foundSources"],
            first_token_ms=counts["firstTokenMs"],
            seconds=round(time.monotonic() - start, 1),
        )


def main() -> int:
    """Prints the counts; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=500)
    parser.add_argument("--speed", type=float, default=2.0)
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    missing = [path for path in (QUESTIONS, ARRIVALS) if not path.exists()]
    if missing:
        print(f"missing: {', '.join(map(str, missing))}; set LASTWORD_TEST_DATA", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        result = replay(Path(folder), turns=options.turns, speed=options.speed, faults=options.faults, seed=options.seed)
    for name in result.__struct_fields__:
        print(f"{name:<20} {getattr(result, name)}")
    print(f"{'found share':<20} {result.found_share:.1%} (at most {result.most_sources} sources)")
    print(f"{'counts agree':<20} {result.agrees}")
    return 0 if result.agrees and result.found_share >= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
