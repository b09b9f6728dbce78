"""DeepSeek V4: what vLLM 0.33.0's own classes build without a GPU, met to the byte."""

from __future__ import annotations

from typing import Any

import pytest

from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.estimate import estimate
from plimsoll.sizing.gpus import find
from plimsoll.sizing.kv_groups import Spec
from plimsoll.sizing.kv_packed import packed_buckets
from plimsoll.sizing.layers import PackedCache
from plimsoll.sizing.plan import Plan, Refusal
from plimsoll.sizing.serving import Serving
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.sizing.weights import rank_weights
from plimsoll.units import GIB
from support.configs import facts

# deepseek-ai/DeepSeek-V4-Flash, as published.
FLASH: dict[str, Any] = {
    "architectures": ["DeepseekV4ForCausalLM"],
    "model_type": "deepseek_v4",
    "expert_dtype": "fp4",
    "hc_mult": 4,
    "head_dim": 512,
    "hidden_size": 4096,
    "index_head_dim": 128,
    "index_n_heads": 64,
    "index_topk": 512,
    "max_position_embeddings": 1048576,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 64,
    "num_experts_per_tok": 6,
    "num_hash_layers": 3,
    "num_hidden_layers": 43,
    "num_key_value_heads": 1,
    "num_nextn_predict_layers": 1,
    "o_groups": 8,
    "o_lora_rank": 1024,
    "q_lora_rank": 1024,
    "qk_rope_head_dim": 64,
    "quantization_config": {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "scale_fmt": "ue8m0",
        "weight_block_size": [128, 128],
    },
    "rope_scaling": {"factor": 16, "original_max_position_embeddings": 65536, "type": "yarn"},
    "sliding_window": 128,
    "tie_word_embeddings": False,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
    "vocab_size": 129280,
    "compress_ratios": [0, 0, *(4, 128) * 20, 4, 0],
}


def shape_of(**changes: Any) -> Any:
    return shape_from_facts(facts({**FLASH, **changes}))


@pytest.mark.parametrize(
    ("tensor", "stages", "experts", "expected"),
    [
        pytest.param(1, 1, False, [(156_006_389_980, 536_870_912)], id="TP 1"),
        pytest.param(2, 1, False, [(78_656_967_644, 536_870_912)], id="TP 2"),
        pytest.param(4, 1, False, [(39_982_256_476, 536_870_912)], id="TP 4"),
        pytest.param(8, 1, False, [(20_644_900_892, 536_870_912)], id="TP 8"),
        pytest.param(4, 1, True, [(39_982_256_476, 536_914_944)], id="TP 4 with whole experts"),
        pytest.param(
            2, 2, False, [(40_211_185_060, 536_870_912), (38_446_044_748, 268_435_456)], id="TP 2, PP 2"
        ),
    ],
)
def test_weights_and_tables_of_a_rank(
    tensor: int, stages: int, experts: bool, expected: list[tuple[int, int]]
) -> None:
    shape = shape_of()
    ranks = rank_weights(shape, tensor, stages, 2, shape.quantization, expert_parallel=experts)

    assert expected == [(rank.parameter_bytes, rank.buffer_bytes) for rank in ranks]


@pytest.mark.parametrize(
    ("card", "given", "blocks", "length", "tokens"),
    [
        pytest.param("H100", 2, 2_142, 5_204, 5_206, id="H100, 2 GiB"),
        pytest.param("H100", 8, 8_570, 483_072, 483_128, id="H100, 8 GiB"),
        pytest.param("H100", 24, 25_712, 1_048_576, 2_501_483, id="H100, 24 GiB"),
        pytest.param("B200", 24, 25_712, 1_048_576, 1_546_460, id="B200, 24 GiB"),
    ],
)
def test_the_cache_in_a_given_space(card: str, given: int, blocks: int, length: int, tokens: int) -> None:
    serving = Serving(engine_version="0.33.0", kv_cache_memory_bytes=given * GIB, tensor_parallel_size=8)
    plan = planned(card, serving)

    assert isinstance(plan, Plan)
    assert (plan.kv_cache.block_size, plan.kv_cache.bytes_per_block) == (256, 1_002_240)
    assert (plan.kv_cache.blocks, plan.max_model_len) == (blocks, length)
    assert plan.kv_cache.tokens == tokens


def planned(card: str, serving: Serving) -> Plan | Refusal:
    known = facts(FLASH)
    pool = NodePool(name="one node", accelerator=find(card), gpus_per_node=8, nodes=1)
    return estimate(shape_from_facts(known), known, serving, (pool,))


@pytest.mark.parametrize(
    ("card", "options", "words"),
    [
        pytest.param("A100-80GB", {}, "needs 9.0 or higher", id="card"),
        pytest.param("H200", {"kv_cache_dtype": "bfloat16"}, "its own layout of 8 bits", id="cache dtype"),
        pytest.param("H200", {"block_size": 64}, "keeps blocks of 256", id="block size"),
    ],
)
def test_what_the_packed_layout_excludes_is_refused(card: str, options: dict[str, Any], words: str) -> None:
    result = planned(card, Serving(engine_version="0.33.0", **options))

    assert isinstance(result, Refusal)
    assert words in result.message


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        pytest.param("compress_ratios", None, "a list of at least 43 ratios", id="no ratios"),
        pytest.param("compress_ratios", [4] * 42, "a list of at least 43 ratios", id="too few ratios"),
        pytest.param("compress_ratios", [8] * 43, "each must be 0, 4 or 128", id="another ratio"),
        pytest.param("compress_ratios", [True] * 43, "each must be 0, 4 or 128", id="no number"),
        pytest.param("compress_ratios", [[4]] * 43, "each must be 0, 4 or 128", id="a list of lists"),
        pytest.param("compress_ratios", [4] * 42 + [0], "must be the first ones", id="windows at the end"),
        pytest.param("expert_dtype", "int4", "must be one of fp4, fp8", id="experts in another format"),
        pytest.param("quantization_config", None, "served in fp8 with blocks", id="not quantized"),
        pytest.param("head_dim", 256, "packed layout of its cache is for 512", id="another head"),
        pytest.param("o_groups", 7, "must divide num_attention_heads, 64", id="groups"),
    ],
)
def test_a_config_that_is_none_names_its_field(field: str, value: object, words: str) -> None:
    with pytest.raises(UnsupportedModelError) as refused:
        shape_of(**{field: value})

    assert field in str(refused.value)
    assert words in str(refused.value)


def test_experts_in_fp8_keep_scales_of_four_bytes() -> None:
    plain, packed = (shape_of(expert_dtype=kind) for kind in ("fp8", "fp4"))
    (large,), (small,) = (rank_weights(one, 1, 1, 2, one.quantization) for one in (plain, packed))

    # A cell of a block of 128 x 128 in fp8 has a byte and its share of a scale, in MXFP4 half and a 32nd more.
    cells = 43 * 256 * 3 * 2048 * 4096
    linears = large.parameter_bytes - small.parameter_bytes - cells * 15 // 32 - cells // 128 // 128 * 4
    assert linears == 3 * 357_504  # the other scales, 357,504 in number


def specs(counts: dict[tuple[int, int | None, int], int]) -> list[Spec]:
    """So many caches of each block size, window and page."""
    return [
        Spec(
            layer=layer,
            kind=PackedCache(name="x", tokens=block, page_bytes=page, window=window),
            block_size=block,
            page_bytes=page,
        )
        for (block, window, page), count in counts.items()
        for layer in range(count)
    ]


@pytest.mark.parametrize(
    ("counts", "sizes"),
    [
        pytest.param({(64, 128, 9): 43, (256, None, 5): 3, (256, None, 7): 4}, [43, 7], id="nothing repeats"),
        pytest.param({(64, 128, 9): 43, (4, 8, 5): 21, (4, 8, 7): 21}, [22, 21, 42], id="a pattern of two"),
        pytest.param(
            {(64, 128, 9): 6, (4, 8, 5): 2, (4, 8, 7): 2}, [2, 2, 2, 4], id="a pattern that divides"
        ),
    ],
)
def test_layers_are_cut_to_the_pattern(
    counts: dict[tuple[int, int | None, int], int], sizes: list[int]
) -> None:
    assert sizes == [len(bucket) for bucket in packed_buckets(specs(counts))]
