"""Which plugins are loaded: those that need another minigrad, or are switched off, are not; files in folders are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_plugins import HEADER, ONES, Site, listed, make_site, message, offering

import minigrad as mg
from minigrad.errors import PluginWarning
from minigrad.registry import PluginInfo, configure, registry

pytestmark = pytest.mark.host_only(reason="finding plugins computes nothing")

LOUD = "raise AssertionError('imported')\n"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = make_site(tmp_path, monkeypatch)
    yield made
    monkeypatch.undo()
    configure()
    made.modules += [name for name in sys.modules if name.startswith("minigrad_plugins_dir.")]
    made.clear()


# --- which minigrad a plugin needs


@pytest.mark.parametrize(
    ("requirement", "wanted"),
    [
        ("minigrad>=99", "minigrad>=99"),
        ("minigrad (>=99)", "minigrad>=99"),
        ("MiniGrad [plot] >=99,<100 ; python_version > '3'", "minigrad<100,>=99"),
        ("minigrad==0.0.1", "minigrad==0.0.1"),
    ],
)
def test_a_plugin_that_needs_another_minigrad_is_told_of_and_not_imported(
    site: Site, requirement: str, wanted: str
) -> None:
    site.install("minigrad-later", LOUD, requires=("numpy>=2", requirement))
    reason = f"it needs {wanted}, and this is minigrad 0.1.0: pip install '{wanted}', or another version of it"
    assert listed("minigrad-later") == [
        PluginInfo("plugin", "later", "minigrad-later", "1.0", f"incompatible: {reason}")
    ]
    assert "minigrad_later" not in sys.modules
    assert message(mg.PluginError, mg.cell, "later") == (
        f"minigrad-later 1.0 (entry point later = minigrad_later) is incompatible: {reason}"
    )
    told = message(mg.UnknownNameError, mg.cell, "something")
    assert f"\n  incompatible: minigrad-later 1.0 (entry point later = minigrad_later): {reason}" in told


@pytest.mark.parametrize(
    "requirement",
    [
        "minigrad",
        "minigrad>=0.0.1",
        "minigrad[plot]",
        "minigrad-extras>=99",
        "minigrad_extras>=99",
        "minigrad.extras>=99",
        "minigrad2>=99",
        "minigrad>=99; extra == 'later'",
        "minigrad>=99; python_version < '3'",
        "other>=99",
    ],
)
def test_a_plugin_whose_needs_are_met_is_loaded(site: Site, requirement: str) -> None:
    site.install("minigrad-now", offering(cells="now"), requires=(requirement,))
    assert mg.cell("now") == ("minigrad_now", "now")


def test_a_development_version_fits_what_was_released_before_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minigrad.registry.requirements.version", lambda name: "0.3.0.dev2")
    site.install("minigrad-old", offering(cells="old"), requires=("minigrad>=0.2",))
    site.install("minigrad-new", offering(cells="new"), requires=("minigrad>=0.3",))
    assert mg.cell("old") == ("minigrad_old", "old")
    assert "it needs minigrad>=0.3, and this is minigrad 0.3.0.dev2" in message(mg.PluginError, mg.cell, "new")


def test_a_requirement_that_cannot_be_read_is_a_failure_of_its_plugin(site: Site) -> None:
    site.install("minigrad-odd", LOUD, requires=("minigrad>>1",))
    (info,) = listed("minigrad-odd")
    assert info.status.startswith("failed: InvalidRequirement: ")


# --- plugins that are switched off


@pytest.mark.parametrize("name", ["minigrad-mgu", "Minigrad_MGU", "mgu", "minigrad-mgu:mgu"])
def test_a_plugin_is_switched_off_by_distribution_or_entry_point(
    site: Site, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    site.install("minigrad-mgu", LOUD)
    site.install("minigrad-good", offering(cells="good"))
    monkeypatch.setenv("MINIGRAD_DISABLE_PLUGINS", f" , {name} ,")
    how = f"MINIGRAD_DISABLE_PLUGINS={name}"
    assert listed("minigrad-mgu") == [PluginInfo("plugin", "mgu", "minigrad-mgu", "1.0", f"switched off: {how}")]
    assert "minigrad_mgu" not in sys.modules
    assert message(mg.PluginError, mg.cell, "mgu") == (
        f"minigrad-mgu 1.0 (entry point mgu = minigrad_mgu) is switched off: {how}"
    )
    assert f"switched off: minigrad-mgu 1.0 (entry point mgu = minigrad_mgu): {how}" in message(
        mg.UnknownNameError, mg.cell, "minimal"
    )
    assert mg.cell("good") == ("minigrad_good", "good")


def test_switching_one_off_settles_a_clash(site: Site) -> None:
    site.install("first-mgu", offering(cells="mgu"))
    site.install("second-mgu", offering(cells="mgu"))
    message(mg.PluginConflictError, mg.cell, "mgu")
    configure(disable=["first-mgu"])
    assert mg.cell("mgu") == ("second_mgu", "mgu")
    assert [info.status for info in mg.plugins() if info.distribution == "first-mgu"] == [
        "switched off: --disable-plugin first-mgu"
    ]
    configure()
    message(mg.PluginConflictError, mg.cell, "mgu")


def test_the_built_ins_can_be_switched_off_like_any_others(site: Site) -> None:
    site.install("better-lstm", offering(cells="lstm"))
    configure(disable=["minigrad:cells"])
    assert mg.cell("lstm") == ("better_lstm", "lstm")
    assert mg.loss("mse") is not None
    told = message(mg.UnknownNameError, mg.cell, "gru")
    assert "switched off: minigrad 0.1.0 (entry point cells = minigrad.cells): --disable-plugin minigrad:cells" in told


def test_a_name_that_switches_nothing_off_is_told_of_and_the_rest_works(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("minigrad-mgu", offering(cells="mgu"))
    monkeypatch.setenv("MINIGRAD_DISABLE_PLUGINS", "minigrad-mug,zzz")
    with pytest.warns(PluginWarning) as caught:
        assert mg.cell("mgu") == ("minigrad_mgu", "mgu")
    assert [str(warning.message) for warning in caught] == [
        "MINIGRAD_DISABLE_PLUGINS=minigrad-mug: there is no plugin of this name; did you mean minigrad-mgu?",
        "MINIGRAD_DISABLE_PLUGINS=zzz: there is no plugin of this name; `minigrad plugins` lists them",
    ]


# --- files in a folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site) -> Path:
    made = tmp_path / "my plugins"
    made.mkdir()
    monkeypatch.setenv("MINIGRAD_PLUGINS_DIR", str(made))
    return made


def test_a_file_in_the_folder_is_a_plugin(folder: Path) -> None:
    hook = "@mg.hookimpl\ndef minigrad_cells():\n    return {'ones': Ones}\n"
    (folder / "my-ones.py").write_text(HEADER + "__version__ = '2.5'\n" + ONES + hook, encoding="utf-8")
    (folder / "plain.py").write_text(offering(losses="plain"), encoding="utf-8")
    (folder / "notes.txt").write_text("not Python", encoding="utf-8")
    (folder / ".hidden.py").write_text(LOUD, encoding="utf-8")
    assert listed("my-ones.py") == [PluginInfo("cell", "ones", "my-ones.py", "2.5", "ok")]
    assert listed("plain.py") == [PluginInfo("loss", "plain", "plain.py", "?", "ok")]
    assert not [info for info in mg.plugins() if info.status != "ok"]
    ys, _ = mg.recurrent("ones", 3, 2)(mg.ones((5, 4, 3)))
    assert ys[-1].numpy().tolist() == [[15.0] * 2] * 4
    assert [path.name for path in folder.iterdir() if path.is_dir()] == []


def test_a_file_may_hold_what_looks_up_its_own_module(folder: Path) -> None:
    source = """
from __future__ import annotations
import dataclasses, typing, minigrad as mg
@dataclasses.dataclass
class Options:
    size: typing.ClassVar[int] = 3
@mg.hookimpl
def minigrad_cells():
    return {"mine": lambda: typing.get_type_hints(Options)}
"""
    (folder / "mine.py").write_text(source, encoding="utf-8")
    assert list(mg.cell("mine")) == ["size"]


def test_a_changed_file_is_read_anew_when_plugins_are_looked_for_again(folder: Path) -> None:
    (folder / "mine.py").write_text(offering(cells="one"), encoding="utf-8")
    assert mg.cell("one")[1] == "one"
    (folder / "mine.py").write_text(offering(cells="two"), encoding="utf-8")
    configure()
    assert mg.cell("two")[1] == "two"
    message(mg.UnknownNameError, mg.cell, "one")


def test_two_folders_may_have_files_of_one_name(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (folder / "mine.py").write_text(offering(cells="one"), encoding="utf-8")
    (other / "mine.py").write_text(offering(cells="two"), encoding="utf-8")
    configure(folders=[other, folder, f"{folder}/../other"])  # each once
    assert mg.cell("one")[0] != mg.cell("two")[0]
    assert [info.status for info in listed("mine.py")] == ["ok", "ok"]


@dataclass(frozen=True)
class Bad:
    source: str | bytes
    status: str


BAD = {
    "syntax": Bad("def broken(:", "failed: SyntaxError: invalid syntax (mine.py, line 1)"),
    "error": Bad("1 / 0", "failed: ZeroDivisionError: division by zero"),
    "exit": Bad("raise SystemExit(3)", "failed: SystemExit: 3"),
    "encoding": Bad(b"x = '\xe9'\n", "failed: SyntaxError: (unicode error) 'utf-8' codec can't decode byte 0xe9"),
    "empty": Bad("", "failed: PluginError: it implements none of the hooks minigrad_cells, minigrad_wrappers, "
                     "minigrad_losses, minigrad_optimizers, minigrad_callbacks. A file in a folder of plugins has such "
                     "functions, decorated with @minigrad.hookimpl"),
    "misspelt": Bad(HEADER + "@mg.hookimpl\ndef minigrad_cell(): return {}",
                    "failed: PluginError: there is no hook minigrad_cell; did you mean minigrad_cells?"),
    "eager": Bad(HEADER + "mg.cell('lstm', 2, 3)", "failed: PluginError: a plugin asked minigrad for a registered"),
    "later": Bad("# /// script\n# requires-python = '>=3'\n# dependencies = ['numpy', 'minigrad>=99']\n# ///\n" + LOUD,
                 "incompatible: it needs minigrad>=99, and this is minigrad 0.1.0: pip install 'minigrad>=99'"),
    "no TOML": Bad("# /// script\n# dependencies = [\n# ///\n" + LOUD,
                   "failed: PluginError: its comment '# /// script' is no TOML: "),
    "no list": Bad("# /// script\n# dependencies = 'minigrad'\n# ///\n" + LOUD,
                   "failed: PluginError: the dependencies in its comment '# /// script' are 'minigrad', not a list"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_listed_and_raised_when_it_is_asked_for(folder: Path, bad: Bad) -> None:
    path = folder / "mine.py"
    path.write_bytes(bad.source if isinstance(bad.source, bytes) else bad.source.encode())
    (folder / "good.py").write_text(offering(cells="good"), encoding="utf-8")
    assert mg.cell("good")[1] == "good"
    (info,) = listed("mine.py")
    assert (info.kind, info.name, info.version) == ("plugin", "mine", "?")
    assert info.status.startswith(bad.status)
    told = message(mg.PluginError, mg.cell, "mine")
    assert told.startswith(f"mine.py (file {path}) ")
    assert ("minigrad_plugins_dir.mine" in sys.modules) == (bad in (BAD["empty"], BAD["misspelt"]))


def test_a_file_whose_needs_are_met_is_loaded(folder: Path) -> None:
    head = "# /// script\r\n# dependencies = [\r\n#   'minigrad>=0.0.1',\r\n# ]\r\n# ///\r\n"
    (folder / "mine.py").write_bytes((head + offering(cells="mine")).encode())
    assert mg.cell("mine")[1] == "mine"


@pytest.mark.parametrize("name", ["mine", "mine.py"])
def test_a_file_can_be_switched_off(folder: Path, name: str) -> None:
    (folder / "mine.py").write_text(LOUD, encoding="utf-8")
    configure(disable=[name])
    assert [info.status for info in listed("mine.py")] == [f"switched off: --disable-plugin {name}"]
    assert message(mg.PluginError, mg.cell, "mine").endswith(f"is switched off: --disable-plugin {name}")


def test_a_file_that_clashes_is_an_error(folder: Path) -> None:
    (folder / "mine.py").write_text(offering(cells="lstm"), encoding="utf-8")
    told = message(mg.PluginConflictError, mg.cell, "lstm", 2, 3)
    assert f"and by mine.py (file {folder / 'mine.py'})" in told
    assert "minigrad 0.1.0 (entry point cells = minigrad.cells)" in told


@pytest.mark.parametrize("what", ["missing", "a file"])
def test_a_folder_that_cannot_be_read_is_told_of(folder: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    place = folder / "nowhere"
    if what == "a file":
        place.write_text("", encoding="utf-8")
    monkeypatch.setenv("MINIGRAD_PLUGINS_DIR", str(place))
    (info,) = listed("nowhere")
    assert f"MINIGRAD_PLUGINS_DIR={place}: the folder of plugins cannot be read: " in info.status
    assert "the folder of plugins cannot be read" in message(mg.UnknownNameError, mg.cell, "mine")
    assert mg.cell("lstm", 2, 3).hidden_size == 3


def test_importing_minigrad_reads_no_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "loud.py").write_text("print('loaded')\n" + offering(cells="loud"), encoding="utf-8")
    script = "import minigrad as mg\nmg.LSTM, mg.tanh, dir(mg)\nprint('imported')\nmg.cell('loud')\n"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["imported", "loaded"]


def test_the_registry_does_not_change_while_nobody_asks_for_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = registry()
    monkeypatch.setenv("MINIGRAD_DISABLE_PLUGINS", "minigrad")
    assert registry() is made
    configure()
    assert {info.status for info in mg.plugins()} == {"switched off: MINIGRAD_DISABLE_PLUGINS=minigrad"}
