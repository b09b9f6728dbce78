"""Why an image does not come, from the kubelet's words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from plimsoll.api.conditions import Reason

IMAGE_REASONS: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)

# Recorded: tinkerbell/operator#18 (insufficient_scope), thoth-station/thoth-application#2053 (denied, unauthorized),
# octarinesec/octarine-operator#15 (authentication required). Docker Hub says so of what is not there, too.
_DENIED: Final = re.compile(
    r"pull access denied|unauthorized|authentication required|authorization failed|insufficient_scope"
    r"|\b40[13] (?:Forbidden|Unauthorized)|requested access to the resource is denied|no basic auth credentials",
    re.IGNORECASE,
)
# Recorded: lachie83/k8s-kubectl#157 (manifest unknown); containerd ends with ": not found".
_NOT_FOUND: Final = re.compile(r"manifest unknown|not found|NotFound|name unknown", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePull:
    """Why an image does not come: the rest of a sentence that begins with "its image", and the next step."""

    reason: Reason
    what: str
    next_step: str


def judge_image_pull(waiting_reason: str | None, message: str | None, image_field: str) -> ImagePull:
    """Sort the kubelet's words; what they do not explain may mend itself, since the kubelet goes on trying.

    Args:
        waiting_reason: one of IMAGE_REASONS.
        message: what the kubelet says about it.
        image_field: what the user edits to name another image.
    """
    text = message or ""
    if waiting_reason == "InvalidImageName":
        return ImagePull(
            reason=Reason.IMAGE_NOT_FOUND, what="has a name that is none", next_step=f"correct {image_field}"
        )
    if waiting_reason == "ErrImageNeverPull":
        return ImagePull(
            reason=Reason.IMAGE_NOT_FOUND,
            what="is not on the node, and may not be pulled (pull policy Never)",
            next_step=f"load it onto the nodes, or change {image_field} or the operator's pull policy",
        )
    if _DENIED.search(text):
        return ImagePull(
            reason=Reason.IMAGE_PULL_DENIED,
            what="cannot be pulled, for want of rights or because there is no such repository",
            next_step=f"check {image_field}, and name a Secret with access in pod.imagePullSecrets",
        )
    if _NOT_FOUND.search(text):
        return ImagePull(
            reason=Reason.IMAGE_NOT_FOUND,
            what="cannot be pulled: the registry has no such image",
            next_step=f"correct the name and the tag in {image_field}",
        )
    return ImagePull(
        reason=Reason.IMAGE_PULL_FAILED,
        what="cannot be pulled",
        next_step=(
            f"the kubelet goes on trying; check {image_field} and pod.imagePullSecrets, and that the nodes "
            "reach the registry"
        ),
    )
