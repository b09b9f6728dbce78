"""Nemotron-H after Puzzle: the layers of Nemotron-H, each with widths of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_EXPERTS, MAX_LAYERS, MAX_WIDTH, Config
from plimsoll.sizing.families import nemotron
from plimsoll.sizing.families.parts import WAY_OUT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from plimsoll.sizing.families.parts import Builder
    from plimsoll.sizing.model import ModelShape

_KIND: Final = "block_type"
# What a block may say of its own, by kind; other fields must agree with the model's.
_OWN: Final = {
    "attention": (),
    "mamba": (),
    "mlp": ("intermediate_size",),
    "moe": (
        "moe_intermediate_size",
        "moe_latent_size",
        "moe_shared_expert_intermediate_size",
        "n_routed_experts",
        "num_experts_per_tok",
    ),
}
_WEIGHTLESS: Final = ("n_group", "norm_topk_prob", "routed_scaling_factor", "topk_group")
# The model's own code fills these in, with other values than Nemotron-H's class.
_NEEDED: Final = ("head_dim", "n_shared_experts", "num_key_value_heads", "use_conv_bias")
_NOT_HELD: Final = "nobody held this class of them against the engine"
_Block = tuple[str, tuple[tuple[str, int], ...]]


def build(config: Config, architecture: str, model_type: str) -> ModelShape:
    """VLLM 0.33.0, model_executor/models/nemotron_h.py (get_nemotron_h_config_for_layer)."""
    for field in _NEEDED:
        if config.values.get(field) is None:
            raise config.refuse(field, "the config must say it", WAY_OUT)
    if config.values.get("sliding_window") is not None:
        raise config.refuse("sliding_window", "such a variant is not one that can be sized", WAY_OUT)
    blocks = _blocks(config)
    kinds = [kind for kind, _ in blocks]
    whole = nemotron.build(_plain(config, kinds, _widest(config, blocks)), architecture, model_type)
    made = {
        (kind, own): nemotron.build(_plain(config, [kind], own), architecture, model_type).layers[0]
        for kind, own in dict.fromkeys(blocks)
    }
    draft = _NOT_HELD if whole.unloaded else None
    return replace(whole, layers=tuple(made[block] for block in blocks), uncounted_draft=draft)


def _widest(config: Config, blocks: Iterable[_Block]) -> tuple[tuple[str, int], ...]:
    """The largest of each field among the layers that have it, for what the engine keeps once for all."""
    widest: dict[str, int] = {}
    for kind, own in blocks:
        said = dict(own)
        for field in _OWN[kind]:
            value = said.get(field, config.values.get(field))
            if isinstance(value, int) and not isinstance(value, bool):
                widest[field] = max(value, widest.get(field, 0))
    return tuple(widest.items())


def _plain(config: Config, kinds: list[str], own: Iterable[tuple[str, int]]) -> Config:
    """The config of a Nemotron-H with such layers, all alike."""
    values = {key: value for key, value in config.values.items() if key != "hybrid_override_pattern"}
    return Config({**values, "layers_block_type": kinds, **dict(own)}, config.path)


def _blocks(config: Config) -> tuple[_Block, ...]:
    """The kind of each layer, and what it says of its own."""
    found = config.values.get("block_configs")
    if not isinstance(found, (list, tuple)) or not 0 < len(found) <= MAX_LAYERS:
        raise config.refuse("block_configs", "it must have an object for each layer", WAY_OUT)
    if not all(isinstance(block, Mapping) for block in found):
        raise config.refuse("block_configs", "it must be a list of objects", WAY_OUT)
    blocks = tuple(
        _block(config, Config(block, f"block_configs[{index}]")) for index, block in enumerate(found)
    )
    _agrees(config, [kind for kind, _ in blocks])
    return blocks


def _block(config: Config, block: Config) -> _Block:
    kind = block.text(_KIND)
    if kind not in _OWN:
        raise block.refuse(_KIND, f"it must be one of {', '.join(_OWN)}", WAY_OUT)
    own = []
    for field, value in block.values.items():
        if field == _KIND or field in _WEIGHTLESS or value == config.values.get(field):
            continue
        if value is None or field not in _OWN[kind]:
            raise block.refuse(field, "such a variant is not one that can be sized", WAY_OUT)
        most = MAX_EXPERTS if field in ("n_routed_experts", "num_experts_per_tok") else MAX_WIDTH
        own.append((field, block.integer(field, maximum=most)))
    return kind, tuple(sorted(own))


def _agrees(config: Config, kinds: list[str]) -> None:
    """Other lists of the layers, where the config has them too, must say the same."""
    listed = config.texts("layers_block_type")
    names = {"linear_attention": "mamba", "full_attention": "attention"}
    if listed and [names.get(kind, kind) for kind in listed] != kinds:
        raise config.refuse("layers_block_type", "it must agree with block_configs")
    letters = {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}
    pattern = "".join(letters[kind] for kind in kinds)
    if config.text("hybrid_override_pattern", default=pattern) != pattern:
        raise config.refuse("hybrid_override_pattern", "it must agree with block_configs")


FAMILIES: Final[dict[str, tuple[Builder, tuple[str, ...]]]] = {
    "NemotronHPuzzleForCausalLM": (build, ("nemotron_h_puzzle",)),
}
