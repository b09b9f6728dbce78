"""The picture of an estimate: a bar per choice of hardware, true to scale, with its load line."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest
from cli_samples import run

if TYPE_CHECKING:
    from pathlib import Path

MISTRAL = "mistralai/Mistral-7B-Instruct-v0.3"
SVG = "{http://www.w3.org/2000/svg}"


def drawn(path: Path, *arguments: str) -> ET.Element:
    result = run("estimate", MISTRAL, *arguments, "--plot", str(path))
    assert result.exit_code in {0, 1}, result.stderr
    assert f"Wrote {path}." in result.stderr
    return ET.fromstring(path.read_text(encoding="utf-8"))


def texts(svg: ET.Element) -> list[str]:
    return [element.text or "" for element in svg.iter(f"{SVG}text")]


def test_each_card_has_a_bar_with_its_load_line(tmp_path: Path) -> None:
    svg = drawn(tmp_path / "bill.svg", "--gpu", "A10", "--gpu", "H100", "--gpu", "T4")

    assert len(list(svg.iter(f"{SVG}circle"))) == 3
    assert {"1 x A10", "1 x H100"} <= set(texts(svg))


def test_the_parts_stand_on_each_other_true_to_scale(tmp_path: Path) -> None:
    svg = drawn(tmp_path / "bill.svg", "--gpu", "A10")
    parts = [rect for rect in svg.iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None]
    outline = next(rect for rect in svg.iter(f"{SVG}rect") if rect.get("fill") == "none")

    tops = [float(rect.get("y", "")) for rect in parts]
    bottoms = [float(rect.get("y", "")) + float(rect.get("height", "")) for rect in parts]
    assert bottoms[1:] == pytest.approx(tops[:-1], abs=0.02)
    line = next(one for one in svg.iter(f"{SVG}line") if one.get("stroke-width") == "2")
    assert float(line.get("y1", "")) == pytest.approx(tops[-1], abs=0.02)
    share = sum(float(rect.get("height", "")) for rect in parts) / float(outline.get("height", ""))
    assert share == pytest.approx(0.92, abs=0.001)


def test_what_is_refused_is_drawn_over_its_line(tmp_path: Path) -> None:
    svg = drawn(tmp_path / "bill.svg", "--gpu", "T4", "--gpus-per-node", "1", "--tensor-parallel-size", "1")

    assert {"refused", "DoesNotFit", "needed"} <= set(texts(svg))
    needed = next(rect for rect in svg.iter(f"{SVG}rect") if "needed" in (rect.findtext(f"{SVG}title") or ""))
    line = next(one for one in svg.iter(f"{SVG}line") if one.get("stroke-width") == "2")
    assert float(needed.get("y", "")) < float(line.get("y1", ""))


def test_a_server_without_a_gpu_is_drawn(tmp_path: Path) -> None:
    assert "CPU" in texts(drawn(tmp_path / "bill.svg", "--tensor-parallel-size", "0"))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        pytest.param("bill.png", "names no SVG file; give a name that ends with .svg;", id="another format"),
        pytest.param("nowhere/bill.svg", "lies in a folder that is not there; make", id="no folder"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_work(tmp_path: Path, name: str, sentence: str) -> None:
    result = run("estimate", MISTRAL, "--gpu", "A10", "--plot", str(tmp_path / name))

    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bill.svg").mkdir()

    result = run("estimate", MISTRAL, "--gpu", "A10", "--plot", str(tmp_path / "bill.svg"))

    assert result.exit_code == 2
    assert "cannot be written (Is a directory)" in result.stderr
