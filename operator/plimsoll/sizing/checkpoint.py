"""Reading what a checkpoint says of its quantization, method by method."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_WIDTH
from plimsoll.sizing.quantization import NVFP4_GROUP, Quantization, WeightFormat

if TYPE_CHECKING:
    from plimsoll.sizing.checked import Config

# Sources: vLLM 0.33.0, model_executor/layers/quantization, the from_config of each method.
_OLD_NAMES: Final = {  # what left vLLM, and what stands in for it
    "squeezellm": "vLLM dropped it; use an AWQ, GPTQ or FP8 build of the model",
    "gguf": "its weights depend on a plugin since vLLM 0.24; use an AWQ, GPTQ or FP8 build of the model",
}
_KNOWN: Final = "use a build that is not quantized, or one with fp8, awq, gptq or 8 bit compressed-tensors"


def quantization_from_config(config: Config) -> Quantization | None:
    """Read quantization_config; None for a checkpoint that is not quantized.

    Raises:
        UnsupportedModelError: a method, or a field of one, that nobody taught this version to count.
    """
    section = config.section("quantization_config") or config.section("compression_config")
    if section is None:
        return None
    method = section.text("quant_method").lower()
    if method not in _READERS:
        raise section.refuse(
            "quant_method", "this quantization is not one that can be sized", _OLD_NAMES.get(method, _KNOWN)
        )
    return _READERS[method](section)


def _fp8(section: Config) -> Quantization:
    scheme = section.text("activation_scheme", default="dynamic")
    if scheme not in ("static", "dynamic"):
        raise section.refuse("activation_scheme", "it must be static or dynamic", _KNOWN)
    skipped = section.texts("modules_to_not_convert") or section.texts("ignored_layers")
    if section.values.get("weight_block_size") is None:
        return Quantization(
            method="fp8",
            weights=WeightFormat.FP8_TENSOR,
            bits=8,
            static_input_scale=scheme == "static",
            skipped=skipped,
            attention_scale_bytes=_FP8_ATTENTION_SCALE_BYTES,
        )
    return Quantization(
        method="fp8",
        weights=WeightFormat.FP8_BLOCK,
        bits=8,
        block=_block(section, "weight_block_size"),
        skipped=skipped,
        attention_scale_bytes=_FP8_ATTENTION_SCALE_BYTES,
    )


def _block(section: Config, field: str) -> tuple[int, int]:
    block = section.values.get(field)
    if not isinstance(block, (list, tuple)) or len(block) != 2 or not all(_is_width(size) for size in block):  # noqa: PLR2004
        raise section.refuse(field, "it must be two whole numbers, such as [128, 128]", _KNOWN)
    return block[0], block[1]


# Scalars q, k, v (and prob) of BaseKVCacheMethod in the model's dtype; compressed-tensors adds three in float32.
_FP8_ATTENTION_SCALE_BYTES: Final = 4 * 2
_COMPRESSED_TENSORS_ATTENTION_SCALE_BYTES: Final = 3 * 2 + 3 * 4


def _is_width(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_WIDTH


def _group_size(section: Config) -> int | None:
    """Input features per scale; -1 is the whole row."""
    if section.values.get("group_size") == -1:
        return None
    return section.integer("group_size", maximum=MAX_WIDTH)


def _bits(section: Config, allowed: tuple[int, ...]) -> int:
    bits = section.integer("bits", maximum=16)
    if bits not in allowed:
        raise section.refuse("bits", f"it must be one of {', '.join(map(str, allowed))}", _KNOWN)
    return bits


def _awq(section: Config) -> Quantization:
    if "zero_point" not in section.values:
        raise section.refuse("zero_point", "vLLM refuses an AWQ checkpoint that does not say it", _KNOWN)
    return Quantization(
        method="awq",
        weights=WeightFormat.AWQ,
        bits=_bits(section, (4,)),
        group_size=_group_size(section),
        skipped=section.texts("modules_to_not_convert"),
    )


def _gptq(section: Config) -> Quantization:
    if "desc_act" not in section.values:
        raise section.refuse("desc_act", "vLLM refuses a GPTQ checkpoint that does not say it", _KNOWN)
    if section.flag("lm_head", default=False):
        raise section.refuse("lm_head", "a quantized output layer is not one that can be sized", _KNOWN)
    return Quantization(
        method="gptq",
        weights=WeightFormat.GPTQ,
        bits=_bits(section, (4, 8)),
        group_size=_group_size(section),
        desc_act=section.flag("desc_act", default=False),
        skipped=_gptq_rules(section),
    )


def _gptq_rules(section: Config) -> tuple[str, ...]:
    """Modules that `dynamic` takes out of the quantization, as regular expressions."""
    rules = section.section("dynamic")
    if rules is None:
        return ()
    for name in rules.values:
        if not name.startswith("-:"):
            raise rules.refuse(name, "rules that change the bits of a module cannot be sized", _KNOWN)
    return tuple(name.removeprefix("-:") for name in rules.values)


def _compressed_tensors(section: Config) -> Quantization:
    groups = section.section("config_groups")
    if groups is None or not groups.values:
        # vLLM builds such a checkpoint in 16 bits, with the scalars that the method adds to attention.
        return Quantization(
            method="compressed-tensors",
            weights=WeightFormat.PLAIN,
            bits=16,
            attention_scale_bytes=_COMPRESSED_TENSORS_ATTENTION_SCALE_BYTES,
            kv_cache_fp8=_asks_for_fp8_cache(section),
        )
    if len(groups.values) != 1:
        raise section.refuse("config_groups", "one group of quantized layers is what can be sized", _KNOWN)
    (name,) = groups.values
    group = groups.section(name)
    if group is None or group.texts("targets") != ("Linear",):
        raise groups.refuse(name, 'its targets must be ["Linear"]', _KNOWN)
    weights = group.section("weights")
    if weights is None:
        raise group.refuse(
            "weights", "a group without quantized weights is not one that can be sized", _KNOWN
        )
    bits = weights.integer("num_bits", maximum=16)
    if bits == 4 and weights.text("type") == "int" and group.section("input_activations") is None:  # noqa: PLR2004
        found = _packed(section, weights)
    elif bits == 4 and weights.text("type") == "float":  # noqa: PLR2004
        found = _packed_floats(group, weights)
    else:
        found = _whole_bytes(group, weights)
    return replace(
        found,
        skipped=section.texts("ignore"),
        attention_scale_bytes=_COMPRESSED_TENSORS_ATTENTION_SCALE_BYTES,
        kv_cache_fp8=_asks_for_fp8_cache(section),
    )


def _packed(section: Config, weights: Config) -> Quantization:
    """4 bit integers with 16-bit activations."""
    form = section.text("format", default="pack-quantized")
    if form != "pack-quantized":
        raise section.refuse("format", "pack-quantized is what can be sized with 4 bit integers", _KNOWN)
    strategy = weights.text("strategy", default="group")
    if strategy not in ("group", "channel"):
        raise weights.refuse("strategy", "group or channel is what can be sized", _KNOWN)
    if weights.values.get("actorder") in ("group", True):
        raise weights.refuse("actorder", "activation order by group cannot be sized", _KNOWN)
    return Quantization(
        method="compressed-tensors",
        weights=WeightFormat.PACKED,
        bits=4,
        group_size=_group_size(weights) if strategy == "group" else None,
        zero_points=not weights.flag("symmetric", default=True),
    )


def _packed_floats(group: Config, weights: Config) -> Quantization:
    """NVFP4: 4 bit floats in groups with an fp8 scale, activations too."""
    inputs = group.section("input_activations")
    if inputs is None or inputs.integer("num_bits", maximum=16) != 4:  # noqa: PLR2004
        raise group.refuse("input_activations", "4 bit floats are sized with 4 bit activations only", _KNOWN)
    if (
        weights.text("strategy") != "tensor_group"
        or weights.integer("group_size", maximum=MAX_WIDTH) != NVFP4_GROUP
    ):
        raise weights.refuse("strategy", f"tensor_group of {NVFP4_GROUP} is what can be sized", _KNOWN)
    return Quantization(
        method="compressed-tensors",
        weights=WeightFormat.NVFP4,
        bits=4,
        group_size=NVFP4_GROUP,
        static_input_scale=True,
    )


def _whole_bytes(group: Config, weights: Config) -> Quantization:
    """8 bit floats or integers, activations too."""
    kind = weights.text("type")
    strategy = weights.text("strategy")
    if weights.integer("num_bits", maximum=16) != 8 or kind not in ("float", "int"):  # noqa: PLR2004
        raise weights.refuse("num_bits", f"8 bits of float or int are what can be sized, not {kind}", _KNOWN)
    inputs = group.section("input_activations")
    if inputs is None and kind == "int":
        raise group.refuse(
            "input_activations", "8 bit integers with 16-bit activations cannot be sized", _KNOWN
        )
    if strategy == "block" and kind == "float":
        return Quantization(
            method="compressed-tensors",
            weights=WeightFormat.FP8_BLOCK,
            bits=8,
            block=_block(weights, "block_structure"),
        )
    if strategy not in ("channel", "tensor"):
        raise weights.refuse("strategy", "channel or tensor is what can be sized", _KNOWN)
    static = inputs is not None and not inputs.flag("dynamic", default=False)
    if static and strategy == "channel":
        raise group.refuse(
            "input_activations", "static activations with channel scales cannot be sized", _KNOWN
        )
    return Quantization(
        method="compressed-tensors",
        weights=WeightFormat.BYTE_CHANNEL if strategy == "channel" else WeightFormat.FP8_TENSOR,
        bits=8,
        static_input_scale=static,
        integer=kind == "int",
    )


def _modelopt(section: Config) -> Quantization:
    found = _algorithm(section)
    return replace(
        found,
        skipped=section.texts("ignore") or section.texts("exclude_modules"),
        attention_scale_bytes=_FP8_ATTENTION_SCALE_BYTES,
        kv_cache_fp8=_asks_for_fp8_cache(section),
    )


def _algorithm(section: Config) -> Quantization:
    """The format that `quant_algo` names, or one for each module."""
    algorithm = section.text("quant_algo").upper()
    if algorithm == "MIXED_PRECISION":
        layers = section.section("quantized_layers")
        if layers is None or not layers.values:
            raise section.refuse(
                "quantized_layers", "vLLM refuses mixed precision that names no layers", _KNOWN
            )
        parts = ((name, layers.section(name)) for name in layers.values)
        modules = {name: _algorithm(part) for name, part in parts if part is not None}
        return Quantization(method="modelopt", weights=WeightFormat.PLAIN, bits=16, modules=modules)
    if algorithm not in ("FP8", "NVFP4", "W4A16_NVFP4"):
        raise section.refuse("quant_algo", "FP8 and NVFP4 are what can be sized", _KNOWN)
    fp8 = algorithm == "FP8"
    return Quantization(
        method="modelopt",
        weights=WeightFormat.FP8_TENSOR if fp8 else WeightFormat.NVFP4,
        bits=8 if fp8 else 4,
        group_size=None if fp8 else NVFP4_GROUP,
        static_input_scale=algorithm != "W4A16_NVFP4",
    )


def _asks_for_fp8_cache(section: Config) -> bool:
    """Whether the checkpoint switches an automatic cache dtype to fp8."""
    scheme = section.section("kv_cache_scheme")
    if scheme is None:
        return False
    if scheme.integer("num_bits", maximum=16) != 8 or scheme.text("type") != "float":  # noqa: PLR2004
        raise section.refuse("kv_cache_scheme", "an 8 bit float cache is what can be sized", _KNOWN)
    return True


def _mxfp4(section: Config) -> Quantization:
    return Quantization(
        method="mxfp4",
        weights=WeightFormat.MXFP4,
        bits=4,
        skipped=section.texts("modules_to_not_convert"),
    )


def _fbgemm(section: Config) -> Quantization:
    """What Llama 3.1 405B was published in: 8 bit floats by channel, and one bound for the activations of a layer."""
    return Quantization(
        method="fbgemm_fp8",
        weights=WeightFormat.BYTE_CHANNEL,
        bits=8,
        skipped=section.texts("modules_to_not_convert"),
        bounded_inputs=True,
    )


def _bitsandbytes(section: Config) -> Quantization:
    """4 bit floats in blocks of 64 with a scale each, which may be stored in 8 bits themselves."""
    if not section.flag("load_in_4bit", default=False):
        raise section.refuse("load_in_4bit", "4 bit builds are what can be sized with bitsandbytes", _KNOWN)
    if section.text("bnb_4bit_quant_type", default="fp4") not in ("nf4", "fp4"):
        raise section.refuse("bnb_4bit_quant_type", "it must be nf4 or fp4", _KNOWN)
    if section.text("bnb_4bit_quant_storage", default="uint8") != "uint8":
        raise section.refuse("bnb_4bit_quant_storage", "vLLM takes uint8 only", _KNOWN)
    return Quantization(
        method="bitsandbytes",
        weights=WeightFormat.NF4,
        bits=4,
        skipped=section.texts("llm_int8_skip_modules"),
        nested_scales=section.flag("bnb_4bit_use_double_quant", default=False),
    )


_READERS: Final = {
    "bitsandbytes": _bitsandbytes,
    "fp8": _fp8,
    "awq": _awq,
    "gptq": _gptq,
    "compressed-tensors": _compressed_tensors,
    "modelopt": _modelopt,
    "mxfp4": _mxfp4,
    "fbgemm_fp8": _fbgemm,
}
