"""What the Hub stand-in holds: repositories with commits, files with content or with a size only."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from plimsoll.sizing import catalogue
from plimsoll.sizing.selection import is_weight_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from plimsoll.sizing.facts import ModelFacts

CREATED_AT: Final = "2026-01-01T00:00:00.000Z"
_LFS_POINTER_BYTES: Final = 135
_CHUNK_BYTES: Final = 2**20

Content = bytes | Path | int  # an int is a size: the stand-in knows the file and cannot give it


@dataclass(frozen=True, slots=True, kw_only=True)
class StandInFile:
    """One file of one commit, with the names that git and LFS give its content."""

    path: str
    content: Content
    size_bytes: int
    blob_id: str  # git's SHA-1; of the pointer where the file lies in LFS
    sha256: str | None  # of the content where the file lies in LFS

    @property
    def etag(self) -> str:
        """What the Hub gives as ETag: the LFS hash, else the git hash."""
        return self.sha256 or self.blob_id

    def read(self, start: int = 0) -> Iterator[bytes]:
        """The content from an offset on, in chunks.

        Raises:
            FileNotFoundError: the stand-in has the size only.
        """
        if isinstance(self.content, int):
            raise FileNotFoundError(self.path)
        if isinstance(self.content, bytes):
            yield self.content[start:]
            return
        with self.content.open("rb") as stream:
            stream.seek(start)
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class StandInCommit:
    """One commit: its hash and its files by path."""

    commit: str
    files: Mapping[str, StandInFile]
    parameters_by_dtype: Mapping[str, int]
    has_chat_template: bool


@dataclass(slots=True, kw_only=True)
class StandInRepo:
    """One repository: its revisions (branches, tags) and who may read it."""

    model_id: str
    gated: bool = False
    private: bool = False
    revisions: dict[str, StandInCommit] = field(default_factory=dict)

    def resolve(self, revision: str) -> StandInCommit | None:
        """The commit of a branch, a tag, or a commit hash."""
        by_commit = {commit.commit: commit for commit in self.revisions.values()}
        return self.revisions.get(revision) or by_commit.get(revision)

    def info(self, commit: StandInCommit, *, blobs: bool) -> dict[str, Any]:
        """The JSON of /api/models/{id}, with the keys that the Hub gives."""
        author, _, _ = self.model_id.rpartition("/")
        info: dict[str, Any] = {
            "_id": hashlib.sha1(self.model_id.encode(), usedforsecurity=False).hexdigest()[:24],
            "id": self.model_id,
            "modelId": self.model_id,
            "author": author or None,
            "sha": commit.commit,
            "lastModified": CREATED_AT,
            "createdAt": CREATED_AT,
            "private": self.private,
            "disabled": False,
            "gated": "manual" if self.gated else False,
            "downloads": 0,
            "likes": 0,
            "tags": ["transformers", "region:sandbox"],
            "library_name": "transformers",
            "pipeline_tag": "text-generation",
            "config": _config_summary(commit),
            "siblings": [_sibling(file, blobs=blobs) for file in commit.files.values()],
            "usedStorage": sum(file.size_bytes for file in commit.files.values()),
        }
        if commit.parameters_by_dtype:
            info["safetensors"] = {
                "parameters": dict(commit.parameters_by_dtype),
                "total": sum(commit.parameters_by_dtype.values()),
            }
        return info

    def tree(self, commit: StandInCommit, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
        """The JSON of /api/models/{id}/tree/{revision}[/folder]."""
        prefix = f"{folder}/" if folder else ""
        entries: dict[str, dict[str, Any]] = {}
        for file in commit.files.values():
            if not file.path.startswith(prefix):
                continue
            inner, slash, _ = file.path.removeprefix(prefix).partition("/")
            if slash and not recursive:
                oid = hashlib.sha1(inner.encode(), usedforsecurity=False).hexdigest()
                entries[inner] = {"type": "directory", "oid": oid, "size": 0, "path": prefix + inner}
                continue
            entry: dict[str, Any] = {
                "type": "file",
                "oid": file.blob_id,
                "size": file.size_bytes,
                "path": file.path,
            }
            if file.sha256 is not None:
                entry["lfs"] = {
                    "oid": file.sha256,
                    "size": file.size_bytes,
                    "pointerSize": _LFS_POINTER_BYTES,
                }
            entries[file.path] = entry
        return list(entries.values())


def make_commit(
    model_id: str,
    files: Mapping[str, Content],
    *,
    parameters_by_dtype: Mapping[str, int] | None = None,
    has_chat_template: bool = False,
) -> StandInCommit:
    """A commit whose hash follows from its content, so that the same content has the same commit."""
    made = {path: _file(path, content) for path, content in sorted(files.items())}
    digest = hashlib.sha1(model_id.encode(), usedforsecurity=False)
    for file in made.values():
        digest.update(f"\0{file.path}\0{file.etag}\0{file.size_bytes}".encode())
    return StandInCommit(
        commit=digest.hexdigest(),
        files=made,
        parameters_by_dtype=parameters_by_dtype or {},
        has_chat_template=has_chat_template,
    )


def catalogue_repos() -> Iterator[StandInRepo]:
    """One repository for each model of the bundled catalogue, its weights with their sizes only."""
    for model_id in catalogue.model_ids():
        facts = catalogue.lookup(model_id)
        if facts is not None:
            yield _catalogue_repo(facts)


def folder_files(folder: Path) -> dict[str, Content]:
    """The files of a local folder, read when they are asked for."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _catalogue_repo(facts: ModelFacts) -> StandInRepo:
    files: dict[str, Content] = {file.path: file.size_bytes for file in facts.files}
    files["config.json"] = (json.dumps(facts.config, indent=2) + "\n").encode()
    commit = make_commit(
        facts.model_id,
        files,
        parameters_by_dtype=facts.parameters_by_dtype,
        has_chat_template=facts.has_chat_template,
    )
    return StandInRepo(
        model_id=facts.model_id, gated=catalogue.is_gated(facts.model_id), revisions={"main": commit}
    )


def _file(path: str, content: Content) -> StandInFile:
    size = content if isinstance(content, int) else _size(content)
    sha256 = _digest("sha256", path, content) if is_weight_file(path) else None
    header = b"blob %d\0" % size
    blob_id = _digest("sha1", path, content, header) if sha256 is None else sha256[:40]
    return StandInFile(path=path, content=content, size_bytes=size, blob_id=blob_id, sha256=sha256)


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _digest(algorithm: str, path: str, content: Content, header: bytes = b"") -> str:
    digest = hashlib.new(algorithm, header, usedforsecurity=False)
    if isinstance(content, int):
        digest.update(f"{path}\0{content}".encode())  # no content: a name of its own will do
    elif isinstance(content, bytes):
        digest.update(content)
    else:
        with content.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def _sibling(file: StandInFile, *, blobs: bool) -> dict[str, Any]:
    sibling: dict[str, Any] = {"rfilename": file.path}
    if blobs:
        sibling |= {"size": file.size_bytes, "blobId": file.blob_id}
        if file.sha256 is not None:
            sibling["lfs"] = {
                "sha256": file.sha256,
                "size": file.size_bytes,
                "pointerSize": _LFS_POINTER_BYTES,
            }
    return sibling


def _config_summary(commit: StandInCommit) -> dict[str, Any]:
    """The few keys of config.json and tokenizer_config.json that the Hub puts into a model's info."""
    config = _json_object(commit, "config.json")
    summary: dict[str, Any] = {key: config[key] for key in ("architectures", "model_type") if key in config}
    template = _json_object(commit, "tokenizer_config.json").get("chat_template")
    if commit.has_chat_template:
        template = template or "{{ messages }}"
    if template:
        summary["tokenizer_config"] = {"chat_template": template}
    return summary


def _json_object(commit: StandInCommit, path: str) -> dict[str, Any]:
    file = commit.files.get(path)
    if file is None or isinstance(file.content, int):
        return {}
    try:
        data = json.loads(b"".join(file.read()))
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
