"""What the pod webhook fills in, and what it leaves alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll.manifests.pods import fill_resources
from plimsoll.sizing.plan import HostResources
from plimsoll.units import GIB, MIB, bytes_quantity, millicores_quantity, parse_quantity

NEED = HostResources(
    cpu_request_millicores=4000,
    cpu_limit_millicores=8000,
    memory_request_bytes=12 * GIB,
    memory_limit_bytes=24 * GIB,
    reason="7B",
)
FILLED = {
    "requests": {"cpu": "4", "memory": "12Gi"},
    "limits": {"cpu": "8", "memory": "24Gi"},
}
ALL_DEFAULTED = (
    "LimitRanger plugin set: cpu, memory request for container vllm; cpu, memory limit for container vllm"
)


def pod(resources: dict[str, Any] | None = None, ranger: str | None = None) -> dict[str, Any]:
    container: dict[str, Any] = {"name": "vllm", "image": "x"}
    if resources is not None:
        container["resources"] = resources
    annotations = {"plimsoll.dev/model-bytes": "14000000000"}
    if ranger is not None:
        annotations["kubernetes.io/limit-ranger"] = ranger
    return {"metadata": {"annotations": annotations}, "spec": {"containers": [container]}}


def limit_range(**item: Any) -> dict[str, Any]:
    return {"metadata": {"name": "team"}, "spec": {"limits": [{"type": "Container", **item}]}}


def resources_of(filled: dict[str, Any] | None, index: int = 0) -> dict[str, Any] | None:
    return None if filled is None else filled["spec"]["containers"][index]["resources"]


GPU = {"nvidia.com/gpu": "2"}
CASES = [
    pytest.param(pod(), FILLED, id="nothing set"),
    pytest.param(
        pod({"requests": GPU, "limits": GPU}),
        {"requests": {**FILLED["requests"], **GPU}, "limits": {**FILLED["limits"], **GPU}},
        id="GPUs stay as they are",
    ),
    pytest.param(
        pod({"requests": {"memory": "1Gi"}}),
        {"requests": {"cpu": "4", "memory": "1Gi"}, "limits": FILLED["limits"]},
        id="a request of the user's is not raised",
    ),
    pytest.param(
        pod({"requests": {"memory": "30Gi"}}),
        {"requests": {"cpu": "4", "memory": "30Gi"}, "limits": {"cpu": "8", "memory": "30Gi"}},
        id="a limit is never below the user's request",
    ),
    pytest.param(
        # API defaulting has copied the limit to the request before admission.
        pod({"limits": {"memory": "14Gi"}, "requests": {"memory": "14Gi"}}),
        {"requests": {"memory": "14Gi", "cpu": "4"}, "limits": {"memory": "14Gi", "cpu": "8"}},
        id="a limit of the user's with its copied request",
    ),
    pytest.param(
        pod({"limits": {"cpu": "2"}}),
        {"requests": {"cpu": "2", "memory": "12Gi"}, "limits": {"cpu": "2", "memory": "24Gi"}},
        id="a request is never above the user's limit",
    ),
    pytest.param(
        pod(
            {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "500m", "memory": "512Mi"}},
            ALL_DEFAULTED,
        ),
        FILLED,
        id="defaults of a LimitRange are raised",
    ),
    pytest.param(
        pod(
            {"requests": {"cpu": "100m", "memory": "2Gi"}, "limits": {"cpu": "500m", "memory": "4Gi"}},
            "LimitRanger plugin set: cpu request for container vllm; cpu limit for container vllm",
        ),
        {"requests": {"cpu": "4", "memory": "2Gi"}, "limits": {"cpu": "8", "memory": "4Gi"}},
        id="only what LimitRanger set is a default",
    ),
    pytest.param(
        pod(
            {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}},
            "LimitRanger plugin set: cpu request for container other; memory limit for init container vllm",
        ),
        {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"cpu": "8", "memory": "1Gi"}},
        id="what LimitRanger set elsewhere is not",
    ),
    pytest.param(
        pod(
            {"requests": {"cpu": "6", "memory": "20Gi"}, "limits": {"cpu": "9", "memory": "40Gi"}},
            ALL_DEFAULTED,
        ),
        None,
        id="a larger default is not lowered",
    ),
    pytest.param(pod(copy.deepcopy(FILLED)), None, id="all set"),
    pytest.param(
        pod(
            {
                "requests": {"cpu": "4000m", "memory": "12884901888"},
                "limits": {"cpu": "8.0", "memory": "24576Mi"},
            }
        ),
        None,
        id="all set in other spellings",
    ),
    pytest.param(
        pod(resources={"limits": {"memory": "much"}}),
        {"limits": {"memory": "much", "cpu": "8"}, "requests": {"cpu": "4"}},
        id="no quantity is the API server's to refuse",
    ),
]


@pytest.mark.parametrize(("given_pod", "expected"), CASES)
def test_what_is_missing_is_filled(given_pod: dict[str, Any], expected: dict[str, Any] | None) -> None:
    assert expected == resources_of(fill_resources(given_pod, NEED).pod)


def test_the_pod_that_was_given_is_left_alone() -> None:
    before = pod({"requests": {"cpu": "1"}})
    kept = copy.deepcopy(before)

    fill_resources(before, NEED)

    assert kept == before


MAXIMA = [
    pytest.param(
        [limit_range(max={"cpu": "2", "memory": "8Gi"})],
        {"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"cpu": "2", "memory": "8Gi"}},
        (
            "container vllm: cpu is held at 2 CPU by LimitRange team, but the model needs 4 CPU; raise its max.",
            "container vllm: memory is held at 8.00 GiB by LimitRange team, but the model needs 12.00 GiB; raise its max.",
        ),
        id="below the request",
    ),
    pytest.param(
        [limit_range(max={"memory": "16Gi"})],
        {"requests": {"cpu": "4", "memory": "12Gi"}, "limits": {"cpu": "8", "memory": "16Gi"}},
        (),
        id="between request and limit",
    ),
    pytest.param(
        [limit_range(max={"memory": "16Gi"}), limit_range(max={"memory": "14Gi"})],
        {"requests": {"cpu": "4", "memory": "12Gi"}, "limits": {"cpu": "8", "memory": "14Gi"}},
        (),
        id="the narrower of two",
    ),
    pytest.param(
        [limit_range(maxLimitRequestRatio={"cpu": "1"})],
        {"requests": {"cpu": "4", "memory": "12Gi"}, "limits": {"cpu": "4", "memory": "24Gi"}},
        (),
        id="a ratio of limit to request",
    ),
    pytest.param(
        [
            {
                "metadata": {"name": "p"},
                "spec": {"limits": [{"type": "PersistentVolumeClaim", "max": {"cpu": "1"}}]},
            }
        ],
        FILLED,
        (),
        id="a bound for claims",
    ),
    pytest.param([{"metadata": {"name": "empty"}}], FILLED, (), id="an empty one"),
]


@pytest.mark.parametrize(("ranges", "expected", "warnings"), MAXIMA)
def test_a_limit_range_is_never_passed(
    ranges: list[dict[str, Any]], expected: dict[str, Any], warnings: tuple[str, ...]
) -> None:
    filled = fill_resources(pod(), NEED, ranges)

    assert expected == resources_of(filled.pod)
    assert warnings == filled.warnings


def test_defaults_are_raised_up_to_the_maximum_with_a_warning() -> None:
    defaults = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}

    filled = fill_resources(pod(defaults, ALL_DEFAULTED), NEED, [limit_range(max={"memory": "10Gi"})])

    assert resources_of(filled.pod) == {
        "requests": {"cpu": "4", "memory": "10Gi"},
        "limits": {"cpu": "8", "memory": "10Gi"},
    }
    assert len(filled.warnings) == 1


def test_a_memory_limit_of_the_users_that_is_too_low_is_kept_and_named() -> None:
    filled = fill_resources(pod({"limits": {"memory": "4Gi"}, "requests": {"memory": "4Gi"}}), NEED)

    assert filled.warnings == (
        "container vllm: the memory limit of 4.00 GiB stays as it was set, but the model needs 12.00 GiB; it may be killed for memory.",
    )


SIDECAR = {"name": "proxy", "image": "y"}
MAIN = {"name": "vllm", "image": "x"}


@pytest.mark.parametrize(
    ("containers", "annotations", "expected"),
    [
        pytest.param([MAIN, SIDECAR], {}, 0, id="the first"),
        pytest.param(
            [SIDECAR, {**MAIN, "resources": {"limits": {"nvidia.com/gpu": "1"}}}], {}, 1, id="with a GPU"
        ),
        pytest.param(
            [{**SIDECAR, "resources": {"limits": {"smarter-devices/fuse": "1"}}}, MAIN],
            {"kubectl.kubernetes.io/default-container": "vllm"},
            1,
            id="named so",
        ),
    ],
)
def test_one_container_alone_gets_what_the_model_needs(
    containers: list[dict[str, Any]], annotations: dict[str, str], expected: int
) -> None:
    filled = fill_resources(
        {"metadata": {"annotations": annotations}, "spec": {"containers": containers}}, NEED
    )

    assert filled.pod is not None
    got = [
        index
        for index, container in enumerate(filled.pod["spec"]["containers"])
        if "cpu" in container.get("resources", {}).get("requests", {})
    ]
    assert got == [expected]


def test_what_is_set_for_the_whole_pod_is_the_users() -> None:
    whole = pod()
    whole["spec"]["resources"] = {"limits": {"memory": "30Gi"}}

    filled = fill_resources(whole, NEED)

    assert resources_of(filled.pod) == {"requests": {"cpu": "4"}, "limits": {"cpu": "8"}}


@pytest.mark.parametrize(
    "odd", [{}, {"spec": {}}, {"spec": {"containers": []}}, {"metadata": {}, "spec": {"containers": None}}]
)
def test_a_pod_without_containers_is_left_alone(odd: dict[str, Any]) -> None:
    assert fill_resources(odd, NEED).pod is None


amounts = st.fixed_dictionaries(
    {},
    optional={
        "cpu": st.integers(1, 20_000).map(millicores_quantity),
        "memory": st.integers(1, 40_000).map(lambda n: bytes_quantity(n * MIB)),
        "nvidia.com/gpu": st.just("1"),
    },
)
rangers = st.sampled_from(
    [
        None,
        ALL_DEFAULTED,
        "LimitRanger plugin set: cpu request for container vllm",
        "LimitRanger plugin set: memory limit for container vllm",
        "something else",
    ]
)
ranges = st.lists(
    st.builds(
        lambda most, ratio: limit_range(max=most, maxLimitRequestRatio=ratio),
        amounts,
        st.fixed_dictionaries(
            {}, optional={"cpu": st.sampled_from(["1", "1.5", "3"]), "memory": st.just("1.3")}
        ),
    ),
    max_size=2,
)


@given(requests=amounts, limits=amounts, ranger=rangers, bounds=ranges)
def test_filling_twice_is_filling_once(requests, limits, ranger, bounds) -> None:
    once = fill_resources(pod({"requests": requests, "limits": limits}, ranger), NEED, bounds)
    again = fill_resources(once.pod or pod({"requests": requests, "limits": limits}, ranger), NEED, bounds)

    assert again.pod is None
    assert again.warnings == once.warnings


@given(requests=amounts, limits=amounts, ranger=rangers, bounds=ranges)
def test_the_users_values_stay_and_limits_hold_their_requests(requests, limits, ranger, bounds) -> None:
    filled = fill_resources(pod({"requests": requests, "limits": limits}, ranger), NEED, bounds)
    made = resources_of(filled.pod) or {"requests": requests, "limits": limits}
    before = {"requests": requests, "limits": limits}
    set_by_ranger = {
        (part, name)
        for part, kind in (("requests", "request"), ("limits", "limit"))
        for name in ("cpu", "memory")
        if ranger and any(name in clause and f"{kind} for" in clause for clause in ranger.split(";"))
    }
    for part, values in before.items():
        for name, text in values.items():
            if (part, name) not in set_by_ranger:
                assert made[part][name] == text
    for name in ("cpu", "memory"):
        users = [
            (part, name) for part in before if name in before[part] and (part, name) not in set_by_ranger
        ]
        if len(users) < 2:
            assert parse_quantity(made["requests"][name]) <= parse_quantity(made["limits"][name])
    assert all(len(warning) <= 240 for warning in filled.warnings)
