"""Runs cases one after the other, each within its time, all within theirs.

Owns the verdicts. Whatever a server does, a case ends in one: a bug of the checker itself is a verdict too, told apart from the server's. Invariant: nothing
that a case opened outlives it.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from enum import StrEnum

from msgspec import Struct

from lastword.check.bench import Bench
from lastword.check.case import Case, Failed, Level, Need, NotTried
from lastword.check.exchange import Unreachable
from lastword.check.process import CannotStart

_MAX_MESSAGE = 600
_MISSING = {
    Need.PROVIDER: "the server does not call the fake provider (see --provider-port, --start)",
    Need.TELEMETRY: "the server sends no telemetry to the sink (see --otlp-port, --start)",
    Need.PROCESS: "needs --start, a command that starts the server",
}


class Verdict(StrEnum):
    """What a case came to."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    BROKEN = "broken"  # the checker's own fault


class Result(Struct, frozen=True, kw_only=True):
    """A case and what it came to. `message` is empty where it passed; `notes` say what of it could not be tried."""

    case: Case
    verdict: Verdict
    message: str = ""
    evidence: bytes = b""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


class Report(Struct, frozen=True, kw_only=True):
    """All results of a run, in their order."""

    url: str
    results: tuple[Result, ...]
    seconds: float

    def count(self, verdict: Verdict, level: Level | None = None) -> int:
        """How many cases came to this, of one level or of all."""
        return sum(1 for one in self.results if one.verdict is verdict and level in {None, one.case.level})

    def conforms(self, *, strict: bool = False) -> bool:
        """Whether no MUST failed; strictly, no SHOULD either. At least one case has to have passed."""
        bad = [one for one in self.results if one.verdict in {Verdict.FAILED, Verdict.BROKEN}]
        return bool(self.count(Verdict.PASSED)) and not any(strict or one.case.level is Level.MUST for one in bad)


def run_case(bench: Bench, case: Case, limit_s: float) -> Result:
    """One case, within its own limit and the time that is left to the run."""
    for need, message in _MISSING.items():
        if need in case.needs and need not in bench.has:
            return Result(case=case, verdict=Verdict.SKIPPED, message=message)
    began = time.monotonic()
    bench.begin(min(case.limit_s, limit_s))
    verdict, message, evidence = Verdict.PASSED, "", b""
    try:
        case.run(bench)
    except NotTried as reason:
        verdict, message = Verdict.SKIPPED, str(reason)
    except Failed as failure:
        verdict, message, evidence = Verdict.FAILED, failure.message, failure.evidence
    except (Unreachable, CannotStart) as error:
        verdict, message = Verdict.FAILED, str(error)
    except Exception:  # noqa: BLE001 - the boundary: one bad case must not end the run, and is reported as the checker's own
        verdict, message = Verdict.BROKEN, "the checker failed, not the server: please report this"
        evidence = traceback.format_exc().encode()
    finally:
        bench.end()
    return Result(
        case=case,
        verdict=verdict,
        message=message if len(message) <= _MAX_MESSAGE else message[:_MAX_MESSAGE] + " …",
        evidence=evidence,
        notes=tuple(bench.notes),
        seconds=time.monotonic() - began,
    )


def run_all(bench: Bench, cases: Iterable[Case], *, limit_s: float, told: Callable[[Case, Result | None], None]) -> Report:
    """All cases, one after the other; `told` hears of each before (None) and after it."""
    began = time.monotonic()
    results: list[Result] = []
    for case in cases:
        told(case, None)
        left = limit_s - (time.monotonic() - began)
        if left <= 1:
            result = Result(
                case=case, verdict=Verdict.SKIPPED, message=f"the run's limit of {limit_s:g} s was reached (--limit)"
            )
        else:
            result = run_case(bench, case, left)
        results.append(result)
        told(case, result)
    return Report(url=bench.target.url, results=tuple(results), seconds=time.monotonic() - began)
