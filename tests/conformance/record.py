"""Write the table of the fast suite: cases of the catalogue and made ones, with what vLLM answers now."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, given, settings

from conformance.catalogue import catalogue_cases
from conformance.made import cases
from conformance.planner import Planner
from support.planning import TABLE, summary

if TYPE_CHECKING:
    from collections.abc import Iterable

OF_EACH = 3  # cases of each mix of caches in the catalogue
MADE = 250


def from_catalogue() -> list[dict[str, Any]]:
    """Cases of every mix of caches that some model of the catalogue has, spread over its cards and splits."""
    mixes: dict[str, list[dict[str, Any]]] = {}
    for case in catalogue_cases():
        mixes.setdefault(
            str((case["kinds"], case["layers"], case["tp"] > 1, len(case["stages"]))), []
        ).append(case)
    return [case for found in mixes.values() for case in found[:: max(1, len(found) // OF_EACH)][:OF_EACH]]


def from_hypothesis() -> list[dict[str, Any]]:
    """Made cases, the same in every run of the same Hypothesis."""
    drawn: list[dict[str, Any]] = []

    @settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=MADE,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def draw(case: dict[str, Any]) -> None:
        drawn.append(case)

    draw()
    return drawn


def write(chosen: Iterable[dict[str, Any]]) -> int:
    """Ask vLLM for each and keep what it says."""
    with Planner() as planner:
        lines = [
            json.dumps(
                {"case": case, "vllm": summary(planner.ask(case))}, separators=(",", ":"), sort_keys=True
            )
            for case in chosen
        ]
    TABLE.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return len(lines)


if __name__ == "__main__":
    sys.stdout.write(f"{write([*from_catalogue(), *from_hypothesis()])} cases in {TABLE}\n")
