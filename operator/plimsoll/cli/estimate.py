"""`plimsoll estimate`: the bill of a model on a GPU, and whether it fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from plimsoll.cli.bill import bill
from plimsoll.cli.comparison import best, comparison
from plimsoll.cli.documents import estimate_document
from plimsoll.cli.engines import DEFAULT_VERSION
from plimsoll.cli.errors import ExitStatus, WrongUsageError
from plimsoll.cli.facts import load_facts
from plimsoll.cli.options import (
    HardwareOptions,
    SourceOptions,
    hardware_options,
    source_options,
)
from plimsoll.cli.output import Format, output_option, print_all, print_json, terminal
from plimsoll.cli.params import SvgPathType
from plimsoll.cli.plot import picture
from plimsoll.cli.serving_options import ServingOptions, serving_options
from plimsoll.cli.sized import Sized, size
from plimsoll.sizing.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.console import RenderableType

    from plimsoll.sizing.accelerators import NodePool
    from plimsoll.sizing.facts import ModelFacts

_EPILOG = """\b
Examples:
  plimsoll estimate mistralai/Mistral-7B-Instruct-v0.3 --gpu A10
  plimsoll estimate meta-llama/Llama-3.1-70B-Instruct --gpu A100-80GB --gpu H100
  plimsoll estimate deepseek-ai/DeepSeek-V3 --gpu A100-80GB --gpus-per-node 2 -o json
  plimsoll estimate --config ./config.json --gpu-memory 80Gi --compute-capability 8.0
  plimsoll estimate ./my-model --gpu L4 --max-model-len 8192
  plimsoll estimate Qwen/Qwen2.5-7B-Instruct --gpu A10 --gpu L4 --plot bill.svg
  plimsoll estimate facebook/opt-125m --tensor-parallel-size 0

\b
Exit status: 0 it fits (on one of the GPUs, if several), 1 it is refused,
2 wrong usage, 3 the model could not be reached.
"""


@click.command(epilog=_EPILOG)
@click.argument("model", required=False)
@hardware_options
@serving_options
@source_options
@click.option(
    "--plot",
    type=SvgPathType(),
    metavar="FILE.svg",
    help="Also draw the bill: one bar per GPU with its load line.",
)
@output_option(Format.TABLE, Format.JSON)
def estimate(
    model: str | None,
    hardware: HardwareOptions,
    wishes: ServingOptions,
    source: SourceOptions,
    plot: Path | None,
    output: Format,
) -> None:
    """Say what MODEL needs on a GPU, and whether it fits.

    MODEL is a Hugging Face id or a local folder. Models of the bundled catalogue need no network. Without --gpu,
    every GPU of the catalogue is tried and those that fit are listed, smallest first.
    """
    if plot is not None:
        check_plot(plot)
    pools = pools_of(hardware, wishes)
    facts = load_facts(model, source)
    sized = estimates(facts, hardware, wishes, pools)
    if plot is not None:
        write_plot(plot, picture(sized))
    if output is Format.JSON:
        print_json(document_of(sized))
    else:
        print_all(pages(sized))
    if not any(isinstance(one.result, Plan) for one in sized):
        raise click.exceptions.Exit(ExitStatus.REFUSED)


def check_plot(path: Path) -> None:
    """Refuse before any work what could not be written after it.

    Raises:
        WrongUsageError: a folder that is not there.
    """
    if not path.parent.is_dir():
        raise WrongUsageError(f"--plot {path} lies in a folder that is not there; make {path.parent} first.")


def write_plot(path: Path, svg: str) -> None:
    """Write the picture, and say where it is."""
    try:
        path.write_text(svg, encoding="utf-8")
    except OSError as error:
        raise WrongUsageError(
            f"--plot {path} cannot be written ({error.strerror}); name a file that can."
        ) from error
    click.echo(f"Wrote {path}.", err=True)


def pools_of(hardware: HardwareOptions, wishes: ServingOptions) -> tuple[NodePool, ...]:
    """The choices of hardware, one estimate each."""
    if wishes.tensor_parallel_size == 0:
        return (hardware.cpu_pool(),)
    return tuple(hardware.pool(card) for card in hardware.cards())


def estimates(
    facts: ModelFacts, hardware: HardwareOptions, wishes: ServingOptions, pools: Sequence[NodePool]
) -> tuple[Sized, ...]:
    """The model on each choice of hardware."""
    serving = wishes.serving(DEFAULT_VERSION, max_nodes=hardware.nodes)
    return tuple(size(facts, serving, (pool,)) for pool in pools)


def document_of(sized: Sequence[Sized]) -> dict[str, Any]:
    """The estimate as JSON: the best one's fields, and all of them where several GPUs were tried."""
    document = estimate_document(best(sized))
    if len(sized) > 1:
        document["candidates"] = [estimate_document(one) for one in sized]
    return document


def pages(sized: Sequence[Sized]) -> tuple[RenderableType, ...]:
    """The estimate as text: a bill for one GPU, a table for several."""
    if len(sized) > 1:
        return comparison(sized)
    console = terminal()
    return bill(sized[0], width=console.width, ascii_only=console.options.ascii_only)
