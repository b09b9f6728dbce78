"""Placement, resources, the volume's size, the start-up budget and the security level of the pods."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from manifest_samples import context, cpu_plan, deployment, gpu_plan, planned

from plimsoll.api.spec import ComponentResourcesSpec
from plimsoll.manifests.download_job import download_job
from plimsoll.manifests.placement import Placement, affinity, tolerations
from plimsoll.manifests.resources import merged
from plimsoll.manifests.revision import revision_hash, suite_hash
from plimsoll.manifests.server import server_deployment, startup_seconds
from plimsoll.manifests.test_job import test_job as build_test_job
from plimsoll.manifests.volume import volume_claim
from plimsoll.units import GIB, parse_bytes

OURS = {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-A10"]}
ZONE = {"key": "zone", "operator": "In", "values": ["a"]}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
FREE = Placement()
ON_ONE_NODE = Placement(co_locate_with_volume_users=True)


def node_terms(user_terms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    wish = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": user_terms}}}
    merged_affinity = affinity(context(deployment(pod={"affinity": wish})), FREE, on_planned_nodes=True)
    return merged_affinity["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]


def test_each_of_the_users_alternatives_asks_for_the_planned_nodes_too() -> None:
    other = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}

    assert node_terms([{"matchExpressions": [ZONE]}, other]) == [
        {"matchExpressions": [ZONE, OURS]},
        {"matchExpressions": [*other["matchExpressions"], OURS]},
    ]


def test_a_term_that_selects_nothing_goes_on_selecting_nothing() -> None:
    assert node_terms([{}, {"matchExpressions": [ZONE]}])[0] == {}


def test_preferred_affinity_of_the_user_stays() -> None:
    preferred = [{"weight": 1, "preference": {"matchExpressions": [ZONE]}}]
    wish = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    owner = deployment(pod={"affinity": wish})

    made = affinity(context(owner), ON_ONE_NODE, on_planned_nodes=True)

    assert made["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] == preferred
    assert made["nodeAffinity"][REQUIRED]["nodeSelectorTerms"] == [{"matchExpressions": [OURS]}]
    assert owner.spec.pod is not None
    assert owner.spec.pod.affinity == wish


def test_the_users_pod_affinity_and_the_volumes_are_both_required() -> None:
    term = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}}
    owner = deployment(pod={"affinity": {"podAffinity": {REQUIRED: [term]}}})

    made = affinity(context(owner), ON_ONE_NODE, on_planned_nodes=False)

    assert made["podAffinity"][REQUIRED] == [
        term,
        {
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {"plimsoll.dev/volume": "mistral-7b-model"}},
        },
    ]


@pytest.mark.parametrize("name", ["mistral-7b", "gemma.2", "m" * 253])
def test_pods_satisfy_the_volume_affinity_that_they_ask_for(name: str) -> None:
    # Otherwise the first of them would never be scheduled.
    for template in templates(name, ON_ONE_NODE).values():
        wanted = template["spec"]["affinity"]["podAffinity"][REQUIRED][0]["labelSelector"]["matchLabels"]
        assert wanted.items() <= template["metadata"]["labels"].items()


def test_gpu_pods_tolerate_the_taint_of_gpu_nodes_once() -> None:
    ours = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}

    assert tolerations(context(deployment(pod={"tolerations": [ours]}))) == [ours]
    assert tolerations(context()) == [ours]
    assert tolerations(context(plan=cpu_plan())) == []


@pytest.mark.parametrize(
    ("resource", "keys"),
    [
        ("nvidia.com/gpu", ["nvidia.com/gpu"]),
        ("nvidia.com/mig-3g.40gb", ["nvidia.com/mig-3g.40gb", "nvidia.com/gpu"]),
        ("nvidia.com/gpu.shared", ["nvidia.com/gpu.shared", "nvidia.com/gpu"]),
        ("amd.com/gpu", ["amd.com/gpu"]),
    ],
)
def test_nodes_with_slices_or_shares_carry_the_taint_of_whole_gpus(resource: str, keys: list[str]) -> None:
    hardware = gpu_plan().hardware.model_copy(update={"resource_name": resource})
    found = tolerations(context(plan=gpu_plan(hardware=hardware)))

    assert [one["key"] for one in found] == keys


def templates(name: str, placement: Placement) -> dict[str, dict[str, Any]]:
    ctx = context(deployment(name))
    revision = revision_hash(ctx)
    return {
        "download": download_job(ctx, placement)["spec"]["template"],
        "server": server_deployment(ctx, revision, placement, 1)["spec"]["template"],
        "test": build_test_job(ctx, revision, suite_hash(ctx), placement)["spec"]["template"],
    }


@pytest.mark.parametrize("component", ["download", "server", "test"])
def test_pods_meet_the_restricted_level_with_a_read_only_root(component: str) -> None:
    template = templates("m", FREE)[component]
    pod, container = template["spec"], template["spec"]["containers"][0]

    assert template["metadata"]["labels"]["plimsoll.dev/component"] == component
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


@pytest.mark.parametrize("component", ["download", "test"])
def test_only_the_server_asks_for_gpus(component: str) -> None:
    made = templates("m", FREE)

    assert "nvidia.com/gpu" not in made[component]["spec"]["containers"][0]["resources"]["requests"]
    resources = made["server"]["spec"]["containers"][0]["resources"]
    assert (resources["requests"]["nvidia.com/gpu"], resources["limits"]["nvidia.com/gpu"]) == ("2", "2")


def test_the_download_lands_where_the_server_can_run() -> None:
    made = templates("m", FREE)

    assert made["download"]["spec"]["affinity"] == made["server"]["spec"]["affinity"]
    assert made["download"]["spec"]["tolerations"] == made["server"]["spec"]["tolerations"]


def test_replicas_are_left_to_an_autoscaler_that_has_them() -> None:
    assert "replicas" not in server_deployment(context(), "r", FREE, None)["spec"]
    assert server_deployment(context(), "r", FREE, 0)["spec"]["replicas"] == 0


amount = st.integers(min_value=1, max_value=10**6)


@given(request=st.none() | amount, limit=st.none() | amount, plan_request=amount, plan_more=amount)
def test_the_users_values_win_and_limits_hold_their_requests(
    request: int | None, limit: int | None, plan_request: int, plan_more: int
) -> None:
    if request is not None and limit is not None and request > limit:
        request, limit = limit, request
    wish = {
        part: {"cpu": f"{value}m", "memory": f"{value}Mi"}
        for part, value in (("requests", request), ("limits", limit))
        if value is not None
    }
    plan = planned(1, 1).model_copy(
        update={"cpu_request": f"{plan_request}m", "cpu_limit": f"{plan_request + plan_more}m"}
    )

    made = merged(plan, ComponentResourcesSpec.model_validate(wish))

    assert made.cpu_request_millicores <= made.cpu_limit_millicores
    assert made.memory_request_bytes <= made.memory_limit_bytes
    assert request is None or made.cpu_request_millicores == request
    assert limit is None or made.cpu_limit_millicores == limit
    assert wish or made.cpu_request_millicores == plan_request


@given(download_bytes=st.integers(min_value=1, max_value=2 * 10**12))
def test_the_volume_has_room_for_the_files_and_a_tenth_more(download_bytes: int) -> None:
    claim = volume_claim(context(plan=gpu_plan(download_bytes=download_bytes)))

    assert claim is not None
    size = parse_bytes(claim["spec"]["resources"]["requests"]["storage"])
    assert size % GIB == 0
    assert download_bytes * 1.1 + GIB <= size < download_bytes * 1.1 + 2 * GIB + 1


def test_a_retained_claim_has_no_owner() -> None:
    claim = volume_claim(context(deployment(storage={"retain": True})))

    assert claim is not None
    assert "ownerReferences" not in claim["metadata"]


@pytest.mark.parametrize(
    ("weights_gib", "expected"), [(0, 900), (14, 1130), (640, 11_390)], ids=["none", "7B", "671B in FP8"]
)
def test_the_startup_budget_grows_with_the_bytes_to_load(weights_gib: int, expected: int) -> None:
    ctx = context(plan=gpu_plan(weights_bytes=weights_gib * GIB))
    made = server_deployment(ctx, "r", FREE, 1)["spec"]
    probe = made["template"]["spec"]["containers"][0]["startupProbe"]

    assert startup_seconds(ctx) == expected
    assert probe["periodSeconds"] * probe["failureThreshold"] == expected
    assert made["progressDeadlineSeconds"] > expected


@pytest.mark.parametrize(
    ("gpus", "memory", "expected"),
    [(0, None, "2Gi"), (1, None, "2Gi"), (2, None, "3Gi"), (8, None, "6Gi"), (8, "4Gi", "1Gi")],
)
def test_shared_memory_stays_inside_the_memory_limit(gpus: int, memory: str | None, expected: str) -> None:
    spec = {"resources": {"server": {"limits": {"memory": memory}}}} if memory else {}
    ctx = context(deployment(**spec), gpu_plan(gpus=gpus))

    volumes = server_deployment(ctx, "r", FREE, 1)["spec"]["template"]["spec"]["volumes"]

    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": expected}} in volumes
