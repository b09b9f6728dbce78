"""Cases from the bundled catalogue: every model, split as people split it, with as much memory as decides something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plimsoll.sizing.backend import caches_on, kernel_block_size
from plimsoll.sizing.catalogue import lookup, model_ids
from plimsoll.sizing.engine import parse_version
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.gpus import find
from plimsoll.sizing.layers import PackedCache
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.sizing.weights import rank_weights, tensor_parallel_problem
from support.planning import case_of

if TYPE_CHECKING:
    from collections.abc import Iterator

GIB = 1024**3
VERSION = parse_version("0.33.0")
SPLITS = ((1, 1), (2, 1), (4, 1), (8, 1), (1, 2), (2, 3))
CARDS = {"H100": 16384, "A100-80GB": 4096}  # tokens in flight on one stage


def catalogue_cases() -> Iterator[dict[str, Any]]:
    """One case per model, card, split and cache dtype; the memory and the wanted length change from case to case."""
    number = 0
    for model_id in model_ids():
        model = lookup(model_id)
        assert model is not None
        try:
            shape = shape_from_facts(model)
        except UnsupportedModelError:
            continue
        if any(isinstance(kind, PackedCache) for layer in shape.layers for kind in layer.caches):
            continue  # DeepSeek V4: specs of its own, held against vectors in test_vllm_plans.py
        for name, in_flight in CARDS.items():
            card = find(name)
            for tensor, pipeline in SPLITS:
                if tensor_parallel_problem(shape, tensor, None):
                    continue
                number += 1
                element_bytes = 1 if number % 4 == 0 else 2
                kinds = caches_on(shape, VERSION, card)
                stages = [list(r.layers) for r in rank_weights(shape, tensor, pipeline, 2, None)]
                yield {
                    "model": model_id,
                    **case_of(
                        kinds,
                        tensor_parallel_size=tensor,
                        state_element_bytes=2,
                        element_bytes=element_bytes,
                        block_size=kernel_block_size(shape, VERSION, card, fp8_cache=element_bytes == 1),
                        stages=stages,
                        max_model_len=shape.max_model_len if number % 2 else 8192,
                        in_flight=in_flight // 2 * (pipeline + 1),
                        available=[(2, 9, 31)[number % 3] * GIB + number * 7919] * pipeline,
                    ),
                }
