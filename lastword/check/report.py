"""What a run came to, for people and for machines: table, JSON, JUnit, one line.

Pure functions from a report to text.
"""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree as ET

from lastword import CONTRACT, __version__
from lastword.check.case import Case, Level
from lastword.check.runner import Report, Result, Verdict

_CONTROL = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def summary(report: Report) -> str:
    """One line that a project can paste."""
    parts = []
    for level in Level:
        total = sum(1 for one in report.results if one.case.level is level)
        if total:
            parts.append(f"{level.value} {report.count(Verdict.PASSED, level)}/{total}")
    verdict = "conforms" if report.conforms() else "does not conform"
    skipped = report.count(Verdict.SKIPPED)
    rest = f" · {skipped} not tried" if skipped else ""
    return f"{CONTRACT} {verdict} · {' · '.join(parts)}{rest} · lastword check {__version__}"


def as_json(report: Report) -> str:
    """The whole report as JSON. Evidence is text, what is no UTF-8 in it replaced."""
    cases = [
        {
            "id": one.case.id,
            "group": one.case.group,
            "level": one.case.level.value,
            "title": one.case.title,
            "verdict": one.verdict.value,
            "message": one.message,
            "notes": list(one.notes),
            "seconds": round(one.seconds, 3),
            "evidence": one.evidence.decode(errors="replace"),
        }
        for one in report.results
    ]
    document = {
        "contract": CONTRACT,
        "checker": __version__,
        "url": report.url,
        "conforms": report.conforms(),
        "seconds": round(report.seconds, 3),
        "summary": summary(report),
        "cases": cases,
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def as_junit(report: Report) -> str:
    """The report as JUnit XML, a test case for each case; a failed SHOULD is no failure but a property, as it does not fail the run."""
    failed = sum(1 for one in report.results if _fails(one))
    suite = ET.Element(
        "testsuite",
        name=f"lastword check {report.url}",
        tests=str(len(report.results)),
        failures=str(failed),
        skipped=str(report.count(Verdict.SKIPPED)),
        time=f"{report.seconds:.3f}",
    )
    for one in report.results:
        item = ET.SubElement(
            suite, "testcase", classname=one.case.group, name=f"{one.case.id} {one.case.title}", time=f"{one.seconds:.3f}"
        )
        if _fails(one):
            kind = "error" if one.verdict is Verdict.BROKEN else "failure"
            node = ET.SubElement(item, kind, message=_clean(one.message))
            node.text = _clean(one.evidence.decode(errors="replace"))
        elif one.verdict is Verdict.SKIPPED:
            ET.SubElement(item, "skipped", message=_clean(one.message))
        elif one.verdict is Verdict.FAILED:
            ET.SubElement(item, "system-out").text = _clean(f"{one.case.level.value} not kept: {one.message}")
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _fails(one: Result) -> bool:
    return one.verdict is Verdict.BROKEN or (one.verdict is Verdict.FAILED and one.case.level is Level.MUST)


def _clean(text: str) -> str:
    """XML knows no control characters."""
    return _CONTROL.sub("\ufffd", text)


def explain(case: Case, result: Result | None) -> str:
    """A case in words: the rule, why it is there, and, after a run, the bytes that were seen."""
    lines = [
        f"{case.id}  {case.title}",
        f"level  {case.level.value}",
        f"rule   {case.rule}",
        f"why    {case.why}",
        f"tried  {(case.run.__doc__ or '').strip()}",
    ]
    if result is not None:
        lines.append(f"found  {result.verdict.value}{': ' if result.message else ''}{result.message}")
        lines += [f"note   {note}" for note in result.notes]
        if result.evidence:
            seen = result.evidence.decode(errors="backslashreplace")
            lines += ["seen", *("    " + line for line in seen.split("\n"))]
    return "\n".join(lines)
