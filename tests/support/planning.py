"""A case for the KV planner as plain JSON, and what Plimsoll answers to it in the words of vLLM's answer.

A case: `kinds` (the distinct caches), `layers` (for each layer the indices of its caches), `stages`, `tp`,
`element_bytes`, `block_size`, `max_model_len`, `in_flight` (tokens) and `available` (bytes, one per stage).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plimsoll.sizing import layers as caches
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.kv_plan import CacheLayout, cache_layout
from plimsoll.sizing.layers import NoCache, RecurrentState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plimsoll.sizing.layers import CacheKind

Case = dict[str, Any]
TABLE = Path(__file__).parents[1] / "sizing" / "data" / "planning.jsonl"


def summary(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer as the table keeps it: each group by its number of caches."""
    if "groups" not in answer:
        return answer
    return answer | {"groups": [[len(layers), block_size] for layers, block_size in answer["groups"]]}


def recorded() -> list[tuple[Case, dict[str, Any]]]:
    """The table of cases with what vLLM's planning code answered; `hack/conformance record` writes it."""
    rows = [json.loads(line) for line in TABLE.read_text(encoding="utf-8").splitlines()]
    return [(row["case"], row["vllm"]) for row in rows]


def kind_of(value: dict[str, Any]) -> CacheKind:
    """The cache that a case describes."""
    if value["kind"] == "State":
        return RecurrentState(
            name="state",
            state_elements=value["bytes"],
            state_element_bytes=1,
            checkpoints=value["checkpoints"],
            alignment=value["alignment"],
            per_block=value["per_block"],
        )
    made: CacheKind = getattr(caches, value["kind"])(**{k: v for k, v in value.items() if k != "kind"})
    return made


def described(kind: CacheKind, tensor_parallel_size: int, state_element_bytes: int) -> dict[str, Any]:
    """A cache in the words of a case; a recurrent state by the bytes that one rank holds."""
    if isinstance(kind, RecurrentState):
        return {
            "kind": "State",
            "bytes": kind.state_bytes(tensor_parallel_size, state_element_bytes),
            "checkpoints": kind.checkpoints,
            "alignment": kind.alignment,
            "per_block": kind.per_block,
        }
    return {"kind": type(kind).__name__, **asdict(kind)}  # type: ignore[call-overload]


def case_of(
    layers: Sequence[tuple[CacheKind, ...]],
    *,
    tensor_parallel_size: int,
    state_element_bytes: int,
    **rest: Any,
) -> Case:
    """The case of a model's caches."""
    kinds = list(dict.fromkeys(kind for held in layers for kind in held if not isinstance(kind, NoCache)))
    return {
        "kinds": [described(kind, tensor_parallel_size, state_element_bytes) for kind in kinds],
        "layers": [[kinds.index(kind) for kind in held if kind in kinds] for held in layers],
        "tp": tensor_parallel_size,
        **rest,
    }


def ours(case: Case) -> dict[str, Any]:
    """What Plimsoll plans for a case."""
    # A state is given by what one rank holds, whatever the number of ranks.
    kinds = [
        kind_of(value | {"bytes": value["bytes"] * case["tp"]} if value["kind"] == "State" else value)
        for value in case["kinds"]
    ]
    try:
        layout = cache_layout(
            [tuple(kinds[index] for index in held) for held in case["layers"]],
            stages=[(begin, end) for begin, end in case["stages"]],
            tensor_parallel_size=case["tp"],
            element_bytes=case["element_bytes"],
            block_size=case["block_size"],
            reserve_null_block=True,
            state_element_bytes=2,
        )
    except UnsupportedModelError:
        return {"refused": "pages"}
    length, in_flight, available = case["max_model_len"], case["in_flight"], case["available"]
    longest = layout.longest(length, in_flight, available)
    started = (
        _started(layout, length, case)
        if longest == length
        else {"refused": True, "estimate": layout.estimated_length(length, in_flight, available)}
    )
    return {
        "block_size": layout.block_size,
        "groups": [
            [
                list(group.layers),
                None
                if isinstance(group.kind, RecurrentState) and not group.kind.per_block
                else group.block_size,
            ]
            for group in layout.groups
        ],
        "bytes_per_block": list(layout.bytes_per_block_by_stage),
        "need": layout.need_blocks(length, in_flight),
        **started,
        "auto": {**_started(layout, longest, case), "length": longest} if longest else {"refused": True},
    }


def _started(layout: CacheLayout, length: int, case: Case) -> dict[str, Any]:
    capacity = layout.capacity(length, case["in_flight"], case["available"])
    return {
        "refused": False,
        "blocks": capacity.blocks,
        "tokens": capacity.tokens,
        "concurrency": float(capacity.max_concurrency),
    }
