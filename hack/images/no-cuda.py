"""Put small stand-ins for NVIDIA's libraries beside torch, so that its CUDA build loads without their 3 GB.

The only torch that PyPI has for x86-64 is linked against CUDA. On a machine without a GPU nothing of it is called
but "how many devices are there": every stand-in answers 100, cudaErrorNoDevice. For test images only.

`no-cuda.py SITE_PACKAGES`; needs readelf, nm and gcc.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

_NVIDIA = re.compile(r"^lib(cu|nv|nccl)")
_FUNCTION = re.compile(r"^(__cuda|_?cu|nccl|nv)\w+$")
_NO_DEVICE = 100


def _output(*command: str | Path) -> str:
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def _needed(library: Path) -> set[str]:
    return set(re.findall(r"\(NEEDED\)\s.*\[(.+)\]", _output("readelf", "-d", library)))


def _version_owners(library: Path) -> dict[str, str]:
    """Which library each version name belongs to."""
    owners, file = {}, ""
    for line in _output("readelf", "-V", "-W", library).splitlines():
        if named := re.search(r"File: (\S+)", line):
            file = named[1]
        elif version := re.search(r"Name: (\S+)\s+Flags:.*Version:", line):
            owners[version[1]] = file
    return owners


def _undefined(library: Path) -> set[tuple[str, str]]:
    """Functions of NVIDIA's that a library calls, with their version: the name of a library, or ""."""
    found = set()
    for line in _output("nm", "-D", "-u", library).splitlines():
        name, _, version = line.split()[-1].partition("@")
        if _FUNCTION.match(name):
            found.add((name, version.lstrip("@")))
    return found


def _build(target: Path, functions: list[str], *, version: str) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source, script = Path(scratch) / "stand_in.c", Path(scratch) / "versions"
        source.write_text("".join(f"int {name}(void) {{ return {_NO_DEVICE}; }}\n" for name in functions))
        script.write_text(f"{version} {{ global: *; }};\n")
        command = ["gcc", "-shared", "-fPIC", "-w", "-Os", "-fno-builtin", f"-Wl,-soname,{target.name}"]
        command += [f"-Wl,--version-script={script}"] if version else []
        subprocess.run([*command, str(source), "-o", str(target)], check=True)


def main(site_packages: Path) -> None:
    """Write one stand-in for each library of NVIDIA's that torch names and that is not there."""
    folder = site_packages / "torch" / "lib"
    libraries = sorted(folder.glob("*.so"))
    missing = {name for library in libraries for name in _needed(library) if _NVIDIA.match(name)}
    missing = {name for name in missing if not (folder / name).exists()}
    called = set().union(*(_undefined(library) for library in libraries))
    owners: dict[str, str] = {}
    for library in libraries:
        owners |= _version_owners(library)
    plain = sorted(name for name, version in called if not version)
    for name in sorted(missing):
        own = sorted(function for function, version in called if version and owners[version] == name)
        version = next((version for version, owner in owners.items() if owner == name), "")
        # Functions without a version are found in whatever library has them.
        _build(folder / name, own or plain, version=version)
    print(f"{len(missing)} stand-ins with {len(called)} functions: {', '.join(sorted(missing))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
