"""What each binary is made of is read from go.mod."""

from __future__ import annotations

from pathlib import Path

import pytest

from plimsoll.sandbox.binaries.locate import CONTROL_PLANE
from plimsoll.sandbox.binaries.recipes import Binary, Platform, modules_folder, read_module
from plimsoll.sandbox.errors import SandboxError

HACK = Path(__file__).parents[2] / "hack"
LINUX = Platform(os="linux", arch="amd64")

GO_MOD = """module example.test/tools

go 1.26.0

tool example.test/single/v4

tool (
\texample.test/cmd/one
\tgo.etcd.io/etcd/server/v3
)

require (
\tk8s.io/kubernetes v1.36.3
\texample.test/other v0.1.0 // indirect
)
"""


def module_at(folder: Path, text: str = GO_MOD):
    (folder / "go.mod").write_text(text)
    return read_module(folder, LINUX)


def test_the_control_plane_module_makes_every_program_that_is_needed() -> None:
    module = read_module(HACK / "controlplane", LINUX)

    assert set(CONTROL_PLANE) == {binary.name for binary in module.binaries}


def test_the_tools_module_makes_helm_and_its_own_programs() -> None:
    names = {binary.name for binary in read_module(HACK / "tools", LINUX).binaries}

    assert {"helm", "kstatus"} <= names


def test_tools_versions_and_the_go_line_are_read(tmp_path: Path) -> None:
    module = module_at(tmp_path)

    assert module.go_version == (1, 26)
    assert dict(module.versions) == {"k8s.io/kubernetes": "v1.36.3", "example.test/other": "v0.1.0"}
    assert {
        Binary(name="one", package="example.test/cmd/one", built_as="one"),
        Binary(name="etcd", package="go.etcd.io/etcd/server/v3", built_as="server"),
        Binary(name="single", package="example.test/single/v4", built_as="single"),
    } == set(module.binaries)


def test_kubernetes_programs_are_told_their_version(tmp_path: Path) -> None:
    flags = module_at(tmp_path).linker_flags

    for value in ("gitVersion=v1.36.3", "gitMajor=1", "gitMinor=36"):
        assert f"-X k8s.io/component-base/version.{value}" in flags


def test_another_requirement_or_source_leads_to_another_folder_of_the_cache(tmp_path: Path) -> None:
    first = module_at(tmp_path).digest
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "main.go").write_text("package main\n")
    with_program = module_at(tmp_path).digest
    newer = module_at(tmp_path, GO_MOD.replace("v1.36.3", "v1.36.4")).digest

    assert len({first, with_program, newer}) == 3
    assert first != read_module(tmp_path, Platform(os="darwin", arch="arm64")).digest


def test_an_unknown_program_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="makes no binary 'kubelet'; it makes one, etcd, single"):
        module_at(tmp_path).binary("kubelet")


def test_a_go_mod_without_a_go_line_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"has no line `go X.Y`"):
        module_at(tmp_path, "module example.test\n")


def test_outside_a_checkout_the_sentence_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=r"PLIMSOLL_MODULES .* or KUBEBUILDER_ASSETS"):
        modules_folder({"PLIMSOLL_MODULES": str(tmp_path)})
