"""What is known of the cluster, however late, twice or out of order it was told."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plimsoll.cluster.client import ObjectList
from plimsoll.cluster.kinds import CONFIG_MAP, DEPLOYMENT, MODEL_DEPLOYMENT, NODE, POD, SERVICE
from plimsoll.cluster.store import Store
from plimsoll.manifests import labels


def item(version, *, name="a", owner="m", **more):
    metadata = {"name": name, "namespace": "n", "resourceVersion": str(version)}
    if owner:
        metadata["labels"] = {labels.MODEL_DEPLOYMENT: owner}
    return {"metadata": metadata, **more}


def node(version, *, ready="True", beat=0, gpus="4"):
    return {
        "metadata": {
            "name": "gpu-0",
            "resourceVersion": str(version),
            "labels": {"a": "b"},
            "annotations": {"x": str(beat)},
        },
        "spec": {"podCIDR": "10.0.0.0/24"},
        "status": {
            "allocatable": {"nvidia.com/gpu": gpus},
            "images": [{"names": ["large"]}],
            "conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": str(beat)}],
        },
    }


def test_an_older_state_does_not_replace_a_newer_one():
    store = Store()
    store.put(CONFIG_MAP, item(5, data={"v": "new"}))
    assert not store.put(CONFIG_MAP, item(4, data={"v": "old"}))
    assert store.get(CONFIG_MAP, "n", "a")["data"] == {"v": "new"}


def test_the_echo_of_a_write_is_no_change():
    store = Store()
    assert store.put(CONFIG_MAP, item(5))
    assert not store.put(CONFIG_MAP, item(5))


def test_versions_are_numbers_and_no_texts():
    store = Store()
    store.put(CONFIG_MAP, item(9, data={"v": "old"}))
    assert store.put(CONFIG_MAP, item(10, data={"v": "new"}))


def test_a_late_deletion_of_an_earlier_object_of_the_name_is_ignored():
    store = Store()
    store.put(CONFIG_MAP, item(9))
    assert not store.remove(CONFIG_MAP, item(7))
    assert store.get(CONFIG_MAP, "n", "a") is not None


def test_a_late_state_of_what_is_gone_does_not_bring_it_back():
    store = Store()
    store.put(CONFIG_MAP, item(5))
    store.remove(CONFIG_MAP, item(8))
    assert not store.put(CONFIG_MAP, item(7))
    assert store.put(CONFIG_MAP, item(9))


def test_a_list_removes_what_it_lacks_and_tells_of_it():
    store = Store()
    store.put(CONFIG_MAP, item(5))
    store.put(SERVICE, item(5))
    changed = store.replace(CONFIG_MAP, ObjectList((item(6, name="b"),), "10"))
    assert {"a", "b"} == {one["metadata"]["name"] for one in changed}
    assert (store.get(CONFIG_MAP, "n", "a"), store.get(SERVICE, "n", "a") is not None) == (None, True)


def test_a_list_does_not_remove_what_came_after_it():
    store = Store()
    store.put(CONFIG_MAP, item(12))
    assert store.replace(CONFIG_MAP, ObjectList((), "10")) == ()


def test_children_are_found_by_the_label_of_their_owner():
    store = Store()
    store.put(CONFIG_MAP, item(1))
    store.put(SERVICE, item(2))
    store.put(POD, item(3, owner="other"))
    store.put(MODEL_DEPLOYMENT, item(4, name="m"))
    assert [one["kind"] for one in store.children("n", "m")] == ["ConfigMap", "Service"]


def test_a_child_whose_label_is_taken_away_is_nobodys():
    store = Store()
    store.put(CONFIG_MAP, item(1))
    store.put(CONFIG_MAP, item(2, owner=None))
    assert store.children("n", "m") == ()


@pytest.mark.parametrize(
    ("then", "changed"),
    [
        (node(2, beat=1), False),
        (node(2, ready="False"), True),
        (node(2, gpus="3"), True),
    ],
    ids=["a heartbeat", "not ready any more", "a GPU less"],
)
def test_of_a_node_only_what_a_plan_depends_on_counts(then, changed):
    store = Store()
    store.put(NODE, node(1))
    assert store.put(NODE, then) is changed


def test_what_nobody_reads_is_not_kept():
    store = Store()
    managed = {"managedFields": [{"manager": "x"}]}
    for kind in (POD, DEPLOYMENT):
        one = item(1, spec={"nodeName": "gpu-0", "containers": [{"image": "large"}]})
        one["metadata"] |= managed
        store.put(kind, one)
    pod, deployment = store.get(POD, "n", "a"), store.get(DEPLOYMENT, "n", "a")
    assert (pod["spec"], "managedFields" in pod["metadata"]) == ({"nodeName": "gpu-0"}, False)
    assert "managedFields" in deployment["metadata"]


EVENTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["put", "remove"])), min_size=1, max_size=15
)


@given(events=EVENTS, seed=st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_news_in_any_order_and_repeated_end_in_the_same_state(events, seed):
    news = [(name, what, version) for version, (name, what) in enumerate(events, start=1)]
    expected = {}
    for name, what, version in news:
        expected[name] = version if what == "put" else None
    shuffled = news * 2
    random.Random(seed).shuffle(shuffled)
    store = Store()
    for name, what, version in shuffled:
        (store.put if what == "put" else store.remove)(CONFIG_MAP, item(version, name=name))
    found = {
        name: None
        if (one := store.get(CONFIG_MAP, "n", name)) is None
        else int(one["metadata"]["resourceVersion"])
        for name in expected
    }
    assert expected == found
    assert {name for name, version in expected.items() if version} == {
        one["metadata"]["name"] for one in store.children("n", "m")
    }
