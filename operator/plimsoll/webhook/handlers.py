"""kopf's admission handlers: translate a review, call the rule, translate the answer.

kopf reports only the first of several errors, so all of them go into one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import kopf

from plimsoll import api
from plimsoll.webhook.configurations import FILL_PODS, VALIDATE_MODEL_DEPLOYMENTS

if TYPE_CHECKING:
    from plimsoll.webhook.modeldeployments import ModelDeploymentReview
    from plimsoll.webhook.pods import PodReview

_logger = logging.getLogger(__name__)
_UNPROCESSABLE = 422


def add_handlers(
    registry: kopf.OperatorRegistry, pods: PodReview, model_deployments: ModelDeploymentReview
) -> None:
    """Register both handlers under the ids that the webhook configurations have as their paths."""

    async def fill(
        body: kopf.Body, namespace: str | None, patch: kopf.Patch, warnings: list[str], **_: Any
    ) -> None:
        filled = await pods.review(dict(body), namespace or "default")
        warnings.extend(filled.warnings)
        if filled.pod is not None:
            # Only resources of containers differ, and a list is replaced as a whole.
            patch.spec["containers"] = filled.pod["spec"]["containers"]

    async def validate(body: kopf.Body, warnings: list[str], **more: Any) -> None:
        old = more.get("old")
        verdict = await model_deployments.review(dict(body), None if old is None else dict(old))
        warnings.extend(verdict.warnings)
        if verdict.errors:
            raise kopf.AdmissionError(error_text(verdict.errors), code=_UNPROCESSABLE)

    kopf.on.mutate("v1", "pods", id=FILL_PODS, operations=["CREATE"], registry=registry)(fill)
    kopf.on.validate(
        api.GROUP,
        api.VERSION,
        api.PLURAL,
        id=VALIDATE_MODEL_DEPLOYMENTS,
        operations=["CREATE", "UPDATE"],
        registry=registry,
    )(validate)


def error_text(errors: tuple[str, ...]) -> str:
    """All errors, each on its own line where there are several."""
    if len(errors) == 1:
        return errors[0]
    return f"{len(errors)} errors:" + "".join(f"\n- {error}" for error in errors)
