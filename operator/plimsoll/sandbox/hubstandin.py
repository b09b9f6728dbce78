"""A Hub on loopback for tests and `plimsoll try`: the Hub's real protocol for the models of the catalogue.

The official client talks to it unchanged: `HfApi(endpoint=stand_in.url)`. It speaks what reading needs: model
info with `blobs` and `expand`, the tree, and files with the Hub's redirects, ETags and error codes. Files that lie
in LFS come from a second port, another origin as the Hub's storage is, which refuses a request with a token.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import unquote

from aiohttp import web

from plimsoll.sandbox.hubstandin_repos import (
    Content,
    StandInCommit,
    StandInRepo,
    catalogue_repos,
    make_commit,
)
from plimsoll.sandbox.hubstandin_storage import Fault, Served, send_file, storage_tag

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Values of a Hub that exists on loopback only.
GOOD_TOKEN: Final = "hf_sandbox"  # noqa: S105
UNENTITLED_TOKEN: Final = "hf_sandbox_without_access"  # noqa: S105 - known, but no gated licence accepted

_INFO: Final = re.compile(r"/api/models/(?P<id>[^/]+(?:/[^/]+)?)(?:/revision/(?P<revision>[^/]+))?")
_TREE: Final = re.compile(r"/api/models/(?P<id>[^/]+(?:/[^/]+)?)/tree/(?P<revision>[^/]+)(?:/(?P<path>.*))?")
_RESOLVE: Final = re.compile(r"/(?P<id>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_CACHED: Final = re.compile(
    r"/api/resolve-cache/models/(?P<id>[^/]+(?:/[^/]+)?)/(?P<revision>[0-9a-f]{40})/(?P<path>.+)"
)
_EXPIRES: Final = 4102444800  # the year 2100: signed addresses of the stand-in do not expire by themselves
_BLOB: Final = re.compile(r"/blobs/(?P<id>[^/]+(?:/[^/]+)?)/(?P<revision>[0-9a-f]{40})/(?P<path>.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRequest:
    """One request as it came in; the token itself is not kept."""

    method: str
    path: str
    query: str
    status: int
    authorized: bool
    storage: bool = False


class HubStandIn:
    """The server: an async context manager.

    Attributes:
        requests: what was asked of either port, in the order of the answers.
        served: the bytes of files that went out, one entry for each request.
        faults: what goes wrong; may be changed at any time.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        storage_port: int = 0,
        with_catalogue: bool = True,
        told: Callable[[Served], None] | None = None,
    ) -> None:
        """Set where to listen (port 0: a free one) and whether the catalogue's models are there.

        `told` is called when a request for a file's bytes has ended.
        """
        self._host = host
        self._port = port
        self._storage_port = storage_port
        self._told = told
        self._runners: list[web.AppRunner] = []
        self._repos: dict[str, StandInRepo] = {}
        self.requests: list[LoggedRequest] = []
        self.served: list[Served] = []
        self.faults: list[Fault] = []
        for repo in catalogue_repos() if with_catalogue else ():
            self._repos[repo.model_id] = repo

    @property
    def url(self) -> str:
        """The endpoint, for HF_ENDPOINT."""
        return f"http://{self._host}:{self._port}"

    @property
    def storage_url(self) -> str:
        """The origin that files in LFS come from."""
        return f"http://{self._host}:{self._storage_port}"

    def served_bytes(self, path: str = "") -> int:
        """How many bytes of files went out whose path holds `path`."""
        return sum(entry.sent_bytes for entry in self.served if path in entry.path)

    def add_repo(
        self,
        model_id: str,
        files: Mapping[str, Content],
        *,
        revision: str = "main",
        gated: bool = False,
        private: bool = False,
        parameters_by_dtype: Mapping[str, int] | None = None,
    ) -> str:
        """Add a repository, or a revision to one that is there; returns the commit."""
        commit = make_commit(model_id, files, parameters_by_dtype=parameters_by_dtype)
        repo = self._repos.setdefault(model_id, StandInRepo(model_id=model_id))
        repo.gated, repo.private = gated, private
        repo.revisions[revision] = commit
        return commit.commit

    def commit_of(self, model_id: str, revision: str = "main") -> str:
        """The commit that a revision is at.

        Raises:
            KeyError: there is no such repository or revision.
        """
        return self._repos[model_id].revisions[revision].commit

    async def __aenter__(self) -> Self:
        """Listen on both ports."""
        self._storage_port = await self._listen(self._answer_storage, self._storage_port)
        self._port = await self._listen(self._answer, self._port)
        return self

    async def _listen(self, answer: Any, port: int) -> int:
        app = web.Application(middlewares=[self._log_and_break])
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self._runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, self._host, port).start()
        return int(runner.addresses[0][1])

    async def __aexit__(self, *_: object) -> None:
        """Close the ports and every connection."""
        while self._runners:
            await self._runners.pop().cleanup()

    @web.middleware
    async def _log_and_break(self, request: web.Request, handler: Any) -> web.StreamResponse:
        path = unquote(request.rel_url.raw_path)
        response = await self._broken(request, path) or await handler(request)
        self.requests.append(
            LoggedRequest(
                method=request.method,
                path=path,
                query=request.rel_url.raw_query_string,
                status=response.status,
                authorized="Authorization" in request.headers,
                storage=_port(request) == self._storage_port,
            )
        )
        return response

    async def _broken(self, request: web.Request, path: str) -> web.StreamResponse | None:
        for fault in self.faults:
            if not fault.of_content and fault.take(path):
                await asyncio.sleep(fault.delay_seconds)
                if fault.status is not None:
                    body = b"" if request.method == "HEAD" else fault.body
                    return web.Response(status=fault.status, headers=dict(fault.headers), body=body)
        return None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            return _error(405, None, "The stand-in can only be read.")
        refused = _refused_token(request)
        if refused is not None:
            return refused
        raw_path = request.rel_url.raw_path
        for pattern, answer in (
            (_CACHED, self._file),
            (_TREE, self._tree),
            (_RESOLVE, self._resolve),
            (_INFO, self._info),
        ):
            match = pattern.fullmatch(raw_path)
            if match is not None:
                return await self._of_repo(request, answer, {k: v for k, v in match.groupdict().items() if v})
        return _error(404, None, "Sorry, we can't find the page you are looking for.")

    async def _answer_storage(self, request: web.Request) -> web.StreamResponse:
        """What a store of signed addresses answers: it knows the signature and refuses any other credential."""
        if "Authorization" in request.headers:
            return web.Response(status=400, text="Only one auth mechanism allowed")
        match = _BLOB.fullmatch(request.rel_url.raw_path)
        if match is None or request.method not in ("GET", "HEAD") or "Signature" not in request.query:
            return web.Response(status=403, text="Access denied")
        repo = self._repos.get(unquote(match["id"]))
        commit = repo.resolve(match["revision"]) if repo is not None else None
        if repo is None or commit is None:
            return web.Response(status=404)
        return await self._file(request, repo, commit, unquote(match["path"]))

    async def _of_repo(self, request: web.Request, answer: Any, parts: dict[str, str]) -> web.StreamResponse:
        repo = self._repos.get(unquote(parts["id"]))
        token = _token(request)
        if repo is None or (repo.private and token != GOOD_TOKEN):
            if token is None:  # the Hub does not tell a stranger whether a repository is there
                return _error(401, None, "Invalid username or password.")
            return _error(404, "RepoNotFound", "Repository not found")
        revision = unquote(parts.get("revision", "main"))
        commit = repo.resolve(revision)
        if commit is None:
            return _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return await answer(request, repo, commit, unquote(parts.get("path", "")))  # type: ignore[no-any-return]

    async def _info(
        self, request: web.Request, repo: StandInRepo, commit: StandInCommit, _path: str
    ) -> web.Response:
        info = repo.info(commit, blobs=request.query.get("blobs", "").lower() in ("true", "1"))
        wanted = request.query.getall("expand", []) + request.query.getall("expand[]", [])
        if wanted:
            info = {key: value for key, value in info.items() if key in ("_id", "id", *wanted)}
        return web.json_response(info)

    async def _tree(
        self, request: web.Request, repo: StandInRepo, commit: StandInCommit, path: str
    ) -> web.Response:
        recursive = request.query.get("recursive", "").lower() in ("true", "1")
        return web.json_response(repo.tree(commit, path, recursive=recursive))

    async def _resolve(
        self, request: web.Request, repo: StandInRepo, commit: StandInCommit, path: str
    ) -> web.Response:
        """Where a file is: the Hub serves no content here but redirects, to its cache or to its store."""
        token = _token(request)
        if repo.gated and token != GOOD_TOKEN:
            status = 401 if token is None else 403
            return _error(status, "GatedRepo", f"Access to model {repo.model_id} is restricted.")
        file = commit.files.get(path)
        if file is None:
            return _error(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit.commit, "X-Linked-Size": str(file.size_bytes)}
        headers["X-Linked-ETag"] = f'"{file.etag}"'
        tail = f"{repo.model_id}/{commit.commit}/{request.rel_url.raw_path.split('/resolve/', 1)[1].split('/', 1)[1]}"
        if file.sha256 is None:
            return web.Response(
                status=307, headers={**headers, "Location": f"/api/resolve-cache/models/{tail}"}
            )
        # The name that the client knows this machine by, and the other port: an origin of its own.
        storage = f"{request.scheme}://{request.url.host}:{self._storage_port}"
        signature = f"Expires={_EXPIRES}&Signature={file.sha256[:16]}"
        return web.Response(
            status=302, headers={**headers, "Location": f"{storage}/blobs/{tail}?{signature}"}
        )

    async def _file(
        self, request: web.Request, repo: StandInRepo, commit: StandInCommit, path: str
    ) -> web.StreamResponse:
        file = commit.files.get(path)
        if file is None:
            return _error(404, "EntryNotFound", "Entry not found")
        if isinstance(file.content, int):
            return _error(
                404, "EntryNotFound", f"The stand-in knows {path} of {repo.model_id} by its size only."
            )
        in_storage = file.sha256 is not None
        headers = {"ETag": storage_tag(file)} if in_storage else {"ETag": f'"{file.etag}"'}
        if not in_storage:
            headers["X-Repo-Commit"] = commit.commit
        return await send_file(
            request, file, headers, faults=self.faults, served=self.served, told=self._told
        )


def _port(request: web.Request) -> int | None:
    name = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return name[1] if name else None


def _token(request: web.Request) -> str | None:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if kind == "Bearer" and token else None


def _refused_token(request: web.Request) -> web.Response | None:
    token = _token(request)
    if token in (None, GOOD_TOKEN, UNENTITLED_TOKEN):
        return None
    return _error(401, None, "Invalid credentials in Authorization header")


def _error(status: int, code: str | None, message: str) -> web.Response:
    headers = {"X-Error-Message": message}
    if code is not None:
        headers["X-Error-Code"] = code
    return web.json_response({"error": message}, status=status, headers=headers)


__all__ = ["GOOD_TOKEN", "UNENTITLED_TOKEN", "Fault", "HubStandIn", "LoggedRequest", "Served"]
