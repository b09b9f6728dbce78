"""Whether this machine can run a real node, and what it lacks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# Programs that the node's own programs call, and the Debian package of each.
PROGRAMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "runc": "runc",
        "ip": "iproute2",
        "nft": "nftables",
        "conntrack": "conntrack",
        "mount": "mount",
        "/usr/lib/cni/bridge": "containernetworking-plugins",
        "/usr/lib/cni/host-local": "containernetworking-plugins",
        "/usr/lib/cni/loopback": "containernetworking-plugins",
    }
)


def missing_programs(programs: Mapping[str, str] = PROGRAMS) -> Mapping[str, str]:
    """The programs that are not there, with the package of each."""
    return MappingProxyType(
        {program: package for program, package in programs.items() if shutil.which(program) is None}
    )


def obstacle() -> str | None:
    """Why no real node can run here, in a sentence with the way out; None: one can."""
    if sys.platform != "linux":
        return "a real node needs Linux; run it in a virtual machine."
    if os.geteuid() != 0:
        return "a real node needs root: containerd mounts, and the CNI plugin makes interfaces; run it with sudo."
    missing = missing_programs()
    if missing:
        return (
            f"a real node needs {', '.join(missing)}; install them: "
            f"apt-get install {' '.join(sorted(set(missing.values())))}."
        )
    return _kernel_obstacle()


def _kernel_obstacle() -> str | None:
    if not Path("/sys/fs/cgroup").is_dir():
        return "a real node needs cgroups, and /sys/fs/cgroup is not mounted; mount them."
    if "overlay" not in Path("/proc/filesystems").read_text() and not _loads("overlay"):
        return "a real node needs the kernel's overlay file system; load the module overlay."
    # Tried for real, under a name of its own: a kernel built without modules lists none.
    probe = "plimsollprobe"
    for words, make, undo in (
        ("bridges", ("ip", "link", "add", probe, "type", "bridge"), ("ip", "link", "delete", probe)),
        ("nftables", ("nft", "add", "table", "ip", probe), ("nft", "delete", "table", "ip", probe)),
    ):
        done = subprocess.run(make, capture_output=True, text=True, check=False)
        subprocess.run(undo, capture_output=True, check=False)
        if done.returncode != 0:
            return f"a real node needs {words}, which this kernel or sandbox refuses ({done.stderr.strip()})."
    return None


def _loads(module: str) -> bool:
    modprobe = shutil.which("modprobe")
    return (
        modprobe is not None
        and subprocess.run([modprobe, module], capture_output=True, check=False).returncode == 0
    )
