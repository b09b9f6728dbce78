"""VLLM from a config.json to the plan of its KV cache: arguments, engine configuration, model classes, cache specs."""

from __future__ import annotations

import copy
import json
import os
import pickle
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pretend import OnMeta
from slots import lora_sums
from torch.testing._internal.distributed.fake_pg import FakeStore
from vllm.config import get_layers_from_vllm_config, set_current_vllm_config
from vllm.distributed import parallel_state
from vllm.engine.arg_utils import EngineArgs
from vllm.model_executor.layers.attention_layer_base import AttentionLayerBase
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.platforms import current_platform
from vllm.usage.usage_lib import UsageContext
from vllm.utils.torch_utils import set_default_torch_dtype
from vllm.v1.attention.backends.utils import resolve_kv_cache_layout
from vllm.v1.core import kv_cache_planning as planning
from vllm.v1.core import kv_cache_utils as utils
from vllm.v1.core.kv_cache_config_builder import get_kv_cache_config_builder
from vllm.v1.core.single_type_kv_cache_manager import register_all_kvcache_specs
from vllm.v1.worker.gpu.attn_utils import get_kv_cache_spec
from vllm.v1.worker.gpu.spec_decode.eagle import utils as drafts
from vllm.v1.worker.worker_base import get_current_attn_backends, get_supported_kv_cache_layouts

if TYPE_CHECKING:
    from collections.abc import Callable

Row = dict[str, Any]
_GROUP_FIELDS = (
    "sliding_window",
    "attention_chunk_size",
    "page_size_padded",
    "num_prefill_checkpoint_blocks",
)


def apart(function: Callable[[], Any]) -> tuple[bool, Any]:
    """Run it in a process of its own, since vLLM's groups are global: whether it went well, and what came of it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            result = (True, function())
        except BaseException as error:  # noqa: BLE001 - whatever vLLM raises is its answer
            result = (False, (type(error).__name__, str(error)[:1500], traceback.format_exc()))
        with os.fdopen(writer, "wb") as file:
            pickle.dump(result, file)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        data = file.read()
    os.waitpid(child, 0)
    if not data:
        return False, ("Ended", "the process ended without an answer", "")
    answer: tuple[bool, Any] = pickle.loads(data)  # noqa: S301 - from our own child
    return answer


def answer(job: Row, config: Row) -> Row:
    """The row of one job: what vLLM makes of it, or what it raises."""
    row = {name: job.get(name) for name in ("gpu", "tp", "pp", "kv_cache_dtype", "extra")}
    went_well, made = apart(lambda: _build(job, config))
    if went_well:
        return {**row, "status": "ok", **made}
    kind, text, trace = made
    return {**row, "status": "refused", "error_type": kind, "error": text, "trace": trace}


def _build(job: Row, config: Row) -> Row:
    tensor, pipeline = job["tp"], job["pp"]
    folder = Path(tempfile.mkdtemp(prefix="config"))
    (folder / "config.json").write_text(json.dumps(config))
    arguments = EngineArgs(
        model=str(folder),
        tensor_parallel_size=tensor,
        pipeline_parallel_size=pipeline,
        kv_cache_dtype=job["kv_cache_dtype"],
        load_format="dummy",
        distributed_executor_backend="mp" if tensor * pipeline > 1 else None,
        **(job.get("extra") or {}),
    )
    engine = arguments.create_engine_config(UsageContext.OPENAI_API_SERVER)
    later = []
    for stage in range(1, pipeline):
        went_well, made = apart(lambda rank=stage * tensor: _rank(copy.deepcopy(engine), rank)[:2])
        if not went_well:
            raise RuntimeError(*made[:2])
        later.append(made)
    first, specs, model = _rank(engine, 0)
    register_all_kvcache_specs(engine)
    ranks, workers = [first, *(rank for rank, _ in later)], [specs, *(spec for _, spec in later)]
    names = [layout.name for layout in get_supported_kv_cache_layouts(get_current_attn_backends(engine))]
    layout = resolve_kv_cache_layout(engine, [names] * len(workers), [s for w in workers for s in w.values()])
    groups, per_block, need = _groups(engine, workers)
    for rank, size in zip(ranks, per_block, strict=True):
        rank["bytes_per_block"] = size
    layers = get_layers_from_vllm_config(engine, AttentionLayerBase).values()
    backends = Counter(layer.get_attn_backend().get_name() for layer in layers)
    return {
        **_settings(engine),
        "architecture": type(model).__name__,
        "ranks": ranks,
        "attention_backends": [{"name": name, "layers": count} for name, count in backends.items()],
        "kv_layout": layout.name,
        "groups": groups,
        "bytes_per_block": max(per_block),
        "need_blocks_max_model_len": need,
        "plans": [_plan(engine, workers, available) for available in job.get("available_bytes") or ()],
    }


def _settings(engine: Any) -> Row:
    scheduler, cache, model = engine.scheduler_config, engine.cache_config, engine.model_config
    return {
        "dtype": str(model.dtype).removeprefix("torch."),
        "quantization": model.quantization,
        "max_num_batched_tokens": scheduler.max_num_batched_tokens,
        "max_num_seqs": scheduler.max_num_seqs,
        "max_in_flight_tokens": engine.max_in_flight_tokens,
        "prefix_caching": cache.enable_prefix_caching,
        "mamba_cache_mode": cache.mamba_cache_mode,
        "max_model_len": model.max_model_len,
        "block_size": cache.block_size,
        "mamba_block_size": cache.mamba_block_size,
        "mamba_page_bytes_padded": cache.mamba_page_size_padded,
    }


def _rank(engine: Any, rank: int) -> tuple[Row, Row, Any]:
    """Sums, cache specs and model of one rank; the configuration changes as the worker changes it."""
    split = engine.parallel_config
    with set_current_vllm_config(engine):
        torch.distributed.init_process_group(
            backend="fake", store=FakeStore(), rank=rank, world_size=split.world_size
        )
        parallel_state.set_custom_all_reduce(False)
        parallel_state.init_distributed_environment(split.world_size, rank, "env://", 0, "fake")
        parallel_state.ensure_model_parallel_initialized(
            split.tensor_parallel_size, split.pipeline_parallel_size, 1, 1
        )
        with OnMeta(), set_default_torch_dtype(engine.model_config.dtype), torch.device("meta"):
            model = initialize_model(engine)
            draft = _draft(engine, model)
        current_platform.update_block_size_for_backend(engine)
        specs = get_kv_cache_spec(engine)
    by_dtype: Counter[str] = Counter()
    built = torch.nn.ModuleList((model, *draft))  # what the draft shares with the model counts once
    for tensor in {id(tensor): tensor for tensor in built.parameters()}.values():
        by_dtype[str(tensor.dtype).removeprefix("torch.")] += tensor.nbytes
    buffers = {id(tensor): tensor.nbytes for tensor in built.buffers()}
    sums = {
        "parameter_bytes": by_dtype.total(),
        "parameter_bytes_by_dtype": dict(by_dtype),
        "buffer_bytes": sum(buffers.values()),
        "kv_layers": len(specs),
    }
    if engine.lora_config is not None:
        sums |= lora_sums(engine, model)
    return sums, specs, model


def _draft(engine: Any, model: Any) -> tuple[Any, ...]:
    """The model's own draft layers on the last stage, sharing with the model what the worker makes them share."""
    speculative = engine.speculative_config
    if speculative is None or speculative.method != "mtp" or not parallel_state.get_pp_group().is_last_rank:
        return ()
    drafts.get_model = lambda vllm_config, model_config: initialize_model(
        vllm_config, model_config=model_config
    )
    return (drafts.load_eagle_model(model, engine),)


def _groups(engine: Any, workers: list[Row]) -> tuple[list[Row], list[int], int]:
    """The groups of all ranks, bytes of a block on each stage, blocks of one request of the whole length."""
    with set_current_vllm_config(engine):
        groups = planning.get_global_kv_cache_groups(engine, copy.deepcopy(workers))
        builder = get_kv_cache_config_builder(engine)
        projected = [planning._project_kv_cache_groups_to_worker(groups, worker) for worker in workers]  # noqa: SLF001
        per_block = [
            planning._pool_bytes_per_block_from_builder(builder, engine, each)  # noqa: SLF001
            for each in projected
        ]
        most = max(range(len(workers)), key=per_block.__getitem__)
        used = planning._max_memory_usage_bytes_from_groups(builder, engine, projected[most])  # noqa: SLF001
    return [_described(group) for group in groups], per_block, used // max(1, per_block[most])


def _described(group: Any) -> Row:
    spec = group.kv_cache_spec
    fields = {name: value for name in _GROUP_FIELDS if (value := getattr(spec, name, None))}
    return {
        "kind": type(spec).__name__,
        "layers": len(group.layer_names),
        "block_size": spec.block_size,
        "page_bytes": spec.page_size_bytes,
        **fields,
    }


def _plan(engine: Any, workers: list[Row], available: int) -> Row:
    """What vLLM plans with so much memory on each rank, at the model's own length and at the longest that fits."""
    own, longest = _start(engine, workers, available), _start(engine, workers, available, automatic=True)
    return {
        "available_bytes": available,
        "fits_max_model_len": own["error"] is None,
        "num_blocks": longest.get("num_blocks"),
        "tokens_max_model_len": own.get("tokens"),
        "concurrency_max_model_len": own.get("concurrency"),
        "error_max_model_len": own["error"],
        "auto_max_model_len": longest.get("length"),
        "auto_tokens": longest.get("tokens"),
        "auto_concurrency": longest.get("concurrency"),
        "auto_error": longest["error"],
    }


def _start(engine: Any, workers: list[Row], available: int, *, automatic: bool = False) -> Row:
    model = engine.model_config
    before = model.max_model_len, model.original_max_model_len
    model.original_max_model_len = -1 if automatic else model.max_model_len
    specs = copy.deepcopy(workers)
    try:
        with set_current_vllm_config(engine):
            groups = planning.get_global_kv_cache_groups(engine, specs)
            made = planning.get_kv_cache_configs(engine, specs, [available] * len(specs), groups)
            whole = utils.generate_scheduler_kv_cache_config(made)
            tokens, concurrency = utils.get_kv_cache_capacity(engine, whole)
        length = model.max_model_len
    except ValueError as error:
        return {"error": str(error)}
    else:
        blocks = whole.num_blocks
        return {
            "num_blocks": blocks,
            "tokens": tokens,
            "concurrency": concurrency,
            "length": length,
            "error": None,
        }
    finally:
        model.max_model_len, model.original_max_model_len = before
