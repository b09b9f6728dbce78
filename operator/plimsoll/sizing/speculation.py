"""Speculative decoding as it is asked for: vLLM's --speculative-config, as far as memory depends on it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from plimsoll.sizing.engine import UnsupportedOptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Source: vLLM 0.33.0, config/speculative.py; medusa and mlp_speculator left it before.
MTP: Final = "mtp"
_OWN_LAYERS: Final = (
    MTP, "deepseek_mtp", "mimo_mtp", "mimo_v2_mtp", "glm4_moe_mtp", "glm4_moe_lite_mtp", "glm_ocr_mtp", "ernie_mtp",
    "nemotron_h_mtp", "exaone_moe_mtp", "exaone4_5_mtp", "qwen3_next_mtp", "qwen3_5_mtp", "qwen4_exp_mtp",
    "longcat_flash_mtp", "bailing_hybrid_mtp", "bailing_hybrid_v3_mtp", "minimax_m3_mtp", "kimi_k3_mtp",
    "pangu_ultra_moe_mtp", "step3p5_mtp", "step5_mtp", "hy_v3_mtp", "hy_v4_mtp", "gemma4_mtp", "inkling_mtp",
    "glm5_next_mtp", "dots3_note_mtp",
)  # fmt: skip
_SUFFIX: Final = "suffix"
_NGRAM: Final = ("ngram", "[ngram]", "ngram_gpu")
_ANOTHER_MODEL: Final = (
    "draft_model", "eagle", "eagle3", "medusa", "mlp_speculator", "dflash", "dspark", "extract_hidden_states",
    "custom_class",
)  # fmt: skip
_SUFFIX_TOKENS: Final = 24  # suffix_decoding_max_tree_depth
_MOST_TOKENS: Final = 65536
_SHOWN: Final = 80
# Fields that change what the draft takes of a card, in a way that no plan reckons with.
_UNCOUNTED: Final = ("kv_cache_dtype", "draft_lm_head_quantization")
_PROBABILISTIC: Final = ("draft_sample_method", "probabilistic")


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """What proposes the tokens that the model then verifies.

    Attributes:
        method: vLLM's name of today: `mtp` for the older names of a model's own draft layers too.
        num_speculative_tokens: proposed in one step; 0 where the config of another model says it.
        text: the flag's value, to start the engine with.
        model: whose weights propose them, if that is said.
        uncounted: fields that change what the draft takes, and that no plan reckons with.
    """

    method: str
    num_speculative_tokens: int
    text: str
    model: str | None = None
    uncounted: tuple[str, ...] = ()

    @property
    def own_layers(self) -> bool:
        """Whether layers of the model itself propose."""
        return self.method == MTP

    @property
    def another_model(self) -> bool:
        """Whether another model proposes, whose config is not at hand."""
        return self.method in _ANOTHER_MODEL

    @property
    def ngram(self) -> bool:
        """Whether the tokens seen so far propose, for which the second model runner keeps them on the card."""
        return self.method in _NGRAM

    @property
    def suffix(self) -> bool:
        """Whether a tree of earlier answers proposes: the engine then schedules without overlap."""
        return self.method == _SUFFIX


def read_speculation(text: str) -> Speculation:
    """Read the flag's JSON.

    Raises:
        UnsupportedOptionError: it is none, or a field of it is not what the engine takes.
    """
    return speculation_of(speculative_fields(text))


def speculative_fields(text: str) -> dict[str, Any]:
    """The fields of the flag's JSON.

    Raises:
        UnsupportedOptionError: it is no JSON object.
    """
    try:
        found = json.loads(text)
        json.dumps(found)  # what is nested too deeply to be written again is no value for a command line
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnsupportedOptionError(
            f"speculative_config is {text[:_SHOWN]!r}: it must be a JSON object such as "
            '{"method": "mtp", "num_speculative_tokens": 1}; correct or remove it.'
        )
    return found


def speculation_of(fields: Mapping[str, Any]) -> Speculation:
    """Read the flag's fields, under names with underscores or dashes.

    Raises:
        UnsupportedOptionError: one of them is not what the engine takes.
    """
    known = {name.replace("-", "_"): value for name, value in fields.items()}
    model = known.get("model")
    if model is not None and not isinstance(model, str):
        raise _refusal("model", model, "it must be the name of a model", "correct or remove it")
    method = _method(known.get("method"), model)
    uncounted = [name for name in _UNCOUNTED if known.get(name) is not None]
    sampling, probabilistic = _PROBABILISTIC
    if known.get(sampling) == probabilistic:
        uncounted.append(sampling)
    return Speculation(
        method=method,
        num_speculative_tokens=_tokens(known.get("num_speculative_tokens"), method, model),
        text=json.dumps(dict(fields)),
        model=model,
        uncounted=tuple(uncounted),
    )


def _method(value: object, model: str | None) -> str:
    """The method under today's name; without one, what the engine makes of a model's name."""
    if value is None and model is not None:
        return "ngram" if model in _NGRAM else "draft_model"
    if isinstance(value, str):
        if value in _OWN_LAYERS:
            return MTP
        if value in (*_NGRAM, _SUFFIX, *_ANOTHER_MODEL):
            return value
    raise _refusal(
        "method",
        value,
        "vLLM knows no such method",
        f"use {MTP} for the model's own draft layers, {_NGRAM[0]} or {_SUFFIX} for none, or one of "
        f"{', '.join(_ANOTHER_MODEL)}",
    )


def _tokens(value: object, method: str, model: str | None) -> int:
    """The number; a suffix tree has a default, and another model may say it in its config."""
    if value is None and method == _SUFFIX:
        return _SUFFIX_TOKENS
    if value is None and model is not None and method in (MTP, *_ANOTHER_MODEL):
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_TOKENS:
        raise _refusal(
            "num_speculative_tokens",
            value,
            f"it must be a whole number from 1 to {_MOST_TOKENS}",
            "set it, to 1 where nothing else is known",
        )
    return value


def _refusal(field: str, value: object, problem: str, way_out: str) -> UnsupportedOptionError:
    try:
        shown = repr(value)[:_SHOWN]
    except RecursionError:
        shown = "nested too deeply"
    return UnsupportedOptionError(f"speculative_config.{field} is {shown}: {problem}; {way_out}.")
