"""hack/kind and hack/end-to-end without Docker: what they call, in which order, and what they say where something is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BASICS = ("bash", "cat", "cut", "dirname", "env", "grep", "rm", "sed")
LIST = "localhost/plimsoll:aa\tplimsoll\tDockerfile\t.\nlocalhost/engine:bb\t-\tengine/Dockerfile\tengine\n"
# Each call is one line of the log; NO_CLUSTER, NO_GATEWAY and the like are what the programs then answer.
DOCKER = """#!/usr/bin/env bash
printf 'docker %s\\n' "$*" >>"$LOG"
case "$1" in
  info) [ -z "${DOCKER_SILENT:-}" ] ;;
  build) [ -z "${BUILD_FAILS:-}" ] ;;
  network) printf 'fc00:f853:ccd:e793::1\\n'; [ -n "${NO_GATEWAY:-}" ] || printf '172.18.0.1\\n' ;;
esac
"""
KIND = """#!/usr/bin/env bash
printf 'kind %s\\n' "$*" >>"$LOG"
if [ "$1 $2" = "get clusters" ]; then printf '%s\\n' "${CLUSTERS:-}"; fi
if [ "$1 $2" = "create cluster" ]; then [ -z "${CREATE_FAILS:-}" ]; fi
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The script in a checkout whose other programs only write down that they were called."""
    root = tmp_path / "checkout"
    for folder in ("hack", ".venv/bin", "bin"):
        (root / folder).mkdir(parents=True)
    for name in ("kind", "kind.yaml", "end-to-end"):
        shutil.copy(ROOT / "hack" / name, root / "hack" / name)
    for name in BASICS:
        (root / "bin" / name).symlink_to(str(shutil.which(name)))
    _program(root / "hack" / "setup", "#!/usr/bin/env bash\n")
    _program(root / ".venv" / "bin" / "python", f"#!/usr/bin/env bash\nprintf '{LIST}'\n")
    return root


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _run(
    checkout: Path, script: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(checkout / "hack" / script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={
            "PATH": str(checkout / "bin"),
            "LOG": str(checkout / "log"),
            "HOME": str(checkout),
            **environment,
        },
    )


@pytest.fixture
def equipped(checkout: Path) -> Path:
    """With a docker and a kind, and an end-to-end that prints what it was called with."""
    _program(checkout / "bin" / "docker", DOCKER)
    _program(checkout / "bin" / "kind", KIND)
    _program(checkout / "hack" / "end-to-end", "#!/usr/bin/env bash\nprintf '%s\\n' \"$@\"\n")
    return checkout


@pytest.mark.parametrize("programs", [(), ("docker",)], ids=["no docker", "no kind"])
def test_a_missing_program_is_named_with_where_it_comes_from(
    checkout: Path, programs: tuple[str, ...]
) -> None:
    for name in programs:
        _program(checkout / "bin" / name, DOCKER)

    done = _run(checkout, "kind")

    assert done.returncode == 3
    missing = "kind" if programs else "docker"
    assert done.stderr.startswith(f"Error: {missing} is not on PATH; install")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"DOCKER_SILENT": "1"}, "docker does not answer; start its daemon"),
        ({"CREATE_FAILS": "1"}, "kind could not make the cluster plimsoll; see what it said"),
        ({"BUILD_FAILS": "1"}, "docker could not build localhost/plimsoll:aa; see what it said"),
        ({"NO_GATEWAY": "1"}, "Docker's network kind has no IPv4 gateway"),
    ],
    ids=["docker is silent", "no cluster", "no image", "no gateway"],
)
def test_what_goes_wrong_is_said_with_the_next_step(
    equipped: Path, environment: dict[str, str], said: str
) -> None:
    done = _run(equipped, "kind", **environment)

    assert (done.returncode, done.stdout) == (3, "")
    assert f"Error: {said}" in done.stderr


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("kind", ("upp",), "hack/kind knows no upp; see hack/kind --help."),
        ("end-to-end", (), "--kubeconfig is not given; see hack/end-to-end --help."),
        ("end-to-end", ("--context",), "--context needs a value; see hack/end-to-end --help."),
        ("end-to-end", ("--hub",), "hack/end-to-end knows no --hub; see hack/end-to-end --help."),
    ],
)
def test_wrong_usage_ends_with_2(checkout: Path, script: str, arguments: tuple[str, ...], said: str) -> None:
    done = _run(checkout, script, *arguments)

    assert (done.returncode, done.stderr) == (2, f"Error: {said}\n")


def test_a_kubeconfig_that_is_not_there_is_told(checkout: Path) -> None:
    arguments = ("--kubeconfig", "nowhere", "--context", "kind-x", "--hub-host", "172.18.0.1")

    done = _run(checkout, "end-to-end", *arguments)

    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("Error: there is no kubeconfig nowhere; ")


def test_another_context_than_the_named_one_is_refused(checkout: Path) -> None:
    kubectl = checkout / "bin" / "kubectl"
    _program(kubectl, "#!/usr/bin/env bash\nprintf 'production\\n'\n")
    python = f"#!/usr/bin/env bash\nprintf 'kubectl\\t{kubectl}\\nhelm\\t/nowhere/helm\\n'\n"
    _program(checkout / ".venv" / "bin" / "python", python)
    (checkout / "config").touch()
    arguments = ("--kubeconfig", str(checkout / "config"), "--context", "kind-x", "--hub-host", "172.18.0.1")

    done = _run(checkout, "end-to-end", *arguments)

    assert done.returncode == 3
    assert "is production, and --context names kind-x" in done.stderr


@pytest.mark.parametrize("script", ["kind", "end-to-end"])
def test_help_needs_nothing(checkout: Path, script: str) -> None:
    done = _run(checkout, script, "--help")

    assert done.returncode == 0
    assert f"hack/{script}" in done.stdout
    assert "set -" not in done.stdout


@pytest.mark.parametrize("there", [False, True], ids=["new cluster", "cluster is there"])
def test_the_cluster_gets_every_image_and_the_suite_its_address(equipped: Path, there: bool) -> None:
    done = _run(equipped, "kind", "-k", "measured", CLUSTERS="other\nplimsoll" if there else "")

    assert done.returncode == 0, done.stderr
    kubeconfig = f"{equipped}/.venv/kind-plimsoll.kubeconfig"
    made = f"kind create cluster --name plimsoll --config {equipped}/hack/kind.yaml --kubeconfig {kubeconfig} --wait 120s"
    kept = f"kind export kubeconfig --name plimsoll --kubeconfig {kubeconfig}"
    build = "docker build --quiet --build-arg BASE_IMAGE=python:3.11-slim-bookworm"
    assert (equipped / "log").read_text().splitlines() == [
        "docker info",
        "kind get clusters",
        kept if there else made,
        f"{build} --target plimsoll --file Dockerfile --tag localhost/plimsoll:aa .",
        "kind load docker-image localhost/plimsoll:aa --name plimsoll",
        f"{build} --file engine/Dockerfile --tag localhost/engine:bb engine",
        "kind load docker-image localhost/engine:bb --name plimsoll",
        "docker network inspect kind --format {{range .IPAM.Config}}{{println .Gateway}}{{end}}",
    ]
    assert done.stdout.split() == [
        *("--kubeconfig", kubeconfig),
        *("--context", "kind-plimsoll"),
        *("--hub-host", "172.18.0.1"),
        *("--", "-k", "measured"),
    ]


def test_delete_removes_the_cluster_and_its_kubeconfig(equipped: Path) -> None:
    kubeconfig = equipped / ".venv" / "kind-plimsoll.kubeconfig"
    kubeconfig.touch()

    done = _run(equipped, "kind", "delete")

    assert done.returncode == 0
    assert not kubeconfig.exists()
    assert f"kind delete cluster --name plimsoll --kubeconfig {kubeconfig}" in (equipped / "log").read_text()


def test_the_cluster_has_one_node() -> None:
    config = yaml.safe_load((ROOT / "hack" / "kind.yaml").read_text())

    assert (config["kind"], config["apiVersion"]) == ("Cluster", "kind.x-k8s.io/v1alpha4")
    assert config["nodes"] == [{"role": "control-plane"}]


def test_the_scripts_can_be_run() -> None:
    assert [os.access(ROOT / "hack" / name, os.X_OK) for name in ("kind", "end-to-end")] == [True, True]
