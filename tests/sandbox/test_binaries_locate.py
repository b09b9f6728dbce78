"""The order in which a binary is looked for, and that two at once do not disturb each other."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from plimsoll.sandbox.binaries import control_plane_binaries
from plimsoll.sandbox.binaries.locate import CONTROL_PLANE, cache_folder
from plimsoll.sandbox.errors import SandboxError
from plimsoll.sandbox.processes import free_ports
from plimsoll.sandbox.progress import Silent

# Writes what it is asked to install, after noting that it ran; enough of Go for the cache.
FAKE_GO = """#!/bin/sh
if [ "$1" = env ]; then echo go1.99.0; exit 0; fi
for last; do :; done
name=$(basename "$last"); [ "$name" != v3 ] || name=server
echo "$last" >> "$PLIMSOLL_TEST_LOG"
[ "$PLIMSOLL_TEST_FAIL" != "$name" ] || { echo "go: no such host" >&2; exit 1; }
printf '#!/bin/sh\\n' > "$GOBIN/$name"; chmod +x "$GOBIN/$name"
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """No official build answers, and a Go that builds at once."""
    tools = tmp_path / "bin"
    tools.mkdir()
    program(tools / "go", FAKE_GO)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PLIMSOLL_TEST_LOG", str(tmp_path / "built"))
    monkeypatch.setenv("PLIMSOLL_TEST_FAIL", "")
    nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
    return {
        "PLIMSOLL_CACHE": str(tmp_path / "cache"),
        "PLIMSOLL_KUBERNETES_DOWNLOADS": nowhere,
        "PLIMSOLL_ETCD_DOWNLOADS": nowhere,
    }


def program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def built(environment: dict[str, str]) -> list[str]:
    log = Path(environment["PLIMSOLL_CACHE"]).with_name("built")
    return [line.rsplit("/", 1)[-1] for line in log.read_text().split()] if log.exists() else []


def test_what_the_cache_lacks_is_built_once(environment: dict[str, str]) -> None:
    first = control_plane_binaries(environment=environment)
    second = control_plane_binaries(environment=environment)

    assert first.paths == second.paths
    assert all(os.access(first[name], os.X_OK) for name in CONTROL_PLANE)
    assert len(CONTROL_PLANE) == len(built(environment))


def test_assets_come_before_the_cache(environment: dict[str, str], tmp_path: Path) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    own = program(assets / "kubectl")

    found = control_plane_binaries(environment={**environment, "KUBEBUILDER_ASSETS": str(assets)})

    assert own == found["kubectl"]
    assert "kubectl" not in built(environment)
    assert "kube-apiserver" in built(environment)


def test_assets_that_are_no_folder_are_refused(environment: dict[str, str]) -> None:
    with pytest.raises(SandboxError, match=r"KUBEBUILDER_ASSETS is '/nowhere'.*unset it"):
        control_plane_binaries(environment={**environment, "KUBEBUILDER_ASSETS": "/nowhere"})


def test_a_failed_build_leaves_no_half_program_and_quotes_its_end(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLIMSOLL_TEST_FAIL", "kube-apiserver")

    with pytest.raises(SandboxError, match=r"kube-apiserver could not be built(.|\n)*no such host"):
        control_plane_binaries(environment=environment)

    left = sorted(path.name for path in Path(environment["PLIMSOLL_CACHE"]).rglob("*") if path.is_file())
    assert left == [".lock", "etcd"]


def test_two_at_once_build_everything_once(environment: dict[str, str]) -> None:
    threads = [
        threading.Thread(target=control_plane_binaries, kwargs={"environment": environment}) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(CONTROL_PLANE) == len(built(environment))


def test_a_cache_that_cannot_be_written_names_the_variable(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SandboxError, match="set PLIMSOLL_CACHE to a folder"):
        control_plane_binaries(
            Silent(), environment={**environment, "PLIMSOLL_CACHE": str(tmp_path / "file")}
        )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PLIMSOLL_CACHE": "/a"}, Path("/a")),
        ({"XDG_CACHE_HOME": "/b"}, Path("/b/plimsoll")),
        ({}, Path.home() / ".cache" / "plimsoll"),
    ],
    ids=["own variable", "XDG", "home"],
)
def test_where_the_cache_is(environment: dict[str, str], expected: Path) -> None:
    assert expected == cache_folder(environment)
