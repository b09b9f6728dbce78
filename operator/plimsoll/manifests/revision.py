"""The hashes that name revisions, suites, downloads and tests."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from plimsoll.manifests.launch import launch_args, launch_env
from plimsoll.manifests.suite import suite_text

if TYPE_CHECKING:
    from plimsoll.manifests.context import Context

HASH_LENGTH: Final = 10  # hex digits


def digest(content: Any) -> str:
    """A short hash of JSON content that does not depend on the order of keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]


def revision_hash(ctx: Context) -> str:
    """What is served: commit, image, launch arguments and environment; not how often, nor on how much CPU."""
    return digest(
        {
            "commit": ctx.plan.commit,
            "image": ctx.plan.image,
            "args": launch_args(ctx),
            "env": launch_env(ctx),
        }
    )


def suite_hash(ctx: Context, own_suite: str | None = None) -> str:
    """What is asked in the test: our text, or the user's ConfigMap by name and content.

    Args:
        ctx: the ModelDeployment with its plan.
        own_suite: what the user's ConfigMap holds; None while it is not there, or where the suite is ours.
    """
    text = suite_text(ctx)
    if text is not None:
        return digest({"text": text})
    name = ctx.promptfoo.config_map_ref.name if ctx.promptfoo.config_map_ref else None
    return digest({"configMap": name, "text": own_suite})


def download_hash(ctx: Context) -> str:
    """What the download Job is made from, as far as the spec and the plan say it.

    An edit of any of it makes a new Job, which takes what is on the volume as it is; an upgrade of the operator
    does not.
    """
    spec = ctx.spec
    pod = ctx.pod.to_json()
    for metadata in ("labels", "annotations", "topologySpreadConstraints", "runtimeClassName"):
        pod.pop(metadata, None)
    return digest(
        {
            "model": ctx.plan.model_id,
            "commit": ctx.plan.commit,
            "allowPatterns": spec.model.allow_patterns,
            "token": spec.model.token_secret_ref.to_json() if spec.model.token_secret_ref else None,
            "claim": ctx.claim_name,
            "nodes": ctx.plan.hardware.node_labels,
            "pod": pod,
            "resources": spec.resources.download.to_json()
            if spec.resources is not None and spec.resources.download is not None
            else None,
        }
    )


def test_hash(revision: str, suite: str) -> str:
    """One suite on one revision."""
    return digest({"revision": revision, "suite": suite})


test_hash.__test__ = False  # type: ignore[attr-defined]  # not a pytest function
