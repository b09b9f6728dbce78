"""Volumes that do not come, and volumes that are the user's own."""

from __future__ import annotations

from plimsoll.sandbox.volumes import PROVISIONER


def test_a_volume_that_stays_pending_is_named_with_the_reason_and_comes_later(world):
    name = f"late-{world.namespace}"
    world.apply(world.manifest(storage={"storageClassName": name}))
    world.wait_reason("Downloaded", "VolumePending")
    message = world.message("Downloaded")
    (claim,) = (key.split("/")[1] for key in world.children() if key.startswith("PersistentVolumeClaim/"))
    assert claim in message
    assert name in message
    assert not any(key.startswith("Deployment/") for key in world.children())
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": PROVISIONER,
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    world.apply(storage_class)
    try:
        world.wait_ready()
    finally:
        world.kubectl("delete", "storageclass", name)


def test_a_claim_of_the_users_own_that_is_not_there_is_waited_for(world):
    world.apply(world.manifest(storage={"existingClaim": "models"}))
    world.wait_reason("Downloaded", "ClaimNotFound")
    assert "models" in world.message("Downloaded")
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models", "namespace": world.namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "40Gi"}}},
    }
    world.apply(claim)
    world.wait_ready()

    world.kubectl("delete", "modeldeployments.plimsoll.dev", "m", "-n", world.namespace)

    assert world.get("pvc", "models")["metadata"].get("deletionTimestamp") is None


def test_a_retained_claim_outlives_the_model(world):
    world.apply(world.manifest(storage={"retain": True}))
    world.wait_ready()
    (claim,) = (key.split("/")[1] for key in world.children() if key.startswith("PersistentVolumeClaim/"))

    world.kubectl("delete", "modeldeployments.plimsoll.dev", "m", "-n", world.namespace)
    world.wait(
        "all but the claim to be collected",
        lambda: set(world.children()) == {f"PersistentVolumeClaim/{claim}"},
    )

    assert world.get("pvc", claim)["metadata"].get("deletionTimestamp") is None
