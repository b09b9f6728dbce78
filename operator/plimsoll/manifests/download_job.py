"""The Job that brings one commit of the model onto the volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from plimsoll.manifests import labels
from plimsoll.manifests.jobs import job
from plimsoll.manifests.labels import Component
from plimsoll.manifests.launch import secret_env
from plimsoll.manifests.names import download_job_name
from plimsoll.manifests.pod_template import (
    TEMPORARY_PATH,
    TERMINATION_PATH,
    metadata,
    model_mount,
    pod_template,
)
from plimsoll.manifests.resources import component_resources
from plimsoll.manifests.revision import download_hash

if TYPE_CHECKING:
    from plimsoll.manifests.context import Context
    from plimsoll.manifests.placement import Placement

# `plimsoll download`: 1 refused, 2 wrong usage; anything else (3: the Hub could not be reached) may mend itself.
_FINAL_CODES: Final = (1, 2)
_RETRIES: Final = (
    6  # with the Job controller's backoff of 10 s, doubled each time: over ten minutes of outage
)


def download_job(ctx: Context, placement: Placement) -> dict[str, Any]:
    """The download Job: on the plan's nodes, so that the volume lands where the server can run, without a GPU."""
    template = pod_template(ctx, Component.DOWNLOAD, _container(ctx), [], placement=placement)
    return job(
        metadata(
            ctx,
            download_job_name(ctx.name, download_hash(ctx)),
            labels.component(ctx.name, Component.DOWNLOAD),
        ),
        template,
        final_codes=_FINAL_CODES,
        retries=_RETRIES,
    )


def _container(ctx: Context) -> dict[str, Any]:
    plan, model = ctx.plan, ctx.spec.model
    patterns = [part for pattern in model.allow_patterns or () for part in ("--allow-pattern", pattern)]
    env: list[dict[str, Any]] = [
        {"name": "HOME", "value": TEMPORARY_PATH},
        {"name": "HF_HOME", "value": f"{TEMPORARY_PATH}/huggingface"},
        {"name": "HF_ENDPOINT", "value": ctx.settings.hub_endpoint},
        {"name": "HF_HUB_DISABLE_XET", "value": "1"},
        {"name": "HF_HUB_DISABLE_TELEMETRY", "value": "1"},
    ]
    if model.token_secret_ref is not None:
        env.append(secret_env("HF_TOKEN", model.token_secret_ref.to_json()))
    return {
        "name": Component.DOWNLOAD.value,
        "image": ctx.settings.operator_image,
        "command": ["plimsoll", "download"],
        "args": [
            plan.model_id,
            "--revision",
            plan.commit,
            "--to",
            ctx.model_path,
            *patterns,
            "--report",
            TERMINATION_PATH,
        ],
        "env": env,
        "resources": component_resources(plan.resources, ctx.spec, Component.DOWNLOAD).to_json(),
        "volumeMounts": [model_mount(read_only=False)],
    }
