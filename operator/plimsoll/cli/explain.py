"""`plimsoll explain`: every number of an estimate with its formula and its source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import click
from rich.text import Text

from plimsoll.cli.bill import refusal_lines
from plimsoll.cli.comparison import best
from plimsoll.cli.documents import refusal_document
from plimsoll.cli.errors import ExitStatus, WrongUsageError
from plimsoll.cli.estimate import estimates, pools_of
from plimsoll.cli.facts import load_facts
from plimsoll.cli.options import (
    HardwareOptions,
    PlaceOptions,
    SourceOptions,
    files_option,
    hardware_options,
    place_options,
    source_options,
)
from plimsoll.cli.output import Format, indented, output_option, print_all, print_json
from plimsoll.cli.serving_options import ServingOptions, serving_options
from plimsoll.sizing.explain import Explanation
from plimsoll.sizing.explain import explain as explanations_of
from plimsoll.sizing.plan import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from plimsoll.cli.sized import Sized

_EPILOG = """\b
Examples:
  plimsoll explain mistralai/Mistral-7B-Instruct-v0.3 --gpu A10
  plimsoll explain deepseek-ai/DeepSeek-V3 --gpu H200 --only kv_cache
  plimsoll explain -f model.yaml --gpu A10
  plimsoll explain facebook/opt-125m --tensor-parallel-size 0 -o json
"""


@click.command(epilog=_EPILOG)
@click.argument("model", required=False)
@files_option(required=False)
@click.option("--only", metavar="NAME", help="Only the numbers whose name contains this text.")
@hardware_options
@serving_options
@source_options
@place_options
@output_option(Format.TABLE, Format.JSON)
def explain(
    model: str | None,
    files: tuple[str, ...],
    only: str | None,
    hardware: HardwareOptions,
    wishes: ServingOptions,
    source: SourceOptions,
    place: PlaceOptions,
    output: Format,
) -> None:
    """Show every number of the estimate of MODEL, or of a ModelDeployment in a file, with formula and source.

    MODEL and its options are those of `plimsoll estimate`; of several GPUs, the smallest that fits is explained.
    With -f the manifest says how the model is served, and the hardware is found as by `plimsoll render`.
    """
    if files:
        sized = _of_file(files, model, hardware, place, source)
    else:
        sized = best(estimates(load_facts(model, source), hardware, wishes, pools_of(hardware, wishes)))
    if isinstance(sized.result, Refusal):
        _refuse(sized, sized.result, output)
    numbers = _chosen(explanations_of(sized.result), only)
    if output is Format.JSON:
        print_json({**_head(sized), "verdict": "fits", "numbers": [_document(one) for one in numbers]})
    else:
        print_all(_lines(sized, numbers))


def _of_file(
    files: tuple[str, ...],
    model: str | None,
    hardware: HardwareOptions,
    place: PlaceOptions,
    source: SourceOptions,
) -> Sized:
    """The estimate of the one ModelDeployment of a file; the types of the custom resource are imported for it only."""
    from plimsoll.cli.files import read_model_deployments
    from plimsoll.cli.planned import sized_manifest
    from plimsoll.cli.supply import supply_of
    from plimsoll.manifests.context import Settings

    if model is not None:
        raise WrongUsageError("MODEL and -f name the model twice; give one of them.")
    deployments = read_model_deployments(files)
    if len(deployments) > 1:
        names = ", ".join(one.name for one in deployments)
        raise WrongUsageError(f"-f names {len(deployments)} models ({names}); explain them one by one.")
    (deployment,) = deployments
    supply = supply_of(hardware, place, {deployment.namespace})
    settings = Settings(hub_endpoint=source.hub_endpoint)
    return sized_manifest(deployment, supply.survey(deployment), settings, source.hub)


def _refuse(sized: Sized, refusal: Refusal, output: Format) -> NoReturn:
    if output is Format.JSON:
        print_json(
            {**_head(sized), "verdict": "refused", "numbers": [], "refusal": refusal_document(refusal)}
        )
    else:
        print_all(refusal_lines(sized.facts.model_id, refusal))
    raise click.exceptions.Exit(ExitStatus.REFUSED)


def _chosen(numbers: Sequence[Explanation], only: str | None) -> tuple[Explanation, ...]:
    if only is None:
        return tuple(numbers)
    wanted = only.strip().lower()
    chosen = tuple(one for one in numbers if wanted in one.name.lower())
    if not chosen:
        names = ", ".join(one.name for one in numbers)
        raise WrongUsageError(f"--only {only!r} is in no name; the names are {names}.")
    return chosen


def _head(sized: Sized) -> dict[str, Any]:
    card = sized.accelerator
    return {
        "model": sized.facts.model_id,
        "gpu": None if card is None else card.alias,
        "engine_version": sized.serving.engine_version,
    }


def _document(number: Explanation) -> dict[str, Any]:
    return {
        "name": number.name,
        "value": number.value,
        "formula": number.formula,
        "source": number.source,
    }


def _lines(sized: Sized, numbers: Sequence[Explanation]) -> tuple[RenderableType, ...]:
    card = sized.accelerator
    on = "CPU" if card is None else card.alias
    lines: list[RenderableType] = [
        Text(f"{sized.facts.model_id} on {on}, vLLM {sized.serving.engine_version}", style="bold")
    ]
    for number in numbers:
        lines += [
            Text(),
            Text.assemble((number.name, "bold"), f" = {number.value}"),
            indented(Text(number.formula)),
            indented(Text(f"Source: {number.source}", style="dim")),
        ]
    return tuple(lines)
