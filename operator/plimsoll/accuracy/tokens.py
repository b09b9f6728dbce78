"""Tokens of a KV cache: as a log rounds them, and as the planned cache holds them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from plimsoll.accuracy.era import decimals
from plimsoll.units import GIB

if TYPE_CHECKING:
    from plimsoll.accuracy.predict import Prediction
    from plimsoll.accuracy.rows import LogRow

_HALF: Final = Decimal("0.5")


def half_a_digit(value: Decimal) -> Decimal:
    """Half of the last printed digit."""
    return _HALF.scaleb(-decimals(value))


def logged_tokens(row: LogRow, prediction: Prediction) -> tuple[float, float] | None:
    """Tokens as logged and what their rounding hides; with layers that differ, concurrency times the length."""
    if prediction.hybrid:
        concurrency, length = row.max_concurrency, row.max_concurrency_at_len or row.max_model_len
        if not concurrency or concurrency < 0 or length is None:
            return None
        return float(concurrency) * length, float(half_a_digit(concurrency)) * length
    return (float(row.kv_tokens), 0.0) if row.kv_tokens else None


def tokens_in(prediction: Prediction, available: int) -> float:
    """Tokens that this many bytes hold: requests of the row's length where the layers differ."""
    if prediction.launch is None:
        return 0.0
    layout = prediction.launch.layout
    blocks = available // layout.bytes_per_block
    if not prediction.hybrid:
        return float(blocks * layout.block_size)
    need = layout.need_blocks(prediction.max_model_len, prediction.in_flight_tokens)
    return blocks / need * prediction.max_model_len


def agrees(row: LogRow, prediction: Prediction) -> bool | None:
    """Whether the tokens that came of the logged memory are ours, within half a printed digit and a block.

    None where the row does not say both, and for a pipeline, whose stages hold different layers.
    """
    launch, available = prediction.launch, row.available_kv_gib
    if launch is None or available is None or available <= 0 or launch.pipeline_parallel_size != 1:
        return None
    tokens = logged_tokens(row, prediction)
    if tokens is None:
        return None
    logged, slack = tokens
    half = half_a_digit(available)
    fewest = tokens_in(prediction, int((available - half) * GIB))
    most = tokens_in(prediction, int((available + half) * GIB))
    slack += launch.layout.block_size
    return fewest - slack <= logged <= most + slack


def switch_that_agrees(row: LogRow, prediction: Prediction) -> str | None:
    """What the row may have left unsaid: an option with which the tokens are equal."""
    launch = prediction.launch
    if launch is None:
        return None
    serving = launch.serving
    others = {}
    if serving.enable_prefix_caching is None:
        others["prefix caching switched on"] = replace(serving, enable_prefix_caching=True)
        others["prefix caching switched off"] = replace(serving, enable_prefix_caching=False)
    if serving.kv_cache_dtype is None:
        others["a KV cache in fp8"] = replace(serving, kv_cache_dtype="fp8")
    for words, other in others.items():
        changed = prediction.launched_with(other)
        if changed is not None and agrees(row, changed):
            return words
    return None
