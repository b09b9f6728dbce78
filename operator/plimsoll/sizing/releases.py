"""What a release of vLLM no longer has, or makes of a checkpoint while it loads it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.quantization import WeightFormat

if TYPE_CHECKING:
    from plimsoll.sizing.engine import EngineVersion
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.quantization import Quantization

GONE: Final = {
    "squeezellm": "vLLM dropped it in 0.8",
    "bitsandbytes": "its bytes depend on a plugin since vLLM 0.28",
    "gguf": "its bytes depend on a plugin since vLLM 0.24",
}
LEFT_THE_TREE: Final = {"squeezellm": (0, 8, 0), "bitsandbytes": (0, 28, 0), "gguf": (0, 24, 0)}
FLAT_SCALES: Final = (0, 9, 2)  # vllm-project/vllm#19742: nested scales of bitsandbytes are made float32


def check_class(shape: ModelShape, version: EngineVersion) -> None:
    """Refuse a model whose class the release no longer has (vLLM 0.33.0, models/registry.py).

    Raises:
        UnsupportedModelError: with the last release that had it.
    """
    last = shape.last_release
    if last is not None and version.release > last:
        raise UnsupportedModelError(
            "architectures",
            shape.architecture,
            f"vLLM has no class for it after {'.'.join(map(str, last))}",
            "name that release as the engine's version, or use another model",
        )


def as_loaded(quantization: Quantization | None, version: EngineVersion) -> Quantization | None:
    """What a release makes of the checkpoint's quantization.

    Raises:
        UnsupportedModelError: the release has left it to a plugin.
    """
    if quantization is None or quantization.weights is not WeightFormat.NF4:
        return quantization
    if version.at_least(LEFT_THE_TREE[quantization.method]):
        raise UnsupportedModelError(
            "quantization_config.quant_method",
            quantization.method,
            "this quantization is not one that can be sized",
            "its weights depend on a plugin since vLLM 0.28; use an AWQ, GPTQ or FP8 build of the model",
        )
    return replace(quantization, nested_scales=False) if version.at_least(FLAT_SCALES) else quantization
