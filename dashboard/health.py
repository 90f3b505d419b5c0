"""What the collector says of itself, read from its metrics: what it took, refused, rejected, dropped and failed at since it started.

Pure. A metric that is not there reads as not known, never as 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families


class Sample(Struct, frozen=True):
    """One line of the metrics: a name, its labels, a value."""

    name: str
    labels: dict[str, str]
    value: float


class Trouble(Struct, frozen=True, kw_only=True):
    """Something that should be 0: how often it happened, what it means, and whether data was lost by it."""

    what: str
    count: int | None
    means: str
    lost: bool = False


_REFUSALS: Mapping[str, str] = {
    "400": "The request could not be read; its sender drops it.",
    "401": "The sender named no token, or a wrong one.",
    "408": "The request's body did not arrive in time.",
    "413": "The request is larger than the collector takes.",
    "415": "The request is in no format that the collector takes.",
    "429": "The collector had no room; the sender tries again.",
    "500": "The collector failed; its log says why.",
    "503": "The collector had no room or could not store; the sender tries again.",
}
_COUNTED: tuple[tuple[str, str, str, bool], ...] = (
    ("lastword_items_rejected_total", "spans and records rejected", "They cannot be stored; the sender was told which.", True),
    ("lastword_commits_failed_total", "commits failed", "Nothing of them is stored; their senders try again.", False),
    (
        "lastword_publish_failures",
        "publications failed",
        "The catalog is older than it should be; the live surface is not.",
        False,
    ),
    (
        "lastword_checkpoint_failures",
        "checkpoints failed",
        "The log beside the hot file grows; nothing of it is lost.",
        False,
    ),
    ("lastword_traces_dropped", "foreign traces dropped", "Too many waited: turns were not made of them.", True),
    ("lastword_derive_failures", "turns of spans not made", "They are tried again.", False),
)


def read(body: str) -> list[Sample]:
    """The samples of a Prometheus text.

    Raises:
        ValueError: it is no such text.
    """
    found: list[Sample] = []
    for family in text_string_to_metric_families(body):
        found += [Sample(sample.name, dict(sample.labels), sample.value) for sample in family.samples]
        if family.type == "counter" and not family.samples:
            found.append(Sample(f"{family.name}_total", {}, 0.0))  # one with labels has no line before it first counts
    return found


def total(samples: Iterable[Sample], name: str, **labels: str) -> int | None:
    """The sum of a metric over the labels that are not given; none where the collector does not have it."""
    found = [each.value for each in samples if each.name == name and labels.items() <= each.labels.items()]
    return round(sum(found)) if found else None


def mean_ms(samples: Iterable[Sample], name: str) -> float | None:
    """The mean of a histogram of seconds, in milliseconds; none where nothing was measured."""
    samples = list(samples)
    count = total(samples, f"{name}_count")
    seconds = next((each.value for each in samples if each.name == f"{name}_sum"), None)
    return seconds / count * 1000 if count and seconds is not None else None


def troubles(samples: Iterable[Sample]) -> list[Trouble]:
    """Everything that should be 0, what did happen first."""
    samples = list(samples)
    refused: dict[tuple[str, str], int] = {}
    for each in samples:
        status = each.labels.get("status", "")
        if each.name == "lastword_otlp_requests_total" and not _taken(status):
            place = (status, each.labels.get("signal", ""))
            refused[place] = refused.get(place, 0) + round(each.value)
    found = [
        Trouble(
            what=f"requests of {signal} refused with {status}",
            count=count,
            means=_REFUSALS.get(status, "The sender was told why."),
        )
        for (status, signal), count in refused.items()
    ]
    if not refused:
        requests = total(samples, "lastword_otlp_requests_total")
        found.append(
            Trouble(what="requests refused", count=0 if requests is not None else None, means="Every request was taken.")
        )
    found += [Trouble(what=what, count=total(samples, name), means=means, lost=lost) for name, what, means, lost in _COUNTED]
    return sorted(found, key=lambda each: -(each.count or 0))


def _taken(status: str) -> bool:
    return status.startswith("2") or status == "OK"
