"""One real node beside the sandbox's control plane: kubelet, containerd, runc, CNI, kube-proxy, CoreDNS (Linux, root)."""

from __future__ import annotations
