"""`spec.pod`, `spec.resources`: placement, metadata and host resources of the pods."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue

from plimsoll.api.base import ApiModel, ObjectName, QuantityText

# The keys of a map cannot be bounded by a schema; reconcile/validate_pod.py judges them.
LabelMap = dict[str, Annotated[str, Field(max_length=63)]]
AnnotationMap = dict[str, Annotated[str, Field(max_length=16384)]]


class LocalObjectRef(ApiModel):
    """A named object of the same namespace."""

    name: ObjectName = Field(description="Name of the object.")


class PodSpec(ApiModel):
    """Placement and metadata of the pods; Kubernetes' own types, passed through."""

    node_selector: LabelMap | None = Field(
        default=None, max_length=64, description="Labels that a node must have."
    )
    tolerations: tuple[dict[str, JsonValue], ...] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Taints that the pods tolerate: Kubernetes' Toleration.",
    )
    affinity: dict[str, JsonValue] | None = Field(
        default=None, description="Node and pod affinity: Kubernetes' Affinity."
    )
    topology_spread_constraints: tuple[dict[str, JsonValue], ...] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="How replicas spread over the cluster: Kubernetes' TopologySpreadConstraint.",
    )
    priority_class_name: ObjectName | None = Field(default=None, description="Priority class of the pods.")
    runtime_class_name: ObjectName | None = Field(
        default=None, description="Runtime class of the server's pods."
    )
    image_pull_secrets: tuple[LocalObjectRef, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="Secrets for pulling the images.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    service_account_name: ObjectName | None = Field(
        default=None, description="Service account of the pods; no token is mounted."
    )
    labels: LabelMap | None = Field(default=None, max_length=64, description="Further labels of the pods.")
    annotations: AnnotationMap | None = Field(
        default=None, max_length=64, description="Further annotations of the pods."
    )


class ResourceAmounts(ApiModel):
    """CPU and memory."""

    cpu: QuantityText | None = Field(default=None, description="CPU, such as 4 or 500m.")
    memory: QuantityText | None = Field(default=None, description="Memory, such as 12Gi.")


class ComponentResourcesSpec(ApiModel):
    """Requests and limits of one component; what is missing is computed."""

    requests: ResourceAmounts | None = Field(default=None, description="What is reserved.")
    limits: ResourceAmounts | None = Field(default=None, description="What may not be passed.")


class ResourcesSpec(ApiModel):
    """CPU and memory by component; what the user sets wins."""

    download: ComponentResourcesSpec | None = Field(default=None, description="The download Job.")
    server: ComponentResourcesSpec | None = Field(default=None, description="The engine.")
    test: ComponentResourcesSpec | None = Field(default=None, description="The test Job.")
