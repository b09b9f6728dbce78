"""LoRA slots: what vLLM allots at the start for adapters that come later, whether or not one ever does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.engine import UnsupportedOptionError
from plimsoll.sizing.fused import chains
from plimsoll.sizing.interval import NOTHING, Interval, exactly
from plimsoll.sizing.lora_classes import (
    BARE_INSIDE,
    BOTH_ENDS,
    BOTH_ENDS_INSIDE,
    CONV_GROUPS,
    EMBEDDING,
    GATE_AND_UP_AT_ONCE,
    LEFT_ALONE,
    NEVER_WRAPPED,
    NOT_LINEAR,
    OF_THREE,
    ONE_NAME,
    OUTPUTS,
    TOWER_TOO,
    UNHELD,
    UNSUPPORTED,
)
from plimsoll.sizing.tensors import VOCAB_PADDING, Sharding
from plimsoll.units import ceil_div, round_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from plimsoll.sizing.engine import BatchLimits, EngineVersion
    from plimsoll.sizing.launch import Launch
    from plimsoll.sizing.model import Layer, ModelShape
    from plimsoll.sizing.rules import Precision
    from plimsoll.sizing.serving import Serving
    from plimsoll.sizing.tensors import Tensor

# Source of the whole file: vLLM 0.33.0, lora/model_manager.py (_create_lora_modules), lora/layers (create_lora_weights),
# lora/punica_wrapper and config/lora.py. Each linear layer gets an A of rank x inputs for each of its outputs that an
# adapter names apart, and a B of outputs x rank, in the model's dtype, whatever the base weights are stored in.
RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
DEFAULT_RANK: Final = 16
MOST_SLOTS: Final = 65536
_EXPERT_LORA: Final = (0, 11, 1)  # vllm-project/vllm#21229: routed experts have slots too
# Before, a tied output layer was the embedding itself in some classes, and was wrapped as one once more (Qwen3, 0.27.1).
_OWN_TIED_HEAD: Final = (0, 33, 0)
_MOST_VOCABULARY: Final = 258048  # lora/layers/logits_processor.py
_ATTENTION_OUTPUTS: Final = 3
_TWO_TABLES: Final = 2  # an output layer of its own stands beside the embedding
_FLAG_BYTES: Final = 4  # adapter_enabled: one int32 for each slot of routed experts, and one more
_INDEX_BYTES: Final = 8  # int64
_MAPPING_BYTES: Final = 4  # int32


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSlots:
    """Room for adapters on each card.

    Attributes:
        max_loras: adapters in one batch, each with a slot.
        max_lora_rank: every slot has room for this rank.
        fully_sharded: A and B are both split over the ranks.
        max_cpu_loras: adapters that host memory holds; None: as many as there are slots.
    """

    max_loras: int = 1
    max_lora_rank: int = DEFAULT_RANK
    fully_sharded: bool = False
    max_cpu_loras: int | None = None


def check_slots(slots: LoraSlots | None) -> None:
    """Refuse what vLLM's configuration refuses.

    Raises:
        UnsupportedOptionError: one sentence that names the flag and the value.
    """
    if slots is None:
        return
    if not 1 <= slots.max_loras <= MOST_SLOTS:
        raise UnsupportedOptionError(
            f"max_loras is {slots.max_loras}: it must be from 1 to {MOST_SLOTS}; it counts the adapters of one batch."
        )
    if slots.max_lora_rank not in RANKS:
        raise UnsupportedOptionError(
            f"max_lora_rank is {slots.max_lora_rank}: vLLM takes {', '.join(map(str, RANKS))}; use the next one that "
            "holds your adapters' rank."
        )
    held = slots.max_cpu_loras
    if held is not None and not slots.max_loras <= held <= MOST_SLOTS:
        raise UnsupportedOptionError(
            f"max_cpu_loras is {held}: it must be from max_loras, {slots.max_loras}, to {MOST_SLOTS}; raise it or leave "
            "it unset."
        )


def check_lora(shape: ModelShape, serving: Serving) -> None:
    """Refuse a model, or a way of serving it, that vLLM does not start with slots.

    Raises:
        UnsupportedOptionError: one sentence with the way out.
    """
    slots = serving.lora
    if slots is None:
        return
    problem = None
    if shape.architecture in UNSUPPORTED:
        problem = (
            f"vLLM has no LoRA for {shape.architecture}; leave it out, or merge the adapter into the weights"
        )
    elif _has_both_ends(shape) and shape.vocab_size > _MOST_VOCABULARY:
        problem = f"vLLM takes it up to a vocabulary of {_MOST_VOCABULARY}, and this model has {shape.vocab_size}; leave it out"
    elif slots.fully_sharded and serving.enable_expert_parallel:
        problem = "fully_sharded_loras does not go with enable_expert_parallel; leave out one of the two"
    if problem is not None:
        raise UnsupportedOptionError(f"enable_lora is set: {problem}.")


def lora_warnings(shape: ModelShape, serving: Serving) -> tuple[str, ...]:
    """That the slots of a class were not held against the engine."""
    if serving.lora is None or shape.architecture not in UNHELD:
        return ()
    return (
        (
            f"The LoRA slots of {shape.architecture} follow the general rules; nobody held them against vLLM: leave some "
            "room, or look at what loading took in its log."
        ),
    )


def split_problem(slots: LoraSlots | None, shape: ModelShape, tensor_parallel_size: int) -> str | None:
    """Why vLLM does not split the slots over so many ranks; None where it does."""
    if slots is None or not slots.fully_sharded:
        return None
    if slots.max_lora_rank % tensor_parallel_size:
        return f"fully sharded LoRA slots of rank {slots.max_lora_rank} are not divisible by {tensor_parallel_size}"
    if shape.hidden_size % tensor_parallel_size:
        return f"fully sharded LoRA slots of {shape.hidden_size} outputs are not divisible by {tensor_parallel_size}"
    return None


@dataclass(frozen=True, slots=True)
class SlotsOfRank:
    """The slots on one rank of a launch.

    Attributes:
        size: ranks that share each layer.
        whole_experts: each rank has whole experts instead of a slice of all.
    """

    shape: ModelShape
    slots: LoraSlots
    version: EngineVersion
    precision: Precision
    size: int
    whole_experts: bool = False

    def on_stage(self, layers: tuple[int, int]) -> Interval:
        """Bytes on the stage that holds these layers, first and one past the last."""
        slots, element = self.slots, self.precision.element_bytes
        held = self.shape.layers[slice(*layers)]
        first, last = layers[0] == 0, layers[1] == len(self.shape.layers)
        elements = sum(map(self._layer_elements, held))
        outside = _outside(self.shape, first=first, last=last)
        elements += sum(self._chain_elements((tensor,)) for tensor in outside)
        ends = _ends(self.shape, first=first, last=last)
        table = (self.shape.vocab_size + self.shape.hidden_size) * slots.max_lora_rank
        total = slots.max_loras * (elements + sum(ends) * table) * element
        total += sum(map(self._has_flags, held)) * (slots.max_loras + 1) * _FLAG_BYTES
        embedding, logits = ends
        if logits and self.size > 1:  # the place of each entry of the vocabulary among those of all ranks
            total += round_up(self.shape.vocab_size, VOCAB_PADDING) * _INDEX_BYTES
        if embedding and logits and self.shape.tied_embeddings and not self.version.at_least(_OWN_TIED_HEAD):
            again = total + slots.max_loras * table * element
            return Interval(total, again, again)
        return exactly(total)

    def copied_while_compiling(self, layers: tuple[int, int]) -> Interval:
        """What the profile's peak grows by while the model is compiled, and not with a compile cache that is warm.

        Qwen3 4B, vLLM 0.27.1, cold: 0.80, 0.83, 0.87 and 1.09 GiB with 1, 8, 16 and 64 slots of rank 16, which is one
        more A of the embedding; warm: 0.15 GiB with any number.
        """
        embedding, _ = _ends(self.shape, first=layers[0] == 0, last=layers[1] == len(self.shape.layers))
        if not embedding:
            return NOTHING
        rows = self.slots.max_loras * self.shape.vocab_size
        return Interval(0, 0, rows * self.slots.max_lora_rank * self.precision.element_bytes)

    def _layer_elements(self, layer: Layer) -> int:
        return sum(map(self._chain_elements, chains(layer.tensors)))

    def _chain_elements(self, chain: Sequence[Tensor]) -> int:
        """Elements of one slot in what the engine holds as one layer."""
        if self.slots.fully_sharded and self._is_of_many(chain):
            return 0
        wrapped = filter(self._is_wrapped, chain)
        return sum(self._tensor_elements(tensor, self._inputs(tensor, chain)) for tensor in wrapped)

    def _has_flags(self, layer: Layer) -> bool:
        """Whether the layer has routed experts that adapters may change."""
        return any(tensor.expert and self._is_wrapped(tensor) for tensor in layer.tensors)

    def _is_wrapped(self, tensor: Tensor) -> bool:
        if (
            tensor.columns <= 1
            or tensor.sharding is Sharding.VOCAB
            or tensor.name.endswith((*NOT_LINEAR, *NEVER_WRAPPED))
        ):
            return False
        if tensor.name in LEFT_ALONE.get(self.shape.architecture, ()):
            return False
        return not tensor.expert or self.version.at_least(_EXPERT_LORA)

    def _inputs(self, tensor: Tensor, chain: Sequence[Tensor]) -> int:
        """How many A the tensor has; none where it shares that of the tensor before it."""
        follows, architecture = tensor.follows, self.shape.architecture
        if follows and tensor.expert and architecture in GATE_AND_UP_AT_ONCE:
            return 0
        if follows and not tensor.expert and tensor.name.endswith(ONE_NAME.get(architecture, ())):
            return 0
        if tensor.name.endswith(CONV_GROUPS):  # B and C beside the inner channels
            return 0 if self._copies_groups(tensor) else 2
        if any(map(self._copies_groups, chain)):
            return 0 if follows else 1
        return OUTPUTS.get(tensor.name.rpartition(".")[2], tensor.partitions)

    def _is_of_many(self, chain: Sequence[Tensor]) -> bool:
        """A layer of three outputs or more beside attention's, which no class splits fully."""
        if any(map(self._copies_groups, chain)):
            return False
        return len(chain) > _ATTENTION_OUTPUTS or chain[-1].name.endswith((CONV_GROUPS, *OF_THREE))

    def _copies_groups(self, tensor: Tensor) -> bool:
        """Mamba 2 with groups that the ranks cannot share out is one layer with one output."""
        return tensor.sharding is Sharding.GROUPS and (tensor.kv_heads or 1) % self.size != 0

    def _tensor_elements(self, tensor: Tensor, inputs: int) -> int:
        whole = tensor.expert and self.whole_experts
        copies = ceil_div(tensor.copies, self.size) if whole else tensor.copies
        rows, columns = tensor.rank_shape(1 if whole else self.size)
        if tensor.expert:
            rows, columns = self._padded(tensor, rows, columns)
        rank = rank_of_a = self.slots.max_lora_rank
        if self.slots.fully_sharded and tensor.sharding is Sharding.ROW:
            rows //= self.size
        elif self.slots.fully_sharded and tensor.sharding is not Sharding.REPLICATED:
            rank_of_a //= self.size
        return copies * (inputs * rank_of_a * columns + rows * rank)

    def _padded(self, tensor: Tensor, rows: int, columns: int) -> tuple[int, int]:
        """An expert as wide as its kernel has it."""
        quantization = self.precision.quantization
        inner, hidden = (1, 1) if quantization is None else quantization.padding
        inner = max(inner, self.precision.expert_multiple)
        if tensor.sharding is Sharding.ROW:
            return round_up(rows, hidden), round_up(columns, inner)
        return round_up(rows, inner), round_up(columns, hidden)


def slots_of(launch: Launch) -> SlotsOfRank | None:
    """The slots of a launch; None where it has none."""
    serving = launch.serving
    if serving.lora is None:
        return None
    return SlotsOfRank(
        shape=launch.shape,
        slots=serving.lora,
        version=launch.version,
        precision=launch.precision,
        size=launch.tensor_parallel_size,
        whole_experts=serving.enable_expert_parallel,
    )


def adapter_bytes(launch: Launch) -> int:
    """Adapters that a worker keeps in host memory, each of the largest rank and whole: they are cut for a rank later."""
    found = slots_of(launch)
    if found is None:
        return 0
    held = found.slots.max_cpu_loras or found.slots.max_loras
    one = replace(
        found, slots=LoraSlots(max_lora_rank=found.slots.max_lora_rank), size=1, whole_experts=False
    )
    return held * max(
        one.on_stage(launch.model_layers(stage)).high for stage in range(launch.pipeline_parallel_size)
    )


def _outside(shape: ModelShape, *, first: bool, last: bool) -> Iterator[Tensor]:
    """Tensors beside the layers on one stage; of towers only those of a class that does not tell them from the text."""
    yield from shape.every_stage
    if shape.architecture in TOWER_TOO:
        yield from (tensor for tensor in shape.tower if tensor.sharding is not Sharding.REPLICATED)
    if first:
        yield from shape.first_stage
    if last:
        yield from shape.last_stage


def _ends(shape: ModelShape, *, first: bool, last: bool) -> tuple[bool, bool]:
    """Whether slots have room for the embedding, and for the output layer, on one stage."""
    both = _has_both_ends(shape)
    if not both and shape.architecture not in EMBEDDING:
        return False, False
    tables = sum(tensor.sharding is Sharding.VOCAB for tensor in shape.every_stage)
    embedding = first or tables > 0 or (last and shape.tied_embeddings)
    whole = tables > 0 and not shape.last_stage  # a class that builds all of them everywhere
    return embedding, both and (last or whole or tables >= _TWO_TABLES)


def _has_both_ends(shape: ModelShape) -> bool:
    """Whether adapters may change the embedding and the output layer."""
    if shape.architecture in BARE_INSIDE:
        return False
    return shape.architecture in BOTH_ENDS or shape.decoder_type in BOTH_ENDS_INSIDE


def index_bytes(slots: LoraSlots, limits: BatchLimits) -> int:
    """Which adapter each token and each sequence of a batch wants, as the kernels read it."""
    tokens, sequences = limits.max_num_batched_tokens, limits.max_num_seqs
    mappings = 2 * (2 * tokens + 3 * slots.max_loras + 4) * _MAPPING_BYTES
    return (4 * tokens + 3 * sequences) * _INDEX_BYTES + mappings
