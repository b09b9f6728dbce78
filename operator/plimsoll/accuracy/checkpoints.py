"""The config of a row's checkpoint: the file, and where its quantization is left out, what such builds have."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

from plimsoll.accuracy.reading import without_notes

if TYPE_CHECKING:
    from collections.abc import Mapping

_EIGHT_BITS: Final[dict[str, Any]] = {
    "targets": ["Linear"],
    "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
    "input_activations": {"num_bits": 8, "type": "float", "dynamic": True, "strategy": "token"},
}
_FOUR_BITS: Final[dict[str, Any]] = {
    "targets": ["Linear"],
    "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True},
}
_MODELOPT_PUBLISHER: Final = "nvidia"
_MODELOPT_FP8: Final[dict[str, Any]] = {
    "quant_method": "modelopt",
    "quant_algo": "FP8",
    "ignore": ["lm_head"],
    "kv_cache_scheme": {"num_bits": 8, "type": "float", "dynamic": False},
}
_BITSANDBYTES: Final[dict[str, Any]] = {
    "quant_method": "bitsandbytes",
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
}
# What a build with this word in its name has, and whether the row's quantization may say it instead.
_SECTIONS: Final[tuple[tuple[str, bool, dict[str, Any]], ...]] = (
    ("fp4", True, {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}),
    (
        "fp8",
        False,
        {
            "quant_method": "fp8",
            "activation_scheme": "dynamic",
            "weight_block_size": [128, 128],
            "modules_to_not_convert": ["lm_head"],
        },
    ),
    ("awq", False, {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}),
    ("gptq", False, {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False}),
    ("bnb", False, _BITSANDBYTES),
    ("bitsandbytes", True, _BITSANDBYTES),
)
_NAMED: Final = (
    "fp8",
    "nvfp4",
    "fp4",
    "awq",
    "gptq",
    "int4",
    "int8",
    "w4a16",
    "w8a8",
    "mxfp4",
    "4bit",
    "bnb",
)


def config_of(
    values: Mapping[str, Any], model: str, quantization: str | None
) -> tuple[dict[str, Any], str | None]:
    """The config to size, and what was filled into it, in words.

    A stub of a section (a method without the fields that vLLM insists on) gets what builds of that kind have; a
    build whose file has no section gets the one that its name and the row's quantization stand for.
    """
    config = copy.deepcopy(without_notes(values))
    section = config.get("quantization_config")
    tower = isinstance(config.get("vision_config"), dict)
    if isinstance(section, dict):
        return config, _complete(section, model, tower=tower)
    beside = beside_config(values)
    if beside is not None:
        config["quantization_config"] = beside
        return config, None
    made = _made(model, quantization)
    if made is None:
        return config, None
    if tower:
        made.update(_beside_the_text(made["quant_method"]))
    config["quantization_config"] = made
    return config, f"its quantization ({made['quant_method']}) by the model's name: the config has no section"


def beside_config(values: Mapping[str, Any], *, as_vllm: bool = False) -> dict[str, Any] | None:
    """The section that hf_quant_config.json stands for in place of one in the config.

    vLLM takes one that names its producer; another it passes over, and builds the model in 16 bits.
    """
    beside = values.get("_hf_quant_config")
    if not isinstance(beside, dict) or not isinstance(beside.get("quantization"), dict):
        return None
    producer = beside.get("producer")
    named = isinstance(producer, dict) and producer.get("name") == "modelopt"
    if as_vllm and not named:
        return None
    section = {"quant_method": "modelopt", **beside["quantization"]}
    if str(section.get("kv_cache_quant_algo", "")).upper() == "FP8":
        section.setdefault("kv_cache_scheme", {"num_bits": 8, "type": "float", "dynamic": False})
    return section


def quantized_while_loading(config: Mapping[str, Any], model: str, quantization: str | None) -> bool:
    """Whether the row asks for fp8 of a checkpoint that is not quantized."""
    if isinstance(config.get("quantization_config"), dict) or (quantization or "").lower() != "fp8":
        return False
    return not _is_named(model)


def _is_named(model: str) -> bool:
    name = model.rpartition("/")[2].lower()
    return any(word in name for word in _NAMED)


def _beside_the_text(method: str) -> dict[str, Any]:
    """Builds leave encoders in 16 bits, and name them as each method wants it."""
    match method:
        case "modelopt":
            return {"ignore": ["lm_head", "model.visual*"]}
        case "gptq":
            return {"dynamic": {"-:.*visual.*": {}}}
        case "compressed-tensors":
            return {"ignore": ["lm_head", "re:.*visual.*"]}
        case _:
            return {"modules_to_not_convert": ["lm_head", "model.visual"]}


def _complete(section: dict[str, Any], model: str, *, tower: bool) -> str | None:
    """Fill a stub in place."""
    filled: dict[str, Any] = {}
    match section.get("quant_method"):
        case "awq":
            filled = {"zero_point": True}
        case "gptq":
            filled = {"desc_act": False}
        case "compressed-tensors" if not section.get("config_groups"):
            filled = {"config_groups": {"group_0": _group(model)}, "ignore": ["lm_head"]}
        case _:
            return None
    if tower:
        filled.update(_beside_the_text(section["quant_method"]))
    missing = {key: value for key, value in filled.items() if key not in section}
    section.update(missing)
    return f"{', '.join(missing)} of its quantization_config, as such builds have it" if missing else None


def _group(model: str) -> dict[str, Any]:
    name = model.lower()
    if "w4a16" in name or "int4" in name or "4bit" in name:
        return copy.deepcopy(_FOUR_BITS)
    group = copy.deepcopy(_EIGHT_BITS)
    if "w8a8" in name or "int8" in name:
        group["weights"]["type"] = group["input_activations"]["type"] = "int"
    return group


def _made(model: str, quantization: str | None) -> dict[str, Any] | None:
    """The section of a build that is quantized by its name."""
    publisher, _, name = model.lower().rpartition("/")
    said = (quantization or "").lower()
    if "fp8" in name and publisher == _MODELOPT_PUBLISHER:
        return copy.deepcopy(_MODELOPT_FP8)
    for word, in_quantization, section in _SECTIONS:
        if word in name or (in_quantization and word in said):
            return copy.deepcopy(section)
    return None
