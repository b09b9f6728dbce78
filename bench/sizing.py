"""How long sizing takes inside the process: `python bench/sizing.py [--runs N] [--json FILE]`.

Every model of the catalogue over every card of the catalogue, 8 per node and 4 nodes: the widest search that
the operator or the webhook can be asked for. Prints a table and, on request, writes JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

from plimsoll.sizing import catalogue, gpus
from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.plan import Plan
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts

_SERVING = Serving(engine_version="0.33.0", max_nodes=4)


def every_pool() -> tuple[NodePool, ...]:
    """One pool for each card."""
    return tuple(
        NodePool(name=card.alias, accelerator=card, gpus_per_node=8, nodes=4) for card in gpus.catalogue()
    )


def measure(runs: int) -> list[dict[str, object]]:
    """Each model `runs` times, after one run that fills the caches."""
    rows: list[dict[str, object]] = []
    pools = every_pool()
    for model_id in catalogue.model_ids():
        facts = catalogue.lookup(model_id)
        if facts is None:
            raise LookupError(model_id)
        result = estimate(shape_from_facts(facts), facts, _SERVING, pools)
        times: list[float] = []
        for _ in range(runs):
            began = time.perf_counter()
            estimate(shape_from_facts(facts), facts, _SERVING, pools)
            times.append((time.perf_counter() - began) * 1000)
        verdict = "fits" if isinstance(result, Plan) else "refused"
        rows.append(
            {
                "model": model_id,
                "verdict": verdict,
                "median_ms": round(statistics.median(times), 2),
                "most_ms": round(max(times), 2),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Time sizing inside the process.")
    parser.add_argument("--runs", type=int, default=20, help="runs of each model (default 20)")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    rows = measure(options.runs)
    print(f"{'model':<44}{'verdict':<9}{'median':>10}{'most':>11}")
    for row in rows:
        print(f"{row['model']:<44}{row['verdict']:<9}{row['median_ms']:>7} ms{row['most_ms']:>8} ms")
    if options.json is not None:
        machine = {"python": platform.python_version(), "machine": platform.machine()}
        options.json.write_text(json.dumps({**machine, "results": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
