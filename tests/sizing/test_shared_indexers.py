"""Sparse attention whose layers share an indexer: what vLLM 0.33.0's own classes build without a GPU, met to the byte."""

from __future__ import annotations

from typing import Any

import pytest

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.backend import caches_on
from plimsoll.sizing.checked import Config
from plimsoll.sizing.engine import parse_version
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.families.deepseek import with_indexer
from plimsoll.sizing.gpus import find
from plimsoll.sizing.layers import MultiHeadLatent, SparseIndexer
from plimsoll.sizing.model import ModelShape
from plimsoll.sizing.plan import Plan
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.sizing.weights import rank_weights
from plimsoll.units import GIB
from support.configs import facts

# zai-org/GLM-5.1-FP8 and deepseek-ai/DeepSeek-V3.2, cut to twelve layers.
_BOTH: dict[str, Any] = {
    "attention_bias": False,
    "first_k_dense_replace": 3,
    "index_head_dim": 128,
    "index_topk": 2048,
    "kv_lora_rank": 512,
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 12,
    "num_nextn_predict_layers": 1,
    "qk_rope_head_dim": 64,
    "quantization_config": {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    },
    "tie_word_embeddings": False,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
}
GLM: dict[str, Any] = {
    **_BOTH,
    "architectures": ["GlmMoeDsaForCausalLM"],
    "model_type": "glm_moe_dsa",
    "hidden_size": 6144,
    "index_n_heads": 32,
    "indexer_rope_interleave": True,
    "intermediate_size": 12288,
    "max_position_embeddings": 202752,
    "n_group": 1,
    "num_attention_heads": 64,
    "q_lora_rank": 2048,
    "qk_nope_head_dim": 192,
    "rope_parameters": {"rope_theta": 1000000, "rope_type": "default"},
    "topk_group": 1,
    "v_head_dim": 256,
    "vocab_size": 154880,
}
DEEPSEEK: dict[str, Any] = {
    **_BOTH,
    "architectures": ["DeepseekV32ForCausalLM"],
    "model_type": "deepseek_v32",
    "hidden_size": 7168,
    "index_n_heads": 64,
    "intermediate_size": 18432,
    "max_position_embeddings": 163840,
    "n_group": 8,
    "num_attention_heads": 128,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
    "rope_theta": 10000,
    "topk_group": 4,
    "v_head_dim": 128,
    "vocab_size": 129280,
}
EVERY: dict[str, Any] = {}
FOURTH = {"index_topk_freq": 4}
GLM_52 = {**FOURTH, "index_skip_topk_offset": 3}  # as GLM 5.2 publishes it
FROM_ZERO = {**FOURTH, "index_skip_topk_offset": 0}
PATTERN = {"index_topk_pattern": "FFSFSSSFSSFF"}
SHORT = {"index_topk_pattern": [*"FSSS"], "index_topk_freq": 2}  # a list, which ends before the layers do
SHARED = {"index_topk_pattern": "S" * 12}
UNREAD = {"indexer_types": ["full"] + ["shared"] * 11, "use_index_cache": True}
APART = {**FOURTH, "indexer_rope_interleave": False}


def shape_of(config: dict[str, Any], **changes: Any) -> ModelShape:
    return shape_from_facts(facts({**config, **changes}))


def indexed(shape: ModelShape) -> list[int]:
    """The layers with index keys."""
    return [index for index, layer in enumerate(shape.layers) if layer.extra_caches]


@pytest.mark.parametrize(
    ("config", "sharing", "tensor", "stages", "expected"),
    [
        pytest.param(GLM, EVERY, 1, 1, [(93_953_819_904, 25_952_448)], id="GLM, none shared, TP 1"),
        pytest.param(GLM, FOURTH, 1, 1, [(93_870_957_824, 25_952_448)], id="GLM, every fourth, TP 1"),
        pytest.param(GLM, GLM_52, 1, 1, [(93_881_315_584, 25_952_448)], id="GLM, as 5.2, TP 1"),
        pytest.param(GLM, FROM_ZERO, 1, 1, [(93_860_600_064, 25_952_448)], id="GLM, first shares, TP 1"),
        pytest.param(GLM, PATTERN, 1, 1, [(93_891_673_344, 25_952_448)], id="GLM, pattern, TP 1"),
        pytest.param(GLM, SHORT, 1, 1, [(93_922_746_624, 25_952_448)], id="GLM, short pattern, TP 1"),
        pytest.param(GLM, SHARED, 1, 1, [(93_829_526_784, 25_952_448)], id="GLM, all share, TP 1"),
        pytest.param(GLM, UNREAD, 1, 1, [(93_953_819_904, 25_952_448)], id="GLM, fields not read, TP 1"),
        pytest.param(GLM, APART, 1, 1, [(93_870_957_824, 51_904_704)], id="GLM, other pairs turned, TP 1"),
        pytest.param(GLM, EVERY, 8, 1, [(12_047_409_024, 25_952_448)], id="GLM, none shared, TP 8"),
        pytest.param(GLM, FOURTH, 8, 1, [(11_964_546_944, 25_952_448)], id="GLM, every fourth, TP 8"),
        pytest.param(GLM, GLM_52, 8, 1, [(11_974_904_704, 25_952_448)], id="GLM, as 5.2, TP 8"),
        pytest.param(GLM, PATTERN, 8, 1, [(11_985_262_464, 25_952_448)], id="GLM, pattern, TP 8"),
        pytest.param(
            GLM,
            FOURTH,
            2,
            2,
            [(16_431_344_256, 25_952_352), (30_635_950_208, 25_952_352)],
            id="GLM, every fourth, TP 2, PP 2",
        ),
        pytest.param(
            GLM, {**GLM_52, "num_hidden_layers": 78}, 8, 1, [(94_699_587_456, 25_953_504)], id="GLM 5.2, TP 8"
        ),
        pytest.param(DEEPSEEK, EVERY, 1, 1, [(109_249_259_136, 41_943_232)], id="V3.2, none shared, TP 1"),
        pytest.param(DEEPSEEK, FOURTH, 1, 1, [(109_126_542_976, 41_943_232)], id="V3.2, every fourth, TP 1"),
        pytest.param(DEEPSEEK, PATTERN, 1, 1, [(109_157_222_016, 41_943_232)], id="V3.2, pattern, TP 1"),
        pytest.param(DEEPSEEK, SHORT, 1, 1, [(109_203_240_576, 41_943_232)], id="V3.2, short pattern, TP 1"),
        pytest.param(DEEPSEEK, EVERY, 8, 1, [(14_005_485_952, 41_943_232)], id="V3.2, none shared, TP 8"),
        pytest.param(DEEPSEEK, FOURTH, 8, 1, [(13_882_769_792, 41_943_232)], id="V3.2, every fourth, TP 8"),
        pytest.param(
            DEEPSEEK, FROM_ZERO, 8, 1, [(13_867_430_272, 41_943_232)], id="V3.2, first shares, TP 8"
        ),
        pytest.param(DEEPSEEK, SHARED, 8, 1, [(13_821_411_712, 41_943_232)], id="V3.2, all share, TP 8"),
        pytest.param(
            DEEPSEEK, UNREAD, 8, 1, [(14_005_485_952, 41_943_232)], id="V3.2, fields not read, TP 8"
        ),
        pytest.param(
            DEEPSEEK,
            FOURTH,
            2,
            2,
            [(19_167_115_072, 41_943_136), (35_534_414_656, 41_943_136)],
            id="V3.2, every fourth, TP 2, PP 2",
        ),
    ],
)
def test_weights_and_buffers_of_a_rank(
    config: dict[str, Any], sharing: dict[str, Any], tensor: int, stages: int, expected: list[tuple[int, int]]
) -> None:
    shape = shape_of(config, **sharing)
    ranks = rank_weights(shape, tensor, stages, 2, shape.quantization)

    assert expected == [(rank.parameter_bytes, rank.buffer_bytes) for rank in ranks]


@pytest.mark.parametrize(
    ("sharing", "per_block", "blocks", "tokens"),
    [
        pytest.param(EVERY, 986_112, 8_710, 557_440, id="none shared"),
        pytest.param(FOURTH, 918_528, 9_351, 598_464, id="every fourth"),
        pytest.param(GLM_52, 926_976, 9_266, 593_024, id="as 5.2"),
        pytest.param(FROM_ZERO, 910_080, 9_438, 604_032, id="first shares"),
        pytest.param(PATTERN, 935_424, 9_182, 587_648, id="pattern"),
        pytest.param(SHORT, 960_768, 8_940, 572_160, id="short pattern"),
        pytest.param(SHARED, 884_736, 9_709, 621_376, id="all share"),
    ],
)
@pytest.mark.parametrize("config", [pytest.param(GLM, id="GLM"), pytest.param(DEEPSEEK, id="V3.2")])
@pytest.mark.parametrize("tensor", [pytest.param(1, id="TP 1"), pytest.param(8, id="TP 8")])
def test_the_cache_in_8_gib(
    config: dict[str, Any], tensor: int, sharing: dict[str, Any], per_block: int, blocks: int, tokens: int
) -> None:
    known = facts({**config, **sharing})
    serving = Serving(
        engine_version="0.33.0",
        kv_cache_memory_bytes=8 * GIB,
        tensor_parallel_size=tensor,
        max_model_len=131072,
    )
    pool = NodePool(name="one node", accelerator=find("H200"), gpus_per_node=8, nodes=1)
    plan = estimate(shape_from_facts(known), known, serving, (pool,))

    assert isinstance(plan, Plan)
    cache = plan.kv_cache
    assert (64, per_block, blocks, tokens) == (
        cache.block_size,
        cache.bytes_per_block,
        cache.blocks,
        cache.tokens,
    )


@pytest.mark.parametrize(
    ("sharing", "expected"),
    [
        pytest.param({}, [*range(12)], id="nothing said"),
        pytest.param({"index_topk_freq": 1}, [*range(12)], id="every layer"),
        pytest.param({"index_topk_pattern": None, **FOURTH}, [0, 1, 5, 9], id="null is no pattern"),
        pytest.param({"index_topk_freq": 100}, [0, 1], id="more than there are layers"),
        pytest.param({**FOURTH, "index_skip_topk_offset": -3}, [0, 4, 8], id="before the first layer"),
        pytest.param({"index_topk_pattern": ""}, [*range(12)], id="an empty pattern"),
        pytest.param({"index_topk_pattern": "FSSS" * 4}, [0, 4, 8], id="a longer pattern"),
        pytest.param(
            {**PATTERN, "index_topk_freq": None, "index_skip_topk_offset": None},
            [0, 1, 3, 7, 10, 11],
            id="a pattern beside nulls, which are not read then",
        ),
    ],
)
def test_the_layers_that_have_an_indexer(sharing: dict[str, Any], expected: list[int]) -> None:
    assert expected == indexed(shape_of(GLM, **sharing)) == indexed(shape_of(DEEPSEEK, **sharing))


def test_glm_5_2_has_21_indexers_in_78_layers() -> None:
    shape = shape_of(GLM, **GLM_52, num_hidden_layers=78)

    assert [0, 1, 2, *range(6, 78, 4)] == indexed(shape)
    # In 8 bits outside Hopper, whose kernel keeps scales beside the latents; an engine that served it counted this.
    caches = [cache for held in caches_on(shape, parse_version("0.33.0"), find("B200")) for cache in held]
    assert sum(cache.token_bytes(8, 1) for cache in caches) == 47_700


@pytest.mark.parametrize(
    ("version", "keys"),
    [
        pytest.param("0.23.0", 78, id="0.23.0, one for each layer"),
        pytest.param("0.24.0", 21, id="0.24.0, one for each indexer"),
    ],
)
def test_older_releases_keep_index_keys_in_every_layer(version: str, keys: int) -> None:
    shape = shape_of(GLM, **GLM_52, num_hidden_layers=78)
    layers = caches_on(shape, parse_version(version), find("H200"))

    assert [SparseIndexer, MultiHeadLatent] == [type(cache) for cache in layers[0]]
    assert keys == sum(isinstance(cache, SparseIndexer) for held in layers for cache in held)
    assert all(isinstance(held[-1], MultiHeadLatent) for held in layers)


def test_an_older_release_gives_no_indexer_to_a_model_without() -> None:
    dense = {**DEEPSEEK, "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3"}
    shape = shape_of({field: value for field, value in dense.items() if not field.startswith("index_")})

    assert caches_on(shape, parse_version("0.23.0"), find("H200")) == tuple(
        (layer.cache,) for layer in shape.layers
    )


@pytest.mark.parametrize("index", [pytest.param(0, id="dense"), pytest.param(3, id="routed")])
def test_a_draft_layer_has_an_indexer_whatever_the_pattern(index: int) -> None:
    own = shape_of(GLM).layers[index]
    sharing = shape_of(GLM, **SHARED).layers[index]
    made = with_indexer(Config({**GLM, **SHARED}), sharing, "glm_moe_dsa")

    assert made.extra_caches == own.extra_caches == (SparseIndexer(head_size=128),)
    assert sorted(own.tensors, key=repr) == sorted(made.tensors, key=repr)
    assert with_indexer(Config(GLM), own, "glm_moe_dsa") is own
    assert with_indexer(Config(GLM), sharing, "deepseek_v3") is sharing


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        pytest.param("index_topk_freq", 0, "it must be between 1 and", id="no layer"),
        pytest.param("index_topk_freq", -4, "it must be between 1 and", id="below none"),
        pytest.param("index_topk_freq", 2.0, "a whole number from 1", id="a fraction"),
        pytest.param("index_topk_freq", True, "a whole number from 1", id="true"),
        pytest.param("index_topk_freq", "4", "a whole number from 1", id="a string"),
        pytest.param("index_topk_freq", None, "set a number, or leave it out", id="null"),
        pytest.param("index_skip_topk_offset", None, "set a number, or leave it out", id="offset of null"),
        pytest.param("index_skip_topk_offset", "2", "it must be a whole number", id="offset in a string"),
        pytest.param("index_topk_pattern", 4, "of the letters F", id="a number for a pattern"),
        pytest.param("index_topk_pattern", {"0": "F"}, "of the letters F", id="an object"),
        pytest.param("index_topk_pattern", "FXS", "of the letters F", id="another letter"),
        pytest.param("index_topk_pattern", "fs", "of the letters F", id="small letters"),
        pytest.param("index_topk_pattern", ["full", "shared"], "of the letters F", id="words"),
        pytest.param("index_topk_pattern", [["F"], 1], "of the letters F", id="lists in a list"),
        pytest.param("indexer_rope_interleave", "yes", "true or false", id="a flag in words"),
    ],
)
@pytest.mark.parametrize("config", [pytest.param(GLM, id="GLM"), pytest.param(DEEPSEEK, id="V3.2")])
def test_what_vllm_cannot_read_is_refused(
    config: dict[str, Any], field: str, value: object, words: str
) -> None:
    with pytest.raises(UnsupportedModelError) as refused:
        shape_of(config, **{field: value})

    assert f"{field} is {value!r}" in str(refused.value)
    assert words in str(refused.value)
