"""Stage: the model volume's claim, who may share it, and the words for one that stays away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from plimsoll.api.conditions import Reason
from plimsoll.api.spec import AccessMode, ModelDeployment
from plimsoll.manifests.names import volume_claim_name
from plimsoll.manifests.volume import volume_claim
from plimsoll.reconcile.quoting import counted, quote, sentence
from plimsoll.reconcile.situation import Finding, foreign, no
from plimsoll.units import bytes_quantity, parse_bytes

if TYPE_CHECKING:
    from plimsoll.api.status import PlanStatus
    from plimsoll.manifests.context import Context
    from plimsoll.reconcile.decision import Manifest
    from plimsoll.reconcile.observed import Claim, Observed

SHARING_WAYS_OUT: Final = (
    "set storage.accessModes to [ReadWriteMany] with a storage class that can do it, or give each replica a "
    "claim of its own by making one ModelDeployment per replica"
)


def claim_name(deployment: ModelDeployment) -> str:
    """The claim that the pods mount."""
    storage = deployment.spec.storage
    if storage is not None and storage.existing_claim is not None:
        return storage.existing_claim
    return volume_claim_name(deployment.name)


def claim_is_ours(deployment: ModelDeployment) -> bool:
    """Whether the claim is made here, and not one that storage.existingClaim names."""
    storage = deployment.spec.storage
    return storage is None or storage.existing_claim is None


def find_claim(deployment: ModelDeployment, observed: Observed) -> Claim | None:
    """The claim, if it is there."""
    name = claim_name(deployment)
    return next((claim for claim in observed.claims if claim.id.name == name), None)


def access_modes(deployment: ModelDeployment, claim: Claim | None) -> tuple[str, ...]:
    """The modes that hold: the claim's own once it is there (they never change), else what will be asked for."""
    if claim is not None and claim.access_modes:
        return claim.access_modes
    storage = deployment.spec.storage
    if storage is None or not storage.access_modes:
        return (AccessMode.READ_WRITE_ONCE,)
    return tuple(storage.access_modes)


def bound_to_one_node(modes: tuple[str, ...]) -> bool:
    """Whether all users of the volume have to run on one node."""
    return AccessMode.READ_WRITE_MANY not in modes


def sharing_problem(deployment: ModelDeployment, plan: PlanStatus, claim: Claim | None) -> str | None:
    """Why the plan cannot have this volume, with the ways out; None: it can."""
    modes = access_modes(deployment, claim)
    if not bound_to_one_node(modes):
        return None
    name = claim_name(deployment)
    if AccessMode.READ_WRITE_ONCE not in modes:
        return (
            f"The volume of claim {name} is {', '.join(modes)}: one pod alone may mount it, but the server shares it "
            "with its test, its next revision and further replicas; set storage.accessModes to [ReadWriteOnce] or "
            "[ReadWriteMany]."
        )
    if plan.nodes > 1:
        return (
            f"The plan spreads one replica over {plan.nodes} nodes, but the volume of claim {name} is ReadWriteOnce "
            f"and can be on one node only; {SHARING_WAYS_OUT}."
        )
    per_node, replicas = plan.hardware.gpus_per_node, deployment.spec.replicas
    needed = replicas * plan.gpus
    if per_node is not None and plan.gpus and needed > per_node:
        return (
            f"{counted(replicas, 'replica')} of {counted(plan.gpus, 'GPU')} need {needed} GPUs on one node, because the volume of claim "
            f"{name} is ReadWriteOnce, but a node of {plan.hardware.product or 'the plan'} has {per_node}; lower "
            f"replicas to {per_node // plan.gpus}, {SHARING_WAYS_OUT}."
        )
    return None


def claim_manifest(context: Context, claim: Claim | None) -> Manifest | None:
    """The claim as it is applied; None: it is the user's own.

    A claim never shrinks and never changes class or modes: what is there stays, so that applying cannot fail.
    """
    manifest = volume_claim(context)
    if manifest is None or claim is None:
        return manifest
    spec = dict(manifest["spec"])
    if claim.access_modes:
        spec["accessModes"] = list(claim.access_modes)
    if claim.storage_class is not None:
        spec["storageClassName"] = claim.storage_class
    wanted = parse_bytes(spec["resources"]["requests"]["storage"])
    if claim.requested_bytes > wanted:
        storage = {"storage": bytes_quantity(claim.requested_bytes)}
        spec["resources"] = {**spec["resources"], "requests": storage}
    return {**manifest, "spec": spec}


def claim_problem(deployment: ModelDeployment, claim: Claim | None) -> Finding | None:
    """What keeps any pod from mounting the claim; None: nothing is known to."""
    name = claim_name(deployment)
    if claim is None:
        if not claim_is_ours(deployment):
            return no(
                Reason.CLAIM_NOT_FOUND,
                f"PersistentVolumeClaim {name} (storage.existingClaim) is not in namespace "
                f"{deployment.namespace}; create it, or leave storage.existingClaim out to have one made.",
            )
        return None
    if foreign(deployment, claim.id) and claim_is_ours(deployment):
        return no(
            Reason.VOLUME_PENDING,
            f"PersistentVolumeClaim {name} belongs to an earlier ModelDeployment of this name and goes with it; "
            "wait until it is gone.",
        )
    if claim.id.deleting:
        return no(
            Reason.VOLUME_PENDING,
            f"PersistentVolumeClaim {name} is being deleted and goes when no pod uses it any more; wait, or delete "
            "the pods that still mount it.",
        )
    if claim.phase == "Lost":
        return no(
            Reason.VOLUME_PENDING,
            f"PersistentVolumeClaim {name} lost its volume; delete the claim to have a new one made and the model "
            "downloaded anew.",
        )
    return None


def pending_message(claim: Claim, scheduler: str | None) -> str:
    """Why a claim that is not bound stays so, quoting whoever said something."""
    wanted = f" of class {claim.storage_class}" if claim.storage_class else ""
    said = claim.problem or scheduler
    why = f": {sentence(quote(said))}" if said else ", and nobody said why."
    return (
        f"PersistentVolumeClaim {claim.id.name}{wanted} has no volume yet{why} Look at `kubectl describe pvc "
        f"{claim.id.name}`, and check storage.storageClassName and storage.size, or name a claim in "
        "storage.existingClaim."
    )
