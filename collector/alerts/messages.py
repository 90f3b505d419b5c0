"""What is told about an event: one document for every receiver, and the shapes that each of them reads. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from collector.alerts.alert import Alert, Event, percent
from collector.alerts.explanation import named

_SLACK_CHARS = 3000
_LINK_BEFORE_S, _LINK_AFTER_S = 1800, 900
"""The link shows so much around the episode: a spike is seen against what was before it."""


def link(alert: Alert, dashboard_url: str) -> str | None:
    """Where the dashboard shows an alert's window; none where no dashboard is known."""
    if not dashboard_url:
        return None
    start = alert.since_ns // 1_000_000_000 - _LINK_BEFORE_S
    end = (alert.resolved_ns or alert.fired_ns) // 1_000_000_000 + _LINK_AFTER_S
    query = {"window": "custom", "from": _stamp(start), "to": _stamp(end), **named(alert)}
    return f"{dashboard_url.rstrip('/')}/partials?{urlencode(query)}"


def document(event: Event) -> dict[str, Any]:
    """The event and its alert as one JSON object, times in RFC 3339."""
    alert = event.alert
    explanation = alert.explanation or {}
    return {
        "type": f"alert.{event.change}",
        "timestamp": _time(event.happened_ns),
        "data": {
            "alertId": alert.alert_id,
            "incidentId": alert.incident_id,
            "rule": alert.rule,
            "severity": alert.severity,
            "role": alert.role,
            "state": alert.state,
            "scope": alert.scope,
            **{to: value for to, value in (("route", alert.route), ("modelTier", alert.model_tier)) if value is not None},
            "labels": alert.labels,
            "summary": event.summary,
            "since": _time(alert.since_ns),
            "fired": _time(alert.fired_ns),
            "resolved": None if alert.resolved_ns is None else _time(alert.resolved_ns),
            "windowMinutes": alert.window_minutes,
            "turns": alert.turns,
            "broken": alert.broken,
            "expected": alert.expected,
            "rate": alert.rate,
            "baseline": alert.baseline,
            "value": alert.value,
            "threshold": alert.threshold,
            "slices": explanation.get("slices", [])[:3],
            "reasons": explanation.get("reasons", []),
            "traces": explanation.get("traces", []),
            "link": alert.link,
        },
    }


def lines(message: dict[str, Any]) -> list[str]:
    """A message's details in words, one thing a line."""
    data = message["data"]
    found = []
    if data["slices"]:
        named_slices = "; ".join(_slice(one) for one in data["slices"])
        found.append(f"Stands out: {named_slices}")
    if data["reasons"]:
        shift = ", ".join(f"{one['reason']} {one['broken']} (usually {one['expected']:.2g})" for one in data["reasons"][:3])
        found.append(f"Reasons: {shift}")
    if data["traces"]:
        found.append("Traces: " + ", ".join(one["trace_id"] or one["turn_id"] for one in data["traces"]))
    found.append(f"Since {data['since']}")
    return found


def _slice(one: dict[str, Any]) -> str:
    name = ", ".join(f"{key} {value}" for key, value in one["attributes"].items())
    return f"{name} {percent(one['rate'])} ({one['broken']} of {one['turns']}, usually {percent(one['usual'])})"


def slack(message: dict[str, Any]) -> dict[str, Any]:
    """A message for an incoming webhook of Slack, and of those that read the same."""
    data = message["data"]
    word = {"alert.resolved": "resolved", "alert.test": "test"}.get(message["type"], data["severity"])
    # Names come from whoever sends spans: what Slack would take for a mention or a link is shown as it is.
    title = _escaped(f"[{word}] {data['summary']}")
    text = _escaped("\n".join(lines(message)))
    attachment = {
        "fallback": title,
        "color": "good" if data["state"] == "resolved" else "danger" if data["severity"] == "page" else "warning",
        "title": data["rule"],
        "text": text,
    }
    if data["link"]:
        attachment["title_link"] = data["link"]
    return {"text": title, "attachments": [attachment]}


def _escaped(text: str) -> str:
    return text[:_SLACK_CHARS].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def alertmanager(alert: Alert, *, ends_ns: int, link: str | None) -> dict[str, Any]:
    """An alert of Alertmanager's API v2. Its labels are what it is known by, so they never change while it fires."""
    labels = {
        "alertname": "Lastword" + "".join(word.capitalize() for word in alert.rule.split("_")),
        "service": "lastword",
        "severity": alert.severity,
        "incident": alert.incident_id,
        "role": alert.role,
        "scope": alert.scope,
        **{name: value for name, value in alert.labels.items() if name not in _OWN},
    }
    labels |= {name: value for name, value in (("route", alert.route), ("model_tier", alert.model_tier)) if value}
    details = lines({"data": {**document(Event("", "fired", 0, alert, alert.summary))["data"]}})
    annotations = {"summary": alert.summary, "description": "\n".join(details)}
    found: dict[str, Any] = {
        "labels": {_label(name): value for name, value in labels.items()},
        "annotations": annotations,
        "startsAt": _time(alert.since_ns),
        "endsAt": _time(ends_ns),
    }
    if link:
        found["generatorURL"] = link
        annotations["link"] = link
    return found


_OWN = {"alertname", "service", "severity", "incident", "role", "scope", "route", "model_tier"}


def _label(name: str) -> str:
    """A label's name without what Alertmanager does not take in one."""
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter == "_") else "_" for letter in name)
    return kept if kept and not kept[0].isdigit() else f"_{kept}"


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _stamp(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
