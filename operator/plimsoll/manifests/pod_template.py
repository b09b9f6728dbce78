"""What the pods of all three components share: identity, the restricted security level, volumes, the user's wishes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from plimsoll.api import API_VERSION, KIND
from plimsoll.manifests import labels
from plimsoll.manifests.context import MODELS_PATH
from plimsoll.manifests.names import claim_label_value
from plimsoll.manifests.placement import Placement, affinity, tolerations

if TYPE_CHECKING:
    from plimsoll.manifests.context import Context
    from plimsoll.manifests.labels import Component

Manifest = dict[str, Any]

# The user of the distroless images: no entry in most /etc/passwd, and root in none.
USER_ID: Final = 65532
MODEL_VOLUME: Final = "model"
TEMPORARY_PATH: Final = "/tmp"  # noqa: S108 - inside a pod, on an emptyDir of its own
TERMINATION_PATH: Final = "/dev/termination-log"


def owner_reference(ctx: Context) -> Manifest:
    """The reference by which Kubernetes collects a child when its ModelDeployment is gone."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": ctx.deployment.name,
        "uid": ctx.deployment.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def metadata(ctx: Context, name: str, child_labels: dict[str, str]) -> Manifest:
    """Metadata of an owned child."""
    return {
        "name": name,
        "namespace": ctx.deployment.namespace,
        "labels": child_labels,
        "ownerReferences": [owner_reference(ctx)],
    }


def pod_template(
    ctx: Context,
    component: Component,
    container: Manifest,
    volumes: list[Manifest],
    *,
    placement: Placement,
    revision: str | None = None,
) -> Manifest:
    """A pod template with one container.

    Args:
        ctx: what it is made for.
        component: download, server or test.
        container: name, image, command, resources and so on; security and pull policy are added.
        volumes: beside the model volume and the one for temporary files.
        placement: what the state of the volume asks.
        revision: of a server or a test.
    """
    pod = ctx.pod
    spec: Manifest = {
        "automountServiceAccountToken": False,
        # A Service named "vllm" would otherwise inject VLLM_PORT.
        "enableServiceLinks": False,
        "securityContext": _pod_security(),
        "containers": [_finished(ctx, container)],
        "volumes": [
            {"name": MODEL_VOLUME, "persistentVolumeClaim": {"claimName": ctx.claim_name}},
            {"name": "tmp", "emptyDir": {}},
            *volumes,
        ],
    }
    wished: dict[str, Any] = {
        "affinity": affinity(ctx, placement, on_planned_nodes=component is not labels.Component.TEST),
        "tolerations": tolerations(ctx),
        "nodeSelector": dict(pod.node_selector or {}),
        "imagePullSecrets": [secret.to_json() for secret in pod.image_pull_secrets or ()],
        "priorityClassName": pod.priority_class_name,
        "serviceAccountName": pod.service_account_name,
    }
    spec.update({key: value for key, value in wished.items() if value})
    return {"metadata": _pod_metadata(ctx, component, revision), "spec": spec}


def model_mount(*, read_only: bool) -> Manifest:
    """The whole model volume."""
    return {"name": MODEL_VOLUME, "mountPath": MODELS_PATH, "readOnly": read_only}


def _pod_metadata(ctx: Context, component: Component, revision: str | None) -> Manifest:
    plan, pod = ctx.plan, ctx.pod
    facts = {
        labels.MODEL: plan.model_id,
        labels.MODEL_BYTES: str(plan.download_bytes),
        labels.REVISION_COMMIT: plan.commit,
        labels.MAX_MODEL_LEN: str(plan.max_model_len),
    }
    return {
        "labels": {
            **(pod.labels or {}),
            **labels.component(ctx.name, component, revision),
            labels.VOLUME: claim_label_value(ctx.claim_name),
        },
        "annotations": {**(pod.annotations or {}), **facts},
    }


def _finished(ctx: Context, container: Manifest) -> Manifest:
    policy = ctx.settings.image_pull_policy
    return {
        **container,
        "volumeMounts": [*container["volumeMounts"], {"name": "tmp", "mountPath": TEMPORARY_PATH}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePath": TERMINATION_PATH,
        **({} if policy is None else {"imagePullPolicy": policy}),
    }


def _pod_security() -> Manifest:
    return {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        # Changing the owner of hundreds of gigabytes at every start takes minutes.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
