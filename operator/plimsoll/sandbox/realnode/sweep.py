"""Remove whatever a real node left: processes, mounts, interfaces, packet filter tables, cgroups, folders.

It needs no memory of the start: everything is found by the names of `layout`. What a crash left goes the same way.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from plimsoll.sandbox.processes import wait_until
from plimsoll.sandbox.realnode import layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CGROUPS: Final = Path("/sys/fs/cgroup")
_SYSCTL_FILE: Final = layout.RUN / "sysctls.json"
_END_SECONDS: Final = 20.0


def remember_sysctls() -> None:
    """Write down the kernel's settings before they are changed; a second start does not overwrite the first's."""
    if _SYSCTL_FILE.exists():
        return
    values = {name: _sysctl(name).read_text().strip() for name in layout.SYSCTLS if _sysctl(name).exists()}
    _SYSCTL_FILE.write_text(json.dumps(values))


def sweep() -> None:
    """Remove everything; does nothing where there is nothing.

    Raises:
        SandboxError: a process does not end.
    """
    _end_processes()
    _unmount()
    for command in (
        ("ip", "link", "delete", layout.BRIDGE),
        ("ip", "address", "delete", f"{layout.NODE_ADDRESS}/32", "dev", "lo"),
        *(("nft", "delete", "table", family, table) for family, table in layout.NFT_TABLES),
    ):
        subprocess.run(command, capture_output=True, check=False)  # it fails where there is none
    _remove_cgroups()
    _restore_sysctls()
    for folder in (layout.RUN, layout.DATA):
        shutil.rmtree(folder, ignore_errors=True)


def leftovers() -> tuple[str, ...]:
    """What of a node is there, in words."""
    found = [f"process {pid}" for pid in _pids()]
    found += [f"mount {path}" for path in _mounts()]
    found += [f"cgroup {path}" for path in _cgroups()]
    links = subprocess.run(["ip", "-o", "address"], capture_output=True, text=True, check=False).stdout
    found += [f"address {name}" for name in (layout.BRIDGE, layout.NODE_ADDRESS) if f" {name}" in links]
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=False).stdout
    found += [
        f"nft table {family} {table}"
        for family, table in layout.NFT_TABLES
        if f"table {family} {table}\n" in tables
    ]
    found += [f"folder {folder}" for folder in (layout.RUN, layout.DATA) if folder.exists()]
    return tuple(found)


def _end_processes() -> None:
    for pid in _pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not _pids(), what="the end of the node's processes", seconds=_END_SECONDS)


def _pids() -> tuple[int, ...]:
    """Containerd's shims, which survive it, and the processes in containers made from the node's images."""
    return tuple(
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if folder.name.isdecimal() and int(folder.name) != os.getpid() and _is_ours(folder)
    )


def _is_ours(process: Path) -> bool:
    try:
        if "State:\tZ" in (process / "status").read_text():
            return False
        argv = (process / "cmdline").read_bytes().split(b"\0")
        if argv[0].endswith(b"containerd-shim-runc-v2"):
            return str(layout.RUN).encode() in b" ".join(argv)
        mounts = (process / "mountinfo").read_text().splitlines()
    except OSError:  # it has ended in between
        return False
    return any(line.split()[4] == "/" and layout.SNAPSHOTS in line for line in mounts)


def _mounts() -> tuple[str, ...]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    return tuple(point for point in points if point.startswith((f"{layout.RUN}/", f"{layout.DATA}/")))


def _unmount() -> None:
    # Deepest first; a mount on a mount stands twice in the list.
    for point in sorted(_mounts(), reverse=True):
        subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)


def _cgroups() -> tuple[Path, ...]:
    """Those of our containers, and empty ones; another containerd of the machine has the same parent."""
    hierarchies: Iterable[Path] = (_CGROUPS, *(path for path in _CGROUPS.iterdir() if path.is_dir()))
    parents = dict.fromkeys((hierarchy / layout.CGROUP).resolve() for hierarchy in hierarchies)
    ours = set(_pids())
    return tuple(
        child
        for parent in parents
        if parent.is_dir()
        for child in parent.iterdir()
        if child.is_dir() and set(_processes(child)) <= ours
    )


def _processes(cgroup: Path) -> Iterator[int]:
    for path in cgroup.rglob("cgroup.procs"):
        with contextlib.suppress(OSError):
            yield from map(int, path.read_text().split())


def _remove_cgroups() -> None:
    for child in _cgroups():
        for folder, _, _ in os.walk(child, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
        with contextlib.suppress(OSError):
            child.parent.rmdir()  # fails while another containerd uses it


def _sysctl(name: str) -> Path:
    return Path("/proc/sys") / name


def _restore_sysctls() -> None:
    with contextlib.suppress(OSError, ValueError):
        for name, value in json.loads(_SYSCTL_FILE.read_text()).items():
            if name in layout.SYSCTLS:
                _sysctl(name).write_text(str(value))
