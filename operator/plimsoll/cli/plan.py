"""`plimsoll plan`: ModelDeployments held against the nodes and quotas of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from plimsoll.cli.at_once import AtOnce, at_once
from plimsoll.cli.at_once import document as at_once_document
from plimsoll.cli.at_once import lines as at_once_lines
from plimsoll.cli.bill import refusal_lines
from plimsoll.cli.cluster_view import ClusterView, read_cluster
from plimsoll.cli.documents import refusal_document
from plimsoll.cli.errors import ExitStatus, WrongUsageError
from plimsoll.cli.files import read_model_deployments
from plimsoll.cli.free_now import FreeNow, free_now
from plimsoll.cli.free_now import document as free_document
from plimsoll.cli.free_now import sentence as free_sentence
from plimsoll.cli.options import (
    HardwareOptions,
    HubOptions,
    PlaceOptions,
    files_option,
    hardware_options,
    hub_options,
    namespace_option,
    place_options,
)
from plimsoll.cli.output import Format, indented, output_option, print_all, print_json, terminal
from plimsoll.cli.planned import Verdict, verdict_on, within_quotas
from plimsoll.cli.serving_options import CONCURRENCY
from plimsoll.cli.stack import note, stack
from plimsoll.cli.supply import Supply, supply_in, supply_of
from plimsoll.cli.together import Together, share_a_card
from plimsoll.cli.together import document as together_document
from plimsoll.manifests.context import Settings
from plimsoll.units import format_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from plimsoll.api.spec import ModelDeployment

_EPILOG = """\b
Examples:
  plimsoll plan -f model.yaml
  plimsoll plan -f models/a.yaml -f models/b.yaml --context production
  plimsoll plan -f model.yaml --nodes-file nodes.json -o json
  plimsoll plan -f coder.yaml -f chat.yaml --gpu RTX-PRO-6000 --on-one-gpu

\b
Exit status: 0 every model fits, 1 one is refused, 2 wrong usage, 3 the
cluster or a model could not be reached.
"""


@click.command(epilog=_EPILOG)
@files_option(required=True)
@click.option(
    "--on-one-gpu",
    is_flag=True,
    help="The question is whether all of them fit on one GPU together; the exit status answers it.",
)
@CONCURRENCY
@namespace_option
@place_options
@hardware_options
@hub_options
@output_option(Format.TABLE, Format.JSON)
def plan(
    files: tuple[str, ...],
    on_one_gpu: bool,
    concurrency: int | None,
    namespace: str | None,
    place: PlaceOptions,
    hardware: HardwareOptions,
    hub: HubOptions,
    output: Format,
) -> None:
    """Hold the ModelDeployments of a file against the nodes and ResourceQuotas of a cluster.

    Nothing is written. Each model is held against the whole cluster by itself, and against what is free in the
    quotas of its namespace. With --nodes-file or --gpu no cluster is asked, and no quota is looked at.

    Of several models it also says whether one GPU holds all of them, and which share of it each of them needs.
    """
    deployments = read_model_deployments(files, namespace)
    if on_one_gpu and len(deployments) < 2:  # noqa: PLR2004 - several
        raise WrongUsageError(
            "--on-one-gpu is about several models, and the files hold one; give more files."
        )
    view, supply = _supply(place, hardware, deployments)
    verdicts = [_verdict(one, view, supply, hub) for one in deployments]
    together = share_a_card(verdicts, supply.survey, Settings(hub_endpoint=hub.hub_endpoint))
    if on_one_gpu and together is None:
        raise WrongUsageError(
            "--on-one-gpu: one of the models is for CPU only, or its spec or its files are refused; see plan without it."
        )
    answers = Answers(
        verdicts=verdicts,
        at_once=[_at_once(one, supply, hub, concurrency) for one in verdicts],
        free=[free_now(one, supply, Settings(hub_endpoint=hub.hub_endpoint)) for one in verdicts],
        together=together,
        on_one_gpu=on_one_gpu,
    )
    fits = answers.fit
    if output is Format.JSON:
        print_json(_document(answers))
    else:
        print_all(_lines(answers))
    if not fits:
        raise click.exceptions.Exit(ExitStatus.REFUSED)


def _supply(
    place: PlaceOptions, hardware: HardwareOptions, deployments: Sequence[ModelDeployment]
) -> tuple[ClusterView, Supply]:
    """What there is to run on; where neither nodes nor GPUs are named, the cluster of the kubeconfig is meant."""
    if hardware.given or place.nodes_file is not None:
        supply = supply_of(hardware, place, ())
        return ClusterView(nodes=supply.nodes or ()), supply
    view = read_cluster(place.kubeconfig, place.context, {one.namespace for one in deployments})
    return view, supply_in(hardware, view)


def _verdict(deployment: ModelDeployment, view: ClusterView, supply: Supply, hub: HubOptions) -> Verdict:
    settings = Settings(hub_endpoint=hub.hub_endpoint)
    verdict = verdict_on(deployment, supply.survey(deployment), settings, hub)
    quotas = view.quotas.get(deployment.namespace, ())
    return within_quotas(verdict, quotas, view.children_of(deployment))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """All that is said of the models.

    Attributes:
        at_once: beside each verdict, how a wanted number of requests is held; None where nobody asked.
        free: beside each verdict, whether its GPUs are free; None where that is not known.
        on_one_gpu: whether `together` is the question.
    """

    verdicts: Sequence[Verdict]
    at_once: Sequence[AtOnce | None]
    free: Sequence[FreeNow | None]
    together: Together | None
    on_one_gpu: bool

    @property
    def fit(self) -> bool:
        """Whether the answer to what was asked is yes."""
        if self.on_one_gpu:
            return self.together is not None and self.together.fits
        held = all(one is None or one.fits for one in self.at_once)
        return held and all(one.fits for one in self.verdicts)


def _at_once(verdict: Verdict, supply: Supply, hub: HubOptions, concurrency: int | None) -> AtOnce | None:
    if concurrency is None:
        return None
    settings = Settings(hub_endpoint=hub.hub_endpoint)
    return at_once(verdict, supply.survey(verdict.deployment), settings, concurrency)


def _document(answers: Answers) -> dict[str, Any]:
    every = zip(answers.verdicts, answers.at_once, answers.free, strict=True)
    return {
        "verdict": "fits" if answers.fit else "refused",
        "models": [_model_document(verdict, held, free) for verdict, held, free in every],
        "together": together_document(answers.together) if answers.together is not None else None,
    }


def _model_document(verdict: Verdict, held: AtOnce | None, free: FreeNow | None) -> dict[str, Any]:
    return {
        "name": verdict.deployment.name,
        "namespace": verdict.deployment.namespace,
        "model": verdict.deployment.spec.model.id,
        "verdict": "fits" if verdict.fits else "refused",
        "reason": verdict.reason.value,
        "message": verdict.message,
        "plan": verdict.plan.to_json() if verdict.plan is not None else None,
        "refusal": refusal_document(verdict.refusal) if verdict.refusal is not None else None,
        "at_once": at_once_document(held) if held is not None else None,
        "free_now": free_document(free) if free is not None else None,
    }


def _lines(answers: Answers) -> tuple[RenderableType, ...]:
    lines: list[RenderableType] = []
    verdicts, together = answers.verdicts, answers.together
    planned = [one for one in verdicts if one.plan is not None]
    if planned:
        lines += [_table(planned), Text()]
    for one in verdicts:
        if one.refusal is not None:
            lines += [*refusal_lines(one.deployment.name, one.refusal), Text()]
        elif not one.fits:
            head = Text.assemble(("Refused", "bold red"), f" ({one.reason.value}): {one.deployment.name}")
            lines += [head, indented(Text(one.message)), Text()]
    waiting = [one for one in answers.free if one is not None and not one.places]
    if waiting:
        lines += [*(Text(free_sentence(one)) for one in waiting), Text()]
    for held in answers.at_once:
        if held is not None:
            lines += [*at_once_lines(held), Text()]
    if together is not None:
        ascii_only = terminal().options.ascii_only
        told = stack if answers.on_one_gpu else note
        lines += [*told(together, ascii_only=ascii_only), Text()]
    num_fitting = sum(one.fits for one in verdicts)
    lines.append(Text(f"{num_fitting} of {len(verdicts)} fit."))
    return tuple(lines)


def _table(verdicts: Sequence[Verdict]) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("Name")
    table.add_column("Lands on")
    for heading in ("GPUs", "TP", "PP", "Context", "KV tokens", "At once"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in verdicts:
        assert one.plan is not None
        table.add_row(
            one.deployment.name,
            one.plan.hardware.product or "CPU",
            str(one.plan.gpus),
            str(one.plan.tensor_parallel_size),
            str(one.plan.pipeline_parallel_size),
            format_count(one.plan.max_model_len),
            format_count(one.plan.kv_cache_tokens),
            one.plan.max_concurrency,
        )
    return table
