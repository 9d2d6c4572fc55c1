"""Plugins of all sorts: good, broken, clashing and strange ones. None may take another down or vanish silently."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_plugins import HEADER, ONES, Site, listed, make_site, message, offering

import minigrad as mg
from minigrad.registry import PluginInfo, registry

pytestmark = pytest.mark.host_only(reason="finding plugins computes nothing")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = make_site(tmp_path, monkeypatch)
    yield made
    monkeypatch.undo()
    made.clear()


def failure(distribution: str) -> str:
    """The status of the one thing that went wrong with a distribution."""
    (info,) = [info for info in listed(distribution) if info.kind == "plugin"]
    assert info.status.startswith("failed: ")
    assert info.version == "1.0"
    return info.status.removeprefix("failed: ")


# --- built-ins, and good plugins


def test_the_built_ins_come_from_entry_points_like_any_others() -> None:
    names: dict[str, list[str]] = {}
    for info in mg.plugins():
        if info.distribution == "minigrad":
            assert (info.status, info.version) == ("ok", "0.1.0")
            names.setdefault(info.kind, []).append(info.name)
    assert names == {
        "cell": ["gru", "lstm", "rnn"],
        "wrapper": ["bidirectional"],
        "loss": ["bce_with_logits", "cross_entropy", "ctc", "huber", "mae", "mse", "nll"],
        "optimizer": ["adagrad", "adam", "adamw", "rmsprop", "sgd"],
        "callback": ["curves", "json_lines", "progress_bar", "tensorboard"],
    }


def test_a_strangers_cell_works_wherever_a_name_does(site: Site) -> None:
    hook = "@mg.hookimpl\ndef minigrad_cells():\n    return {'ones': Ones}\n"
    site.install("minigrad-ones", HEADER + ONES + hook)
    assert mg.cell("ones", 3, 2).hidden_size == 2
    ys, _ = mg.recurrent("ones", 3, 2, num_layers=2, bidirectional=True)(mg.ones((5, 4, 3)))
    assert ys.shape == (5, 4, 4)
    assert listed("minigrad-ones") == [PluginInfo("cell", "ones", "minigrad-ones", "1.0", "ok")]


def test_all_kinds_reach_their_functions(site: Site) -> None:
    site.install("minigrad-all", offering(cells="a", wrappers="b", losses="c", optimizers="d", callbacks="e"))
    assert mg.cell("a", 1, 2) == ("minigrad_all", "a")
    assert mg.wrapper("b", mg.cell("rnn", 1, 2)) == ("minigrad_all", "b")
    assert mg.loss("c") == ("minigrad_all", "c")
    assert mg.optimizer("d", [], lr=1.0) == ("minigrad_all", "d")
    assert mg.callback("e") == ("minigrad_all", "e")


@pytest.mark.parametrize("target", ["plugin", "Plugin()", "types.SimpleNamespace"])
def test_an_object_can_be_a_plugin(site: Site, target: str) -> None:
    made = {
        "plugin": "plugin = Plugin()",
        "Plugin()": "class Outer: plugin = Plugin()\nplugin = Outer.plugin",
        "types.SimpleNamespace": "import types\nplugin = types.SimpleNamespace(minigrad_cells=Plugin().minigrad_cells)",
    }[target]
    body = "class Plugin:\n    @mg.hookimpl\n    def minigrad_cells(self):\n        return {'mine': lambda: 'mine'}\n"
    site.install("minigrad-object", HEADER + body + made, target=":plugin")
    assert mg.cell("mine") == "mine"


def test_pluggys_own_marker_does_as_well(site: Site) -> None:
    source = """
        import pluggy
        @pluggy.HookimplMarker("minigrad")(specname="minigrad_cells")
        def my_cells():
            return {"mine": lambda: "mine"}
        @pluggy.HookimplMarker("minigrad")(optionalhook=True)
        def minigrad_of_a_later_version():
            return {}
    """
    site.install("minigrad-marker", source)
    assert mg.cell("mine") == "mine"
    assert [info.status for info in listed("minigrad-marker")] == ["ok"]


def test_names_may_be_of_any_script(site: Site) -> None:
    site.install("minigrad-unicode", offering(cells="zéro", losses="零"))
    assert mg.cell("zéro") == ("minigrad_unicode", "zéro")
    assert mg.loss("零") == ("minigrad_unicode", "零")


# --- broken plugins

RAISING = {
    "import": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "syntax": ("def broken(:", "SyntaxError: invalid syntax (minigrad_bad.py, line 1)"),
    "error": ("raise ValueError('boom')", "ValueError: boom"),
    "silent error": ("raise ValueError", "ValueError"),
    "exit": ("import sys; sys.exit('bye')", "SystemExit: bye"),
    "panic": ("class Panic(BaseException): ...\nraise Panic('at the disco')", "Panic: at the disco"),
    "bad str": ("class Bad(Exception):\n    def __str__(self): return 1 / 0\nraise Bad", "Bad"),
    "warning": ("import warnings; warnings.warn('old', DeprecationWarning)", "DeprecationWarning: old"),
    "empty": ("", "PluginError: it implements none of the hooks minigrad_cells, minigrad_wrappers, minigrad_losses, "
              "minigrad_optimizers, minigrad_callbacks. An entry point of the group 'minigrad' names a module with "
              "such functions, decorated with @minigrad.hookimpl"),
    "bare": ("def minigrad_cells(): return {}",
             "PluginError: minigrad_cells: the decorator @minigrad.hookimpl is missing"),
    "misspelt": (HEADER + "@mg.hookimpl\ndef minigrad_cell(): return {}",
                 "PluginError: there is no hook minigrad_cell; did you mean minigrad_cells?"),
    "unheard of": (HEADER + "@mg.hookimpl\ndef kernels(): return {}",
                   "PluginError: there is no hook kernels; there are minigrad_cells, minigrad_wrappers, "
                   "minigrad_losses, minigrad_optimizers, minigrad_callbacks"),
}  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), RAISING.values(), ids=RAISING.keys())
def test_a_broken_plugin_is_listed_and_raised_when_it_is_asked_for(site: Site, source: str, expected: str) -> None:
    site.install("minigrad-bad", source)
    assert mg.cell("lstm", 2, 3).hidden_size == 3
    assert failure("minigrad-bad") == expected
    told = message(mg.PluginError, mg.cell, "bad", 2, 3)
    assert told == f"minigrad-bad 1.0 (entry point bad = minigrad_bad) failed to load: {expected}"
    assert f"not loaded: minigrad-bad 1.0 (entry point bad = minigrad_bad): {expected}" in message(
        mg.UnknownNameError, mg.cell, "something else"
    )


def test_the_first_error_is_the_cause(site: Site) -> None:
    site.install("minigrad-bad", "1 / 0")
    with pytest.raises(mg.PluginError, match="ZeroDivisionError: division by zero") as caught:
        mg.loss("BAD")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


NONSENSE = {
    "None": ("None", "it returned None"),
    "a list": ("['mine']", "it returned ['mine']"),
    "a class": ("{'mine': 3}", "its 'mine' is 3, no callable"),
    "a number for a name": ("{3: dict}", "3 is not a name"),
    "an empty name": ("{'': dict}", "'' is not a name"),
    "an object whose repr fails": ("type('O', (), {'__repr__': lambda self: 1 / 0})()", "it returned <O instance at"),
}


@pytest.mark.parametrize(("returned", "expected"), NONSENSE.values(), ids=NONSENSE.keys())
def test_a_hook_that_returns_nonsense(site: Site, returned: str, expected: str) -> None:
    hook = f"@mg.hookimpl\ndef minigrad_cells():\n    return {returned}\n"
    site.install("minigrad-bad", offering(losses="good") + hook)
    told = failure("minigrad-bad")
    assert told.startswith("minigrad_cells(): PluginError: must return a dict of names to factories; ")
    assert expected in told
    assert expected in message(mg.PluginError, mg.cell, "bad")
    assert mg.loss("good") == ("minigrad_bad", "good")


@pytest.mark.parametrize("raised", ["ValueError('boom')", "SystemExit('boom')", "StopIteration('boom')"])
def test_a_failing_hook_leaves_the_plugins_other_hooks_alone(site: Site, raised: str) -> None:
    hook = f"@mg.hookimpl\ndef minigrad_cells():\n    raise {raised}\n"
    site.install("minigrad-half", offering(losses="good") + hook)
    expected = f"minigrad_cells(): {raised.split('(')[0]}: boom"
    assert mg.loss("good") == ("minigrad_half", "good")
    assert failure("minigrad-half") == expected
    assert message(mg.PluginError, mg.cell, "half").endswith(f"failed to load: {expected}")
    assert message(mg.UnknownNameError, mg.loss, "half").startswith("there is no loss 'half'\n  installed: bce_with_")


def test_a_misspelt_and_a_bare_hook_beside_a_good_one(site: Site) -> None:
    extra = "@mg.hookimpl\ndef minigrad_optimisers(): return {}\ndef minigrad_cells(): return {}\n"
    site.install("minigrad-half", offering(losses="good") + extra)
    assert mg.loss("good") == ("minigrad_half", "good")
    assert sorted(info.status for info in listed("minigrad-half")) == [
        "failed: PluginError: minigrad_cells: the decorator @minigrad.hookimpl is missing",
        "failed: PluginError: there is no hook minigrad_optimisers; did you mean minigrad_optimizers?",
        "ok",
    ]


def test_a_hook_with_arguments(site: Site) -> None:
    site.install("minigrad-bad", HEADER + "@mg.hookimpl\ndef minigrad_cells(config): return {}")
    told = failure("minigrad-bad")
    assert "for hook 'minigrad_cells'" in told
    assert "{'config'} are declared in the hookimpl but can not be found in the hookspec" in told


def test_an_entry_point_that_names_nothing(site: Site) -> None:
    site.install("minigrad-bad", "", target=":plugin")
    assert failure("minigrad-bad") == "AttributeError: module 'minigrad_bad' has no attribute 'plugin'"
    site.metadata("minigrad-worse", "worse = not a module")
    assert "entry point worse = not a module) failed to load: " in message(mg.PluginError, mg.cell, "worse")


@pytest.mark.parametrize("text", ["no equals sign", b"[minigrad]\nlatin = \xe9\n"], ids=["no pair", "not UTF-8"])
def test_a_damaged_entry_points_file_spoils_nothing_else(site: Site, text: str | bytes) -> None:
    site.metadata("minigrad-bad", text)
    site.install("minigrad-good", offering(cells="good"))
    assert mg.cell("good") == ("minigrad_good", "good")
    (info,) = listed("minigrad-bad")
    assert info.status.startswith("failed: ")
    assert "(entry point ? = entry_points.txt) failed to load" in message(mg.PluginError, mg.cell, "bad")


def test_an_interrupt_is_no_failure_of_a_plugin(site: Site) -> None:
    site.install("minigrad-slow", "raise KeyboardInterrupt('Ctrl-C')")
    assert message(KeyboardInterrupt, mg.plugins) == "Ctrl-C"
    site.module("minigrad_slow", offering(cells="slow"))
    assert mg.cell("slow") == ("minigrad_slow", "slow")


# --- clashes


def test_two_distributions_with_one_name(site: Site) -> None:
    site.install("first-mgu", offering(cells="mgu", losses="one"))
    site.install("second-mgu", offering(cells="mgu", losses="two"))
    told = message(mg.PluginConflictError, mg.cell, "mgu", 2, 3)
    assert told.startswith("the cell 'mgu' is offered by ")
    assert " and by " in told
    assert "first-mgu 1.0 (entry point first_mgu = first_mgu)" in told
    assert "second-mgu 1.0 (entry point second_mgu = second_mgu)" in told
    assert told.endswith(
        "Uninstall one of them, switch it off (MINIGRAD_DISABLE_PLUGINS), or import the class you want and use it "
        "directly"
    )
    assert mg.loss("one") == ("first_mgu", "one")
    assert mg.loss("two") == ("second_mgu", "two")
    assert [info.status for info in listed("first-mgu") if info.kind == "cell"] == [
        "conflict: also offered by second-mgu 1.0 (entry point second_mgu = second_mgu)"
    ]


def test_a_built_in_is_not_overridden_in_silence(site: Site) -> None:
    site.install("better-lstm", offering(cells="lstm"))
    told = message(mg.PluginConflictError, mg.LSTM, 2, 3)
    assert "better-lstm 1.0 (entry point better_lstm = better_lstm)" in told
    assert "minigrad 0.1.0 (entry point cells = minigrad.cells)" in told
    assert mg.cell("gru", 2, 3).hidden_size == 3
    assert mg.loss("mse") is not None


def test_one_name_for_two_kinds_is_no_clash(site: Site) -> None:
    site.install("minigrad-twice", offering(cells="sgd", losses="lstm"))
    assert mg.cell("sgd") == ("minigrad_twice", "sgd")
    assert mg.cell("lstm", 2, 3).hidden_size == 3


def test_a_distribution_found_twice_is_one(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("minigrad-mgu", offering(cells="mgu"))
    site.metadata("Minigrad.MGU", "mgu = minigrad_mgu", version="0.9")  # an old version's, left behind
    site.metadata("minigrad-mgu", "mgu = minigrad_mgu", folder=tmp_path / "editable")
    monkeypatch.syspath_prepend(str(tmp_path / "editable"))
    monkeypatch.syspath_prepend(str(site.folder))
    site.look()
    assert mg.cell("mgu") == ("minigrad_mgu", "mgu")
    assert [info.status for info in mg.plugins() if info.name == "mgu"] == ["ok"]


def test_a_module_named_twice_or_imported_again_is_no_clash_with_itself(site: Site) -> None:
    factory = "def make():\n    return 'mgu'\n@mg.hookimpl\ndef minigrad_cells():\n    return {'mgu': make}\n"
    site.module("mgu_one", HEADER + factory)
    site.module("mgu_two", "from mgu_one import minigrad_cells")
    site.metadata("minigrad-mgu", "a = mgu_one\nb = mgu_one\nc = mgu_two")
    assert mg.cell("mgu") == "mgu"
    assert [info.status for info in listed("minigrad-mgu")] == ["ok"]


def test_two_modules_of_one_distribution_can_clash(site: Site) -> None:
    site.module("mgu_one", offering(cells="mgu"))
    site.module("mgu_two", offering(cells="mgu"))
    site.metadata("minigrad-mgu", "a = mgu_one\nb = mgu_two")
    told = message(mg.PluginConflictError, mg.cell, "mgu")
    assert "minigrad-mgu 1.0 (entry point a = mgu_one) and by minigrad-mgu 1.0 (entry point b = mgu_two)" in told


def test_a_distribution_without_metadata(site: Site) -> None:
    site.module("nameless", offering(cells="nameless"))
    site.module("other", offering(cells="other"))
    for name in ("nameless", "other"):
        (site.metadata(name, f"{name} = {name}") / "METADATA").unlink()
    site.look()
    assert mg.cell("nameless") == ("nameless", "nameless")
    assert mg.cell("other") == ("other", "other")
    assert {info.version for info in listed("unnamed distribution")} == {"?"}


# --- names that nobody offers


def test_an_unknown_name_gets_close_matches_and_what_there_is() -> None:
    told = message(mg.UnknownNameError, mg.cell, "LSMT", 2, 3)
    assert told == "there is no cell 'LSMT'; did you mean 'lstm'?\n  installed: gru, lstm, rnn"
    told = message(mg.UnknownNameError, mg.optimizer, "adamm", [])
    assert told.startswith("there is no optimizer 'adamm'; did you mean 'adam' or 'adamw'")
    assert message(mg.UnknownNameError, mg.wrapper, "zzz") == "there is no wrapper 'zzz'\n  installed: bidirectional"
    assert message(LookupError, mg.recurrent, "zzz", 2, 3) == "there is no cell 'zzz'\n  installed: gru, lstm, rnn"


def test_a_name_of_another_kind_is_pointed_out() -> None:
    told = message(mg.UnknownNameError, mg.cell, "adam")
    assert "\n  the optimizer of this name: minigrad.optimizer('adam')\n" in told


def test_a_class_is_no_name() -> None:
    told = message(TypeError, mg.cell, mg.LSTMCell, 2, 3)
    assert told.startswith("minigrad.cell takes the name of a registered cell, a string; got <class 'mini")


def test_with_nothing_installed_the_message_says_so(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    monkeypatch.setattr("minigrad.registry.find.distributions", lambda: iter(()))
    site.look()
    told = message(mg.UnknownNameError, mg.cell, "lstm")
    assert told.endswith("installed: none (is minigrad itself installed? pip install minigrad)")


# --- when things are loaded


def test_a_plugin_that_asks_while_it_is_loaded_is_told_not_to(site: Site) -> None:
    site.install("minigrad-eager", HEADER + "cell = mg.cell('lstm', 2, 3)\n")
    site.install("minigrad-hook", HEADER + "@mg.hookimpl\ndef minigrad_cells(): return {'a': mg.LSTM(2, 3)}\n")
    expected = "PluginError: a plugin asked minigrad for a registered name while the plugins were still being loaded"
    assert failure("minigrad-eager").startswith(expected)
    assert failure("minigrad-hook").startswith(f"minigrad_cells(): {expected}")
    assert mg.cell("lstm", 2, 3).hidden_size == 3


def test_a_plugin_imported_by_hand_that_asks_while_it_is_imported(site: Site) -> None:
    site.install("minigrad-eager", HEADER + "cell = mg.cell('lstm', 2, 3)\n" + offering(cells="eager"))
    module = __import__("minigrad_eager")
    assert module.cell.hidden_size == 3
    assert failure("minigrad-eager") == (
        "PluginError: minigrad_eager was still being imported when something in it asked minigrad for a registered "
        "name. Ask inside a function, or import the class"
    )
    site.look()
    assert mg.cell("eager") == ("minigrad_eager", "eager")


def test_threads_that_ask_at_once_get_one_registry(site: Site) -> None:
    site.install("minigrad-slow", "import time\ntime.sleep(0.05)\n" + offering(cells="slow"))
    barrier, found = threading.Barrier(8), []

    def ask() -> None:
        barrier.wait()
        found.append((registry(), mg.cell("slow")))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {id(made) for made, _ in found} == {id(registry())}
    assert [cell for _, cell in found] == [("minigrad_slow", "slow")] * 8


def test_importing_minigrad_loads_no_plugin_and_nothing_that_finds_them(site: Site) -> None:
    site.install("minigrad-loud", "print('loaded')\n" + offering(cells="loud"))
    script = f"""
import sys
sys.path.insert(0, {str(site.folder)!r})
import minigrad as mg
mg.LSTM, mg.Cell, mg.tanh, dir(mg)
print([name for name in ("pluggy", "importlib.metadata", "minigrad.registry", "minigrad_loud") if name in sys.modules])
print(mg.cell("loud"))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["[]", "loaded", "('minigrad_loud', 'loud')"]


@pytest.mark.parametrize("name", ["cell", "loss", "optimizer", "wrapper", "plugins"])
def test_the_registrys_functions_are_the_packages(name: str) -> None:
    scope: dict[str, Any] = {}
    exec(f"import minigrad.registry\nfrom minigrad import {name}", scope)
    assert scope[name] is getattr(mg, name) is getattr(sys.modules["minigrad.registry"], name)
    assert name in dir(mg)
    assert name in mg.__all__
    assert message(AttributeError, getattr, mg, "cels") == "module 'minigrad' has no attribute 'cels'"
