"""What the real node is called and where it lies: fixed, so that a stop needs no memory of the start."""

from __future__ import annotations

from pathlib import Path
from typing import Final

NODE_NAME: Final = "plimsoll-node"
ZONE: Final = "node-zone"
BRIDGE: Final = "plimsoll0"
BRIDGE_ADDRESS: Final = "10.88.0.1"  # pods reach CoreDNS and the Hub stand-in here
POD_SUBNET: Final = "10.88.0.0/24"
POD_PREFIX_LENGTH: Final = 24
# The kubelet refuses a loopback address, and takes any other that an interface has: this one is put on `lo`. Pods reach
# the API server there.
NODE_ADDRESS: Final = "10.89.0.1"
# containerd's parent of containers that the kubelet, without cgroups for its classes of pods, names none for.
CGROUP: Final = "k8s.io"
CLUSTER_DOMAIN: Final = "cluster.local"
IMAGE_NAMESPACE: Final = "k8s.io"  # containerd's namespace for what the kubelet runs
PAUSE_IMAGE: Final = "localhost/plimsoll-pause:1"

# Everything that lives as long as the node; under /run, so that a reboot clears it too.
RUN: Final = Path("/run/plimsoll-node")
# The kubelet's pods and the volumes; removed by a stop.
DATA: Final = Path("/var/lib/plimsoll-node")
STORE: Final = Path("node") / "containerd"  # in the cache; kept from one start to the next
SNAPSHOTS: Final = f"/{STORE}/io.containerd.snapshotter."  # the root of every container lies there
# kube-proxy's own names.
NFT_TABLES: Final = (("ip", "kube-proxy"), ("ip6", "kube-proxy"))
# Settings of the kernel that the kubelet and the CNI plugin change.
SYSCTLS: Final = (
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


def containerd_socket() -> Path:
    """Where containerd listens."""
    return RUN / "containerd.sock"


def volumes() -> Path:
    """The folder of the volumes that the provisioner makes."""
    return DATA / "volumes"
