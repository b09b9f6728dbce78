"""A control plane with one real node and the volume provisioner."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from plimsoll.sandbox.controlplane import ControlPlane
from plimsoll.sandbox.lifecycle import Started
from plimsoll.sandbox.processes import Child
from plimsoll.sandbox.realnode import layout
from plimsoll.sandbox.realnode.node import RealNode
from plimsoll.sandbox.volumes import storage_objects

if TYPE_CHECKING:
    from pathlib import Path

    from plimsoll.sandbox.binaries import Binaries
    from plimsoll.sandbox.kubectl import Kubectl


class RealCluster(Started):
    """Everything but our own processes; a context manager, or `start` and `stop`."""

    def __init__(self, control_plane: Binaries, node: Binaries, cache: Path) -> None:
        """Take the programs of both, and the folder that keeps the images."""
        self.control_plane = ControlPlane(control_plane, pod_address=layout.NODE_ADDRESS)
        self.node = RealNode(node, self.control_plane, cache)
        self._provisioner: Child | None = None

    @property
    def kubectl(self) -> Kubectl:
        """Kubectl as a cluster administrator."""
        return self.control_plane.kubectl

    def start(self) -> None:
        """Start everything and wait until the node is Ready.

        Raises:
            SandboxError: a part does not start; the end of its log is quoted, and nothing is left running.
        """
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            self.node.prepare()
            self.control_plane.start()
            self.node.start()
            self.kubectl.apply(storage_objects())
            folder = self.control_plane.folder
            self._provisioner = Child(
                "volume provisioner",
                [
                    sys.executable,
                    "-m",
                    "plimsoll.sandbox.provisioner",
                    f"--kubeconfig={self.control_plane.kubeconfig}",
                    f"--folder={layout.volumes()}",
                ],
                log=folder / "provisioner.log",
            )
            self._provisioner.start()
            undo.pop_all()

    def stop(self) -> None:
        """End everything, and remove all that it made but the images."""
        provisioner, self._provisioner = self._provisioner, None
        if provisioner is not None:
            provisioner.stop()
        self.node.stop()
        self.control_plane.stop()

    def check(self) -> None:
        """Hold that every process runs.

        Raises:
            SandboxError: one has ended; the end of its log is quoted.
        """
        self.control_plane.check()
        self.node.check()
        if self._provisioner is not None:
            self._provisioner.check()
