"""The operator's settings that its children show: the images."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from plimsoll.manifests.context import (
    DEFAULT_OPERATOR_IMAGE,
    DEFAULT_PROMPTFOO_IMAGE,
    DEFAULT_VLLM_CPU_IMAGE,
    DEFAULT_VLLM_IMAGE,
    Settings,
)

_Command = TypeVar("_Command", bound=Callable[..., Any])
_IMAGES = {
    "operator_image": (DEFAULT_OPERATOR_IMAGE, "Image of the download Job."),
    "promptfoo_image": (DEFAULT_PROMPTFOO_IMAGE, "Image of the test Job."),
    "vllm_image": (DEFAULT_VLLM_IMAGE, "Engine image where a ModelDeployment names none."),
    "vllm_cpu_image": (DEFAULT_VLLM_CPU_IMAGE, "The same for CPU only."),
}


def image_options(function: _Command) -> _Command:
    """Add the options of the images to a command that has hub_options, and hand it `settings`."""

    @functools.wraps(function)
    def gather(*args: Any, **params: Any) -> Any:
        images = {name: params.pop(name) for name in _IMAGES}
        params["settings"] = Settings(**images, hub_endpoint=params["hub"].hub_endpoint)
        return function(*args, **params)

    command: Any = gather
    for name, (default, text) in reversed(_IMAGES.items()):
        flag = f"--{name.replace('_', '-')}"
        command = click.option(flag, name, default=default, show_default=True, help=text)(command)
    return command  # type: ignore[no-any-return]
