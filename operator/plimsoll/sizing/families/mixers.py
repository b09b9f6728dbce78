"""Mamba 1, Mamba 2 and short convolutions: the tensors of one mixer and the state that it keeps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from plimsoll.sizing.checked import MAX_HEADS, MAX_TOKENS, MAX_WIDTH, Config
from plimsoll.sizing.checkpoint import quantization_from_config
from plimsoll.sizing.families.parts import FLOAT32_BYTES, WAY_OUT, Body, bias_of, linear, norms
from plimsoll.sizing.layers import RecurrentState
from plimsoll.sizing.tensors import Sharding, Tensor
from plimsoll.units import ceil_div

if TYPE_CHECKING:
    from plimsoll.sizing.errors import UnsupportedModelError

# Sources: vLLM 0.33.0, model_executor/layers/mamba/{mamba_mixer,mamba_mixer2,short_conv,mamba_utils}.py.
MAX_KERNEL: Final = 64
# Attention that takes no scales from a quantized checkpoint keeps four float32 scalars, and no parameters beside.
SCALARS: Final = (Tensor(name="attn.scales", rows=4, element_bytes=FLOAT32_BYTES),)
_LENGTHS: Final = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
_ASSUMED_LENGTH: Final = 2048
_RANK_DIVISOR: Final = 16  # the rank of the time step, where the config says "auto"
_STATE_DTYPES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba2:
    """Widths of a Mamba 2 mixer.

    Attributes:
        inner: heads x head size.
        groups: of B and C; a single one is copied to every rank.
        bias: of the projections in and out.
        gated_norm: whether the norm behind the gate has weights.
        state_element_bytes: of the recurrent state; None is the model's dtype.
    """

    heads: int
    inner: int
    groups: int
    state: int
    kernel: int
    conv_bias: bool = True
    bias: bool = False
    gated_norm: bool = True
    state_element_bytes: int | None = None

    @property
    def width(self) -> int:
        """What it projects in and twice what it holds inside."""
        return 4 * self.inner + 2 * self.groups * self.state + self.heads

    @property
    def cache(self) -> RecurrentState:
        """The state of one sequence."""
        return RecurrentState(
            name="Mamba 2",
            conv_channels=self.inner,
            conv_rows=self.kernel - 1,
            group_channels=2 * self.state,
            groups=self.groups,
            state_elements=self.inner * self.state,
            state_element_bytes=self.state_element_bytes,
            checkpoints=1,
        )

    def conv(self, name: str) -> tuple[Tensor, ...]:
        """The convolution over the inner channels and those of the groups."""
        groups = Tensor(
            name=f"{name}.conv1d.groups",
            rows=2 * self.groups * self.state,
            columns=self.kernel,
            sharding=Sharding.GROUPS,
            kv_heads=self.groups,
            follows=True,
        )
        inner = Tensor(name=f"{name}.conv1d", rows=self.inner, columns=self.kernel, sharding=Sharding.COLUMN)
        return inner, groups

    def projections(self, hidden: int, name: str) -> tuple[Tensor, ...]:
        """Gate, inner channels, B, C and the time steps, fused in one layer of the engine."""
        gate = linear(f"{name}.in_proj", self.inner, hidden, Sharding.COLUMN)
        in_groups = replace(
            gate,
            name=f"{name}.in_proj.B",
            rows=self.groups * self.state,
            sharding=Sharding.GROUPS,
            kv_heads=self.groups,
            follows=True,
        )
        return (
            gate,
            replace(gate, name=f"{name}.in_proj.x", follows=True),
            in_groups,
            replace(in_groups, name=f"{name}.in_proj.C"),
            replace(gate, name=f"{name}.in_proj.dt", rows=self.heads, follows=True),
        )

    def tensors(self, hidden: int, name: str = "mixer") -> tuple[Tensor, ...]:
        """All of the mixer, from and to that many features."""
        entry = self.projections(hidden, name)
        conv = self.conv(name)
        output = linear(f"{name}.out_proj", hidden, self.inner, Sharding.ROW)
        per_head = Tensor(name=f"{name}.D", rows=self.heads, sharding=Sharding.COLUMN)
        biases = tuple(map(bias_of, (*entry, output))) if self.bias else ()
        if self.conv_bias:
            biases = (*biases, *map(bias_of, conv))
        norm = Tensor(name=f"{name}.norm", rows=self.inner, sharding=Sharding.COLUMN)
        return (
            *entry,
            *conv,
            replace(per_head, name=f"{name}.A", element_bytes=FLOAT32_BYTES),
            per_head,
            replace(per_head, name=f"{name}.dt_bias"),
            *((norm,) if self.gated_norm else ()),
            output,
            *biases,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Mamba1:
    """Widths of a Mamba 1 mixer, which vLLM never quantizes.

    Attributes:
        rank: of the time step's projection.
        normed: norms with weights on the time step, B and C.
    """

    inner: int
    state: int
    kernel: int
    rank: int
    conv_bias: bool = True
    bias: bool = False
    normed: bool = False

    @property
    def width(self) -> int:
        """What it projects in and twice what it holds inside."""
        return 4 * self.inner

    @property
    def cache(self) -> RecurrentState:
        """The state of one sequence."""
        return RecurrentState(
            name="Mamba 1",
            conv_channels=self.inner,
            conv_rows=self.kernel - 1,
            state_elements=self.inner * self.state,
            rows_for_proposed=False,
        )

    def tensors(self, hidden: int, name: str) -> tuple[Tensor, ...]:
        """All of the mixer, from and to that many features."""
        inner, state = self.inner, self.state
        entry = Tensor(name=f"{name}.in_proj", rows=inner, columns=hidden, sharding=Sharding.COLUMN)
        gate = replace(entry, name=f"{name}.in_proj.z", follows=True)
        conv = replace(entry, name=f"{name}.conv1d", columns=self.kernel)
        step = replace(entry, name=f"{name}.dt_proj", columns=self.rank)
        output = replace(entry, name=f"{name}.out_proj", rows=hidden, columns=inner, sharding=Sharding.ROW)
        biased = (step, *((conv,) if self.conv_bias else ()), *((entry, gate, output) if self.bias else ()))
        normed = (*norms(self.rank, 1, f"{name}.dt_norm"), *norms(state, 2, f"{name}.state_norm"))
        return (
            entry,
            gate,
            conv,
            replace(output, name=f"{name}.x_proj", rows=self.rank + 2 * state),
            step,
            replace(entry, name=f"{name}.A", columns=state, element_bytes=FLOAT32_BYTES),
            replace(entry, name=f"{name}.D", columns=1),
            output,
            *map(bias_of, biased),
            *(normed if self.normed else ()),
        )


def short_conv(hidden: int, kernel: int, *, bias: bool) -> tuple[Tensor, ...]:
    """A gated short convolution (LFM2)."""
    name = "conv"
    entry = linear(f"{name}.in_proj", hidden, hidden, Sharding.COLUMN)
    parts = (
        entry,
        replace(entry, name=f"{name}.in_proj.C", follows=True),
        replace(entry, name=f"{name}.in_proj.x", follows=True),
        Tensor(name=f"{name}.conv1d", rows=hidden, columns=kernel, sharding=Sharding.COLUMN),
        linear(f"{name}.out_proj", hidden, hidden, Sharding.ROW),
    )
    return (*parts, *(map(bias_of, parts) if bias else ()))


def plain_heads(body: Body) -> Body:
    """The same body, whose heads share out the hidden size.

    Raises:
        UnsupportedModelError: they do not, which this class of the engine has no place for.
    """
    if body.head_size * body.heads != body.hidden:
        field = "head_dim" if body.config.values.get("head_dim") is not None else "num_attention_heads"
        raise body.config.refuse(field, f"{body.heads} heads must share out the hidden size, {body.hidden}")
    return body


def unquantized(config: Config) -> None:
    """Refuse a quantized checkpoint.

    Raises:
        UnsupportedModelError: it is one.
    """
    if quantization_from_config(config) is not None:
        section = config.section("quantization_config") or config
        raise section.refuse(
            "quant_method",
            f"quantized {config.text('model_type')} models are not ones that can be sized",
            WAY_OUT,
        )


def read_length(config: Config) -> tuple[int, bool]:
    """The longest context, the smallest that the config names, and whether vLLM assumes it as none is named.

    Source: vLLM 0.33.0, config/model.py (_get_and_verify_max_len).
    """
    named = [config.optional_integer(field, maximum=MAX_TOKENS) for field in _LENGTHS]
    lengths = [length for length in named if length is not None]
    return min(lengths, default=_ASSUMED_LENGTH), not lengths


def whole_groups(config: Config, field: str, mixer: Mamba2) -> Mamba2:
    """The same mixer, whose heads make up whole groups.

    Raises:
        UnsupportedModelError: they do not, or what the engine copies to every rank is not what it can copy.
    """
    if mixer.heads % mixer.groups:
        raise config.refuse(field, f"it must divide the heads of Mamba, {mixer.heads}")
    if mixer.groups > 1:
        return mixer
    if not mixer.conv_bias:
        raise config.refuse(
            field, "one group beside a convolution without bias is not split by vLLM", WAY_OUT
        )
    return mixer


def read_kernel(config: Config, field: str) -> int:
    """Taps of a causal convolution; it remembers one less."""
    return config.integer(field, maximum=MAX_KERNEL, minimum=2)


def read_rank(config: Config, field: str, hidden: int) -> int:
    """The rank of the time step, by default or as "auto" a sixteenth of the hidden size."""
    if config.values.get(field) in (None, "auto"):
        return ceil_div(hidden, _RANK_DIVISOR)
    return config.integer(field, maximum=MAX_WIDTH)


def read_expanded(config: Config, field: str, hidden: int) -> int:
    """The inner width, a multiple of the hidden size."""
    return config.integer(field, maximum=MAX_HEADS) * hidden


def read_state_bytes(config: Config, field: str, default: str) -> int:
    """Bytes of an element of the recurrent state, where the model names its dtype."""
    name = config.text(field, default=default)
    if name not in _STATE_DTYPES:
        raise config.refuse(field, f"it must be one of {', '.join(_STATE_DTYPES)}")
    return _STATE_DTYPES[name]


def checked_heads(config: Config, field: str, *, heads: int, inner: int) -> int:
    """The head size of Mamba 2, which with the heads makes up the inner width.

    Raises:
        UnsupportedModelError: it does not.
    """
    if inner % heads:
        raise _does_not_fit(config, field, heads, inner)
    if config.values.get(field) not in (None, "auto"):
        size = config.integer(field, maximum=MAX_WIDTH)
        if size * heads != inner:
            raise _does_not_fit(config, field, heads, inner)
    return inner // heads


def _does_not_fit(config: Config, field: str, heads: int, inner: int) -> UnsupportedModelError:
    return config.refuse(field, f"{heads} heads of one size must make up the inner width, {inner}", WAY_OUT)
