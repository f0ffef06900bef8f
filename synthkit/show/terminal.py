"""What a terminal is told of a run: a line for each stage that ends, and a table of all results at the end."""

from collections.abc import Mapping
from typing import Any


def format_stage(record: Mapping[str, Any], how: str) -> str:
    """A finished stage's line: how many of the items asked for it kept, `how` it came to its record, and the rest."""
    refused = ", ".join(f"{reason} {n}" for reason, n in record["refused"].items())
    more = (f"   refused: {refused}" if refused else "") + (f"   owed: {record['owed']}" if record["owed"] else "")
    return f"{record['name']:<16} {record['kept']:>5} of {record['requested']:<5} {how}{more}\n"


def format_results(summary: Mapping[str, Any]) -> str:
    """The final table, from summary.json: what each stage kept and cost, then what each model reached."""
    blocks = [format_stages(summary["stages"])]
    if summary["models"]:
        blocks.append(format_models(summary["models"]))
    if gap := summary["aup_difference"]:
        blocks.append(f"AUP of {gap['models'][0]} minus {gap['models'][1]}: {gap['value']:.3f} "
                      f"(95 % interval {gap['low']:.3f} to {gap['high']:.3f}, max tau {summary['max_tau']:.1f})")
    return "".join(f"\n{block}\n" for block in blocks)


def format_stages(rows: list[Mapping[str, Any]]) -> str:
    """One line a stage: items asked for and kept, seconds, tokens in and out, USD at the list price."""
    lines = [f"{'stage':<16}{'requested':>10}{'kept':>7}{'seconds':>9}{'tokens':>12}{'USD':>9}"]
    lines += [f"{row['name']:<16}{row['requested']:>10}{row['kept']:>7}{row['seconds']:>9.1f}"
              f"{row['tokens']:>12,}{row['usd']:>9.2f}" for row in rows]
    return "\n".join(lines)


def format_models(rows: list[Mapping[str, Any]]) -> str:
    """One line a model: share of valid submissions, tasks won against the baseline, AUP of last and best scores."""
    lines = [f"{'model':<16}{'valid':>7}{'tasks above baseline':>22}{'AUP last':>10}{'AUP best':>10}"]
    for row in rows:
        above = f"{row['tasks_above_baseline']} of {row['tasks']}"
        lines.append(f"{row['name']:<16}{row['valid_submission_rate']:>7.0%}{above:>22}"
                     f"{row['aup_last']:>10.3f}{row['aup_best']:>10.3f}")
    return "\n".join(lines)
