"""What a run came to, for people and for machines: table, JSON, JUnit, one line.

Pure functions from a report to text.
"""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree as ET

from lastword import CONTRACT, __version__
from lastword.check.case import Case, Level, all_cases
from lastword.check.runner import Report, Result, Verdict

_CONTROL = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def summary(report: Report) -> str:
    """One line that a project can paste. It counts all cases that there are: those that were skipped, or not chosen, are said to be untried."""
    known = all_cases()
    parts = []
    for level in Level:
        total = sum(1 for one in known if one.level is level)
        if total:
            parts.append(f"{level.value} {report.count(Verdict.PASSED, level)}/{total}")
    untried = len(known) - len(report.results) + report.count(Verdict.SKIPPED)
    conforms = "conforms as far as tried" if untried else "conforms"
    verdict = conforms if report.conforms() else "does not conform"
    rest = f" · {untried} not tried" if untried else ""
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


def as_junit(report: Report, *, strict: bool = False) -> str:
    """The report as JUnit XML, a test case for each case. A SHOULD that is not kept is output and no failure, as it does not fail the run unless it is strict."""
    failed = [one for one in report.results if _fails(one, strict=strict)]
    broken = sum(1 for one in failed if one.verdict is Verdict.BROKEN)
    suite = ET.Element(
        "testsuite",
        name=_clean(f"lastword check {report.url}"),
        tests=str(len(report.results)),
        failures=str(len(failed) - broken),
        errors=str(broken),
        skipped=str(report.count(Verdict.SKIPPED)),
        time=f"{report.seconds:.3f}",
    )
    for one in report.results:
        item = ET.SubElement(
            suite, "testcase", classname=one.case.group, name=f"{one.case.id} {one.case.title}", time=f"{one.seconds:.3f}"
        )
        if one in failed:
            kind = "error" if one.verdict is Verdict.BROKEN else "failure"
            node = ET.SubElement(item, kind, message=_clean(one.message))
            node.text = _clean(one.evidence.decode(errors="replace"))
        elif one.verdict is Verdict.SKIPPED:
            ET.SubElement(item, "skipped", message=_clean(one.message))
        elif one.verdict in {Verdict.FAILED, Verdict.BROKEN}:
            ET.SubElement(item, "system-out").text = _clean(f"{one.case.level.value} not kept: {one.message}")
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _fails(one: Result, *, strict: bool) -> bool:
    return one.verdict in {Verdict.FAILED, Verdict.BROKEN} and (strict or one.case.level is Level.MUST)


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
            seen = result.evidence.decode(errors="backslashreplace").replace("\r", "\\r")
            shown = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", seen)  # a terminal would obey them
            lines += ["seen", *("    " + line for line in shown.split("\n"))]
    return "\n".join(lines)
