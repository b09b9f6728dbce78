"""`plimsoll quota`: the ResourceQuota that a set of models needs."""

from __future__ import annotations

from typing import Any

import click
import yaml

from plimsoll.cli.errors import WrongUsageError
from plimsoll.cli.files import read_model_deployments
from plimsoll.cli.options import (
    HardwareOptions,
    HubOptions,
    PlaceOptions,
    files_option,
    hardware_options,
    hub_options,
    place_options,
)
from plimsoll.cli.output import Format, output_option, print_json
from plimsoll.cli.planned import must_fit, verdict_on
from plimsoll.cli.supply import supply_of
from plimsoll.manifests.context import Settings
from plimsoll.reconcile.quota import needs, resource_quota, rule_of_thumb

_EPILOG = """\b
Examples:
  plimsoll quota -f model.yaml --gpu A10 | kubectl apply -n team-a -f -
  plimsoll quota -f a.yaml -f b.yaml --context production
  plimsoll quota --for 7B
"""


@click.command(epilog=_EPILOG)
@files_option(required=False)
@click.option("--for", "size", metavar="SIZE", help="A rule of thumb by parameters instead, such as 7B.")
@hardware_options
@place_options
@hub_options
@output_option(Format.YAML, Format.JSON)
def quota(
    files: tuple[str, ...],
    size: str | None,
    hardware: HardwareOptions,
    place: PlaceOptions,
    hub: HubOptions,
    output: Format,
) -> None:
    """Print the ResourceQuota that the ModelDeployments of the files need together in one namespace.

    It covers what runs at once: every server replica, and a download or a test beside it. The hardware is found
    as by `plimsoll render`.
    """
    if (size is None) == (not files):
        raise WrongUsageError("say for what: -f FILE with ModelDeployments, or --for SIZE such as 7B.")
    document = _by_size(size) if size is not None else _by_files(files, hardware, place, hub)
    if output is Format.JSON:
        print_json(document)
    else:
        click.echo(yaml.safe_dump(document, sort_keys=False), nl=False)


def _by_size(size: str) -> dict[str, Any]:
    try:
        return rule_of_thumb(size)
    except ValueError as error:
        raise WrongUsageError(f"--for: {error}") from None


def _by_files(
    files: tuple[str, ...], hardware: HardwareOptions, place: PlaceOptions, hub: HubOptions
) -> dict[str, Any]:
    deployments = read_model_deployments(files)
    supply = supply_of(hardware, place, {one.namespace for one in deployments})
    settings = Settings(hub_endpoint=hub.hub_endpoint)
    found = [
        needs(must_fit(verdict_on(one, supply.survey(one), settings, hub)), one.spec) for one in deployments
    ]
    return resource_quota(found)
