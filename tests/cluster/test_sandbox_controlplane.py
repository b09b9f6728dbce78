"""The control plane is real, and nothing of it stays."""

from __future__ import annotations

import contextlib
import json
import stat
from pathlib import Path

import pytest

from plimsoll.sandbox.binaries import Binaries
from plimsoll.sandbox.controlplane import ControlPlane
from plimsoll.sandbox.errors import SandboxError
from plimsoll.sandbox.kubectl import Kubectl
from plimsoll.sandbox.processes import listens


def test_the_server_tells_a_version_that_clients_can_parse(kubectl: Kubectl) -> None:
    version = json.loads(kubectl("get", "--raw", "/version").stdout)

    assert (version["gitVersion"], version["major"], version["minor"]) == ("v1.36.3", "1", "36")


def test_our_resource_is_served(kubectl: Kubectl, namespace: str) -> None:
    assert kubectl.items("modeldeployments.plimsoll.dev", "-n", namespace) == ()


def test_a_service_account_has_the_rights_of_rbac_and_no_more(
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    kubectl("create", "serviceaccount", "reader", "-n", namespace)
    kubectl(
        "create",
        "rolebinding",
        "reader",
        "--clusterrole=view",
        f"--serviceaccount={namespace}:reader",
        "-n",
        namespace,
    )
    token = kubectl("create", "token", "reader", "-n", namespace).stdout.strip()
    config = control_plane.kubeconfig_with_token(tmp_path / "reader", token)
    reader = Kubectl(binary=kubectl.binary, kubeconfig=config, cache=tmp_path / "cache")

    assert reader("get", "pods", "-n", namespace, check=False).ok
    refused = reader("create", "configmap", "x", "-n", namespace, check=False)
    assert "cannot create resource" in refused.stderr


def test_a_kubeconfig_is_its_owners_alone(control_plane: ControlPlane) -> None:
    assert stat.S_IMODE(control_plane.kubeconfig.stat().st_mode) == 0o600


def test_stop_leaves_no_process_no_port_and_no_folder(binaries: Binaries) -> None:
    control_plane = ControlPlane(binaries)
    control_plane.start()
    folder, port = control_plane.folder, control_plane.port
    pids = [child.pid for child in control_plane._children]
    assert listens(port)

    control_plane.stop()
    control_plane.stop()

    assert len(pids) == 4
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not listens(port)
    assert not folder.exists()


def processes() -> set[tuple[str, str]]:
    """Process ids with their programs."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found.add((folder.name, (folder / "cmdline").read_text().split("\0")[0]))
    return found


def test_a_program_that_fails_is_told_with_its_log_and_the_others_end(
    binaries: Binaries, tmp_path: Path
) -> None:
    broken = tmp_path / "kube-apiserver"
    broken.write_text("#!/bin/sh\necho 'invalid flag: --nonsense'\nexit 1\n")
    broken.chmod(0o755)
    control_plane = ControlPlane(Binaries(paths={**binaries.paths, "kube-apiserver": broken}))
    before = processes()

    with pytest.raises(
        SandboxError, match=r"kube-apiserver ended with status 1(.|\n)*invalid flag: --nonsense"
    ):
        control_plane.start()

    assert {pid for pid, command in (processes() - before) if command == str(binaries["etcd"])} == set()
    assert Path() == control_plane.folder
