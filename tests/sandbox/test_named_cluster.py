"""The cluster that the end-to-end suite is told to run on: all of it named, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.stand import Named

COMPLETE = {
    "PLIMSOLL_NODE_KUBECONFIG": "/home/me/kind.kubeconfig",
    "PLIMSOLL_NODE_CONTEXT": "kind-plimsoll",
    "PLIMSOLL_NODE_HUB_HOST": "172.18.0.1",
    "PLIMSOLL_NODE_HUB_PORT": "8899",
}


def test_without_a_kubeconfig_no_cluster_is_named() -> None:
    assert Named.read({}) is None
    assert Named.read({**COMPLETE, "PLIMSOLL_NODE_KUBECONFIG": ""}) is None


def test_a_named_cluster_is_read() -> None:
    assert Named.read(COMPLETE) == Named(
        kubeconfig=Path("/home/me/kind.kubeconfig"),
        context="kind-plimsoll",
        hub_host="172.18.0.1",
        hub_port=8899,
    )


@pytest.mark.parametrize("missing", sorted(set(COMPLETE) - {"PLIMSOLL_NODE_KUBECONFIG"}))
def test_what_is_missing_is_named(missing: str) -> None:
    with pytest.raises(ValueError, match=f"{missing} is not; set all of them, as hack/end-to-end does"):
        Named.read({name: value for name, value in COMPLETE.items() if name != missing})


def test_a_port_that_is_no_number_is_told() -> None:
    with pytest.raises(ValueError, match="PLIMSOLL_NODE_HUB_PORT is 'http'"):
        Named.read({**COMPLETE, "PLIMSOLL_NODE_HUB_PORT": "http"})
