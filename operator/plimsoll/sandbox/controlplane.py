"""A real control plane: etcd, kube-apiserver, kube-controller-manager and kube-scheduler on loopback."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import shutil
import ssl
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plimsoll.sandbox.certificates import Authority, service_account_keys, write_secret
from plimsoll.sandbox.errors import SandboxError
from plimsoll.sandbox.kubectl import Kubectl
from plimsoll.sandbox.lifecycle import Started
from plimsoll.sandbox.processes import Child, free_ports, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from plimsoll.sandbox.binaries import Binaries

CONTEXT: Final = "plimsoll-sandbox"
_SERVICE_ADDRESSES: Final = "10.0.0.0/16"
_SERVICE_ADDRESS: Final = "10.0.0.1"  # the first of them is the Service `kubernetes`
_START_SECONDS: Final = 60.0
# Another process may take a port between our look and the program's bind.
_ATTEMPTS: Final = 3
_PORT_TAKEN: Final = "address already in use"
# With client-go's defaults, 50 sets of 5 children took 33 s instead of 3 s.
_CLIENT_RATE: Final = ("--kube-api-qps=1000", "--kube-api-burst=2000")


class ControlPlane(Started):
    """One control plane with its data in a folder of its own; a context manager, or `start` and `stop`."""

    def __init__(self, binaries: Binaries, *, schedules: bool = True, pod_address: str | None = None) -> None:
        """Take the programs; without `schedules` there is an API server alone.

        `pod_address` is an address of this machine that pods reach: the API server listens there instead of on
        loopback, and the Service `kubernetes` leads to it.
        """
        self._binaries = binaries
        self._pod_address = pod_address
        self._schedules = schedules
        self._children: list[Child] = []
        self._admin_token = secrets.token_urlsafe(24)
        self.authority = Authority.new()
        self.folder = Path()
        self.port = 0

    @property
    def url(self) -> str:
        """The API server's address."""
        return f"https://{self._pod_address or '127.0.0.1'}:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig of a cluster administrator."""
        return self.folder / "admin.kubeconfig"

    @property
    def kubectl(self) -> Kubectl:
        """Kubectl as a cluster administrator."""
        return Kubectl(
            binary=self._binaries["kubectl"], kubeconfig=self.kubeconfig, cache=self.folder / "kubectl-cache"
        )

    def start(self) -> None:
        """Start every program and wait until the API server is ready.

        Raises:
            SandboxError: one does not start; the end of its log is quoted, and nothing is left running.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._start()
            except SandboxError as error:
                self.stop()
                if _PORT_TAKEN not in str(error) or attempt == _ATTEMPTS:
                    raise
            except BaseException:  # Ctrl-C too leaves nothing behind
                self.stop()
                raise
            else:
                return

    def stop(self) -> None:
        """End every program and remove the folder; does nothing where there is none."""
        children, self._children = self._children, []
        for child in reversed(children):
            child.stop()
        if self.folder != Path():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = Path()

    def check(self) -> None:
        """Hold that every program runs.

        Raises:
            SandboxError: one has ended; the end of its log is quoted.
        """
        for child in self._children:
            child.check()

    def kubeconfig_with_token(self, path: Path, token: str) -> Path:
        """Write a kubeconfig for a bearer token, a service account's for one; returns its path."""
        authority = {
            "certificate-authority-data": base64.b64encode(self.authority.bundle).decode(),
            "server": self.url,
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": CONTEXT, "cluster": authority}],
            "users": [{"name": CONTEXT, "user": {"token": token}}],
            "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}],
            "current-context": CONTEXT,
        }
        write_secret(path, (json.dumps(config, indent=1) + "\n").encode())  # JSON is YAML
        return path

    def _start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="plimsoll-"))
        etcd_port, peer_port, self.port = free_ports(3)
        self.kubeconfig_with_token(self.kubeconfig, self._admin_token)
        etcd = f"http://127.0.0.1:{etcd_port}"
        self._run("etcd", *self._etcd_flags(etcd, f"http://127.0.0.1:{peer_port}"))
        keys = service_account_keys(self.folder)
        self._run("kube-apiserver", *self._api_server_flags(etcd, keys))
        self._wait("the API server's readiness", self._ready)
        if self._schedules:
            self._run("kube-controller-manager", *self._controller_manager_flags(keys[0]))
            self._run("kube-scheduler", *self._client_flags())
            kubectl = self.kubectl
            # Without it no pod can be created: admission looks for the namespace's service account.
            self._wait(
                "the service account of the namespace default",
                lambda: kubectl.exists("serviceaccount", "default", "-n", "default"),
            )

    def _run(self, name: str, *flags: str) -> None:
        child = Child(name, [self._binaries[name], *flags], log=self.folder / f"{name}.log")
        self._children.append(child)
        child.start()

    def _wait(self, what: str, condition: Callable[[], bool]) -> None:
        wait_until(condition, what=what, seconds=_START_SECONDS, children=self._children, poll_seconds=0.1)

    def _ready(self) -> bool:
        context = ssl.create_default_context(cadata=self.authority.bundle.decode())
        request = urllib.request.Request(  # noqa: S310 - our own https address
            f"{self.url}/readyz", headers={"Authorization": f"Bearer {self._admin_token}"}
        )
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        with contextlib.suppress(urllib.error.URLError, OSError), opener.open(request, timeout=2) as response:
            return bool(response.status == 200)  # noqa: PLR2004 - HTTP's OK
        return False

    def _etcd_flags(self, url: str, peer_url: str) -> list[str]:
        return [
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            f"--initial-cluster=default={peer_url}",
            "--unsafe-no-fsync",  # its data lives as long as this process
            "--log-level=warn",
        ]

    def _api_server_flags(self, etcd: str, keys: tuple[Path, Path]) -> list[str]:
        names = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
        addresses = () if self._pod_address is None else (self._pod_address, _SERVICE_ADDRESS)
        serving = self.authority.serving(names=names, addresses=addresses)
        certificate, key = serving.write(self.folder / "apiserver")
        authority = self.folder / "ca.crt"
        authority.write_bytes(self.authority.bundle)
        tokens = self.folder / "tokens.csv"
        write_secret(tokens, f'{self._admin_token},plimsoll-admin,plimsoll-admin,"system:masters"\n'.encode())
        return [
            f"--etcd-servers={etcd}",
            *self._address_flags(),
            f"--secure-port={self.port}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={authority}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={keys[1]}",
            f"--service-account-signing-key-file={keys[0]}",
            f"--service-cluster-ip-range={_SERVICE_ADDRESSES}",
            "--kubelet-preferred-address-types=InternalIP",
            "--allow-privileged=true",
            "--profiling=false",
        ]

    def _address_flags(self) -> tuple[str, ...]:
        if self._pod_address is not None:
            return (f"--bind-address={self._pod_address}", f"--advertise-address={self._pod_address}")
        none = "--endpoint-reconciler-type=none"  # there is no address that pods could reach
        return ("--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", none)

    def _controller_manager_flags(self, private_key: Path) -> list[str]:
        return [
            *self._client_flags(),
            f"--service-account-private-key-file={private_key}",
            f"--root-ca-file={self.folder / 'ca.crt'}",
        ]

    def _client_flags(self) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            "--secure-port=0",
            "--profiling=false",
            *_CLIENT_RATE,
        ]
