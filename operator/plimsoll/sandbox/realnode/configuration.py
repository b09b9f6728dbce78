"""The configuration files of the real node's programs. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from plimsoll.sandbox.realnode import layout

if TYPE_CHECKING:
    from pathlib import Path

_CNI_PLUGINS: Final = "/usr/lib/cni"  # where Debian's package puts them


def containerd(root: Path) -> str:
    """Containerd's config.toml; `root` holds images and snapshots."""
    runtime = "[plugins.'io.containerd.cri.v1.runtime'"
    return f"""version = 3
root = '{root}'
state = '{layout.RUN / "containerd"}'

[grpc]
address = '{layout.containerd_socket()}'

[ttrpc]
address = '{layout.containerd_socket()}.ttrpc'

{runtime}]
# Many sandboxes lack the capability to lower the score: without this no pod starts there.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

{runtime}.cni]
bin_dirs = ['{_CNI_PLUGINS}']
conf_dir = '{layout.RUN / "cni"}'

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{layout.PAUSE_IMAGE}'
"""


def cni() -> str:
    """The network of the pods: one bridge, its gateway the address that CoreDNS listens on."""
    document = {
        "cniVersion": "1.0.0",
        "name": "plimsoll",
        "plugins": [
            {
                "type": "bridge",
                "bridge": layout.BRIDGE,
                "isGateway": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(layout.RUN / "addresses"),
                    "ranges": [[{"subnet": layout.POD_SUBNET, "gateway": layout.BRIDGE_ADDRESS}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def kubelet(port: int, health_port: int) -> str:
    """KubeletConfiguration; JSON is YAML."""
    document: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": layout.NODE_ADDRESS,
        "port": port,
        "healthzPort": health_port,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},  # its address is on this machine's loopback interface
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket()}",
        "clusterDNS": [layout.BRIDGE_ADDRESS],
        "clusterDomain": layout.CLUSTER_DOMAIN,
        "resolvConf": "",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        # A full disk of the machine is no reason to evict a test's pods.
        "evictionHard": {"memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "podLogsDir": str(layout.RUN / "pod-logs"),
        "volumePluginDir": str(layout.RUN / "volume-plugins"),
        "syncFrequency": "10s",
        "serializeImagePulls": False,
    }
    return json.dumps(document, indent=1) + "\n"


def kube_proxy(kubeconfig: Path, health_port: int, metrics_port: int) -> str:
    """KubeProxyConfiguration; JSON is YAML."""
    document = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": layout.NODE_NAME,
        "healthzBindAddress": f"127.0.0.1:{health_port}",
        "metricsBindAddress": f"127.0.0.1:{metrics_port}",
        "nodePortAddresses": [f"{layout.NODE_ADDRESS}/32"],
        "conntrack": {"maxPerCore": 0},  # the limit is the machine's business
        # The answer of a pod on the same bridge would otherwise not come back through the address translation.
        "nftables": {"masqueradeAll": True},
    }
    return json.dumps(document, indent=1) + "\n"


def corefile(kubeconfig: Path, health_port: int) -> str:
    """CoreDNS's Corefile: the cluster's names, and no others."""
    return f""".:53 {{
    bind {layout.BRIDGE_ADDRESS}
    errors
    ready 127.0.0.1:{health_port}
    kubernetes {layout.CLUSTER_DOMAIN} in-addr.arpa {{
        kubeconfig {kubeconfig}
        ttl 5
    }}
}}
"""
