"""A checkpoint names the plugins that it was written with, and whoever lacks one is told what to install."""

from __future__ import annotations

import copy
import gc
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_plugins import HEADER, ONES, Site, make_site, message, offering
from safetensors import safe_open
from safetensors.numpy import save_file
from typer.testing import CliRunner, Result

import minigrad as mg
from minigrad.checkpoint import load_checkpoint, save_checkpoint
from minigrad.cli import app
from minigrad.errors import PluginWarning
from minigrad.registry import PluginInfo, configure, origins
from minigrad.registry.origins import _made

pytestmark = pytest.mark.host_only("files hold host arrays")

# A cell as a class, and one made by a function; a wrapper that returns the cell it is given.
MGU = (
    HEADER
    + ONES
    + """
class Weighted(Ones):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.weight = mg.Parameter(mg.ones(input_size))

    def step(self, x, state):
        return super().step(x * self.weight, state)

@mg.hookimpl
def minigrad_cells():
    return {"mgu": Weighted, "made": lambda *sizes: Ones(*sizes)}

@mg.hookimpl
def minigrad_wrappers():
    return {"same": lambda cell: cell}
"""
)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = make_site(tmp_path, monkeypatch)
    made.install("minigrad-mgu", MGU, version="0.3")
    yield made
    monkeypatch.undo()
    configure()
    made.clear()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "c.safetensors"


def mgu(kind: str = "cell", name: str = "mgu") -> PluginInfo:
    return PluginInfo(kind, name, "minigrad-mgu", "0.3")


def written(path: Path) -> Any:
    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["minigrad"])["$plugins"]


# --- where things come from


def test_what_is_made_by_name_is_known_by_its_origin(site: Site) -> None:
    assert origins(mg.cell("mgu", 2, 3)) == [mgu()]
    assert origins(mg.cell("made", 2, 3)) == [mgu(name="made")]
    assert origins(mg.wrapper("same", mg.cell("made", 2, 3))) == [mgu(name="made"), mgu("wrapper", "same")]
    assert origins(mg.loss("mse")) == [PluginInfo("loss", "mse", "minigrad", "0.1.0")]
    assert origins(mg.optimizer("sgd", [mg.Parameter([1.0])])) == [PluginInfo("optimizer", "sgd", "minigrad", "0.1.0")]
    assert str(mgu()) == "minigrad-mgu:mgu@0.3"


def test_a_model_comes_from_what_is_in_it_each_once(site: Site) -> None:
    model = mg.Sequential(mg.recurrent("mgu", 2, 3, num_layers=2), mg.Linear(3, 2), mg.recurrent("lstm", 2, 2))
    assert origins(model, model) == [mgu(), PluginInfo("cell", "lstm", "minigrad", "0.1.0")]


def test_instances_of_a_registered_class_are_known_however_they_were_made(site: Site) -> None:
    import minigrad_mgu

    cell = minigrad_mgu.Weighted(2, 3)
    assert origins(cell) == origins(cell.clone()) == origins(copy.deepcopy(cell)) == [mgu()]
    assert origins(mg.Bidirectional(mg.GRUCell(2, 3))) == [
        PluginInfo("wrapper", "bidirectional", "minigrad", "0.1.0"),
        PluginInfo("cell", "gru", "minigrad", "0.1.0"),
    ]


def test_what_comes_from_no_plugin_has_no_origin_and_nothing_is_kept_alive(site: Site) -> None:
    class Mine(mg.GRUCell):
        pass

    assert origins(Mine(2, 3), mg.Linear(2, 3), print, {"a": 1}) == []
    made = mg.cell("made", 2, 3)
    gone = id(made)
    del made
    gc.collect()
    assert gone not in _made
    site.install("minigrad-odd", offering(cells="odd"))
    assert mg.cell("odd") == ("minigrad_odd", "odd")  # a tuple cannot be remembered, and need not be
    assert "not of a name: 'mgu'" in message(TypeError, origins, "mgu")


# --- what a file says


def test_a_file_names_the_plugins_of_its_contents_and_those_it_is_told_of(site: Site, path: Path) -> None:
    layer = mg.recurrent("mgu", 2, 3)
    optimizer = mg.optimizer("sgd", layer.parameters(), lr=0.1)
    save_checkpoint(path, {"model": layer, "all": [{"optimizer": optimizer}]}, plugins=[mg.loss("mse"), mgu("x", "y")])
    assert written(path) == {
        "cell": ["minigrad-mgu:mgu@0.3"],
        "optimizer": ["minigrad:sgd@0.1.0"],
        "loss": ["minigrad:mse@0.1.0"],
        "x": ["minigrad-mgu:y@0.3"],
    }
    save_checkpoint(path, {"model": layer.state_dict()})
    assert written(path) == {}


def test_modules_and_optimizers_stand_for_their_state_dicts(site: Site, path: Path) -> None:
    layer = mg.recurrent("mgu", 2, 3)
    optimizer = mg.optimizer("adam", layer.parameters(), lr=0.25)
    layer(mg.ones((3, 1, 2)))[0].sum().backward()
    optimizer.step()
    save_checkpoint(path, {"model": layer, "optimizer": optimizer})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = load_checkpoint(path)
    again = mg.recurrent("mgu", 2, 3)
    again.load_state_dict(back["model"])
    np.testing.assert_array_equal(again.cell.weight.numpy(), layer.cell.weight.numpy())
    assert again.cell.weight.numpy()[0] == pytest.approx(0.75)
    other = mg.optimizer("adam", again.parameters(), lr=0.1)
    other.load_state_dict(back["optimizer"])
    assert other.groups[0]["lr"] == 0.25


def test_a_missing_plugin_is_told_with_what_to_install(site: Site, path: Path) -> None:
    layer = mg.recurrent("mgu", 2, 3)
    save_checkpoint(path, {"model": layer}, plugins=[mg.wrapper("same", layer), mg.loss("mse")])
    site.uninstall("minigrad-mgu")
    told = message(mg.CheckpointError, load_checkpoint, path)
    assert told == (
        f"{path} needs plugins that are not there:\n"
        "  the wrapper 'same' of minigrad-mgu 0.3: pip install 'minigrad-mgu==0.3'\n"
        "  the cell 'mgu' of minigrad-mgu 0.3: pip install 'minigrad-mgu==0.3'\n"
        "Its arrays can be read without them: load_checkpoint(path, check_plugins=False)"
    )
    back = load_checkpoint(path, check_plugins=False)
    np.testing.assert_array_equal(back["model"]["cell.weight"], np.ones(2))


def test_why_a_plugin_is_not_there(site: Site, path: Path) -> None:
    save_checkpoint(path, {"model": mg.recurrent("mgu", 2, 3)})
    configure(disable=["mgu"])
    assert "minigrad-mgu 0.3: it is installed, but switched off: --disable-plugin mgu\n" in message(
        mg.CheckpointError, load_checkpoint, path
    )
    configure()
    site.uninstall("minigrad-mgu")
    site.install("minigrad-mgu", "1 / 0", version="0.3")
    assert "it is installed, but failed: ZeroDivisionError: division by zero\n" in message(
        mg.CheckpointError, load_checkpoint, path
    )
    site.uninstall("minigrad-mgu")
    site.install("minigrad-mgu", offering(cells="mgu2"), version="0.4")
    assert "version 0.4 is there, and has no such cell: pip install 'minigrad-mgu==0.3'\n" in message(
        mg.CheckpointError, load_checkpoint, path
    )
    site.uninstall("minigrad-mgu")
    site.install("other-mgu", offering(cells="mgu"))
    assert "pip install 'minigrad-mgu==0.3' (here this name is other-mgu:mgu@1.0)\n" in message(
        mg.CheckpointError, load_checkpoint, path
    )


def test_another_version_is_a_warning(site: Site, path: Path) -> None:
    save_checkpoint(path, {"model": mg.recurrent("mgu", 2, 3), "other": mg.cell("made", 2, 3)})
    site.uninstall("minigrad-mgu")
    site.install("Minigrad_MGU", MGU, version="0.4")
    with pytest.warns(PluginWarning) as caught:
        back = load_checkpoint(path)
    assert [str(warning.message) for warning in caught] == [
        f"{path} was written with minigrad-mgu 0.3 (cell 'mgu', cell 'made'), and this is 0.4"
    ]
    assert caught[0].filename == __file__
    assert list(back["model"]) == ["cell.weight"]


def test_a_plugin_in_a_file_is_asked_for_as_a_file(site: Site, path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "my cell.py").write_text(MGU.replace('"mgu"', '"mine"'), encoding="utf-8")
    configure(folders=[folder])
    save_checkpoint(path, {"model": mg.recurrent("mine", 2, 3)})
    assert written(path) == {"cell": ["my cell.py:mine@?"]}
    load_checkpoint(path)
    configure()
    assert (
        "the cell 'mine' of my cell.py: put my cell.py into a folder, and name it by --plugins-dir or "
        "MINIGRAD_PLUGINS_DIR\n"
    ) in message(mg.CheckpointError, load_checkpoint, path)


@pytest.mark.parametrize("plugins", ["[]", "{", '{"cell": "mgu"}', '{"cell": ["mgu"]}', '{"cell": [3]}'])
def test_a_damaged_list_of_plugins_is_told(path: Path, plugins: str) -> None:
    save_file({"w": np.ones(2)}, path, metadata={"minigrad": f'{{"$plugins": {plugins}}}'})
    with pytest.raises(mg.CheckpointError, match="was not written by minigrad"):
        load_checkpoint(path)


def test_two_files_of_the_same_contents_are_the_same(site: Site, tmp_path: Path) -> None:
    layer = mg.recurrent("mgu", 2, 3)
    files = [tmp_path / f"{number}.safetensors" for number in range(8)]
    for file in files:
        save_checkpoint(file, {"model": layer}, plugins=[mg.loss("mse")])
    assert len({file.read_bytes() for file in files}) == 1


# --- the demo


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


@pytest.fixture
def text(tmp_path: Path) -> Path:
    made = tmp_path / "text.txt"
    made.write_text("the cat sat on the mat. " * 60, encoding="utf-8")
    return made


def test_the_demo_runs_a_cell_from_a_file(site: Site, tmp_path: Path, text: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "my_cell.py").write_text(MGU.replace('"mgu"', '"mine"'), encoding="utf-8")
    common = ("demo", "--text", text, "--out", tmp_path / "out", "--length", 10)
    start = ("--cell", "mine", "--hidden-size", 4, "--epochs", 1)
    result = run("--plugins-dir", folder, *common, *start)
    assert result.exit_code == 0, result.output
    result = run(*common, "--resume", "--epochs", 2)
    assert result.exit_code == 1
    assert "the cell 'mine' of my_cell.py: put my_cell.py into a folder" in result.output
    result = run("--plugins-dir", folder, *common, "--resume", "--epochs", 2)
    assert result.exit_code == 0, result.output
    assert "epoch 2/2: training" in result.output


def test_the_demos_checkpoint_needs_its_cells_plugin(site: Site, tmp_path: Path, text: Path) -> None:
    common = ("demo", "--text", text, "--out", tmp_path / "out", "--length", 10)
    result = run(*common, "--cell", "mgu", "--hidden-size", 4, "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert written(tmp_path / "out" / "model.safetensors") == {
        "cell": ["minigrad-mgu:mgu@0.3"],
        "optimizer": ["minigrad:adam@0.1.0"],
        "loss": ["minigrad:cross_entropy@0.1.0"],
    }
    resume = (*common, "--resume", "--epochs", 2)
    result = run("--disable-plugin", "mgu", *resume)
    assert result.exit_code == 1
    assert "the cell 'mgu' of minigrad-mgu 0.3: it is installed, but switched off: --disable" in result.output
    site.uninstall("minigrad-mgu")
    result = run(*resume)
    assert result.exit_code == 1
    assert "the cell 'mgu' of minigrad-mgu 0.3: pip install 'minigrad-mgu==0.3'" in result.output
    assert "Traceback" not in result.output
    site.install("minigrad-mgu", MGU, version="0.4")
    result = run(*resume)
    assert result.exit_code == 0, result.output
    assert "Notice: " in result.output
    assert "was written with minigrad-mgu 0.3 (cell 'mgu'), and this is 0.4" in result.output
    assert "epoch 2/2: training" in result.output
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_checkpoint(tmp_path / "out" / "model.safetensors")  # which was written anew
