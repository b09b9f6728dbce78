"""`plimsoll webhook`: the admission process."""

from __future__ import annotations

from pathlib import Path

import click

from plimsoll.cli.errors import UnreachableError, WrongUsageError
from plimsoll.cli.process_options import kubeconfig_option, log_options, make_settings, settings_options


@click.command(
    epilog="""\b
Examples:
  plimsoll webhook --kubeconfig ~/.kube/config --cert-dir ./certificates
  plimsoll webhook --host 0.0.0.0 --port 9443 --cert-dir /certificates --liveness-port 8080"""
)
@kubeconfig_option
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=9443, show_default=True, help="Where to listen."
)
@click.option(
    "--cert-dir",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder with tls.crt and tls.key; read again when they change.",
)
@click.option(
    "--namespace", metavar="NAME", help="As the operator's; which are served stands in the configurations."
)
@click.option("--liveness-port", type=click.IntRange(1, 65535), help="Serve /healthz on this port.")
@settings_options
@log_options
def webhook(
    kubeconfig: Path | None,
    host: str,
    port: int,
    cert_dir: Path,
    namespace: str | None,  # noqa: ARG001 - the chart gives operator and webhook the same flags
    liveness_port: int | None,
    log_format: str,
    verbose: bool,
    **images: str | None,
) -> None:
    """Run the admission webhooks: ModelDeployments are checked, and pods get the CPU and memory they lack.

    The settings must be the operator's, or the plan in a warning is not the plan that is carried out.
    """
    import asyncio

    from plimsoll.cluster.errors import ClusterError
    from plimsoll.cluster.logs import set_up_logs
    from plimsoll.webhook.process import WebhookOptions, run_webhook
    from plimsoll.webhook.server import CertificateError, Listen

    set_up_logs(log_format, verbose=verbose)
    options = WebhookOptions(
        settings=make_settings(images),
        listen=Listen(host=host, port=port, cert_dir=cert_dir),
        kubeconfig=kubeconfig,
        liveness_port=liveness_port,
    )
    try:
        asyncio.run(run_webhook(options))
    except CertificateError as error:
        raise WrongUsageError(str(error)) from error
    except (ClusterError, OSError) as error:
        raise UnreachableError(str(error)) from error
