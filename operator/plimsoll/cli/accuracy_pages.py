"""A score as text: the sums, tables by what rows have in common, and the rows that miss most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

from plimsoll.accuracy.groups import BY, Group, grouped
from plimsoll.accuracy.score import document
from plimsoll.cli.output import indented

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from plimsoll.accuracy.oracle import OracleScore
    from plimsoll.accuracy.score import Scored

_WORST: Final = 10
_MAX_REASON: Final = 300
_NAME_WIDTH: Final = 14


def log_pages(scored: Sequence[Scored]) -> tuple[RenderableType, ...]:
    """The score of a file of logs."""
    sums = document(scored)
    lines: list[RenderableType] = [
        Text(f"{sums['scored']} of {sums['rows']} rows scored", style="bold"),
        indented(_sums(sums)),
        Text(),
    ]
    for name, key in BY.items():
        lines += [Text(f"By {name}:", style="bold"), indented(_groups(name, grouped(scored, key))), Text()]
    lines += _misses(sums["misses"]) + _skipped(sums["skipped"])
    return tuple(lines)


def percent(share: float | None) -> str:
    """A share of one as text."""
    return "" if share is None else f"{100 * share:.2f} %"


def _table() -> Table:
    return Table(box=None, pad_edge=False, show_edge=False, header_style="bold")


def _sums(sums: Mapping[str, Any]) -> Table:
    table = _table()
    table.add_column("Measure", no_wrap=True)
    for heading in ("Rows", "Median error", "90th percentile"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    available, verdict = sums["available_kv"], sums["verdict"]
    remarks = {
        "available_kv": f"{percent(available['unsafe_share'])} promised over 5 % too much at the safe end, which plans "
        f"reckon with ({percent(available['over_promised_by_point'])} at the point); the interval holds "
        f"{percent(available['interval_coverage'])}, {percent(available['interval_width'])} of the GPU wide",
        "bytes_per_token": f"{sums['bytes_per_token']['equal']} equal as far as the log is rounded",
    }
    for name in ("available_kv", "kv_tokens", "weights", "bytes_per_token"):
        figures = sums[name]
        table.add_row(
            name,
            str(figures["n"]),
            percent(figures["median_abs_error"]),
            percent(figures["p90_abs_error"]),
            remarks.get(name, ""),
        )
    table.add_row(
        "verdict",
        str(verdict["n"]),
        "",
        "",
        f"{verdict['correct']} right, {verdict['unsafe']} unsafe, {verdict['wasteful']} wasteful",
    )
    return table


def _groups(name: str, groups: Sequence[Group]) -> Table:
    table = _table()
    table.add_column(name, min_width=_NAME_WIDTH)
    for heading in ("Rows", "KV rows", "Median", "90th", "Weights", "Exact", "Verdicts"):
        table.add_column(heading, justify="right", no_wrap=True)
    for group in groups:
        table.add_row(
            group.name,
            str(group.rows),
            str(group.measured),
            percent(group.median),
            percent(group.p90),
            percent(group.weights),
            _of(group.exact),
            _of(group.verdicts),
        )
    return table


def _of(pair: tuple[int, int]) -> str:
    return f"{pair[0]}/{pair[1]}" if pair[1] else ""


def _misses(misses: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    if not misses:
        return []
    lines: list[RenderableType] = [
        Text(f"The worst {min(_WORST, len(misses))} of {len(misses)} misses:", style="bold")
    ]
    for miss in misses[:_WORST]:
        theirs = "not said" if miss["theirs"] is None else miss["theirs"]
        lines.append(
            indented(Text(f"{miss['id']}: {miss['measure']}, ours {miss['ours']}, the log's {theirs}"))
        )
        lines.append(indented(indented(Text(_shortened(miss["reason"])))))
    return [*lines, Text()]


def _shortened(reason: str) -> str:
    return reason if len(reason) <= _MAX_REASON else reason[: _MAX_REASON - 3] + "..."


def _skipped(skipped: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    if not skipped:
        return []
    table = _table()
    table.add_column("Skipped", no_wrap=True)
    table.add_column("Because")
    for row in skipped:
        table.add_row(row["id"], row["reason"])
    return [Text(f"{len(skipped)} rows skipped:", style="bold"), indented(table)]


def oracle_pages(result: OracleScore) -> tuple[RenderableType, ...]:
    """The score of a table of plans."""
    named = [one for one in result.refused if not one.config_missing]
    lines: list[RenderableType] = [
        Text(f"{result.equal} of {result.scored} rows equal in every number", style="bold"),
        Text(
            f"{result.rows} rows, {len(result.refused)} refused by name ({len(named)} with a whole config), "
            f"{len({one.line for one in result.mismatches})} with a mismatch, "
            f"{len(result.contradictory)} that contradict themselves"
        ),
    ]
    if result.mismatches:
        table = _table()
        for heading in ("Line", "Field", "Ours", "Theirs"):
            table.add_column(heading)
        for one in result.mismatches[:_WORST]:
            table.add_row(str(one.line), one.field, str(one.ours), str(one.theirs))
        lines += [
            Text(),
            Text(f"The first {min(_WORST, len(result.mismatches))} mismatches:"),
            indented(table),
        ]
    for reason in dict.fromkeys(one.reason for one in result.contradictory):
        which = ", ".join(str(one.line) for one in result.contradictory if one.reason == reason)
        lines += [Text(), Text(f"Contradict themselves, since {reason}: lines {_shortened(which)}")]
    reasons = dict.fromkeys(one.message for one in result.refused)
    if reasons:
        lines += [Text(), Text("Refused:", style="bold")]
        lines += [indented(Text(_shortened(message))) for message in reasons]
    return tuple(lines)
