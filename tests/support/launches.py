"""A model of the catalogue on a card, launched as tests ask for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.catalogue import lookup
from plimsoll.sizing.engine import EngineVersion
from plimsoll.sizing.gpus import find
from plimsoll.sizing.rules import precision_for
from plimsoll.sizing.search import Placement, Search
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts

if TYPE_CHECKING:
    from plimsoll.sizing.launch import Launch


def built(
    model_id: str,
    version: tuple[int, int, int],
    card: str = "H100",
    tp: int = 1,
    pp: int = 1,
    section: dict[str, Any] | None = None,
    **options: Any,
) -> Launch:
    """The launch on one node of eight cards; `section` stands as the config's quantization_config."""
    facts = lookup(model_id)
    assert facts is not None
    if section is not None:
        facts = replace(facts, config={**facts.config, "quantization_config": section})
    shape, accelerator, release = shape_from_facts(facts), find(card), EngineVersion(version)
    serving = Serving(engine_version=str(release), **options)
    return Search(shape, serving, release).launch(
        Placement(
            pool=NodePool(name="any", accelerator=accelerator, gpus_per_node=8, nodes=1),
            accelerator=accelerator,
            precision=precision_for(shape, serving, accelerator, release),
            tensor_parallel_size=tp,
            pipeline_parallel_size=pp,
            nodes=1,
        )
    )
