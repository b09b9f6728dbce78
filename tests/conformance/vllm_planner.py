"""VLLM's own planning of the KV cache, asked line by line: a case in JSON comes in, what vLLM answers goes out.

Runs in the environment of hack/conformance, never in Plimsoll's own. Knows nothing of `plimsoll`: what it says
of a case is made by vLLM's classes and functions alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

os.environ["VLLM_TARGET_DEVICE"] = "cpu"
os.environ["VLLM_LOGGING_LEVEL"] = "CRITICAL"
os.environ["VLLM_NO_USAGE_STATS"] = "1"
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever vLLM prints is no answer

import torch  # noqa: E402
from vllm.model_executor import models  # noqa: E402
from vllm.model_executor.layers.mamba import abstract  # noqa: E402
from vllm.model_executor.layers.mamba.mamba_utils import MambaStateShapeCalculator  # noqa: E402
from vllm.platforms.interface import Platform  # noqa: E402
from vllm.v1.attention.backend import MultipleOf  # noqa: E402
from vllm.v1.attention.backends.utils import (  # noqa: E402
    get_supported_kv_cache_layouts,
    resolve_kv_cache_layout,
)
from vllm.v1.core import kv_cache_planning as planning  # noqa: E402
from vllm.v1.core import kv_cache_utils as utils  # noqa: E402
from vllm.v1.core.kv_cache_config_builder import get_kv_cache_config_builder  # noqa: E402
from vllm.v1.core.single_type_kv_cache_manager import register_all_kvcache_specs  # noqa: E402
from vllm.v1.kv_cache_interface import (  # noqa: E402
    ChunkedLocalAttentionSpec,
    CrossAttentionSpec,
    FullAttentionSpec,
    KVCacheLayout,
    MambaSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
)

DTYPES = {1: torch.uint8, 2: torch.bfloat16, 4: torch.float32}
LAYOUTS = [layout.name for layout in get_supported_kv_cache_layouts([])]  # backends that ask for none
ATTENTION: dict[str, tuple[type, dict[str, str]]] = {
    "FullAttention": (FullAttentionSpec, {}),
    "CrossAttention": (CrossAttentionSpec, {}),
    "SlidingWindow": (SlidingWindowSpec, {"sliding_window": "window"}),
    "ChunkedLocal": (ChunkedLocalAttentionSpec, {"attention_chunk_size": "chunk"}),
}
DS_MLA_BYTES = 656  # of a token: FP8_DS_MLA_ROW_BYTES of vllm/v1/hisparse/runtime.py
ESTIMATE = re.compile(r"estimated maximum model length is (\d+)")


def kv_heads(kind: dict[str, Any], case: dict[str, Any]) -> int:
    """As ModelConfig.get_num_kv_heads."""
    return max(1, kind["num_kv_heads"] // case["tp"])


def attention(cls: type, kind: dict[str, Any], case: dict[str, Any], **more: Any) -> Any:
    return cls(
        block_size=case["block"],
        num_kv_heads=kv_heads(kind, case),
        head_size=kind["head_size"],
        dtype=DTYPES[case["element_bytes"]],
        state_content_bytes=kind.get("pair_bytes"),
        **more,
    )


def latent(kind: dict[str, Any], case: dict[str, Any]) -> Any:
    """As MLAAttention.get_kv_cache_spec; sparse MLA packs an 8-bit cache into rows of its own."""
    packed = kind["packed_fp8"] and case["element_bytes"] == 1
    return MLAAttentionSpec(
        block_size=case["block"],
        num_kv_heads=1,
        head_size=kind["kv_lora_rank"] + kind["qk_rope_head_dim"],
        dtype=DTYPES[case["element_bytes"]],
        cache_dtype_str="fp8_ds_mla" if packed else None,
        state_content_bytes=DS_MLA_BYTES if packed else None,
    )


def spec_of(kind: dict[str, Any], case: dict[str, Any]) -> Any:
    """The spec that a layer of vLLM would give."""
    name = kind["kind"]
    if name in ATTENTION:
        cls, fields = ATTENTION[name]
        return attention(cls, kind, case, **{theirs: kind[ours] for theirs, ours in fields.items()})
    if name == "MultiHeadLatent":
        return latent(kind, case)
    if name == "SparseIndexer":  # DeepseekV32IndexerCache: keys of 8 bits and a float32 scale for each 128
        width = kind["head_size"] + kind["head_size"] // 128 * 4
        return MLAAttentionSpec(block_size=case["block"], num_kv_heads=1, head_size=width, dtype=torch.uint8)
    align = kind["per_block"]
    return MambaSpec(
        block_size=case["block"] if align else case["max_model_len"],
        shapes=((kind["bytes"],),),
        dtypes=(torch.uint8,),
        page_size_padded=case["state_page"],
        mamba_cache_mode="align" if align else "none",
        num_prefill_checkpoint_blocks=kind["checkpoints"],
    )


def config_of(case: dict[str, Any]) -> SimpleNamespace:
    """As much of a VllmConfig as planning reads."""
    states = [kind for kind in case["kinds"] if kind["kind"] == "State"]
    aligned = any(kind["per_block"] for kind in states)
    return SimpleNamespace(
        model_config=SimpleNamespace(
            max_model_len=case["max_model_len"],
            original_max_model_len=case["max_model_len"],
            supports_kv_cache_grouping=False,
            dtype=torch.bfloat16,
            use_mla=any(kind["kind"] == "MultiHeadLatent" for kind in case["kinds"]),
            architecture="conformance",
        ),
        cache_config=SimpleNamespace(
            num_gpu_blocks_override=None,
            prefix_cache_retention_interval=None,
            mamba_cache_mode="align" if aligned else "none",
            mamba_page_size_padded=None,
            mamba_block_size=None,
            enable_prefix_caching=aligned or not states,
            block_size=case["block_size"],
            cache_dtype="auto",
            kv_cache_layout=None,
        ),
        parallel_config=SimpleNamespace(
            tensor_parallel_size=case["tp"], decode_context_parallel_size=1, pipeline_parallel_size=1
        ),
        scheduler_config=SimpleNamespace(
            disable_hybrid_kv_cache_manager=not case.get("hybrid_manager", True),
            max_num_batched_tokens=case["in_flight"],
            max_num_encoder_input_tokens=case["in_flight"] // 2,  # one batch of two
        ),
        attention_config=SimpleNamespace(hisparse_config=None),
        speculative_config=None,
        kv_transfer_config=None,
        num_prefill_lookahead_tokens=0,
        max_in_flight_tokens=case["in_flight"],
        device_config=SimpleNamespace(device_type="cuda"),
    )


def align(config: SimpleNamespace, case: dict[str, Any]) -> None:
    """Let vLLM's platform choose the block size beside recurrent states, and the page that they are padded to."""
    case.update(block=case["block_size"], state_page=None)
    states = [kind for kind in case["kinds"] if kind["kind"] == "State"]
    held = [case["kinds"][index] for layer in case["layers"] for index in layer]
    tokens = [kind for kind in held if kind["kind"] not in ("State", "SparseIndexer")]
    if not states or not tokens:
        return
    first, largest = tokens[0], max(states, key=lambda kind: kind["bytes"])
    size = (
        first["kv_lora_rank"] + first["qk_rope_head_dim"]
        if config.model_config.use_mla
        else first["head_size"]
    )
    config.model_config.get_head_size = lambda: size
    config.model_config.get_num_kv_heads = lambda _: (
        1 if config.model_config.use_mla else kv_heads(first, case)
    )
    config.model_config.dtype = DTYPES[case["element_bytes"]]
    model = SimpleNamespace(
        get_mamba_state_shape_from_config=lambda _: ((largest["bytes"],),),
        get_mamba_state_dtype_from_config=lambda _: (torch.uint8,),
    )
    models.ModelRegistry = SimpleNamespace(resolve_model_cls=lambda *_, **__: (model, None))
    abstract.get_mamba_prefill_checkpoint_alignment = lambda _: max(kind["alignment"] for kind in states)
    packed = first.get("pair_bytes")
    backend = SimpleNamespace(
        customize_spec=lambda spec: replace(spec, state_content_bytes=packed) if packed else spec,
        get_supported_kernel_block_sizes=lambda: [MultipleOf(case["block_size"])],
    )

    class Pretended(Platform):
        @classmethod
        def _find_non_ssm_backends(cls, *_: Any) -> list[Any]:
            return [backend]

    Pretended._align_hybrid_block_size(config, backend)
    case.update(block=config.cache_config.block_size, state_page=config.cache_config.mamba_page_size_padded)


def group_of(group: Any, names: dict[str, int]) -> list[Any]:
    """Layers and tokens of a block; no tokens where a state is kept once per request."""
    spec = group.kv_cache_spec
    first = next(iter(getattr(spec, "kv_cache_specs", {"": spec}).values()))
    once = isinstance(first, MambaSpec) and first.mamba_cache_mode == "none"
    return [[names[name] for name in group.layer_names], None if once else first.block_size]


def plan(case: dict[str, Any]) -> dict[str, Any]:
    """Groups, blocks and capacity, or what vLLM raises."""
    config = config_of(case)
    align(config, case)
    names: dict[str, int] = {}
    workers: list[dict[str, Any]] = []
    for begin, end in case["stages"]:
        worker = {}
        for layer in range(begin, end):
            for place, index in enumerate(case["layers"][layer]):
                name = f"model.layers.{layer}.{place}"
                names[name] = layer
                worker[name] = spec_of(case["kinds"][index], case)
        workers.append(worker)
    specs = [spec for worker in workers for spec in worker.values()]
    name = resolve_kv_cache_layout(config, [LAYOUTS] * len(workers), specs).name
    config.cache_config.get_resolved_kv_cache_layout = lambda: KVCacheLayout[name]
    try:
        groups = planning.get_global_kv_cache_groups(config, workers)
    except NotImplementedError:
        return {"refused": "pages"}
    builder = get_kv_cache_config_builder(config)
    projected = [planning._project_kv_cache_groups_to_worker(groups, worker) for worker in workers]
    per_block = [planning._pool_bytes_per_block_from_builder(builder, config, each) for each in projected]
    most = max(range(len(workers)), key=per_block.__getitem__)
    used = planning._max_memory_usage_bytes_from_groups(builder, config, projected[most])
    answer = {
        "block_size": case["block"],
        "groups": [group_of(group, names) for group in groups],
        "bytes_per_block": per_block,
        "need": used // per_block[most],
        **_start(config, workers, groups, case),
    }
    config.model_config.original_max_model_len = -1
    automatic = _start(config, workers, groups, case)
    answer["auto"] = (
        {"refused": True}
        if automatic["refused"]
        else automatic | {"length": config.model_config.max_model_len}
    )
    answer["auto"].pop("estimate", None)
    return answer


def _start(config: Any, workers: list[Any], groups: list[Any], case: dict[str, Any]) -> dict[str, Any]:
    """What the engine core reports, or the length that its refusal names."""
    try:
        made = planning.get_kv_cache_configs(config, workers, case["available"], groups)
    except ValueError as error:
        found = ESTIMATE.search(str(error))
        return {"refused": True, "estimate": int(found[1]) if found else 0}
    whole = utils.generate_scheduler_kv_cache_config(made)
    tokens, concurrency = utils.get_kv_cache_capacity(config, whole)
    return {"refused": False, "blocks": whole.num_blocks, "tokens": tokens, "concurrency": concurrency}


def state(case: dict[str, Any]) -> dict[str, Any]:
    """Elements of each state of one layer on one rank."""
    shapes = getattr(MambaStateShapeCalculator, case["of"])(**case["arguments"])
    sizes = []
    for shape in shapes:
        size = 1
        for length in shape:
            size *= length
        sizes.append(size)
    return {"elements": sizes}


def main() -> None:
    from vllm.config import vllm as config_module

    config_module.set_current_vllm_config = lambda *_, **__: contextlib.nullcontext()
    register_all_kvcache_specs(
        config_of({"kinds": [], "max_model_len": 1, "block_size": 16, "tp": 1, "in_flight": 1})
    )
    for line in sys.stdin:
        case = json.loads(line)
        try:
            answer = state(case) if "of" in case else plan(case)
        except Exception as error:  # noqa: BLE001 - the asker shows it with its case
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


main()
