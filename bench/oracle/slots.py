"""What vLLM allots for LoRA adapters, on a model that lies on the meta device: its own wrappers, without a kernel."""

from __future__ import annotations

from typing import Any

import torch
from pretend import OnMeta
from vllm.config import set_current_vllm_config
from vllm.lora.layers import base_linear, fused_moe
from vllm.lora.layers.base import BaseLayerWithLoRA
from vllm.lora.model_manager import LRUCacheLoRAModelManager

_META = torch.device("meta")
_EXPERTS = ("w13_lora_a_stacked", "w13_lora_b_stacked", "w2_lora_a_stacked", "w2_lora_b_stacked")
_OTHERS = ("lora_a_stacked", "lora_b_stacked")
_BESIDE = ("adapter_enabled", "sharded_to_full_mapping_gpu")


def lora_sums(engine: Any, model: Any) -> dict[str, int]:
    """Bytes of all slots, and of the index of a batch's tokens, on this rank; the model is wrapped thereby."""
    _without_kernels()
    scheduler = engine.scheduler_config
    with set_current_vllm_config(engine), OnMeta():
        manager = LRUCacheLoRAModelManager(
            model,
            scheduler.max_num_seqs,
            scheduler.max_num_batched_tokens,
            engine.model_config.get_vocab_size(),
            engine.lora_config,
            _META,
            engine,
        )
    wrappers = [module for module in model.modules() if isinstance(module, BaseLayerWithLoRA)]
    punica = set(manager.punica_wrapper_mapping.values())
    held = [meta for wrapper in punica for meta in (wrapper.token_mapping_meta, wrapper.prompt_mapping_meta)]
    return {
        "lora_bytes": _bytes([_stacked(wrapper) for wrapper in wrappers]),
        "lora_index_bytes": _bytes([list(vars(each).values()) for each in (*punica, *held)]),
    }


def _stacked(wrapper: Any) -> list[Any]:
    names = (*(_EXPERTS if hasattr(wrapper, _EXPERTS[0]) else _OTHERS), *_BESIDE)
    return [getattr(wrapper, name, None) for name in names]


def _bytes(values: Any) -> int:
    if isinstance(values, torch.Tensor):
        return values.nbytes if values.is_meta else 0
    return sum(map(_bytes, values)) if isinstance(values, (list, tuple)) else 0


def _without_kernels() -> None:
    """Wrappers of experts ask for the kernel that they will run, which only loading makes."""

    def build(self: Any, base_layer: Any) -> None:
        BaseLayerWithLoRA.__init__(self)
        split = base_layer.moe_config.moe_parallel_config
        self.base_layer, self.moe_config = base_layer, base_layer.moe_config
        self.tp_size, self.tp_rank, self.device = split.tp_size, split.tp_rank, _META
        self.enable_moe_shared_loras = False
        at_once = isinstance(self, fused_moe.FusedMoE3DWithLoRA)
        self._w13_slices = 2 if base_layer.moe_config.is_act_and_mul and not at_once else 1
        self._ep_check()

    fused_moe.FusedMoEWithLoRA.__init__ = build
    fused_moe.FusedMoE3DWithLoRA.__init__ = build
    fused_moe.FusedMoEWithLoRA.set_mapping = lambda *_: None
    base_linear._get_lora_device = lambda _: _META  # noqa: SLF001
