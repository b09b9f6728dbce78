"""Options that several commands share, each group gathered into one frozen value."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from plimsoll.cli.errors import WrongUsageError
from plimsoll.cli.params import (
    GPU_MEMORY,
    KV_CACHE_SIZE,
    MAX_NODES,
    MAX_PARALLEL,
    TOKENS,
    CapabilityType,
    GpuType,
    ShareType,
)
from plimsoll.sizing.accelerators import Accelerator, NodePool
from plimsoll.sizing.facts import Provenance
from plimsoll.sizing.gpus import catalogue
from plimsoll.sizing.serving import Serving

if TYPE_CHECKING:
    from fractions import Fraction

_Command = TypeVar("_Command", bound=Callable[..., Any])
# A card of which only the memory was given is reckoned with what Ampere can do.
_ASSUMED_CAPABILITY: Final = (8, 0)
_DEFAULT_GPUS_PER_NODE: Final = 8
_PRODUCT_LABEL: Final = "nvidia.com/gpu.product"


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareOptions:
    """--gpu and its companions."""

    gpu: tuple[Accelerator, ...]
    gpu_memory: int | None
    compute_capability: tuple[int, int] | None
    gpus_per_node: int
    nodes: int

    @property
    def given(self) -> bool:
        """Whether the command line names any card."""
        return bool(self.gpu) or self.gpu_memory is not None

    def cards(self) -> tuple[Accelerator, ...]:
        """The cards to try; without a name, the whole catalogue.

        Raises:
            WrongUsageError: a memory or a capability that belongs to no one card.
        """
        described = self.gpu_memory is not None or self.compute_capability is not None
        if described and len(self.gpu) > 1:
            raise WrongUsageError(
                "--gpu-memory and --compute-capability describe one card, and --gpu names "
                f"{len(self.gpu)}; run the command once per card."
            )
        if self.gpu_memory is None and not self.gpu:
            if self.compute_capability is not None:
                raise WrongUsageError(
                    "--compute-capability describes no card by itself; add --gpu-memory, such as 80Gi."
                )
            return catalogue()
        if not described:
            return self.gpu
        return (self._described(self.gpu[0] if self.gpu else None),)

    def _described(self, base: Accelerator | None) -> Accelerator:
        if base is None:
            assert self.gpu_memory is not None
            return Accelerator(
                alias="GPU",
                product="GPU",
                memory_bytes=self.gpu_memory,
                compute_capability=self.compute_capability or _ASSUMED_CAPABILITY,
                provenance=Provenance.PUBLISHED if self.compute_capability else Provenance.RECALLED,
                source="--gpu-memory, taken as what torch shows"
                + ("" if self.compute_capability else "; compute capability not given and taken as 8.0"),
            )
        return Accelerator(
            alias=base.alias,
            product=base.product,
            memory_bytes=self.gpu_memory or base.memory_bytes,
            compute_capability=self.compute_capability or base.compute_capability,
            provenance=base.provenance,
            source=f"{base.source}; changed by the command line",
        )

    def pool(self, card: Accelerator) -> NodePool:
        """The nodes that an estimate may use."""
        nodes = "1 node" if self.nodes == 1 else f"{self.nodes} nodes"
        described = not self.gpu and self.gpu_memory is not None  # a card without a name has no label either
        return NodePool(
            name=f"{nodes} with {self.gpus_per_node} x {card.alias}",
            accelerator=card,
            gpus_per_node=self.gpus_per_node,
            nodes=self.nodes,
            node_labels=() if described else ((_PRODUCT_LABEL, card.product),),
        )

    def cpu_pool(self) -> NodePool:
        """Nodes without a GPU."""
        nodes = "1 node" if self.nodes == 1 else f"{self.nodes} nodes"
        return NodePool(name=f"{nodes} without a GPU", accelerator=None, gpus_per_node=0, nodes=self.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """vLLM's engine arguments; None is left to the engine's defaults or to the plan."""

    engine_version: str | None
    max_model_len: int | None
    gpu_memory_utilization: Fraction | None
    tensor_parallel_size: int | None
    pipeline_parallel_size: int | None
    quantization: str | None
    dtype: str | None
    kv_cache_dtype: str | None
    max_num_seqs: int | None
    max_num_batched_tokens: int | None
    kv_cache_memory_bytes: int | None

    def serving(self, default_version: str, *, max_nodes: int) -> Serving:
        """The wishes as sizing takes them."""
        return Serving(
            engine_version=self.engine_version or default_version,
            max_model_len=self.max_model_len,
            gpu_memory_utilization=self.gpu_memory_utilization,
            quantization=self.quantization,
            dtype=self.dtype,
            kv_cache_dtype=self.kv_cache_dtype,
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            kv_cache_memory_bytes=self.kv_cache_memory_bytes,
            tensor_parallel_size=self.tensor_parallel_size,
            pipeline_parallel_size=self.pipeline_parallel_size,
            max_nodes=max_nodes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HubOptions:
    """Which Hub answers, and the file with the token for it."""

    token_file: Path | None
    hub_endpoint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """Where a model's facts come from, besides its name."""

    revision: str | None
    config: Path | None
    token_file: Path | None
    hub_endpoint: str

    @property
    def hub(self) -> HubOptions:
        """The part about the Hub."""
        return HubOptions(token_file=self.token_file, hub_endpoint=self.hub_endpoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOptions:
    """Where the nodes are to be read."""

    nodes_file: Path | None
    kubeconfig: Path | None
    context: str | None

    @property
    def cluster(self) -> bool:
        """Whether the command line points at a cluster."""
        return self.kubeconfig is not None or self.context is not None


def gathered(
    name: str, kind: type[Any], decorators: tuple[Callable[[Any], Any], ...]
) -> Callable[[_Command], _Command]:
    """Add the options to a command, which receives them as one value under `name`."""

    def decorate(function: _Command) -> _Command:
        names = tuple(field.name for field in fields(kind))

        @functools.wraps(function)
        def gather(*args: Any, **params: Any) -> Any:
            params[name] = kind(**{key: params.pop(key) for key in names})
            return function(*args, **params)

        command: Any = gather
        for decorator in reversed(decorators):
            command = decorator(command)
        return command  # type: ignore[no-any-return]

    return decorate


hardware_options = gathered(
    "hardware",
    HardwareOptions,
    (
        click.option(
            "--gpu",
            "gpu",
            multiple=True,
            type=GpuType(),
            help="A GPU by name (A10, A100-80GB, H100, ...) or node label; repeat it to compare.",
        ),
        click.option(
            "--gpu-memory",
            type=GPU_MEMORY,
            help="Memory of one GPU as torch shows it, such as 80Gi; for a card without a name, or instead of its own.",
        ),
        click.option(
            "--compute-capability",
            type=CapabilityType(),
            help="CUDA compute capability of that card, such as 8.0.",
        ),
        click.option(
            "--gpus-per-node",
            type=click.IntRange(1, MAX_PARALLEL),
            default=_DEFAULT_GPUS_PER_NODE,
            show_default=True,
            help="GPUs in one node.",
        ),
        click.option(
            "--nodes",
            type=click.IntRange(1, MAX_NODES),
            default=1,
            show_default=True,
            help="Nodes that one replica may use.",
        ),
    ),
)

serving_options = gathered(
    "wishes",
    ServingOptions,
    (
        click.option(
            "--engine-version", metavar="X.Y.Z", help="vLLM release; unset: the operator's default."
        ),
        click.option("--max-model-len", type=TOKENS, help="Context in tokens; unset: the largest that fits."),
        click.option(
            "--gpu-memory-utilization", type=ShareType(), help="Share of each GPU that vLLM may use."
        ),
        click.option(
            "-tp",
            "--tensor-parallel-size",
            type=click.IntRange(0, MAX_PARALLEL),
            help="GPUs that share each layer; 0: CPU only; unset: the fewest that fit.",
        ),
        click.option(
            "-pp",
            "--pipeline-parallel-size",
            type=click.IntRange(1, MAX_PARALLEL),
            help="Stages that the layers are split into; unset: computed.",
        ),
        click.option(
            "--quantization", metavar="METHOD", help="vLLM's name; unset: what the checkpoint says."
        ),
        click.option("--dtype", metavar="TYPE", help="Type of weights and activations; unset: auto."),
        click.option(
            "--kv-cache-dtype", metavar="TYPE", help="Type of the KV cache, such as fp8; unset: auto."
        ),
        click.option("--max-num-seqs", type=click.IntRange(1, 65536), help="Most sequences in one batch."),
        click.option("--max-num-batched-tokens", type=TOKENS, help="Most tokens in one forward pass."),
        click.option(
            "--kv-cache-memory-bytes",
            type=KV_CACHE_SIZE,
            help="KV cache of each GPU (on CPU: in host memory), such as 8Gi; unset: what is left.",
        ),
    ),
)

_HUB = (
    click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        help="File with a Hugging Face token; unset: the variable HF_TOKEN.",
    ),
    click.option(
        "--hub-endpoint",
        envvar="HF_ENDPOINT",
        default="https://huggingface.co",
        show_default=True,
        show_envvar=True,
        help="The Hub.",
    ),
)

hub_options = gathered("hub", HubOptions, _HUB)

source_options = gathered(
    "source",
    SourceOptions,
    (
        click.option("--revision", help="Branch, tag or commit of the model; unset: main."),
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            help="Read this config.json instead of asking the Hub.",
        ),
        *_HUB,
    ),
)

place_options = gathered(
    "place",
    PlaceOptions,
    (
        click.option(
            "--nodes-file",
            type=click.Path(path_type=Path),
            help="Node objects in YAML or JSON, as `kubectl get nodes -o json` prints them.",
        ),
        click.option(
            "--kubeconfig", type=click.Path(path_type=Path), help="The kubeconfig of the cluster to ask."
        ),
        click.option("--context", metavar="NAME", help="The context in it; unset: the current one."),
    ),
)


def files_option(*, required: bool) -> Callable[[_Command], _Command]:
    """The option -f, which may be repeated."""
    return click.option(
        "-f",
        "--filename",
        "files",
        metavar="FILE",
        multiple=True,
        required=required,
        help="YAML with ModelDeployments; - for stdin; may be repeated.",
    )


namespace_option = click.option(
    "-n",
    "--namespace",
    metavar="NAME",
    help="Namespace of all of them; unset: what the file says, else default.",
)
