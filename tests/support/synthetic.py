"""Synthetic turns, sent as OTLP to a collector as the service would send them.

`python -m tests.support.synthetic --turns 2000 --url http://127.0.0.1:4318`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import httpx2

from collector.synthetic.requests import record_request, span_request
from collector.synthetic.turns import synthesize
from collector.synthetic.world import SyntheticTurn

TURNS_PER_REQUEST = 100


def post(url: str, turns: Sequence[SyntheticTurn], *, timeout_s: float = 60) -> None:
    """Sends turns to a collector; raises where it refuses some of them."""
    headers = {"Content-Type": "application/x-protobuf"}
    with httpx2.Client(base_url=url, timeout=timeout_s, trust_env=False) as http:
        for first in range(0, len(turns), TURNS_PER_REQUEST):
            batch = turns[first : first + TURNS_PER_REQUEST]
            for path, request in (("/v1/logs", record_request(batch)), ("/v1/traces", span_request(batch))):
                for left in reversed(range(20)):
                    response = http.post(path, content=request.SerializeToString(), headers=headers)
                    if response.status_code != 503 or not left:
                        break
                    time.sleep(1)  # what the collector's Retry-After asks for
                response.raise_for_status()


def main() -> None:
    """Sends turns as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=2000)
    parser.add_argument("--url", default="http://127.0.0.1:4318")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--hours", type=float, default=6, help="how far back the oldest turn lies")
    chosen = parser.parse_args()
    turns = list(synthesize(chosen.turns, seed=chosen.seed, hours=chosen.hours))
    post(chosen.url, turns)
    print(f"{len(turns)} turns over {chosen.hours:g} h sent to {chosen.url}")


if __name__ == "__main__":
    main()
