"""`plimsoll operator`: the controller's process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from plimsoll.cli.errors import UnreachableError
from plimsoll.cli.process_options import kubeconfig_option, log_options, make_settings, settings_options

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    epilog="""\b
Examples:
  plimsoll operator --kubeconfig ~/.kube/config
  plimsoll operator --namespace team-a --liveness-port 8080 --metrics-port 8081"""
)
@kubeconfig_option
@click.option("--namespace", metavar="NAME", help="Watch this namespace only; unset: all of them.")
@click.option(
    "--lease-namespace",
    metavar="NAME",
    default="plimsoll-system",
    show_default=True,
    help="Namespace of the Lease by which one operator leads.",
)
@click.option("--liveness-port", type=click.IntRange(1, 65535), help="Serve /healthz on this port.")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Serve /metrics on this port.")
@click.option(
    "--workers",
    type=click.IntRange(1, 100),
    default=10,
    show_default=True,
    help="ModelDeployments that are worked on at a time.",
)
@settings_options
@log_options
def operator(
    kubeconfig: Path | None,
    namespace: str | None,
    lease_namespace: str,
    liveness_port: int | None,
    metrics_port: int | None,
    workers: int,
    log_format: str,
    verbose: bool,
    **images: str | None,
) -> None:
    """Run the operator: it keeps every ModelDeployment sized, downloaded, served and tested.

    It finds the cluster by --kubeconfig, or by its service account inside a pod. Of several operators the one
    that holds the Lease works; it ends when it loses it.
    """
    import asyncio

    from plimsoll.cluster.errors import ClusterError
    from plimsoll.cluster.logs import set_up_logs
    from plimsoll.controller.election import LeadershipLostError
    from plimsoll.controller.options import OperatorOptions
    from plimsoll.controller.process import run_operator
    from plimsoll.controller.watching import WatchDiedError

    set_up_logs(log_format, verbose=verbose)
    options = OperatorOptions(
        settings=make_settings(images),
        kubeconfig=kubeconfig,
        namespace=namespace,
        lease_namespace=lease_namespace,
        liveness_port=liveness_port,
        metrics_port=metrics_port,
        num_workers=workers,
    )
    try:
        asyncio.run(run_operator(options))
    except (ClusterError, LeadershipLostError, WatchDiedError, OSError) as error:
        raise UnreachableError(str(error)) from error
