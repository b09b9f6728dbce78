"""Bamba: what its layers take, until which release it is served, and where the first engine kept its states."""

from __future__ import annotations

from typing import Any

import pytest

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.backend import caches_on
from plimsoll.sizing.engine import EngineVersion, parse_version
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.facts import ModelFacts
from plimsoll.sizing.gpus import find
from plimsoll.sizing.layers import FullAttention, RecurrentState
from plimsoll.sizing.plan import Plan, Refusal, RefusalReason
from plimsoll.sizing.rules import precision_for
from plimsoll.sizing.search import Placement, Search
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.sizing.weights import rank_weights

BAMBA: dict[str, Any] = {
    "architectures": ["BambaForCausalLM"],
    "model_type": "bamba",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "attn_layer_indices": [9, 18, 27],
    "attn_rotary_emb": 64,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "mamba_n_heads": 128,
    "mamba_d_head": 64,
    "mamba_d_state": 128,
    "mamba_n_groups": 1,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "vocab_size": 128256,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
INNER, CHANNELS = 8192, 8192 + 2 * 128
MIXER = (2 * INNER + 2 * 128 + 128) * 4096 + CHANNELS * 5 + 2 * 128 + INNER + INNER * 4096
BEHIND = 3 * 4096 * 14336 + 2 * 4096
ATTENTION = 4096 * (4096 + 2 * 1024) + 4096 * 4096
ELEMENTS = 29 * (MIXER + BEHIND) + 3 * (ATTENTION + BEHIND) + 2 * 128256 * 4096 + 4096
A_BYTES = 29 * 128 * 4
STATE_BYTES = 29 * (INNER * 128 + CHANNELS * 3) * 2


def facts(**patch: object) -> ModelFacts:
    config = {**BAMBA, **patch}
    return ModelFacts(model_id="a/b", requested_revision="main", commit="0" * 40, config=config, files=())


def h100() -> NodePool:
    accelerator = find("H100")
    assert accelerator is not None
    return NodePool(name="h100", accelerator=accelerator, gpus_per_node=1, nodes=1)


def planned(release: str) -> Plan | Refusal:
    model = facts()
    return estimate(shape_from_facts(model), model, Serving(engine_version=release), (h100(),))


def test_layers_are_mamba_2_but_those_that_are_named() -> None:
    shape = shape_from_facts(facts())
    (rank,) = rank_weights(shape, 1, 1, 2, None)

    attends = [index for index, layer in enumerate(shape.layers) if isinstance(layer.cache, FullAttention)]
    assert attends == [9, 18, 27]
    assert rank.parameter_bytes == 2 * ELEMENTS + A_BYTES


def test_it_is_served_up_to_the_last_release_with_its_class() -> None:
    last, first_without = planned("0.23.0"), planned("0.24.0")

    assert isinstance(last, Plan)
    assert last.max_model_len == 4096
    assert isinstance(first_without, Refusal)
    assert first_without.reason is RefusalReason.UNSUPPORTED_MODEL
    assert "vLLM has no class for it after 0.23.0; name that release" in first_without.message


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        pytest.param({"attn_layer_indices": []}, "must be a list of layers", id="none"),
        pytest.param({"attn_layer_indices": None}, "must be a list of layers", id="absent"),
        pytest.param({"attn_layer_indices": [32]}, "each must be one of the 32 layers", id="beyond"),
        pytest.param({"attn_layer_indices": [True]}, "each must be one of the 32 layers", id="no-number"),
    ],
)
def test_layers_of_attention_must_be_named(patch: dict[str, object], words: str) -> None:
    with pytest.raises(UnsupportedModelError, match=words):
        shape_from_facts(facts(**patch))


def test_the_first_engine_kept_the_states_of_all_sequences_outside_the_planned_cache() -> None:
    shape, pool = shape_from_facts(facts()), h100()
    assert pool.accelerator is not None

    def runtime_low(sequences: int) -> int:
        version = EngineVersion((0, 7, 3))
        serving = Serving(engine_version="0.7.3", max_num_seqs=sequences, max_num_batched_tokens=4096)
        precision = precision_for(shape, serving, pool.accelerator, version)
        assert pool.accelerator is not None
        placement = Placement(
            pool=pool,
            accelerator=pool.accelerator,
            precision=precision,
            tensor_parallel_size=1,
            pipeline_parallel_size=1,
            nodes=1,
        )
        launch = Search(shape, serving, version).launch(placement)
        assert launch.layout.bytes_per_block == 3 * 16 * 2 * 8 * 128 * 2  # attention alone
        return launch.costs(4096)[0].runtime.low

    masks = 64 * 128256 // 8 + 64 * 4096 // 16 * 4  # what 64 more sequences take beside their states
    assert runtime_low(128) - runtime_low(64) == 64 * STATE_BYTES + masks


def test_later_engines_plan_the_states_with_the_cache() -> None:
    shape = shape_from_facts(facts())
    caches = caches_on(shape, parse_version("0.23.0"), h100().accelerator)

    assert sum(isinstance(kind, RecurrentState) for layer in caches for kind in layer) == 29
