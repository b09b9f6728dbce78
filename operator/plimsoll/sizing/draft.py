"""A model's own draft layers (multi-token prediction): what the engine builds of them, and when they are in the sum."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.engine import UnsupportedOptionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plimsoll.sizing.engine import EngineVersion
    from plimsoll.sizing.model import Layer, ModelShape
    from plimsoll.sizing.rope import Rope
    from plimsoll.sizing.serving import Serving
    from plimsoll.sizing.tensors import Tensor

# Source of the whole file: vLLM 0.33.0, v1/worker/gpu/spec_decode (load_eagle_model) and config/speculative.py.
HEADS_SHARED: Final = (0, 16, 0)  # vllm-project/vllm#34385; the embedding was the model's before


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The draft layers, all of them on the last pipeline stage, behind the model's own.

    Attributes:
        modules: predictors that the layers make up, each for one further token.
        names: of each layer, as the engine's modules and so the checkpoint's quantization name it.
        outside: projections and norms beside the layers; the output layer is the model's.
        ropes: rotary tables that the model does not have.
        apart, apart_ropes: what it shares with the model on a single stage, and has a copy of where there are several.
        heads: output layers, which the engine built but did not share with the model before 0.16.
        streams: hidden states of a token that it reads.
    """

    layers: tuple[Layer, ...]
    modules: int
    names: tuple[str, ...]
    outside: tuple[Tensor, ...]
    ropes: tuple[Rope, ...] = ()
    apart: tuple[Tensor, ...] = ()
    apart_ropes: tuple[Rope, ...] = ()
    heads: tuple[Tensor, ...] = ()
    streams: int = 1


def draft_of(shape: ModelShape, serving: Serving) -> Draft | None:
    """The draft layers that this engine builds and that are in the sum; None where there are none."""
    speculation = serving.speculative
    return shape.draft if speculation is not None and speculation.own_layers else None


def built_draft(shape: ModelShape, serving: Serving, version: EngineVersion) -> Draft | None:
    """The same with what a rank of this release holds of it."""
    draft = draft_of(shape, serving)
    if draft is None or version.at_least(HEADS_SHARED):
        return draft
    return replace(draft, outside=(*draft.outside, *draft.heads))


def speculative_tokens(shape: ModelShape, serving: Serving) -> int:
    """Tokens that are proposed in one step; where they are not said, as many as there are predictors."""
    speculation, draft = serving.speculative, draft_of(shape, serving)
    if speculation is None:
        return 0
    return speculation.num_speculative_tokens or (draft.modules if draft is not None else 0)


def check_speculation(shape: ModelShape, serving: Serving) -> None:
    """Refuse what the engine would not start with.

    Raises:
        UnsupportedOptionError: the model has no draft layers, or they do not make up the tokens.
    """
    speculation, draft = serving.speculative, draft_of(shape, serving)
    if speculation is None:
        return
    tokens, most = speculative_tokens(shape, serving), serving.max_num_batched_tokens
    if (speculation.own_layers or speculation.another_model) and most is not None and most <= tokens:
        raise UnsupportedOptionError(
            f"maxNumBatchedTokens is {most}: it must be above the {tokens} num_speculative_tokens of speculative_config; "
            "raise it."
        )
    if not speculation.own_layers or speculation.model is not None:
        return
    if draft is None and shape.uncounted_draft is None:
        raise UnsupportedOptionError(
            f"speculative_config.method is {speculation.method!r}: vLLM has no draft layers for this {shape.architecture}; "
            "use ngram or a draft model, or leave it out."
        )
    if draft is not None and tokens > draft.modules and tokens % draft.modules:
        raise UnsupportedOptionError(
            f"speculative_config.num_speculative_tokens is {tokens}: it must be a multiple of the model's "
            f"{draft.modules} draft layers; set {draft.modules}."
        )


def speculation_warnings(shape: ModelShape, serving: Serving) -> Iterator[str]:
    """What of the draft is not in the sum, one sentence each."""
    speculation, draft = serving.speculative, draft_of(shape, serving)
    if speculation is None:
        return
    if speculation.another_model or (speculation.own_layers and draft is None and speculation.model):
        yield (
            f"speculative_config.method {speculation.method} brings another model, whose config is not at hand: its weights "
            "and its KV cache are not in the sum, so leave room for them."
        )
    elif speculation.own_layers and draft is None:
        yield (
            f"The draft layers that speculative_config asks for are not in the sum ({shape.uncounted_draft}): leave room "
            "for their weights and their KV cache."
        )
    elif draft is not None and speculation.model is not None:
        yield (
            f"speculative_config.model is {speculation.model!r:.80}: the draft is counted as the model's own layers, "
            "which it must be."
        )
    for field in speculation.uncounted:
        yield f"speculative_config.{field} changes what the draft takes, and the plan does not reckon with it."
