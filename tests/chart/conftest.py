"""helm as a Go tool, and a control plane of its own: the chart brings the CRD."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from plimsoll.sandbox.binaries import control_plane_binaries, tool_binaries
from plimsoll.sandbox.controlplane import ControlPlane
from plimsoll.sandbox.progress import Console
from support.helm import Helm


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(binary=tool_binaries(Console(), names=["helm"])["helm"], home=tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def empty_control_plane() -> Iterator[ControlPlane]:
    with ControlPlane(control_plane_binaries(Console())) as control_plane:
        yield control_plane
