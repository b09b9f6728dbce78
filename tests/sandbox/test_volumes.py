"""A volume lands where the scheduler selected a node, and can be mounted in that zone only."""

from __future__ import annotations

from typing import Any

import pytest

from plimsoll.sandbox.volumes import (
    BLOCK_CLASS,
    PROVISIONER,
    SHARED_CLASS,
    Refusal,
    answer,
    is_ours,
    is_released,
)

NODES = {
    "n1": {"metadata": {"labels": {"topology.kubernetes.io/zone": "zone-1"}}},
    "n2": {"metadata": {"labels": {"topology.kubernetes.io/zone": "zone-2"}}},
}


def claim(
    selected: str | None = None, storage_class: str = BLOCK_CLASS, modes: tuple[str, ...] = ("ReadWriteOnce",)
) -> dict[str, Any]:
    annotations = {"volume.kubernetes.io/storage-provisioner": PROVISIONER}
    if selected is not None:
        annotations["volume.kubernetes.io/selected-node"] = selected
    return {
        "metadata": {"name": "c", "namespace": "ns", "uid": "u-1", "annotations": annotations},
        "spec": {
            "storageClassName": storage_class,
            "accessModes": list(modes),
            "resources": {"requests": {"storage": "40Gi"}},
        },
    }


@pytest.mark.parametrize(("node", "zone"), [("n1", "zone-1"), ("n2", "zone-2")])
def test_a_volume_carries_the_zone_of_the_selected_node(node: str, zone: str) -> None:
    volume = answer(claim(selected=node), NODES)

    assert isinstance(volume, dict)
    terms = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert [
        {"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone]}]}
    ] == terms
    assert (
        volume["spec"]["capacity"]["storage"],
        volume["spec"]["claimRef"]["name"],
        volume["spec"]["claimRef"]["uid"],
        volume["spec"]["persistentVolumeReclaimPolicy"],
    ) == ("40Gi", "c", "u-1", "Delete")


def test_nothing_is_made_before_a_node_is_selected() -> None:
    assert answer(claim(), NODES) is None


def test_a_selected_node_that_is_gone_is_given_back_to_the_scheduler() -> None:
    found = answer(claim(selected="gone"), NODES)

    assert isinstance(found, Refusal)
    assert found.reschedule


def test_a_block_volume_is_not_shared() -> None:
    found = answer(claim(selected="n1", modes=("ReadWriteMany",)), NODES)

    assert isinstance(found, Refusal)
    assert f"ReadWriteMany needs the storage class {SHARED_CLASS}" in found.message
    assert found.event(claim())["reason"] == "ProvisioningFailed"


def test_a_share_can_be_mounted_everywhere() -> None:
    volume = answer(claim(storage_class=SHARED_CLASS, modes=("ReadWriteMany",)), NODES)

    assert isinstance(volume, dict)
    assert "nodeAffinity" not in volume["spec"]


def test_claims_of_others_and_bound_claims_are_left_alone() -> None:
    foreign = claim()
    foreign["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"] = "other"
    bound = claim()
    bound["spec"]["volumeName"] = "pv"
    going = claim()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    assert [is_ours(found) for found in (claim(), foreign, bound, going)] == [True, False, False, False]


@pytest.mark.parametrize(
    ("phase", "policy", "by", "expected"),
    [
        ("Released", "Delete", PROVISIONER, True),
        ("Bound", "Delete", PROVISIONER, False),
        ("Released", "Retain", PROVISIONER, False),
        ("Released", "Delete", "other", False),
    ],
)
def test_only_released_volumes_of_ours_are_removed(phase: str, policy: str, by: str, expected: bool) -> None:
    volume = {
        "metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": by}},
        "spec": {"persistentVolumeReclaimPolicy": policy},
        "status": {"phase": phase},
    }

    assert expected is is_released(volume)
