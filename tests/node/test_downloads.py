"""A download on a real node: seen to progress, killed half-way, and given wrong bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from plimsoll.sandbox.kubectl import Kubectl
from plimsoll.sandbox.processes import wait_until
from plimsoll.units import MIB
from support.early import Early
from support.node_models import LARGE, LARGE_FILE, SPOILT
from support.on_node import condition, run_python, small_deployment, wait_for_condition
from support.stand import Stand, served

_KIND = "modeldeployments.plimsoll.dev"
_SMALL_FILE = "model-00001-of-00002.safetensors"
_RANGE_BYTES = (
    64 * MIB
)  # what `plimsoll download` fetches at a time, and what the download Job does not change
_HASH = """
import hashlib, json, pathlib
files = sorted(path for path in pathlib.Path("/volume").rglob("*.safetensors") if ".cache" not in path.parts)
print(json.dumps({path.name: hashlib.file_digest(path.open("rb"), "sha256").hexdigest() for path in files}))
"""


@pytest.fixture(scope="module")
def progressed(stand: Stand, kubectl: Kubectl, at_work: Early) -> list[int]:
    """The bytes that status told, one growing after the other, of the first pod alone."""

    def seen() -> bool:
        stand.check()
        return len(at_work.told_bytes()) >= 3

    wait_until(seen, what="the third number of bytes in status", seconds=420, poll_seconds=0.5)
    assert len(_pods(kubectl, at_work.namespace)) == 1
    return at_work.told_bytes()


@pytest.fixture(scope="module")
def finished(
    stand: Stand, kubectl: Kubectl, at_work: Early, progressed: list[int]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The download after its pod was killed half-way: what the first pod was given of the large file, and the end."""
    (first,) = _pods(kubectl, at_work.namespace)
    kubectl("delete", "pod", first["metadata"]["name"], "-n", at_work.namespace, "--grace-period=1")
    given = served(stand, LARGE_FILE)
    found = wait_for_condition(stand, "large", at_work.namespace, "Downloaded")
    return given, found


def test_a_download_is_seen_to_progress(kubectl: Kubectl, at_work: Early, progressed: list[int]) -> None:
    found = kubectl.get(_KIND, "large", "-n", at_work.namespace)

    assert progressed == sorted(set(progressed))
    total = found["status"]["download"]["total"]
    assert total == found["status"]["plan"]["downloadBytes"] > 1024 * MIB
    assert progressed[-1] < total
    (job,) = kubectl.items("jobs", "-n", at_work.namespace, "-l", "plimsoll.dev/model-deployment=large")
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    commit = arguments[arguments.index("--revision") + 1]
    assert commit == found["status"]["revision"]["resolved"]
    assert len(commit) == 40


def test_a_killed_download_goes_on_where_it_was(
    stand: Stand, finished: tuple[list[dict[str, Any]], dict[str, Any]]
) -> None:
    first, _ = finished
    every = served(stand, LARGE_FILE)
    whole = {entry["start"] for entry in first if entry["sent_bytes"] == _RANGE_BYTES}
    cut = [entry for entry in first if entry["sent_bytes"] < _RANGE_BYTES]

    assert whole  # it was half-way: some ranges were there
    assert cut  # and some were not
    again = [entry["start"] for entry in every[len(first) :]]
    assert again
    assert {start - start % _RANGE_BYTES for start in again} & whole == set()
    assert len(served(stand, _SMALL_FILE)) == 1


def test_after_a_kill_the_volume_has_the_right_files(
    stand: Stand,
    at_work: Early,
    finished: tuple[list[dict[str, Any]], dict[str, Any]],
    model_folders: Mapping[str, Path],
) -> None:
    _, found = finished
    status = found["status"]
    assert status["download"]["bytes"] == status["download"]["total"]
    assert f"at commit {status['plan']['commit']}" in condition(found, "Downloaded")["message"]

    there = json.loads(run_python(stand, at_work.namespace, _HASH, claim=_claim(stand, at_work)))

    assert there == {
        path.name: sha256(path.read_bytes()).hexdigest()
        for path in sorted(model_folders[LARGE].glob("*.safetensors"))
    }


def test_wrong_bytes_are_caught_and_named(stand: Stand, namespace: str, kubectl: Kubectl) -> None:
    kubectl.apply([small_deployment("spoilt", namespace, SPOILT)])

    found = wait_for_condition(
        stand, "spoilt", namespace, "Downloaded", status="False", reason="DownloadFailed"
    )

    message = condition(found, "Downloaded")["message"]
    assert "model.safetensors" in message
    assert "sha256" in message
    assert condition(found, "Loaded")["status"] == "False"


def _pods(kubectl: Kubectl, namespace: str) -> tuple[dict[str, Any], ...]:
    labels = "plimsoll.dev/model-deployment=large,plimsoll.dev/component=download"
    return kubectl.items("pods", "-n", namespace, "-l", labels)


def _claim(stand: Stand, at_work: Early) -> str:
    label = "plimsoll.dev/model-deployment=large"
    (claim,) = stand.kubectl.items("persistentvolumeclaims", "-n", at_work.namespace, "-l", label)
    return str(claim["metadata"]["name"])
