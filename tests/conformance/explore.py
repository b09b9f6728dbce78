"""Look for a difference with a random seed: `hack/conformance explore [N]`."""

from __future__ import annotations

import json
import sys
from typing import Any

from hypothesis import HealthCheck, given, settings

from conformance.made import cases
from conformance.planner import Planner
from support.planning import ours


def explore(examples: int) -> None:
    """Ask for so many cases; Hypothesis shrinks the first that differs and prints it."""
    with Planner() as planner:

        @settings(
            max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(cases())
        def equal(case: dict[str, Any]) -> None:
            theirs, own = planner.ask(case), ours(case)
            assert theirs == own, f"{json.dumps(case)}\nvLLM     {theirs}\nPlimsoll {own}"

        equal()
    sys.stdout.write(f"{examples} cases, no difference\n")


if __name__ == "__main__":
    explore(int(sys.argv[1]))
