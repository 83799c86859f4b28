"""What the cases found, as a table: on the terminal, as JSON, as Markdown.

In: one `Result` per case. Out: text. Called by: the plug-in; the JSON is also what a page with several servers is made from.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .rules import GRPC, HTTP, JSON, PROTOBUF, Level

PASS, FAIL, NOT_APPLICABLE = "pass", "fail", "not applicable"
COLUMNS = (GRPC, PROTOBUF, JSON, HTTP)
NOTE = 160


@dataclass(frozen=True)
class Result:
    """One case: a rule over one transport with one signal and perhaps one variant, all three in `case`."""

    rule: str
    level: str
    text: str
    source: str
    transport: str
    case: str
    outcome: str
    note: str = ""
    order: int = 0


def as_json(results: Iterable[Result], about: Mapping[str, Any]) -> str:
    """Everything, with what is known about the run; each rule is written once."""
    ordered = sorted(results, key=lambda result: (result.order, result.case))
    rules: dict[str, Any] = {}
    for result in ordered:
        shown = asdict(result)
        rule = rules.setdefault(result.rule, {name: shown[name] for name in ("level", "text", "source")} | {"cases": {}})
        rule["cases"][result.case] = [result.transport, result.outcome, *([result.note] if result.note else [])]
    return json.dumps({**about, "totals": totals(ordered), "rules": rules}, indent=1, ensure_ascii=False) + "\n"


def totals(results: Iterable[Result]) -> dict[str, dict[str, int]]:
    """How many cases passed, failed, did not apply, by level."""
    counts = Counter((result.level, result.outcome) for result in results)
    return {level: {outcome: counts[level, outcome] for outcome in (PASS, FAIL, NOT_APPLICABLE)} for level in Level}


def cell(outcomes: Sequence[str]) -> str:
    """Several cases in few words: `pass 9`, `fail 2/9`, `n/a`, nothing when there is no such case."""
    tried = [outcome for outcome in outcomes if outcome != NOT_APPLICABLE]
    failed = tried.count(FAIL)
    if not tried:
        return "n/a" if outcomes else ""
    return f"fail {failed}/{len(tried)}" if failed else f"pass {len(tried)}"


def as_markdown(results: Iterable[Result], about: Mapping[str, Any]) -> str:
    """One row per rule, one column per transport, then every failure."""
    ordered = sorted(results, key=lambda result: (result.order, result.case))
    lines = [f"# OTLP conformance of {about.get('server', 'the server')}", ""]
    lines += [f"{name}: {value}  " for name, value in about.items() if name != "server"]
    lines += ["", "| rule | level | " + " | ".join(COLUMNS) + " | asks |", "|---|---|" + "---|" * (len(COLUMNS) + 1)]
    for name in dict.fromkeys(result.rule for result in ordered):
        own = [result for result in ordered if result.rule == name]
        cells = [cell([result.outcome for result in own if result.transport == column]) for column in COLUMNS]
        lines.append(f"| {name} | {own[0].level} | {' | '.join(cells)} | {own[0].text} |")
    failed = [result for result in ordered if result.outcome == FAIL]
    lines += ["", "## Failures", ""] if failed else []
    lines += [f"- `{result.case}` ({result.level}): {result.note}" for result in failed]
    return "\n".join(lines).rstrip() + "\n"


def summary(results: Sequence[Result]) -> list[str]:
    """What the terminal shows."""
    lines = [f"{level:<12}" + "  ".join(f"{count:>4} {outcome}" for outcome, count in counts.items())
             for level, counts in totals(results).items()]  # fmt: skip
    failed = sorted((result for result in results if result.outcome == FAIL), key=lambda result: (result.order, result.case))
    return lines + [f"{result.level} {result.case}: {result.note}" for result in failed]
