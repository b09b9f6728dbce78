"""The flags that `operator` and `webhook` share: both must come to the same plan."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from plimsoll.manifests.context import Settings

CommandT = TypeVar("CommandT", bound="Callable[..., Any]")

kubeconfig_option = click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="How to reach the cluster; unset: the service account of the pod.",
)

_SETTINGS = (
    ("--hub-endpoint", "HF_ENDPOINT", "URL", "The Hub; unset: huggingface.co."),
    ("--operator-image", "PLIMSOLL_OPERATOR_IMAGE", "IMAGE", "Image of the download Job."),
    ("--promptfoo-image", "PLIMSOLL_PROMPTFOO_IMAGE", "IMAGE", "Image of the test Job."),
    ("--vllm-image", "PLIMSOLL_VLLM_IMAGE", "IMAGE", "Engine on GPUs, where the spec names none."),
    ("--vllm-cpu-image", "PLIMSOLL_VLLM_CPU_IMAGE", "IMAGE", "Engine on CPU, where the spec names none."),
    ("--cluster-domain", "PLIMSOLL_CLUSTER_DOMAIN", "DOMAIN", "DNS suffix of Services."),
)
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")


def settings_options(command: CommandT) -> CommandT:
    """Add the flags of `Settings`; they arrive as keyword arguments that `make_settings` reads."""
    decorators = [
        click.option(flag, envvar=variable, show_envvar=True, metavar=metavar, help=text)
        for flag, variable, metavar, text in _SETTINGS
    ]
    decorators.append(
        click.option(
            "--image-pull-policy",
            envvar="PLIMSOLL_IMAGE_PULL_POLICY",
            show_envvar=True,
            type=click.Choice(_PULL_POLICIES),
            help="Of every container; unset: Kubernetes' own rule.",
        )
    )
    return functools.reduce(lambda wrapped, decorate: decorate(wrapped), reversed(decorators), command)


def log_options(command: CommandT) -> CommandT:
    """Add the flags of the log."""
    log_format = click.option(
        "--log-format",
        type=click.Choice(("json", "text")),
        default="json",
        show_default=True,
        help="One JSON object per line, or text.",
    )
    verbose = click.option("--verbose", is_flag=True, help="Log every step.")
    return log_format(verbose(command))


def make_settings(given: Mapping[str, str | None]) -> Settings:
    """The settings with what was given, and the defaults for the rest.

    Raises:
        click.BadParameter: the Hub's endpoint is no URL.
    """
    from plimsoll.manifests.context import Settings

    values = {name: value for name, value in given.items() if value}
    endpoint = values.get("hub_endpoint")
    if endpoint is not None and not endpoint.startswith(("https://", "http://")):
        raise click.BadParameter(
            f"{endpoint!r} is no URL; write one such as https://huggingface.co", param_hint="--hub-endpoint"
        )
    return Settings(**values)
