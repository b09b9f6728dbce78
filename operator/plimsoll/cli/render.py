"""`plimsoll render`: the objects that the operator would create, as YAML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import yaml

from plimsoll.cli.files import read_model_deployments
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
from plimsoll.cli.output import Format, output_option, print_json
from plimsoll.cli.planned import must_fit, verdict_on
from plimsoll.cli.settings import image_options
from plimsoll.cli.stages import children
from plimsoll.cli.supply import supply_of

if TYPE_CHECKING:
    from plimsoll.manifests.context import Settings

_EPILOG = """\b
Examples:
  plimsoll render -f model.yaml --gpu A10
  plimsoll render -f model.yaml --nodes-file nodes.json | kubectl diff -f -
  plimsoll render -f model.yaml --context production -o json

\b
Exit status: 0 rendered, 1 a model is refused, 2 wrong usage, 3 the
cluster or a model could not be reached.
"""


@click.command(epilog=_EPILOG)
@files_option(required=True)
@namespace_option
@hardware_options
@place_options
@hub_options
@image_options
@output_option(Format.YAML, Format.JSON)
def render(
    files: tuple[str, ...],
    namespace: str | None,
    hardware: HardwareOptions,
    place: PlaceOptions,
    hub: HubOptions,
    settings: Settings,
    output: Format,
) -> None:
    """Print every object that the operator would create for the ModelDeployments of a file.

    The operator's own decisions are followed from an empty namespace to the end, as if every stage succeeded:
    volume, download Job, server, test Job, public Service. The hardware is what --gpu names, what a file of nodes
    lists, or what a cluster has; without any of them, spec.hardware.gpu.product from the catalogue. A uid of
    zeros stands for the one that the API server will give, and the catalogue's version for the commit where the
    bundled catalogue answered: give spec.model.revision a tag or a commit, and the Hub is asked.
    """
    deployments = read_model_deployments(files, namespace)
    supply = supply_of(hardware, place, {one.namespace for one in deployments})
    rendered: list[dict[str, Any]] = []
    for deployment in deployments:
        verdict = verdict_on(deployment, supply.survey(deployment), settings, hub)
        rendered += children(deployment, must_fit(verdict), settings)
    if output is Format.JSON:
        print_json({"apiVersion": "v1", "kind": "List", "items": rendered})
    else:
        click.echo(yaml.dump_all(rendered, Dumper=_Dumper, sort_keys=False, explicit_start=True), nl=False)


class _Dumper(yaml.SafeDumper):
    """Writes what stands twice twice: kubectl reads anchors, people do not."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        """No object is written as an alias."""
        return True
