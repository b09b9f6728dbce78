"""A plan held against a namespace's ResourceQuotas: what is short, by how much, and what would be enough."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_samples import a10_plan, spec

from plimsoll.reconcile.quota import Shortfall, needs, resource_quota, rule_of_thumb, shortfalls
from plimsoll.units import parse_bytes, parse_millicores

GIB = 2**30
Json = dict[str, Any]


def quota(hard: Json, used: Json | None = None, name: str = "team-a", **fields: Any) -> Json:
    status = {"hard": hard, "used": used} if used is not None else {}
    return {"metadata": {"name": name}, "spec": {"hard": hard, **fields}, "status": status}


def server_child(pods: int, revision: str = "new", cpu: str = "4") -> Json:
    resources = {
        "requests": {"cpu": cpu, "memory": "12Gi", "nvidia.com/gpu": "1"},
        "limits": {"cpu": "8", "memory": "24Gi", "nvidia.com/gpu": "1"},
    }
    return {
        "kind": "Deployment",
        "metadata": {"labels": {"plimsoll.dev/component": "server", "plimsoll.dev/revision": revision}},
        "spec": {"template": {"spec": {"containers": [{"resources": resources}]}}},
        "status": {"replicas": pods},
    }


def job_child(component: str, condition: str | None, active: int = 0) -> Json:
    requests = {"cpu": "2", "memory": "8Gi"}
    return {
        "kind": "Job",
        "metadata": {"labels": {"plimsoll.dev/component": component, "plimsoll.dev/revision": "new"}},
        "spec": {
            "template": {"spec": {"containers": [{"resources": {"requests": requests, "limits": requests}}]}}
        },
        "status": {
            "active": active,
            "conditions": [{"type": condition, "status": "True"}] if condition else [],
        },
    }


CLAIM = {"kind": "PersistentVolumeClaim", "metadata": {"labels": {}}}
DONE = [job_child("download", "Complete"), job_child("test", "Complete"), CLAIM]


def test_the_need_is_the_server_and_the_larger_job() -> None:
    assert needs(a10_plan(), spec(replicas=3)).total() == {
        "requests.cpu": 3 * 4000 + 2000,
        "limits.cpu": 3 * 8000 + 4000,
        "requests.memory": (3 * 12 + 8) * GIB,
        "limits.memory": (3 * 24 + 16) * GIB,
        "pods": 4,
        "requests.nvidia.com/gpu": 3,
        "persistentvolumeclaims": 1,
        # 13.5 GiB of files, a tenth for the file system, a GiB for reports, in whole GiB
        "requests.storage": 16 * GIB,
    }


@pytest.mark.parametrize(
    ("fields", "resource", "amount"),
    [
        pytest.param({"suspend": True}, "requests.nvidia.com/gpu", 0, id="suspended-has-no-gpu"),
        pytest.param({"suspend": True}, "requests.cpu", 2000, id="suspended-may-download"),
        pytest.param(
            {"storage": {"existingClaim": "c"}}, "persistentvolumeclaims", 0, id="claim-of-ones-own"
        ),
        pytest.param({"storage": {"size": "99Gi"}}, "requests.storage", 99 * GIB, id="size-of-ones-own"),
        pytest.param(
            {"storage": {"storageClassName": "fast"}},
            "fast.storageclass.storage.k8s.io/requests.storage",
            16 * GIB,
            id="by-class",
        ),
        pytest.param(
            {"resources": {"server": {"requests": {"memory": "20Gi"}}}},
            "requests.memory",
            28 * GIB,
            id="user-wins",
        ),
        pytest.param(
            {"resources": {"test": {"requests": {"cpu": 6}}}}, "requests.cpu", 10_000, id="larger-test"
        ),
        pytest.param(
            {"test": {"gate": "Off"}, "resources": {"test": {"requests": {"cpu": 6}}}},
            "requests.cpu",
            6000,
            id="no-test",
        ),
    ],
)
def test_the_need_follows_the_spec(fields: Json, resource: str, amount: int) -> None:
    assert needs(a10_plan(), spec(**fields)).total().get(resource, 0) == amount


@pytest.mark.parametrize(
    ("quotas", "sentences"),
    [
        pytest.param([], [], id="no-quota"),
        pytest.param(
            [quota({"requests.cpu": "6", "requests.memory": "20Gi", "pods": "2"}, {})], [], id="just-enough"
        ),
        pytest.param(
            [quota({"requests.nvidia.com/gpu": "4"}, {"requests.nvidia.com/gpu": "4"})],
            ["short of 1 nvidia.com/gpu (needs 1, 0 free of 4 in ResourceQuota team-a)"],
            id="gpu",
        ),
        pytest.param(
            [quota({"cpu": "2", "memory": "8Gi"})],
            [
                "short of 4 cpu (needs 6, 2 free of 2 in ResourceQuota team-a)",
                "short of 12Gi memory (needs 20Gi, 8Gi free of 8Gi in ResourceQuota team-a)",
            ],
            id="not-counted-yet-and-short-names",
        ),
        pytest.param(
            [quota({"limits.cpu": "12"}, {"limits.cpu": "500m"}), quota({"pods": "1"}, {"pods": "0"}, "b")],
            [
                "short of 500m limits.cpu (needs 12, 11500m free of 12 in ResourceQuota team-a)",
                "short of 1 pods (needs 2, 1 free of 1 in ResourceQuota b)",
            ],
            id="two-quotas",
        ),
        pytest.param(
            [quota({"requests.storage": "10Gi", "count/pods": "9", "services": "0"}, {})],
            ["short of 6Gi requests.storage (needs 16Gi, 10Gi free of 10Gi in ResourceQuota team-a)"],
            id="storage",
        ),
        pytest.param(
            [quota({"pods": "1"}, {"pods": "5"})],
            ["short of 2 pods (needs 2, 0 free of 1 in ResourceQuota team-a)"],
            id="over",
        ),
        pytest.param([quota({"requests.cpu": "0"}, {}, scopes=["BestEffort"])], [], id="scope-best-effort"),
        pytest.param([quota({"requests.cpu": "0"}, {}, scopes=["Terminating"])], [], id="scope-terminating"),
        pytest.param(
            [quota({"pods": "0"}, {}, scopes=["NotTerminating", "NotBestEffort"])],
            ["short of 2 pods (needs 2, 0 free of 0 in ResourceQuota team-a)"],
            id="scope-of-ours",
        ),
    ],
)
def test_a_shortfall_says_what_is_short_and_by_how_much(quotas: list[Json], sentences: list[str]) -> None:
    found = shortfalls(needs(a10_plan(), spec()), quotas)
    assert [str(one) for one in found] == sentences


@pytest.mark.parametrize(
    ("expression", "priority", "short"),
    [
        ({"operator": "In", "values": ["high"]}, "high", True),
        ({"operator": "In", "values": ["high"]}, "low", False),
        ({"operator": "In", "values": ["high"]}, None, False),
        ({"operator": "NotIn", "values": ["high"]}, "low", True),
        ({"operator": "Exists"}, "low", True),
        ({"operator": "Exists"}, None, False),
        ({"operator": "DoesNotExist"}, None, True),
    ],
)
def test_a_quota_for_a_priority_class_counts_that_class(
    expression: Json, priority: str | None, short: bool
) -> None:
    selector = {"matchExpressions": [{"scopeName": "PriorityClass", **expression}]}
    fields: Json = {"pod": {"priorityClassName": priority}} if priority else {}
    found = shortfalls(needs(a10_plan(), spec(**fields)), [quota({"pods": "0"}, {}, scopeSelector=selector)])
    assert bool(found) is short


@pytest.mark.parametrize(
    ("children", "revision", "short"),
    [
        pytest.param([], None, ["requests.cpu", "requests.nvidia.com/gpu"], id="nothing-there"),
        pytest.param([server_child(1), *DONE], None, [], id="all-there"),
        pytest.param([server_child(1), *DONE], "new", [], id="all-there-by-revision"),
        pytest.param([server_child(1, "old"), *DONE], None, [], id="any-server-counts"),
        pytest.param(
            [server_child(1, "old"), *DONE],
            "new",
            ["requests.cpu", "requests.nvidia.com/gpu"],
            id="second-server",
        ),
        pytest.param(
            [server_child(0), *DONE], None, ["requests.cpu", "requests.nvidia.com/gpu"], id="no-pod-made-yet"
        ),
        pytest.param(
            [server_child(1), job_child("download", "Complete"), CLAIM],
            None,
            ["requests.cpu"],
            id="test-to-come",
        ),
        pytest.param([server_child(1), job_child("download", None, active=1)], None, [], id="downloading"),
        pytest.param(
            [server_child(1), job_child("download", "Failed"), job_child("test", "Failed")],
            None,
            [],
            id="failed-jobs-end",
        ),
    ],
)
def test_what_is_ours_already_is_not_needed_again(
    children: list[Json], revision: str | None, short: list[str]
) -> None:
    full = quota(
        {"requests.cpu": "8", "requests.nvidia.com/gpu": "2"},
        {"requests.cpu": "8", "requests.nvidia.com/gpu": "2"},
    )
    found = shortfalls(needs(a10_plan(), spec()), [full], children, revision=revision)
    assert [one.resource for one in found] == short


@given(st.integers(0, 200_000), st.integers(0, 200_000), st.integers(1, 20))
def test_the_shortfall_closes_the_gap_exactly(hard: int, used: int, replicas: int) -> None:
    need = needs(a10_plan(), spec(replicas=replicas))
    found = shortfalls(need, [quota({"requests.cpu": f"{hard}m"}, {"requests.cpu": f"{used}m"})])
    if not found:
        assert need.total()["requests.cpu"] <= max(0, hard - used)
        return
    one: Shortfall = found[0]
    more = max(hard, used) + one.short
    assert shortfalls(need, [quota({"requests.cpu": f"{more}m"}, {"requests.cpu": f"{used}m"})]) == ()
    assert shortfalls(need, [quota({"requests.cpu": f"{more - 1}m"}, {"requests.cpu": f"{used}m"})]) != ()


@given(st.lists(st.integers(1, 8), min_size=1, max_size=5))
def test_the_quota_that_is_printed_is_enough_and_not_more(replicas: list[int]) -> None:
    wanted = [needs(a10_plan(), spec(replicas=count)) for count in replicas]
    printed = resource_quota(wanted)
    assert printed["kind"] == "ResourceQuota"
    hard = printed["spec"]["hard"]
    used = {
        name: str(sum(one.total()[name] for one in wanted[1:])) + ("m" if name.endswith(".cpu") else "")
        for name in hard
    }
    assert shortfalls(wanted[0], [quota(hard, used)]) == ()
    tight = {name: str(amount + 1) if not used[name].endswith("m") else f"{amount + 1}m" for name, amount in (
        (name, int(text.removesuffix("m"))) for name, text in used.items()
    )}  # fmt: skip
    assert {one.resource for one in shortfalls(wanted[0], [quota(hard, tight)])} == set(hard)


def test_the_quota_says_what_a_new_revision_adds() -> None:
    note = resource_quota([needs(a10_plan(), spec())])["metadata"]["annotations"]["plimsoll.dev/note"]
    assert "leave room for 4 requests.cpu, 12Gi requests.memory, 1 requests.nvidia.com/gpu more" in note


@pytest.mark.parametrize(
    ("size", "gpus", "cpu", "memory"),
    [
        ("125M", None, "3", "9Gi"),
        ("7B", "1", "6", "20Gi"),
        ("1.5b", "1", "6", "14Gi"),
        ("13B", "1", "8", "28Gi"),
        ("70B", "2", "16", "56Gi"),
    ],
)
def test_the_rule_of_thumb_has_the_order_of_size_that_users_know(
    size: str, gpus: str | None, cpu: str, memory: str
) -> None:
    hard = rule_of_thumb(size)["spec"]["hard"]
    assert (hard.get("requests.nvidia.com/gpu"), hard["requests.cpu"], hard["requests.memory"]) == (
        gpus,
        cpu,
        memory,
    )


def test_a_7b_namespace_is_as_the_tables_have_it() -> None:
    # "about 12 cores, 24 Gi, 1-2 GPUs": cores are limits there, memory lies between requests and limits.
    hard = rule_of_thumb("7B")["spec"]["hard"]
    assert parse_millicores(hard["limits.cpu"]) == 12_000
    assert parse_bytes(hard["requests.memory"]) <= 24 * GIB <= parse_bytes(hard["limits.memory"])


@pytest.mark.parametrize("size", ["", "7", "B", "seven", "-7B", "7 billion", "0B", "7B; rm", "1e9B"])
def test_what_is_no_size_gets_a_sentence(size: str) -> None:
    with pytest.raises(ValueError, match="such as 7B"):
        rule_of_thumb(size)
