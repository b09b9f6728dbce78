"""`plimsoll plan`: ModelDeployments held against the nodes and quotas of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from plimsoll.cli.bill import refusal_lines
from plimsoll.cli.cluster_view import ClusterView, read_cluster
from plimsoll.cli.documents import refusal_document
from plimsoll.cli.errors import ExitStatus, WrongUsageError
from plimsoll.cli.files import read_model_deployments
from plimsoll.cli.options import (
    HubOptions,
    PlaceOptions,
    files_option,
    hub_options,
    namespace_option,
    place_options,
)
from plimsoll.cli.output import Format, indented, output_option, print_all, print_json
from plimsoll.cli.planned import Verdict, verdict_on, within_quotas
from plimsoll.cli.supply import nodes_in
from plimsoll.manifests.context import Settings
from plimsoll.reconcile.node_pools import survey_nodes
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

\b
Exit status: 0 every model fits, 1 one is refused, 2 wrong usage, 3 the
cluster or a model could not be reached.
"""


@click.command(epilog=_EPILOG)
@files_option(required=True)
@namespace_option
@place_options
@hub_options
@output_option(Format.TABLE, Format.JSON)
def plan(
    files: tuple[str, ...],
    namespace: str | None,
    place: PlaceOptions,
    hub: HubOptions,
    output: Format,
) -> None:
    """Hold the ModelDeployments of a file against the nodes and ResourceQuotas of a cluster.

    Nothing is written. Each model is held against the whole cluster by itself, and against what is free in the
    quotas of its namespace. With --nodes-file no cluster is asked, and no quota is looked at.
    """
    deployments = read_model_deployments(files, namespace)
    view = _view(place, deployments)
    verdicts = [_verdict(one, view, hub) for one in deployments]
    if output is Format.JSON:
        print_json(_document(verdicts))
    else:
        print_all(_lines(verdicts))
    if not all(one.fits for one in verdicts):
        raise click.exceptions.Exit(ExitStatus.REFUSED)


def _view(place: PlaceOptions, deployments: Sequence[ModelDeployment]) -> ClusterView:
    if place.nodes_file is None:
        return read_cluster(place.kubeconfig, place.context, {one.namespace for one in deployments})
    if place.cluster:
        raise WrongUsageError("--nodes-file and a cluster name the nodes twice; give one of them.")
    return ClusterView(nodes=nodes_in(str(place.nodes_file)))


def _verdict(deployment: ModelDeployment, view: ClusterView, hub: HubOptions) -> Verdict:
    survey = survey_nodes(view.nodes, deployment.spec)
    settings = Settings(hub_endpoint=hub.hub_endpoint)
    verdict = verdict_on(deployment, survey, settings, hub)
    quotas = view.quotas.get(deployment.namespace, ())
    return within_quotas(verdict, quotas, view.children_of(deployment))


def _document(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    return {
        "verdict": "fits" if all(one.fits for one in verdicts) else "refused",
        "models": [_model_document(one) for one in verdicts],
    }


def _model_document(verdict: Verdict) -> dict[str, Any]:
    return {
        "name": verdict.deployment.name,
        "namespace": verdict.deployment.namespace,
        "model": verdict.deployment.spec.model.id,
        "verdict": "fits" if verdict.fits else "refused",
        "reason": verdict.reason.value,
        "message": verdict.message,
        "plan": verdict.plan.to_json() if verdict.plan is not None else None,
        "refusal": refusal_document(verdict.refusal) if verdict.refusal is not None else None,
    }


def _lines(verdicts: Sequence[Verdict]) -> tuple[RenderableType, ...]:
    lines: list[RenderableType] = []
    planned = [one for one in verdicts if one.plan is not None]
    if planned:
        lines += [_table(planned), Text()]
    for one in verdicts:
        if one.refusal is not None:
            lines += [*refusal_lines(one.deployment.name, one.refusal), Text()]
        elif not one.fits:
            head = Text.assemble(("Refused", "bold red"), f" ({one.reason.value}): {one.deployment.name}")
            lines += [head, indented(Text(one.message)), Text()]
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
