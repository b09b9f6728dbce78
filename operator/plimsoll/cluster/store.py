"""What the watches have told so far: the newest known state of each object that matters, and nothing more of it.

Events of one kind may come late, twice, or after the answer to our own write, so the resourceVersion decides
which state is newer. A watch can lose a deletion (it lists anew after a break); `replace` with a fresh list
puts that right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from plimsoll.cluster.kinds import DEPLOYMENT, NODE, POD, WATCHED_CHILDREN
from plimsoll.manifests import labels

if TYPE_CHECKING:
    from plimsoll.cluster.client import Object, ObjectList
    from plimsoll.cluster.kinds import Kind


class _Key(NamedTuple):
    plural: str
    namespace: str
    name: str


class Store:
    """Objects by kind, namespace and name; children also by the ModelDeployment that their label names."""

    def __init__(self) -> None:
        """Start with nothing known."""
        self._objects: dict[_Key, Object] = {}
        self._gone: dict[_Key, int] = {}
        self._children: dict[tuple[str, str], set[_Key]] = {}

    def __len__(self) -> int:
        """How many objects are known."""
        return len(self._objects)

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """The newest known state of one object."""
        return self._objects.get(_Key(kind.plural, namespace or "", name))

    def all(self, kind: Kind) -> tuple[Object, ...]:
        """Every known object of a kind."""
        return tuple(item for key, item in self._objects.items() if key.plural == kind.plural)

    def children(self, namespace: str, owner_label: str) -> tuple[Object, ...]:
        """Everything that carries the label of one ModelDeployment."""
        keys = self._children.get((namespace, owner_label), ())
        return tuple(self._objects[key] for key in sorted(keys))

    def put(self, kind: Kind, item: Object) -> bool:
        """Take in a state; False if it is not newer than what is known, or differs in nothing that matters."""
        key, version = _key(kind, item), _version(item)
        known = self._objects.get(key)
        if known is not None and version <= _version(known):
            return False
        if version <= self._gone.get(key, -1):
            return False
        trimmed = trim(kind, item)
        self._forget_owner(key)
        self._objects[key] = trimmed
        self._gone.pop(key, None)
        owner = _owner_label(trimmed)
        if owner is not None and kind in WATCHED_CHILDREN:
            self._children.setdefault((key.namespace, owner), set()).add(key)
        return known is None or _essence(known) != _essence(trimmed)

    def remove(self, kind: Kind, item: Object) -> bool:
        """Take in that an object is gone; False if a newer one of the name is known."""
        key, version = _key(kind, item), _version(item)
        known = self._objects.get(key)
        if known is not None and version < _version(known):
            return False
        self._gone[key] = max(version, self._gone.get(key, version))
        self._forget_owner(key)
        return self._objects.pop(key, None) is not None

    def replace(self, kind: Kind, listed: ObjectList) -> tuple[Object, ...]:
        """Take in a whole list: what it lacks is gone. Gives the objects that changed or went."""
        changed = [item for item in listed.items if self.put(kind, item)]
        present = {_key(kind, item) for item in listed.items}
        as_of = int(listed.resource_version) if listed.resource_version.isdigit() else 0
        for key in [key for key in self._objects if key.plural == kind.plural and key not in present]:
            if _version(self._objects[key]) <= as_of:
                changed.append(self._objects[key])
                self._forget_owner(key)
                del self._objects[key]
        # Whatever went before this list was made cannot be announced late any more.
        for key in [key for key, version in self._gone.items() if key.plural == kind.plural]:
            if self._gone[key] <= as_of:
                del self._gone[key]
        return tuple(changed)

    def _forget_owner(self, key: _Key) -> None:
        known = self._objects.get(key)
        owner = None if known is None else _owner_label(known)
        keys = self._children.get((key.namespace, owner or ""))
        if keys is not None:
            keys.discard(key)
            if not keys:
                del self._children[key.namespace, owner or ""]


def trim(kind: Kind, item: Object) -> Object:
    """Leave out what nobody reads: bodies are most of an operator's memory."""
    kept = {"apiVersion": kind.api_version, "kind": kind.kind, **item}
    metadata = dict(item.get("metadata") or {})
    if kind != DEPLOYMENT:  # whether an autoscaler owns the replicas stands in the managed fields
        metadata.pop("managedFields", None)
    kept["metadata"] = metadata
    if kind == POD:
        kept["spec"] = {"nodeName": (item.get("spec") or {}).get("nodeName")}
    if kind == NODE:
        spec, status = item.get("spec") or {}, item.get("status") or {}
        metadata = {name: metadata.get(name) for name in ("name", "labels", "resourceVersion")}
        conditions = [_state_of(one) for one in status.get("conditions") or () if one.get("type") == "Ready"]
        kept = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": metadata,
            "spec": {name: spec[name] for name in ("unschedulable", "taints") if name in spec},
            "status": {
                **{name: status[name] for name in ("allocatable", "capacity") if name in status},
                "conditions": conditions,
            },
        }
    return kept


def _state_of(condition: dict[str, Any]) -> dict[str, Any]:
    # Heartbeats move only the times: without them a node that does nothing new is no change.
    return {name: condition.get(name) for name in ("type", "status", "reason")}


def _essence(item: Object) -> Object:
    metadata = {name: value for name, value in item["metadata"].items() if name != "resourceVersion"}
    return {**item, "metadata": metadata}


def _key(kind: Kind, item: Object) -> _Key:
    metadata = item["metadata"]
    return _Key(kind.plural, metadata.get("namespace") or "", metadata["name"])


def _version(item: Object) -> int:
    text = str(item["metadata"].get("resourceVersion") or "")
    return int(text) if text.isdigit() else 0


def _owner_label(item: Object) -> str | None:
    value = (item["metadata"].get("labels") or {}).get(labels.MODEL_DEPLOYMENT)
    return None if value is None else str(value)
