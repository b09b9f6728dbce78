"""Every label and annotation that Plimsoll writes or reads, and the label sets of its objects."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from plimsoll.api import GROUP
from plimsoll.manifests.names import label_value

# The name of this operator in managedFields of whatever it applies.
FIELD_MANAGER: Final = "plimsoll"

MODEL_DEPLOYMENT: Final = f"{GROUP}/model-deployment"
COMPONENT: Final = f"{GROUP}/component"
REVISION: Final = f"{GROUP}/revision"
# On every pod that mounts a model volume, whichever ModelDeployment it belongs to: the claim's name.
VOLUME: Final = f"{GROUP}/volume"
# On a Secret: the operator may read its token.
HF_TOKEN: Final = f"{GROUP}/hf-token"

# Annotations.
MODEL: Final = f"{GROUP}/model"
MODEL_BYTES: Final = f"{GROUP}/model-bytes"
MAX_MODEL_LEN: Final = f"{GROUP}/max-model-len"
REVISION_COMMIT: Final = f"{GROUP}/revision-commit"
REPLAN: Final = f"{GROUP}/replan"
HF_ENDPOINT: Final = f"{GROUP}/hf-endpoint"
# Written by Kubernetes' own LimitRanger admission plugin.
LIMIT_RANGER: Final = "kubernetes.io/limit-ranger"
DEFAULT_CONTAINER: Final = "kubectl.kubernetes.io/default-container"


class Component(StrEnum):
    """The three kinds of pod."""

    DOWNLOAD = "download"
    SERVER = "server"
    TEST = "test"


_APPLICATIONS: Final = {
    Component.DOWNLOAD: "plimsoll-download",
    Component.SERVER: "vllm",
    Component.TEST: "promptfoo",
}


def common(name: str) -> dict[str, str]:
    """What every child of the ModelDeployment of this name carries."""
    return {
        "app.kubernetes.io/instance": label_value(name),
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        "app.kubernetes.io/part-of": FIELD_MANAGER,
        MODEL_DEPLOYMENT: label_value(name),
    }


def component(name: str, kind: Component, revision: str | None = None) -> dict[str, str]:
    """What a child of one stage carries; `revision` where it belongs to one."""
    found = {
        **common(name),
        "app.kubernetes.io/name": _APPLICATIONS[kind],
        "app.kubernetes.io/component": kind.value,
        COMPONENT: kind.value,
    }
    return found if revision is None else {**found, REVISION: revision}


def server_selector(name: str, revision: str) -> dict[str, str]:
    """The three labels by which Deployments and Services select the pods of one revision."""
    return {
        MODEL_DEPLOYMENT: label_value(name),
        COMPONENT: Component.SERVER.value,
        REVISION: revision,
    }
