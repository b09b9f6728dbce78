"""How long sizing takes inside the process: `python bench/sizing.py [--runs N] [--json FILE]`.

First one estimate on one kind of node: a dense model, which must take under 1 ms, and a hybrid of 100 layers, under
5 ms. Then every model of the catalogue over every card of the catalogue, 8 per node and 4 nodes: the widest search
that the operator or the webhook can be asked for. Times are of the processor, so that a busy machine does not count.
Prints tables and, on request, writes JSON; ends with 1 where a limit is broken.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from plimsoll.sizing import catalogue, gpus
from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.plan import Plan
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from plimsoll.sizing.facts import ModelFacts

_SERVING = Serving(engine_version="0.33.0", max_nodes=4)
_HYBRID_LAYERS = 100
# Model, card, layers (None: as published), milliseconds that one estimate may take.
_LIMITS = (
    ("meta-llama/Llama-3.1-8B-Instruct", "A10", None, 1.0),
    ("Qwen/Qwen3-Next-80B-A3B-Instruct", "H200", _HYBRID_LAYERS, 5.0),
)


def one_estimate(runs: int) -> list[dict[str, object]]:
    """An estimate on one kind of node, its shape read before, held against its limit."""
    rows: list[dict[str, object]] = []
    for model_id, card, layers, limit_ms in _LIMITS:
        facts = known(model_id)
        if layers is not None:
            facts = replace(facts, config={**facts.config, "num_hidden_layers": layers})
        shape = shape_from_facts(facts)
        pool = NodePool(name=card, accelerator=gpus.find(card), gpus_per_node=8, nodes=1)
        times = timed(lambda: estimate(shape, facts, Serving(engine_version="0.33.0"), (pool,)), runs)  # noqa: B023
        rows.append(
            {
                "model": model_id,
                "card": card,
                "layers": len(shape.layers),
                "median_ms": round(statistics.median(times), 2),
                "limit_ms": limit_ms,
            }
        )
    return rows


def timed(call: Callable[[], object], runs: int) -> list[float]:
    """Milliseconds of the processor for each run, after one that fills the caches."""
    call()
    times: list[float] = []
    for _ in range(runs):
        began = time.process_time()
        call()
        times.append((time.process_time() - began) * 1000)
    return times


def known(model_id: str) -> ModelFacts:
    """A model that the catalogue must have."""
    facts = catalogue.lookup(model_id)
    if facts is None:
        raise LookupError(model_id)
    return facts


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
        facts = known(model_id)
        result = estimate(shape_from_facts(facts), facts, _SERVING, pools)
        times = timed(lambda: estimate(shape_from_facts(facts), facts, _SERVING, pools), runs)  # noqa: B023
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


def main() -> int:
    parser = argparse.ArgumentParser(description="Time sizing inside the process.")
    parser.add_argument("--runs", type=int, default=20, help="runs of each model (default 20)")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    single = one_estimate(max(options.runs, 20))
    for row in single:
        print(
            f"{row['model']} with {row['layers']} layers on {row['card']}: {row['median_ms']} ms, limit {row['limit_ms']} ms"
        )
    print()
    rows = measure(options.runs)
    print(f"{'model':<44}{'verdict':<9}{'median':>10}{'most':>11}")
    for row in rows:
        print(f"{row['model']:<44}{row['verdict']:<9}{row['median_ms']:>7} ms{row['most_ms']:>8} ms")
    if options.json is not None:
        machine = {"python": platform.python_version(), "machine": platform.machine()}
        options.json.write_text(
            json.dumps({**machine, "single": single, "results": rows}, indent=2) + "\n", encoding="utf-8"
        )

    return int(any(float(str(row["median_ms"])) > float(str(row["limit_ms"])) for row in single))


if __name__ == "__main__":
    sys.exit(main())
