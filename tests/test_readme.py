"""The README says what the code does: its Python runs, its table is the public API, its commands are the real ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import minigrad as mg

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_blocks_run_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) >= 4
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    printed = re.findall(r"print\(.*\)  # (.*)", README)
    assert capsys.readouterr().out.splitlines() == printed


@pytest.mark.host_only("reads text")
def test_the_cell_of_ones_own_has_ten_lines() -> None:
    block = re.search(r"class MGU.*?(?=```)", README, re.S)
    assert block is not None
    assert len(block[0].strip().splitlines()) == 10


@pytest.mark.host_only("reads text")
def test_the_api_table_lists_exactly_the_public_names() -> None:
    table = README.split("## The API")[1]
    rows = [line for line in table.splitlines() if line.startswith("| ") and "---" not in line][1:]
    listed = [name for row in rows for name in re.findall(r"`([\w.]+)`", row) if "." not in name]
    assert len(listed) == len(set(listed))
    assert sorted(listed) == sorted(mg.__all__)
    assert all(hasattr(mg, name) for name in listed)


@pytest.mark.host_only("reads text")
def test_the_reading_order_names_files_that_exist_and_leaves_none_out() -> None:
    table = README.split("## Reading the code")[1].split("## The API")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = {name.removeprefix("minigrad/").rstrip("/") for cell in cells for name in re.findall(r"`([\w./]+)`", cell)}
    there = {path.name for path in (ROOT / "minigrad").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert named == there - {"__init__.py", "__main__.py", "__pycache__"}


@pytest.mark.host_only("reads text")
def test_each_file_is_below_400_lines() -> None:
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "minigrad").rglob("*.py")}
    assert {path.name: size for path, size in sizes.items() if size >= 400} == {}


@pytest.mark.host_only("reads text")
def test_built_in_names_are_those_of_the_registry() -> None:
    text = README.split("Built-in names: ")[1].split(". Weights")[0]
    for kind, plural in {"cell": "cells", "wrapper": "wrapper", "loss": "losses", "optimizer": "optimizers"}.items():
        names = re.search(rf"{plural} `([^`]+)`", text)
        assert names is not None
        ours = [i.name for i in mg.plugins() if i.kind == kind and i.distribution == "minigrad"]
        assert sorted(names[1].split()) == sorted(ours)
