"""The one way to the API server: every request has a timeout, a place in the queue and a bounded retry."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, Self

import aiohttp
from kubernetes.aio.client import ApiClient
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.dynamic.client import DynamicClient

from plimsoll.cluster.errors import ApiError, BusyError, NamespaceEndingError, UnreachableError, api_error
from plimsoll.cluster.kinds import POD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from plimsoll.cluster.kinds import Kind

FIELD_MANAGER: Final = "plimsoll"
_METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_PAGE_SIZE: Final = 500
_LOG_BYTES: Final = 65536
_METHODS: Final = {
    "get": "get",
    "list": "get",
    "read": "get",
    "apply": "patch",
    "scale": "patch",
    "create": "post",
    "replace": "put",
    "delete": "delete",
}
_REPEATABLE: Final = frozenset({"get", "list", "read", "apply", "scale"})

Object = dict[str, Any]


class RequestLog(Protocol):
    """Who counts requests; the controller's metrics do."""

    def api_request(self, verb: str, kind: str, status: int, seconds: float) -> None:
        """One request, done; status 0 stands for no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """One request: what is asked of which object."""

    verb: str
    kind: Kind
    name: str | None = None
    namespace: str | None = None
    subresource: str = ""
    body: Object | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def about(
        cls, verb: str, kind: Kind, body: Object, *, subresource: str = "", options: Mapping[str, Any]
    ) -> _Request:
        """A request that carries the object, and so its name and namespace."""
        metadata = body["metadata"]
        return cls(
            verb=verb,
            kind=kind,
            name=metadata["name"],
            namespace=metadata.get("namespace"),
            subresource=subresource,
            body=body,
            options=options,
        )

    @property
    def path(self) -> str:
        """The path of the URL; objects are created under their collection."""
        parts = ["", "apis" if self.kind.group else "api", self.kind.api_version]
        if self.kind.namespaced and self.namespace:
            parts += ["namespaces", self.namespace]
        parts.append(self.kind.plural)
        if self.name and self.verb != "create":
            parts.append(self.name)
        if self.subresource:
            parts.append(self.subresource)
        return "/".join(parts)

    @property
    def action(self) -> str:
        """What was tried, in words."""
        verb = "read" if self.verb == "get" else self.verb
        if self.name is None:
            return f"{verb} {self.kind.plural} in {self.namespace or 'the whole cluster'}"
        part = f"the {self.subresource} of " if self.subresource not in {"", self.verb} else ""
        return f"{verb} {part}{self.kind.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name}"


class ObjectList(NamedTuple):
    """All objects of a kind, and the resourceVersion of the moment at which that was so."""

    items: tuple[Object, ...]
    resource_version: str


class _NoLog:
    def api_request(self, verb: str, kind: str, status: int, seconds: float) -> None:
        """Count nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How hard the API server may be pressed.

    Attributes:
        timeout_seconds: of one request, everything included.
        num_concurrent: requests at a time.
        num_attempts: of a request that may be sent twice, when the server is busy.
        most_wait_seconds: the longest Retry-After that is waited for inside a request; a longer one is handed up.
    """

    timeout_seconds: float = 15.0
    num_concurrent: int = 16
    num_attempts: int = 3
    most_wait_seconds: float = 5.0


class ClusterClient:
    """Objects of the API server as plain dicts."""

    def __init__(
        self,
        configuration: Any,
        *,
        limits: Limits | None = None,
        log: RequestLog | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Make a client; open it with `async with`."""
        self._limits = limits or Limits()
        self._log = log or _NoLog()
        self._sleep = sleep
        self._places = asyncio.Semaphore(self._limits.num_concurrent)
        self._api = ApiClient(configuration)
        self._dynamic = DynamicClient(self._api)  # type: ignore[no-untyped-call]

    async def __aenter__(self) -> Self:
        """Nothing is sent before the first request."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._api.close()  # type: ignore[no-untyped-call]

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        """Read one object.

        Raises:
            NotFoundError: there is none.
            ClusterError: no answer, or another one.
        """
        return await self._send(_Request(verb="get", kind=kind, name=name, namespace=namespace))

    async def get_metadata(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        """Read the metadata of one object and nothing else: the rest never leaves the API server."""
        options = {"header_params": {"Accept": _METADATA_ONLY}}
        return await self._send(
            _Request(verb="get", kind=kind, name=name, namespace=namespace, options=options)
        )

    async def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> ObjectList:
        """Read all objects of a kind, page by page."""
        items: list[Object] = []
        token: str | None = None
        while True:
            options = {
                "label_selector": label_selector,
                "field_selector": field_selector,
                "limit": _PAGE_SIZE,
                "_continue": token,
            }
            page = await self._send(_Request(verb="list", kind=kind, namespace=namespace, options=options))
            # Items of a list come without their kind; everything downstream reads it.
            named = {"apiVersion": kind.api_version, "kind": kind.kind}
            items.extend({**named, **item} for item in page.get("items") or ())
            metadata = page.get("metadata") or {}
            token = metadata.get("continue") or None
            if token is None:
                return ObjectList(tuple(items), str(metadata.get("resourceVersion") or ""))

    async def apply(self, kind: Kind, manifest: Object) -> Object:
        """Server-side apply: what the manifest says is ours; whoever else set it loses."""
        options = {
            "content_type": "application/apply-patch+yaml",
            "field_manager": FIELD_MANAGER,
            "force_conflicts": True,
        }
        return await self._send(_Request.about("apply", kind, manifest, options=options))

    async def delete(self, kind: Kind, name: str, namespace: str | None, options: Object) -> None:
        """Delete one object; `options` is a metav1.DeleteOptions without kind."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", **options}
        await self._send(_Request(verb="delete", kind=kind, name=name, namespace=namespace, body=body))

    async def write_status(self, kind: Kind, body: Object) -> Object:
        """Replace the whole status, only if nobody has written the object since `resourceVersion` was read."""
        options = {"field_manager": FIELD_MANAGER}
        return await self._send(_Request.about("replace", kind, body, subresource="status", options=options))

    async def scale(self, kind: Kind, name: str, namespace: str, replicas: int) -> None:
        """Set the number of replicas through the scale subresource."""
        options = {"content_type": "application/merge-patch+json", "field_manager": FIELD_MANAGER}
        body = {"spec": {"replicas": replicas}}
        await self._send(
            _Request(
                verb="scale",
                kind=kind,
                name=name,
                namespace=namespace,
                subresource="scale",
                body=body,
                options=options,
            )
        )

    async def create(self, kind: Kind, body: Object) -> Object:
        """Create one object."""
        return await self._send(
            _Request.about("create", kind, body, options={"field_manager": FIELD_MANAGER})
        )

    async def replace(self, kind: Kind, body: Object) -> Object:
        """Replace one object, only if its resourceVersion is still the present one."""
        return await self._send(
            _Request.about("replace", kind, body, options={"field_manager": FIELD_MANAGER})
        )

    async def tail_log(
        self,
        name: str,
        namespace: str,
        *,
        num_lines: int,
        limit_bytes: int | None = None,
        previous: bool = False,
    ) -> str:
        """The last lines of the log of a pod with one container; `previous`: of the container before its restart.

        Of lines that are longer together than `limit_bytes` the kubelet gives the first ones.
        """
        query: list[tuple[str, Any]] = [("tailLines", num_lines), ("limitBytes", limit_bytes or _LOG_BYTES)]
        if previous:
            query.append(("previous", "true"))
        request = _Request(
            verb="read",
            kind=POD,
            name=name,
            namespace=namespace,
            subresource="log",
            options={"query_params": query, "serialize": False},
        )
        async with self._one_request(request):
            response = await self._transmit(request)
            return str(await response.text(errors="replace"))

    async def _send(self, request: _Request) -> Object:
        for attempt in range(1, self._limits.num_attempts):
            try:
                return await self._send_once(request)
            except BusyError as error:
                wait = error.retry_after_seconds or 0.2 * 2**attempt
                # The server did not look at it (429), or what is asked may be asked twice.
                repeatable = error.status == HTTPStatus.TOO_MANY_REQUESTS or request.verb in _REPEATABLE
                if not repeatable or wait > self._limits.most_wait_seconds:
                    raise
                await self._sleep(wait)
        return await self._send_once(request)

    async def _send_once(self, request: _Request) -> Object:
        async with self._one_request(request):
            return dict(await self._transmit(request))

    async def _transmit(self, request: _Request) -> Any:
        # The client fills the containers that it is given, so each attempt gets its own.
        options = {name: copy.copy(value) for name, value in request.options.items() if value is not None}
        return await self._dynamic.request(
            _METHODS[request.verb],
            request.path,
            body=request.body,
            serializer=lambda _, data: data,
            _request_timeout=aiohttp.ClientTimeout(total=self._limits.timeout_seconds),
            **options,
        )

    @asynccontextmanager
    async def _one_request(self, request: _Request) -> AsyncIterator[None]:
        async with self._places:
            began = time.monotonic()
            status = 0
            try:
                yield
                status = HTTPStatus.OK
            except ApiException as error:
                status = int(error.status or 0)
                raise _translate(request.action, error) from error
            except TimeoutError as error:
                seconds = self._limits.timeout_seconds
                raise UnreachableError(f"cannot {request.action}: no answer within {seconds:g} s") from error
            except (aiohttp.ClientError, OSError) as error:
                raise UnreachableError(f"cannot {request.action}: {_one_line(error)}") from error
            finally:
                self._log.api_request(request.verb, request.kind.kind, status, time.monotonic() - began)


def _translate(action: str, error: ApiException) -> ApiError:
    status = int(error.status or 0)
    reason, message, retry_after, ending = str(error.reason or ""), "", None, False
    try:
        body = json.loads(error.body or "")
    except (TypeError, ValueError):
        body = None
    if isinstance(body, dict):
        reason = str(body.get("reason") or reason)
        message = str(body.get("message") or "")
        found = body.get("details")
        details: dict[str, Any] = found if isinstance(found, dict) else {}
        retry_after = details.get("retryAfterSeconds")
        ending = any(cause.get("reason") == "NamespaceTerminating" for cause in details.get("causes") or ())
    header = (error.headers or {}).get("Retry-After") if retry_after is None else retry_after
    try:
        seconds = float(header) if header is not None else None
    except (TypeError, ValueError):
        seconds = None  # an HTTP date: the caller's own backoff will do
    if ending:
        return NamespaceEndingError(action, status=status, reason=reason, message=message)
    return api_error(action, status=status, reason=reason, message=message, retry_after_seconds=seconds)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
