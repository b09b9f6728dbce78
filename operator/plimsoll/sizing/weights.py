"""Weights per rank, exact from shapes, and which tensor parallel sizes they allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.fused import chains, may_cut_blocks, shared_scale_bytes
from plimsoll.sizing.quantization import NVFP4_GROUP, WeightFormat
from plimsoll.sizing.tensors import VOCAB_PADDING, Sharding, Tensor
from plimsoll.units import round_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from plimsoll.sizing.draft import Draft
    from plimsoll.sizing.model import Layer, ModelShape
    from plimsoll.sizing.quantization import Quantization
    from plimsoll.sizing.rope import Rope

# vLLM 0.33.0, attention/layer.py: q, k, v and prob scale, float32 buffers of each attention layer.
ATTENTION_BUFFER_BYTES: Final = 4 * 4
_GPTQ_TILE: Final = 64
_COPIED: Final = (WeightFormat.PLAIN, WeightFormat.BYTE_CHANNEL)  # mamba_mixer2.py: weight and weight_scale
_MAP_ENTRY_BYTES: Final = 4
_POST_LOAD_BYTES: Final = 2  # absorbed MLA weights are kept in 16 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class RankWeights:
    """What one rank holds once the model is loaded.

    Attributes:
        layers: indices of its layers, first and one past the last.
        parameter_bytes, buffer_bytes: as vLLM's modules hold them before any repacking.
        post_load_bytes: added by repacking (the absorbed weights of quantized MLA).
        layer_bytes: the parameters that stand in the model's layers, which may be offloaded to the host.
        parts: the model's share and the draft's, where there is a draft beside it.
    """

    layers: tuple[int, int]
    parameter_bytes: int
    buffer_bytes: int
    post_load_bytes: int
    layer_bytes: int
    parts: tuple[RankWeights, RankWeights] | None = None

    @property
    def total_bytes(self) -> int:
        """Everything that stays."""
        return self.parameter_bytes + self.buffer_bytes + self.post_load_bytes

    @property
    def alone(self) -> RankWeights:
        """The model without the draft."""
        return self if self.parts is None else self.parts[0]

    @property
    def draft(self) -> RankWeights | None:
        """The draft alone; None where there is none."""
        return None if self.parts is None else self.parts[1]

    def beside(self, draft: RankWeights) -> RankWeights:
        """Both on one rank; a draft is never offloaded."""
        return RankWeights(
            layers=(self.layers[0], draft.layers[1]),
            parameter_bytes=self.parameter_bytes + draft.parameter_bytes,
            buffer_bytes=self.buffer_bytes + draft.buffer_bytes,
            post_load_bytes=self.post_load_bytes + draft.post_load_bytes,
            layer_bytes=self.layer_bytes,
            parts=(self, draft),
        )


def stage_layers(num_layers: int, pipeline_parallel_size: int) -> tuple[tuple[int, int], ...]:
    """First and one past the last layer of each pipeline stage.

    The remainder goes one each to the stages before the last, from the back (vLLM 0.33.0,
    distributed/utils.py: get_pp_indices).
    """
    base, remainder = divmod(num_layers, pipeline_parallel_size)
    counts = [base] * pipeline_parallel_size
    for offset in range(2, remainder + 2):
        counts[-offset] += 1
    starts = [sum(counts[:stage]) for stage in range(pipeline_parallel_size)]
    return tuple((start, start + count) for start, count in zip(starts, counts, strict=True))


def rank_weights(
    shape: ModelShape,
    tensor_parallel_size: int,
    pipeline_parallel_size: int,
    element_bytes: int,
    quantization: Quantization | None,
    *,
    expert_parallel: bool = False,
    expert_multiple: int = 1,
    draft: Draft | None = None,
) -> tuple[RankWeights, ...]:
    """What a rank of each pipeline stage holds; the ranks of one stage are alike, the first has most experts.

    A draft stands on the last stage, with layers behind the model's.
    """
    stages = stage_layers(len(shape.layers), pipeline_parallel_size)

    def size(tensor: Tensor) -> int:
        return tensor.rank_bytes(
            tensor_parallel_size,
            element_bytes,
            quantization,
            expert_parallel=expert_parallel,
            expert_multiple=expert_multiple,
        )

    layers = (*shape.layers, *(draft.layers if draft is not None else ()))
    by_layer = _bytes_by_layer(shape, layers, quantization, tensor_parallel_size, size)

    def held(first: int, end: int, outside: tuple[Tensor, ...], buffers: int) -> RankWeights:
        own, in_layers = layers[first:end], sum(by_layer[first:end])
        in_buffers = _layer_buffer_bytes(own, tensor_parallel_size, element_bytes, maps=expert_parallel)
        return RankWeights(
            layers=(first, end),
            parameter_bytes=in_layers + sum(map(size, outside)),
            buffer_bytes=buffers + in_buffers,
            layer_bytes=in_layers,
            post_load_bytes=_absorbed_bytes(shape, own, tensor_parallel_size, quantization),
        )

    last = len(stages) - 1
    buffers = _table_bytes((shape.rope, *shape.other_ropes), element_bytes) + shape.buffer_bytes
    result = [
        held(
            *layers_of_stage,
            _outside(shape, is_first=stage == 0, is_last=stage == last),
            buffers + (shape.tower_buffer_bytes if stage == 0 else 0),
        )
        for stage, layers_of_stage in enumerate(stages)
    ]
    if draft is not None:
        outside = (*draft.outside, *(draft.apart if last else ()))
        tables = _table_bytes((*draft.ropes, *(draft.apart_ropes if last else ())), element_bytes)
        result[-1] = result[-1].beside(held(len(shape.layers), len(layers), outside, tables))
    return tuple(result)


def _table_bytes(ropes: Iterable[Rope | None], element_bytes: int) -> int:
    return sum(rope.table_bytes(element_bytes) for rope in ropes if rope)


def _outside(shape: ModelShape, *, is_first: bool, is_last: bool) -> tuple[Tensor, ...]:
    """Tensors beside the layers on one stage; a tied embedding is held by the first and the last."""
    tensors = shape.every_stage
    if is_first:
        tensors += shape.tower
    if is_first or (is_last and shape.tied_embeddings):
        tensors += shape.first_stage
    if is_last:
        tensors += shape.last_stage
        if not shape.tied_embeddings:
            tensors += shape.first_stage  # the output layer has the embedding's shape
    return tensors


def _layer_buffer_bytes(
    layers: tuple[Layer, ...], tensor_parallel_size: int, element_bytes: int, *, maps: bool
) -> int:
    """Scalars of attention, and what else in layers is no parameter; with whole experts, the maps to them."""
    scalars = sum(layer.attentions for layer in layers) * ATTENTION_BUFFER_BYTES
    own = sum(
        tensor.rank_bytes(tensor_parallel_size, element_bytes, None)
        for layer in layers
        for tensor in layer.buffers
    )
    return scalars + own + (sum(map(_expert_map_bytes, layers)) if maps else 0)


def _expert_map_bytes(layer: Layer) -> int:
    """With expert parallelism a routed layer maps each expert to its place on the rank, as int32."""
    return _MAP_ENTRY_BYTES * max((tensor.copies for tensor in layer.tensors if tensor.expert), default=0)


def _bytes_by_layer(
    shape: ModelShape,
    layers: tuple[Layer, ...],
    quantization: Quantization | None,
    tensor_parallel_size: int,
    size: Callable[[Tensor], int],
) -> list[int]:
    """Bytes of each layer on one rank; layers that are one object are counted once."""
    # MLA layers have no such scalars among their parameters (seen in vLLM 0.33.0's DeepSeek-V3).
    scales = quantization.attention_scale_bytes if quantization and not shape.latent_up_projection else 0
    known: dict[int, int] = {}

    def layer_bytes(layer: Layer) -> int:
        key = id(layer)
        if key not in known:
            known[key] = scales * layer.attentions + sum(map(size, layer.tensors))
            known[key] -= shared_scale_bytes(layer.tensors, tensor_parallel_size, quantization)
        return known[key]

    return [layer_bytes(layer) for layer in layers]


def _absorbed_bytes(
    shape: ModelShape,
    layers: tuple[Layer, ...],
    tensor_parallel_size: int,
    quantization: Quantization | None,
) -> int:
    """W_UV and W_UK_T of each MLA layer, beside a quantized kv_b_proj; one in 16 bits has views."""
    if shape.latent_up_projection is None or quantization is None or not _up_projection_quantized(shape):
        return 0
    rows, latent = shape.latent_up_projection
    absorbing = sum(
        tensor.quantized and tensor.name.endswith(".kv_b_proj")
        for layer in layers
        for tensor in layer.tensors
    )
    return absorbing * (rows // tensor_parallel_size) * latent * _POST_LOAD_BYTES


def _up_projection_quantized(shape: ModelShape) -> bool:
    """Whether kv_b_proj is among what the checkpoint quantizes."""
    tensors = shape.layers[0].tensors if shape.layers else ()
    return all(tensor.quantized for tensor in tensors if tensor.name == "self_attn.kv_b_proj")


def tensor_parallel_problem(
    shape: ModelShape,
    tensor_parallel_size: int,
    quantization: Quantization | None,
    *,
    expert_parallel: bool = False,
    draft: Draft | None = None,
) -> str | None:
    """Why vLLM refuses this tensor parallel size, or None where it takes it; whole experts are not split.

    Source: vLLM 0.33.0, config/model.py (verify_with_parallel_config) and layers/linear.py.
    """
    size = tensor_parallel_size
    if size == 1:
        return None
    if shape.num_attention_heads % size:
        return f"{shape.num_attention_heads} attention heads are not divisible by {size}"
    for chain in _split_layers(shape, draft, expert_parallel=expert_parallel):
        whole_blocks = not may_cut_blocks(chain, quantization)
        for tensor in chain:
            problem = _tensor_problem(tensor, size, quantization, whole_blocks=whole_blocks)
            if problem is not None:
                return problem
    for tensor in shape.tower:
        problem = _tensor_problem(tensor, size, None)
        if problem is not None:
            return problem
    vocabulary = round_up(shape.vocab_size, VOCAB_PADDING)
    if vocabulary % size:
        return f"the vocabulary, padded to {vocabulary}, is not divisible by {size}"
    return None


def _split_layers(
    shape: ModelShape, draft: Draft | None, *, expert_parallel: bool
) -> Iterator[tuple[Tensor, ...]]:
    """The tensors of the layers that the ranks share, fused ones together; layers that are one object stand once."""
    distinct = {id(layer): layer for layer in (*shape.layers, *(draft.layers if draft is not None else ()))}
    for layer in distinct.values():
        yield from (chain for chain in chains(layer.tensors) if not (expert_parallel and chain[0].expert))
    if draft is not None:
        yield from chains(draft.outside)


def _tensor_problem(
    tensor: Tensor, size: int, quantization: Quantization | None, *, whole_blocks: bool = True
) -> str | None:
    split = 0
    match tensor.sharding:
        case Sharding.COLUMN:
            split = tensor.rows
        case Sharding.ROW:
            split = tensor.columns
        case Sharding.KV_COLUMN:
            heads = tensor.kv_heads or 1
            if heads % size and size % heads:
                return f"{heads} KV heads and {size} ranks do not divide each other"
        case Sharding.GROUPS:
            split = 0 if tensor.kv_heads == 1 else tensor.kv_heads or 1
        case Sharding.REPLICATED | Sharding.VOCAB | Sharding.HEADS:
            return None
    if split % size:
        return f"{tensor.name} has {split} features, not divisible by {size}"
    if quantization is None or not tensor.quantized:
        return None
    if quantization.weights is WeightFormat.NF4:
        return "vLLM does not split the weights of a bitsandbytes build between ranks, only its layers into stages"
    return _quantized_problem(tensor, size, quantization, whole_blocks=whole_blocks)


def _quantized_problem(
    tensor: Tensor, size: int, quantization: Quantization, *, whole_blocks: bool
) -> str | None:
    """Whether the blocks or groups that share a scale stay whole on a rank; those of experts need not."""
    rows, columns = tensor.rank_shape(size)
    if tensor.expert:
        return _packed_expert_problem(tensor, columns, size, quantization)
    if tensor.sharding is Sharding.GROUPS and tensor.kv_heads == 1 and quantization.weights not in _COPIED:
        return f"{tensor.name} is one group, which vLLM does not copy in {quantization.weights}"
    split_inputs = tensor.sharding is Sharding.ROW
    if quantization.weights is WeightFormat.FP8_BLOCK and quantization.block:
        block_rows, block_columns = quantization.block
        if not split_inputs and rows % block_rows and whole_blocks:
            return f"{tensor.name} has {rows} outputs per rank, not whole blocks of {block_rows}"
        if split_inputs and columns % block_columns:
            return f"{tensor.name} has {columns} inputs per rank, not whole blocks of {block_columns}"
    group = _whole_group(quantization, columns)
    if split_inputs and group and columns % group:
        return f"{tensor.name} has {columns} inputs per rank, not whole groups of {group}"
    return None


def _packed_expert_problem(tensor: Tensor, columns: int, size: int, quantization: Quantization) -> str | None:
    """Packed experts are not refined as the others are."""
    group = quantization.group_size
    if quantization.weights is not WeightFormat.PACKED or tensor.sharding is not Sharding.ROW or not group:
        return None
    if columns % group == 0:
        return None
    return f"{tensor.name} has {columns} inputs per rank of {size}, not whole groups of {group}"


def _whole_group(quantization: Quantization, columns: int) -> int | None:
    """The group that a rank may not cut; GPTQ's kernel pads a tile that a rank cuts."""
    if quantization.weights is WeightFormat.NVFP4:
        return NVFP4_GROUP
    if quantization.weights is WeightFormat.GPTQ and columns % _GPTQ_TILE == 0:
        return None
    return quantization.group_size if quantization.grouped else None
