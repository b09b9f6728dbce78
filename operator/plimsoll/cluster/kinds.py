"""The kinds that we ever touch, so that no discovery request and no discovery cache on disk is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plimsoll import api


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of object.

    Attributes:
        group: "" for the core group.
        plural: as it stands in URLs and RBAC rules.
    """

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As it stands in a manifest."""
        return f"{self.group}/{self.version}" if self.group else self.version


MODEL_DEPLOYMENT = Kind(group=api.GROUP, version=api.VERSION, kind=api.KIND, plural=api.PLURAL)
DEPLOYMENT = Kind(group="apps", version="v1", kind="Deployment", plural="deployments")
JOB = Kind(group="batch", version="v1", kind="Job", plural="jobs")
SERVICE = Kind(group="", version="v1", kind="Service", plural="services")
CLAIM = Kind(group="", version="v1", kind="PersistentVolumeClaim", plural="persistentvolumeclaims")
CONFIG_MAP = Kind(group="", version="v1", kind="ConfigMap", plural="configmaps")
POD = Kind(group="", version="v1", kind="Pod", plural="pods")
SECRET = Kind(group="", version="v1", kind="Secret", plural="secrets")
NODE = Kind(group="", version="v1", kind="Node", plural="nodes", namespaced=False)
RESOURCE_QUOTA = Kind(group="", version="v1", kind="ResourceQuota", plural="resourcequotas")
LIMIT_RANGE = Kind(group="", version="v1", kind="LimitRange", plural="limitranges")
EVENT = Kind(group="events.k8s.io", version="v1", kind="Event", plural="events")
# Events as other components still write them; kept apart because the older ones are read by field.
CORE_EVENT = Kind(group="", version="v1", kind="Event", plural="events")
# Read by the command line only: which nodes offer their GPUs by DRA.
RESOURCE_SLICE = Kind(
    group="resource.k8s.io", version="v1", kind="ResourceSlice", plural="resourceslices", namespaced=False
)
LEASE = Kind(group="coordination.k8s.io", version="v1", kind="Lease", plural="leases")

# The children that are applied, and the pods that controllers make of them.
CHILDREN = (CLAIM, JOB, DEPLOYMENT, SERVICE, CONFIG_MAP)
WATCHED_CHILDREN = (*CHILDREN, POD)

_ALL = (
    MODEL_DEPLOYMENT,
    *WATCHED_CHILDREN,
    SECRET,
    NODE,
    RESOURCE_QUOTA,
    LIMIT_RANGE,
    EVENT,
    CORE_EVENT,
    LEASE,
)
_BY_NAME = {(kind.api_version, kind.kind): kind for kind in _ALL}


class UnknownKindError(LookupError):
    """An object of a kind that this operator never makes."""


def kind_of(manifest: dict[str, Any]) -> Kind:
    """The kind that a manifest says it is of.

    Raises:
        UnknownKindError: it is none of ours.
    """
    name = (str(manifest.get("apiVersion")), str(manifest.get("kind")))
    if name not in _BY_NAME:
        raise UnknownKindError(f"{name[0]} {name[1]} is not a kind that Plimsoll makes or reads")
    return _BY_NAME[name]
