"""Options that several commands share, each group gathered into one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from plimsoll.cli.errors import WrongUsageError
from plimsoll.cli.gathered import Command, gathered
from plimsoll.cli.params import (
    GPU_MEMORY,
    MAX_NODES,
    MAX_PARALLEL,
    CapabilityType,
    GpuType,
)
from plimsoll.sizing.accelerators import Accelerator, NodePool
from plimsoll.sizing.facts import Provenance
from plimsoll.sizing.gpus import MIG_SUFFIX, catalogue

if TYPE_CHECKING:
    from collections.abc import Callable

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
        gpus = 1 if MIG_SUFFIX in card.alias else self.gpus_per_node  # CUDA shows a process one slice
        return NodePool(
            name=f"{nodes} with {gpus} x {card.alias}",
            accelerator=card,
            gpus_per_node=gpus,
            nodes=self.nodes,
            node_labels=() if described else ((_PRODUCT_LABEL, card.product),),
        )

    def cpu_pool(self) -> NodePool:
        """Nodes without a GPU."""
        nodes = "1 node" if self.nodes == 1 else f"{self.nodes} nodes"
        return NodePool(name=f"{nodes} without a GPU", accelerator=None, gpus_per_node=0, nodes=self.nodes)


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


def files_option(*, required: bool) -> Callable[[Command], Command]:
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
