"""Rotary embedding: the table that stays on every rank, and the length that it allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from plimsoll.sizing.checked import MAX_TOKENS, MAX_WIDTH, Config

_WAY_OUT: Final = "use a model whose rope_scaling is default, linear, dynamic, llama3, yarn or longrope"
_MULTIPLIED: Final = ("linear", "dynamic")  # the length is max_position_embeddings x factor
_KEPT: Final = ("default", "mrope", "llama3", "yarn", "deepseek_yarn", "longrope", "su")
MAX_ROPE_FACTOR: Final = 1024.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """One distinct rotary embedding.

    Attributes:
        positions: rows of the cosine and sine table.
        rotary_dim: elements of a row.
        max_model_len: the longest context that it is made for.
        long_factors_from: for LongRoPE, the length above which vLLM uses the long factors for every request.
        element_bytes: of a table with a dtype of its own; None is the model's dtype.
        unset_len: the context that the engine takes where nobody says one, if it is not the longest.
    """

    positions: int
    rotary_dim: int
    max_model_len: int
    long_factors_from: int | None = None
    element_bytes: int | None = None
    unset_len: int | None = None

    def table_bytes(self, element_bytes: int) -> int:
        """Bytes of the table, kept whole on every rank."""
        return self.positions * self.rotary_dim * (self.element_bytes or element_bytes)


def rope_from_config(config: Config, *, rotary_dim: int, max_position_embeddings: int) -> Rope:
    """Read rope_scaling or rope_parameters.

    Source: vLLM 0.33.0, config/model.py (_get_and_verify_max_len) and layers/rotary_embedding.

    Raises:
        UnsupportedModelError: a rope type, or a value of one, that is not known.
    """
    section = config.section("rope_parameters") or config.section("rope_scaling")
    kind = "default"
    if section is not None:
        kind = section.text("rope_type", default=section.text("type", default="default"))
        if kind not in (*_MULTIPLIED, *_KEPT):
            raise section.refuse(
                "rope_type" if "rope_type" in section.values else "type",
                "this rope type is not known",
                _WAY_OUT,
            )
    if section is None or kind not in (*_MULTIPLIED, "yarn", "deepseek_yarn", "longrope", "su"):
        return Rope(
            positions=max_position_embeddings, rotary_dim=rotary_dim, max_model_len=max_position_embeddings
        )
    if kind in ("longrope", "su"):
        return _long_rope(config, section, rotary_dim, max_position_embeddings)
    factor = section.number("factor", default=1.0, minimum=1.0, maximum=MAX_ROPE_FACTOR)
    if kind in _MULTIPLIED:
        length = int(max_position_embeddings * factor)
        rows = (
            length if kind == "linear" else max_position_embeddings
        )  # a dynamic table is rebased, not longer
        return Rope(positions=rows, rotary_dim=rotary_dim, max_model_len=length)
    original = section.integer(
        "original_max_position_embeddings", maximum=MAX_TOKENS, default=max_position_embeddings
    )
    return Rope(
        positions=int(original * factor), rotary_dim=rotary_dim, max_model_len=max_position_embeddings
    )


def _long_rope(config: Config, section: Config, rotary_dim: int, max_position_embeddings: int) -> Rope:
    """LongRoPE keeps a short table and a long one."""
    holder = config if config.values.get("original_max_position_embeddings") is not None else section
    original = holder.integer("original_max_position_embeddings", maximum=MAX_TOKENS)
    return Rope(
        positions=original + max_position_embeddings,
        rotary_dim=rotary_dim,
        max_model_len=max_position_embeddings,
        long_factors_from=original,
        unset_len=original if holder is config else None,
    )


def rotary_dim_of(config: Config, head_size: int, *, default: float = 1.0) -> int:
    """Elements of a head that rotate: all of them, or partial_rotary_factor of them."""
    section = config.section("rope_parameters") or config.section("rope_scaling")
    inside = section is not None and section.values.get("partial_rotary_factor") is not None
    holder = section if section is not None and inside else config
    factor = holder.number("partial_rotary_factor", default=default, minimum=1 / MAX_WIDTH, maximum=1.0)
    return int(head_size * factor)
