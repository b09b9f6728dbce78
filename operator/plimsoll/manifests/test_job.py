"""The Job that tests one revision behind its private Service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from plimsoll.manifests import labels
from plimsoll.manifests.jobs import job
from plimsoll.manifests.labels import Component
from plimsoll.manifests.launch import secret_env
from plimsoll.manifests.names import label_value, suite_config_map_name, test_job_name
from plimsoll.manifests.pod_template import (
    MODEL_VOLUME,
    TEMPORARY_PATH,
    TERMINATION_PATH,
    metadata,
    pod_template,
)
from plimsoll.manifests.resources import component_resources
from plimsoll.manifests.revision import test_hash
from plimsoll.manifests.service import private_base_url
from plimsoll.manifests.suite import SUITE_KEY, api

if TYPE_CHECKING:
    from plimsoll.manifests.context import Context
    from plimsoll.manifests.placement import Placement

# `plimsoll run-test`: 100 the engine failed the test, 2 wrong usage; 1 is an error that may mend itself.
_FINAL_CODES: Final = (100, 2)
_RETRIES: Final = 2
_SUITE_PATH: Final = "/suite"
# The folder of this name on the model volume, so that a report's path is the same on both.
_REPORTS: Final = "reports"


def test_job(ctx: Context, revision: str, suite: str, placement: Placement) -> dict[str, Any]:
    """The test Job of one suite on one revision."""
    template = pod_template(
        ctx,
        Component.TEST,
        _container(ctx, revision, suite),
        [{"name": "suite", "configMap": {"name": _suite_name(ctx, suite)}}],
        placement=placement,
        revision=revision,
    )
    return job(
        metadata(
            ctx,
            test_job_name(ctx.name, test_hash(revision, suite)),
            labels.component(ctx.name, Component.TEST, revision),
        ),
        template,
        final_codes=_FINAL_CODES,
        retries=_RETRIES,
    )


test_job.__test__ = False  # type: ignore[attr-defined]  # not a pytest function


def _suite_name(ctx: Context, suite: str) -> str:
    reference = ctx.promptfoo.config_map_ref
    return reference.name if reference is not None else suite_config_map_name(ctx.name, suite)


def _container(ctx: Context, revision: str, suite: str) -> dict[str, Any]:
    env: list[dict[str, Any]] = [
        {"name": "HOME", "value": TEMPORARY_PATH},
        {"name": "PROMPTFOO_DISABLE_TELEMETRY", "value": "1"},
        {"name": "PROMPTFOO_DISABLE_UPDATE", "value": "1"},
    ]
    engine = ctx.spec.engine
    if engine is not None and engine.api_key_secret_ref is not None:
        env.append(secret_env("OPENAI_API_KEY", engine.api_key_secret_ref.to_json()))
    return {
        "name": Component.TEST.value,
        "image": ctx.settings.promptfoo_image,
        "command": ["plimsoll", "run-test"],
        "args": _args(ctx, revision, suite),
        "env": env,
        "resources": component_resources(ctx.plan.resources, ctx.spec, Component.TEST).to_json(),
        "volumeMounts": [
            {"name": "suite", "mountPath": _SUITE_PATH, "readOnly": True},
            {"name": MODEL_VOLUME, "mountPath": f"/{_REPORTS}", "subPath": _REPORTS},
        ],
    }


def _args(ctx: Context, revision: str, suite: str) -> list[str]:
    return [
        "--suite",
        f"{_SUITE_PATH}/{SUITE_KEY}",
        "--base-url",
        private_base_url(ctx, revision),
        "--served-model-name",
        ctx.served_model_name,
        "--api",
        api(ctx),
        "--max-model-len",
        str(ctx.plan.max_model_len),
        "--report",
        f"/{_REPORTS}/{label_value(ctx.name)}/{revision}-{suite}.json",
        "--message",
        TERMINATION_PATH,
    ]
