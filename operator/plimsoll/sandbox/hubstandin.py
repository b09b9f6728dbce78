"""A Hub on loopback for tests and `plimsoll try`: the Hub's real protocol for the models of the catalogue.

The official client talks to it unchanged: `HfApi(endpoint=stand_in.url)`. It speaks what reading needs: model
info with `blobs` and `expand`, the tree, and files with the Hub's redirects, ETags and error codes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import unquote

from aiohttp import web

from plimsoll.sandbox.hubstandin_repos import (
    Content,
    StandInCommit,
    StandInFile,
    StandInRepo,
    catalogue_repos,
    folder_files,
    make_commit,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Values of a Hub that exists on loopback only.
GOOD_TOKEN: Final = "hf_sandbox"  # noqa: S105
UNENTITLED_TOKEN: Final = "hf_sandbox_without_access"  # noqa: S105 - known, but no gated licence accepted

_INFO: Final = re.compile(r"/api/models/(?P<id>[^/]+(?:/[^/]+)?)(?:/revision/(?P<revision>[^/]+))?")
_TREE: Final = re.compile(r"/api/models/(?P<id>[^/]+(?:/[^/]+)?)/tree/(?P<revision>[^/]+)(?:/(?P<path>.*))?")
_RESOLVE: Final = re.compile(r"/(?P<id>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_CACHED: Final = re.compile(
    r"/api/resolve-cache/models/(?P<id>[^/]+(?:/[^/]+)?)/(?P<revision>[0-9a-f]{40})/(?P<path>.+)"
)
_BLOB: Final = re.compile(r"/blobs/(?P<id>[^/]+(?:/[^/]+)?)/(?P<revision>[0-9a-f]{40})/(?P<path>.+)")
_RANGE: Final = re.compile(r"bytes=(\d+)-")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRequest:
    """One request as it came in; the token itself is not kept."""

    method: str
    path: str
    query: str
    status: int
    authorized: bool


@dataclass(slots=True, kw_only=True)
class Fault:
    """What to do instead of answering.

    Attributes:
        match: a part of the path; "" for every request.
        times: how many requests it hits; None for all.
        delay_seconds: waited before the answer, which is then the ordinary one if status is None.
        cut_after_bytes: the connection is closed after so many bytes of a file.
    """

    match: str = ""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    times: int | None = None
    delay_seconds: float = 0.0
    cut_after_bytes: int | None = None

    def take(self, path: str) -> bool:
        """Whether it hits this request; counts it."""
        if self.match not in path or self.times == 0:
            return False
        if self.times is not None:
            self.times -= 1
        return True


class HubStandIn:
    """The server: an async context manager with `url`, `requests`, `add_repo` and `faults`."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, with_catalogue: bool = True) -> None:
        """Set where to listen (port 0: a free one) and whether the catalogue's models are there."""
        self._host = host
        self._port = port
        self._runner: web.AppRunner | None = None
        self._repos: dict[str, StandInRepo] = {}
        self.requests: list[LoggedRequest] = []
        self.faults: list[Fault] = []
        for repo in catalogue_repos() if with_catalogue else ():
            self._repos[repo.model_id] = repo

    @property
    def url(self) -> str:
        """The endpoint, for HF_ENDPOINT."""
        return f"http://{self._host}:{self._port}"

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
        """Listen."""
        app = web.Application(middlewares=[self._log_and_break])
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        self._port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the port and every connection."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

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
            )
        )
        return response

    async def _broken(self, request: web.Request, path: str) -> web.StreamResponse | None:
        for fault in self.faults:
            if fault.cut_after_bytes is None and fault.take(path):
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
            (_BLOB, self._file),
            (_TREE, self._tree),
            (_RESOLVE, self._resolve),
            (_INFO, self._info),
        ):
            match = pattern.fullmatch(raw_path)
            if match is not None:
                return await self._of_repo(request, answer, {k: v for k, v in match.groupdict().items() if v})
        return _error(404, None, "Sorry, we can't find the page you are looking for.")

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
        return web.Response(status=302, headers={**headers, "Location": f"{self.url}/blobs/{tail}"})

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
        return await self._send(request, commit, file)

    async def _send(
        self, request: web.Request, commit: StandInCommit, file: StandInFile
    ) -> web.StreamResponse:
        asked = _RANGE.fullmatch(request.headers.get("Range", ""))
        start = min(int(asked[1]), file.size_bytes) if asked else 0
        response = web.StreamResponse(status=206 if asked else 200)
        response.headers["ETag"] = f'"{file.etag}"'
        response.headers["X-Repo-Commit"] = commit.commit
        response.headers["Accept-Ranges"] = "bytes"
        response.content_length = file.size_bytes - start
        if asked:
            response.headers["Content-Range"] = f"bytes {start}-{file.size_bytes - 1}/{file.size_bytes}"
        await response.prepare(request)
        if request.method == "GET":
            await self._stream(request, response, file, start)
        return response

    async def _stream(
        self, request: web.Request, response: web.StreamResponse, file: StandInFile, start: int
    ) -> None:
        cut = next((f for f in self.faults if f.cut_after_bytes is not None and f.take(file.path)), None)
        for chunk in file.read(start):
            if cut is not None and cut.cut_after_bytes is not None:
                await response.write(chunk[: cut.cut_after_bytes])
                if request.transport is not None:
                    request.transport.close()
                return
            await response.write(chunk)


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


async def _serve(host: str, port: int, repos: Mapping[str, Path]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, stop.set)
    stand_in = HubStandIn(host=host, port=port)
    for model_id, folder in repos.items():
        stand_in.add_repo(model_id, folder_files(folder))
    async with stand_in:
        sys.stdout.write(f"Hub stand-in listening on {stand_in.url}\n")
        sys.stdout.flush()
        await stop.wait()


def _repo_argument(text: str) -> tuple[str, Path]:
    model_id, separator, folder = text.partition("=")
    if not separator or not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} must be ID=FOLDER, and the folder must be there")
    return model_id, Path(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m plimsoll.sandbox.hubstandin", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--port", type=int, default=0, help="0: a free one; the first line of output tells it"
    )
    parser.add_argument(
        "--repo",
        type=_repo_argument,
        action="append",
        default=[],
        metavar="ID=FOLDER",
        help="serve a local folder",
    )
    options = parser.parse_args(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options.host, options.port, dict(options.repo)))


if __name__ == "__main__":
    main()
