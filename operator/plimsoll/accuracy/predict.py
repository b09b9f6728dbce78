"""What sizing says of a row, had it been asked before the start."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from plimsoll.accuracy.cards import ABLE, Card, card_of
from plimsoll.accuracy.checkpoints import config_of, quantized_while_loading
from plimsoll.accuracy.era import Era, Flags, era_of, serving_of
from plimsoll.accuracy.reading import MOST
from plimsoll.sizing import catalogue
from plimsoll.sizing.accelerators import NodePool
from plimsoll.sizing.draft import draft_of
from plimsoll.sizing.engine import UnsupportedOptionError
from plimsoll.sizing.errors import UnsupportedModelError
from plimsoll.sizing.facts import ModelFacts, RepoFile
from plimsoll.sizing.layers import FullAttention, MultiHeadLatent, SparseIndexer
from plimsoll.sizing.rules import HardwareCannotError, precision_for
from plimsoll.sizing.search import Placement, Search
from plimsoll.sizing.shape import shape_from_facts
from plimsoll.sizing.weights import rank_weights, tensor_parallel_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plimsoll.accuracy.rows import LogRow
    from plimsoll.sizing.accelerators import Accelerator
    from plimsoll.sizing.interval import Interval
    from plimsoll.sizing.launch import Launch
    from plimsoll.sizing.model import ModelShape
    from plimsoll.sizing.rules import Precision
    from plimsoll.sizing.serving import Serving

_FIRST_RANK: Final = "rank 0"
_INCOMPLETE: Final = "config.json leaves out"
_FILES_NOTE: Final = "_total_safetensors_bytes"
_WHOLE: Final = "give the whole config.json"
_REFUSALS: Final = (UnsupportedModelError, UnsupportedOptionError, HardwareCannotError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether sizing would have let the row start."""

    fits: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Everything that is held against a row, in bytes of one rank.

    Attributes:
        max_model_len: the context that the row ran with, or the model's own.
        available_low, available_bytes, available_high: for the KV cache; None where the row does not say enough.
        verdict: None where the row does not say enough.
        refused: why there are no figures; None where there are.
        card_cannot: whether that is for what the card cannot compute, and not for its memory.
        lacking: the field that the config leaves out, so that there is nothing to size; None where it is whole.
        assumed: what was taken for lack of better, in words.
    """

    card: Card
    era: Era | None = None
    max_model_len: int = 0
    in_flight_tokens: int = 0
    weights_bytes: int = 0
    launch: Launch | None = None
    available_low: int | None = None
    available_bytes: int | None = None
    available_high: int | None = None
    verdict: Verdict | None = None
    refused: str | None = None
    card_cannot: bool = False
    lacking: str | None = None
    assumed: tuple[str, ...] = ()

    def launched_with(self, serving: Serving) -> Prediction | None:
        """The same with other options; None where they are refused."""
        launch = self.launch
        if launch is None or launch.accelerator is None:
            return None
        try:
            precision = precision_for(launch.shape, serving, launch.accelerator, launch.version)
            placement = _placement(
                launch.accelerator, precision, launch.tensor_parallel_size, launch.pipeline_parallel_size
            )
            changed = Search(launch.shape, serving, launch.version).launch(placement)
        except _REFUSALS:
            return None
        return replace(self, launch=changed)

    @property
    def hybrid(self) -> bool:
        """Whether a token takes another share of the cache than its layers' sum, so that tokens need a length."""
        if self.launch is None:
            return False
        groups = self.launch.layout.groups
        in_full = isinstance(groups[0].kind, (FullAttention, MultiHeadLatent, SparseIndexer))
        whole = in_full or (self.era is not None and self.era.first_engine)  # which kept windows in full
        return len(groups) > 1 or not whole


def predict(row: LogRow, values: Mapping[str, Any]) -> Prediction:
    """Size a row's model as its engine was asked to run it; a refusal is an answer too."""
    card = card_of(row)
    model = row.model or ""
    config, filled = config_of(values, model, row.quantization)
    assumed = list(card.assumed) + ([filled] if filled else [])
    try:
        shape, filled = _shape(model, config, _files(values))
    except UnsupportedModelError as problem:
        return Prediction(
            card=card,
            refused=str(problem),
            lacking=problem.field if problem.value is None else None,
            verdict=Verdict(fits=False, reason=str(problem)),
            assumed=tuple(assumed),
        )
    assumed += [filled] if filled else []
    if Flags(row.other_flags or "").text_only:
        shape = replace(shape, tower=(), tower_buffer_bytes=0, least_batched_tokens=0)
    era = era_of(row, shape, card)
    assumed += era.assumed
    online = quantized_while_loading(config, model, row.quantization)
    found = _Sized(row, card, era, shape, tuple(assumed)).prediction(online_fp8=online)
    if not found.card_cannot or not row.served:
        return found
    # It ran all the same, on a fork or a newer kernel: the verdict is wrong, and the memory can still be reckoned.
    able = replace(card, accelerator=replace(card.accelerator, compute_capability=ABLE))
    assumed.append(f"reckoned as on a card that can: {found.refused}")
    other = _Sized(row, able, era, shape, tuple(assumed)).prediction(online_fp8=online)
    return found if other.refused is not None else replace(other, verdict=found.verdict)


def _placement(accelerator: Accelerator, precision: Precision, tensor_size: int, stages: int) -> Placement:
    """One node with as many cards as the row had."""
    return Placement(
        pool=NodePool(name="the row's", accelerator=accelerator, gpus_per_node=tensor_size * stages, nodes=1),
        accelerator=accelerator,
        precision=precision,
        tensor_parallel_size=tensor_size,
        pipeline_parallel_size=stages,
        nodes=1,
    )


def _files(values: Mapping[str, Any]) -> tuple[RepoFile, ...]:
    """The checkpoint's files as one, where a note beside the config tells their size."""
    size = values.get(_FILES_NOTE)
    if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= MOST:
        return ()
    return (RepoFile(path="model.safetensors", size_bytes=size),)


def _shape(
    model: str, config: Mapping[str, Any], files: tuple[RepoFile, ...]
) -> tuple[ModelShape, str | None]:
    """The shape of the config, or of the catalogue's where the one given is not whole, and that in words.

    Raises:
        UnsupportedModelError: neither can be sized; its value is None where a field is missing.
    """
    given: ModelShape | None = None
    unread = _lacks_model_type(config)
    try:
        given = shape_from_facts(
            ModelFacts(model_id=model, requested_revision="main", commit="local", config=config, files=files)
        )
        missing = next((warning for warning in given.warnings if warning.startswith(_INCOMPLETE)), None)
    except UnsupportedModelError as problem:
        unread = unread or problem
        missing = f"the config lacks {unread.field}" if unread.value is None else None
    known = catalogue.lookup(model) if missing is not None else None
    if known is not None:
        with contextlib.suppress(UnsupportedModelError):
            return shape_from_facts(known), f"the catalogue's config, as of the one given: {missing}"
    if given is not None:
        return given, missing
    raise unread or UnsupportedModelError("model_type", None, "it must be a string", _WHOLE)


def _lacks_model_type(config: Mapping[str, Any]) -> UnsupportedModelError | None:
    """A config without a model type is not one that vLLM reads, whatever else it says."""
    if config.get("model_type") is not None:
        return None
    return UnsupportedModelError("model_type", None, "it must be a string", _WHOLE)


@dataclass(frozen=True, slots=True)
class _Sized:
    """A row with its card, release and shape."""

    row: LogRow
    card: Card
    era: Era
    shape: ModelShape
    assumed: tuple[str, ...]

    def prediction(self, *, online_fp8: bool) -> Prediction:
        length = self.row.max_model_len or self.row.max_concurrency_at_len
        serving = serving_of(self.row, self.era, online_fp8=online_fp8, max_model_len=length)
        accelerator, version = self.card.accelerator, self.era.version
        tensor_size, stages = serving.tensor_parallel_size or 1, serving.pipeline_parallel_size or 1
        try:
            precision = precision_for(self.shape, serving, accelerator, version)
            problem = tensor_parallel_problem(
                self.shape,
                tensor_size,
                precision.quantization,
                expert_parallel=serving.enable_expert_parallel,
                draft=draft_of(self.shape, serving),
            )
            if problem is not None:
                return self._refused(f"tensor parallel size {tensor_size}: {problem}")
            if stages > len(self.shape.layers):
                return self._refused(
                    f"pipeline parallel size {stages}: the model has {len(self.shape.layers)} layers"
                )
            if stages > 1 and self.shape.stages_problem:
                return self._refused(
                    f"pipeline parallel size {stages}: this model {self.shape.stages_problem}"
                )
            search = Search(self.shape, serving, version)
            placement = _placement(accelerator, precision, tensor_size, stages)
            launch = search.launch(placement)
            reckoned = length or self.shape.unset_max_model_len
            return self._figures(search, placement, launch, reckoned)
        except _REFUSALS as problem:
            return replace(self._refused(str(problem)), card_cannot=isinstance(problem, HardwareCannotError))

    def _refused(self, reason: str) -> Prediction:
        return Prediction(
            card=self.card,
            era=self.era,
            refused=reason,
            verdict=Verdict(fits=False, reason=reason),
            assumed=self.assumed,
        )

    def _figures(self, search: Search, placement: Placement, launch: Launch, length: int) -> Prediction:
        moved = self._spread_experts(launch)
        stage = self._stage(launch, length)
        held = launch.costs(length)[stage]
        adapters = held.lora.expected if self.era.loading_has_adapters else 0
        available: tuple[int, int, int] | None = None
        verdict = None
        if self.card.memory_known and self.row.gpu_memory_utilization is not None:
            end = launch.available_interval(length)[stage]
            early = self._early(launch, length, stage) or end
            low, high = min(end.low, early.low), max(end.high, early.high)
            available = low + moved, end.expected + moved, high + moved
            verdict = self._verdict(search, placement)
        return Prediction(
            card=self.card,
            era=self.era,
            max_model_len=length,
            in_flight_tokens=launch.limits(length).in_flight_tokens,
            weights_bytes=held.weights_bytes + adapters + held.repacked.expected - moved,
            launch=launch,
            available_low=None if available is None else available[0],
            available_bytes=None if available is None else available[1],
            available_high=None if available is None else available[2],
            verdict=verdict,
            assumed=self.assumed,
        )

    def _early(self, launch: Launch, length: int, stage: int) -> Interval | None:
        """The same under the other release that may have run; None where there is none."""
        if self.era.early is None:
            return None
        era = replace(
            self.era,
            version=self.era.early,
            whole_prompts=self.era.first_engine and self.shape.latent_up_projection is not None,
        )
        asked = serving_of(self.row, era, online_fp8=False, max_model_len=launch.serving.max_model_len)
        serving = replace(
            launch.serving,
            engine_version=str(era.version),
            max_num_batched_tokens=asked.max_num_batched_tokens,
        )
        try:
            precision = precision_for(self.shape, serving, self.card.accelerator, self.era.early)
            placement = _placement(
                self.card.accelerator, precision, launch.tensor_parallel_size, launch.pipeline_parallel_size
            )
            other = Search(self.shape, serving, self.era.early).launch(placement)
            return other.available_interval(length)[stage]
        except _REFUSALS:
            return None

    def _stage(self, launch: Launch, length: int) -> int:
        """The stage whose figures the row has: the fullest, on which the others wait, unless it says rank 0."""
        if _FIRST_RANK in (self.row.notes or "").lower():
            return 0
        totals = [costs.total_bytes for costs in launch.costs(length)]
        return totals.index(max(totals))

    def _spread_experts(self, launch: Launch) -> int:
        """Bytes that leave a rank where data-parallel ranks share the experts; the rest is on each of them."""
        ranks = self.row.data_parallel_size or 1
        if not launch.serving.enable_expert_parallel or ranks == 1:
            return 0
        draft = draft_of(self.shape, launch.serving)
        alone = replace(
            self.shape,
            layers=tuple(
                replace(layer, tensors=tuple(t for t in layer.tensors if t.expert))
                for layer in (*self.shape.layers, *(draft.layers if draft is not None else ()))
            ),
        )
        bare = replace(alone, layers=tuple(replace(layer, tensors=()) for layer in alone.layers))

        def experts(size: int) -> int:
            whole, rest = (
                rank_weights(
                    shape,
                    size,
                    1,
                    launch.precision.element_bytes,
                    launch.precision.quantization,
                    expert_parallel=True,
                )[0].layer_bytes
                for shape in (alone, bare)
            )
            return whole - rest

        return experts(launch.tensor_parallel_size) - experts(launch.tensor_parallel_size * ranks)

    def _verdict(self, search: Search, placement: Placement) -> Verdict:
        """What a plan would have said of this very placement and length."""
        if search.serving.max_model_len is None and not self._shorter_than_the_model():
            # The engine takes the model's own length, or does not start.
            serving = replace(search.serving, max_model_len=self.shape.unset_max_model_len)
            search = Search(self.shape, serving, search.version)
        found = search.run((placement.pool,))
        if found.fit is not None:
            return Verdict(fits=True, reason=f"{found.fit.max_model_len} tokens fit")
        return Verdict(
            fits=False, reason="; ".join(miss.problem for miss in found.misses[:1]) or "no placement"
        )

    def _shorter_than_the_model(self) -> bool:
        """Whether the log shows that the engine ran with a shorter context than the model's, without saying which."""
        tokens = self.row.kv_tokens
        return self.row.served is True and tokens is not None and tokens < self.shape.unset_max_model_len
