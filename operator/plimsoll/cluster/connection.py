"""How to reach the API server: a kubeconfig file, or the service account of the pod we run in."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import yaml
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from plimsoll.cluster.errors import ClusterError

if TYPE_CHECKING:
    from pathlib import Path

# Service account tokens live an hour at the least: half of it is early enough.
_LOGIN_SECONDS: Final = 1800


class NoConnectionError(ClusterError):
    """There is nothing that says where the cluster is."""


async def load_configuration(kubeconfig: Path | None, context: str | None = None) -> Any:
    """The client's configuration from a kubeconfig file, or from the service account where none is named.

    Raises:
        NoConnectionError: the file does not exist or says nothing usable, or this is no pod.
    """
    configuration = Configuration()
    configuration.retries = None  # retries are ours (0 would mean: for ever)
    if kubeconfig is None:
        await asyncio.to_thread(_load_in_cluster, configuration)
        return configuration
    if not await asyncio.to_thread(kubeconfig.is_file):
        raise NoConnectionError(f"--kubeconfig {kubeconfig}: there is no such file; name one that exists")
    try:
        await load_kube_config(  # type: ignore[no-untyped-call]
            config_file=str(kubeconfig), context=context, client_configuration=configuration
        )
    except (
        ConfigException,
        yaml.YAMLError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        OSError,
    ) as error:
        raise NoConnectionError(
            f"--kubeconfig {kubeconfig}: {_one_line(error)}; write one with `kubectl config view --raw`"
        ) from error
    return configuration


def _load_in_cluster(configuration: Any) -> None:
    try:
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        raise NoConnectionError(
            f"no --kubeconfig is given and this is no pod of a cluster ({_one_line(error)}); give --kubeconfig FILE"
        ) from error


async def bearer_token(configuration: Any) -> tuple[str | None, str | None]:
    """Scheme and token of the Authorization header, both None where a client certificate is used."""
    header = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
    if not header:
        return None, None
    scheme, _, token = header.strip().partition(" ")
    return (scheme.capitalize(), token.strip()) if token else ("Bearer", scheme)


async def login_facts(kubeconfig: Path | None) -> dict[str, Any]:
    """What kopf needs to log in as we do, as keyword arguments of its ConnectionInfo.

    kopf itself would try whatever client library happens to be installed, wherever that looks. The login runs
    out, so that a service account's token is read anew before it does.
    """
    configuration = await load_configuration(kubeconfig)
    scheme, token = await bearer_token(configuration)
    return {
        "server": configuration.host,
        "ca_path": configuration.ssl_ca_cert,
        "insecure": not configuration.verify_ssl,
        "scheme": scheme,
        "token": token,
        "certificate_path": configuration.cert_file,
        "private_key_path": configuration.key_file,
        "proxy_url": configuration.proxy,
        "expiration": datetime.now(UTC) + timedelta(seconds=_LOGIN_SECONDS),
    }


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
