"""How well and how fast the full-text index answers: `python -m benchmarks.retrieval --data medquad.jsonl.gz`.

Builds an index of MedQuAD in a temporary folder (titles and answers; the questions are not indexed), asks every question of the data set, and tells how often
the very URL of the question is the first, or among at most five distinct URLs. Latency is of one search at a time, then of many threads at once.
What it does not show: these questions name their subject almost word for word, which is the easy case of full-text search.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec import Struct

from service.retrieval.index import KnowledgeIndex

HITS = 5
SAMPLE = 500
DEFAULT_DATA = Path(os.environ.get("LASTWORD_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data") / "medquad.jsonl.gz"


class Question(Struct, frozen=True):
    """A question and the URL of the page that answers it."""

    text: str
    url: str


class Score(Struct, frozen=True, kw_only=True):
    """Of the questions asked: the share answered at rank 1 and among the first five URLs, and the milliseconds that each took."""

    asked: int
    recall_at_1: float
    recall_at_5: float
    took_ms: list[float]

    def percentile_ms(self, percent: int) -> float:
        """The latency that this many of a hundred searches do not exceed."""
        return statistics.quantiles(self.took_ms, n=100, method="inclusive")[percent - 1]


def load_questions(data: Path) -> list[Question]:
    """All questions of the data set, in its order."""
    with gzip.open(data, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [Question(row["question"], row["url"]) for row in rows]


def sample_of(questions: list[Question], seed: int) -> list[Question]:
    """Five hundred of the questions, the same ones for the same seed."""
    return random.Random(seed).sample(questions, min(SAMPLE, len(questions)))


def ask(index: KnowledgeIndex, questions: list[Question]) -> Score:
    """Asks one question after the other."""
    first = among = 0
    took_ms = []
    for question in questions:
        start = time.perf_counter()
        urls = [hit.url for hit in index.search(question.text, HITS)]
        took_ms.append((time.perf_counter() - start) * 1000)
        first += urls[:1] == [question.url]
        among += question.url in urls
    asked = len(questions)
    return Score(asked=asked, recall_at_1=first / asked, recall_at_5=among / asked, took_ms=took_ms)


def ask_from_threads(index: KnowledgeIndex, questions: list[Question], threads: int) -> tuple[float, float]:
    """Asks from many threads at once; searches a second, and the 99th percentile of their latency in milliseconds."""
    gate = threading.Barrier(threads)
    shares = [questions[n::threads] for n in range(threads)]

    def work(share: list[Question]) -> list[float]:
        gate.wait(30)
        return ask(index, share).took_ms

    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        took_ms = [ms for result in pool.map(work, shares) for ms in result]
    return len(took_ms) / (time.perf_counter() - start), statistics.quantiles(took_ms, n=100, method="inclusive")[98]


def main() -> None:
    """Builds, asks, prints."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.retrieval", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="medquad.jsonl.gz (default: $LASTWORD_TEST_DATA)")
    parser.add_argument("--seed", type=int, default=1, help="of the sample of 500")
    parser.add_argument("--threads", type=int, default=64, help="that search at once")
    options = parser.parse_args()
    if not options.data.is_file():
        sys.exit(f"there is no file {options.data}; name it with --data, or its folder in LASTWORD_TEST_DATA")
    questions = load_questions(options.data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "index.sqlite")
        index = KnowledgeIndex(path, "http://127.0.0.1/docs/")
        report = index.build(options.data)
        print(
            f"built     {report.passages} passages of {report.documents} URLs in {report.seconds:.2f} s, "
            f"{path.stat().st_size / 1e6:.1f} MB, {report.skipped_count} skipped"
        )
        for name, asked in (("sample", sample_of(questions, options.seed)), ("all", questions)):
            score = ask(index, asked)
            times = ", ".join(f"p{p} {score.percentile_ms(p):.1f}" for p in (50, 95, 99))
            print(
                f"{name:9} {score.asked} questions: recall@1 {score.recall_at_1:.1%}, recall@{HITS} {score.recall_at_5:.1%}; "
                f"ms: {times}"
            )
        rate, p99_ms = ask_from_threads(index, sample_of(questions, options.seed), options.threads)
        print(f"threads   {options.threads} at once: {rate:.0f} searches/s, p99 {p99_ms:.0f} ms")
        index.close()


if __name__ == "__main__":
    main()
