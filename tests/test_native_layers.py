"""Whole layers where compiler, cache or disk do not work as they should: right results, and a word about it."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import native_toolchain
import pytest
from native_layers import how, layer, right, sequence, steps_right
from native_toolchain import FOUND, answers, entries, forget, needs_compiler

from minigrad.plan.native import cache, pool, programs, toolchain
from minigrad.plan.native.cache import NativeWarning
from minigrad.plan.native.toolchain import Compiler, describe

SCRIPT = Path(__file__).with_name("native_layers.py")

pytestmark = [
    pytest.mark.host_only("compiled code knows no backend"),
    pytest.mark.skipif(os.name != "posix", reason="native code has not been made to work on this system yet"),
    pytest.mark.usefixtures("folder", "quick"),
]
folder, fake, counting, quick = (getattr(native_toolchain, name) for name in ("folder", "fake", "counting", "quick"))
COMPILED = "compiled to C"


def child(*words: str, **more: str) -> subprocess.Popen[str]:
    """The script in a process of its own, where each warning is an error."""
    command = [sys.executable, "-W", "error", str(SCRIPT), *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **more})


# --- the cache


@needs_compiler
def test_eight_processes_run_their_first_layer_at_once(fake, folder):
    assert isinstance(FOUND, Compiler)
    fake(f'exec {FOUND.command[0]} "$@" -O0\n')
    processes = [child(COMPILED) for _ in range(8)]
    said = [process.communicate(timeout=240) for process in processes]
    assert [out.strip() for out, _ in said] == ["right"] * 8, said
    assert len({path.name.partition("-")[0] for path in entries(folder)}) == len(entries(folder)) == 4
    assert all(cache._ENTRY.fullmatch(path.name) for path in entries(folder))


@needs_compiler
def test_a_home_that_cannot_be_written(monkeypatch, tmp_path):
    home = tmp_path / "home"
    home.write_text("a file: nothing can be made in it, by root either")
    monkeypatch.delenv("MINIGRAD_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(home))
    run = layer()
    assert right(run) == COMPILED
    steps_right(run)
    assert "4 libraries" in describe()["cache of native code"]
    assert "temporary, because" in describe()["cache of native code"]


@needs_compiler
@pytest.mark.parametrize("default", ["unknown", "~/.cache/minigrad"])
def test_a_user_without_a_home(monkeypatch, tmp_path, default):
    """As in a container with a user that the system does not know; what platformdirs says depends on its version."""
    import platformdirs

    def folder_of_nobody(*_: Any, **__: Any) -> str:
        if default == "unknown":
            raise RuntimeError("could not determine the home directory")
        return default

    monkeypatch.delenv("MINIGRAD_CACHE")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(platformdirs, "user_cache_dir", folder_of_nobody)
    assert right(layer()) == COMPILED
    assert "there is no home folder; set HOME, or MINIGRAD_CACHE" in describe()["cache of native code"]
    assert not (tmp_path / "~").exists()


@needs_compiler
def test_a_folder_that_can_only_be_read_is_read(folder, monkeypatch, counting):
    right(layer())
    done = counting()
    forget()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, wanted: Path(path) != folder and access(path, wanted))
    run = layer()
    assert right(run) == COMPILED
    assert counting() == done
    before = entries(folder)
    steps_right(run)  # a program that is not there
    assert counting() == done + 1
    assert entries(folder) == before


def damaged(contents):
    """One is cut off, one of random bytes, one empty."""
    return [contents[0][: len(contents[0]) // 2], random.Random(0).randbytes(len(contents[1])), b""]


def exchanged(contents):
    """Each in another's place."""
    return contents[1:] + contents[:1]


@needs_compiler
@pytest.mark.parametrize("spoiled", [damaged, exchanged])
def test_spoiled_entries_are_compiled_anew(spoiled, folder, counting):
    right(layer())
    paths = entries(folder)
    contents = [path.read_bytes() for path in paths]
    for path, instead in zip(paths, spoiled(contents), strict=True):
        path.unlink()  # or what is loaded from it changes too
        path.write_bytes(instead)
        path.chmod(0o600)
    forget()
    assert right(layer()) == COMPILED
    assert counting() == 6
    assert [path.read_bytes() for path in paths] == contents


@needs_compiler
def test_folders_in_the_place_of_entries(folder):
    right(layer())
    for path in entries(folder):
        path.unlink()
        (path / "more").mkdir(parents=True)
    forget()
    assert right(layer()) == COMPILED


@needs_compiler
def test_the_folder_goes_between_two_calls(folder):
    run = layer()
    right(run)
    shutil.rmtree(folder.parent)
    assert right(run) == COMPILED
    assert right(layer(2)) == COMPILED
    assert len(entries(folder)) == 1
    shutil.rmtree(folder.parent)
    forget()
    assert right(layer()) == COMPILED
    assert len(entries(folder)) == 3


@needs_compiler
def test_the_temporary_folder_goes_between_two_calls(folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "file"))
    right(layer())
    assert cache._temporary is not None
    shutil.rmtree(cache._temporary[1])
    assert right(layer(2)) == COMPILED


@needs_compiler
def test_a_relative_folder_with_spaces_and_letters_of_all_kinds(monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINIGRAD_CACHE", "a b/häß 語 'x' $HOME")
    run = layer()
    assert right(run) == COMPILED
    assert len(entries(tmp_path / "a b" / "häß 語 'x' $HOME" / "native")) == 3
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert right(run) == COMPILED
    assert right(layer(2)) == COMPILED
    assert len(entries(tmp_path / "elsewhere" / "a b" / "häß 語 'x' $HOME" / "native")) == 1


@needs_compiler
def test_clocks_that_disagree(folder, monkeypatch):
    right(layer())
    size = sum(path.stat().st_size for path in entries(folder))
    ahead = folder / f"{'0' * 32}-{'1' * 16}.part"
    ahead.touch()
    for path, when in zip(entries(folder), (0, 4e9, 4e9, 4e9), strict=True):  # until 2096
        os.utime(path, (when, when))
    monkeypatch.setattr(cache, "LIMIT_BYTES", size)
    assert right(layer(2)) == COMPILED  # what has just been written stays, however old others say that it is
    assert len([path for path in entries(folder) if path.suffix == ".so"]) == 3
    forget()
    assert right(layer(2)) == COMPILED


# --- the disk


@needs_compiler
def test_a_disk_that_is_full(folder, monkeypatch):
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target).parent == folder:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    assert right(layer()) == COMPILED
    assert entries(folder) == []


@needs_compiler
def test_files_that_may_not_grow():
    """Not even the compiler can write its result, as where the disk is full for everybody."""
    limited = f"""
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
sys.argv = ["", "as calls of array functions"]
runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
"""
    command = [sys.executable, "-W", "always", "-c", limited]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.stdout.strip() == "right", ended.stderr
    assert ended.stderr.count("NativeWarning: No native code, which is slower but gives the same results") == 1


def test_no_room_for_temporary_files(monkeypatch):
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(toolchain.tempfile, "TemporaryDirectory", full)
    assert "No space left on device" in right(layer())
    assert "No space left on device" in describe()["native code"]


# --- the compiler

FAILURES = {
    "fails": ("echo 'no such thing' >&2; exit 1\n", "no such thing"),
    "crashes": ("kill -SEGV $$\n", "crashed with signal 11"),
    "prints nothing": ("exit 1\n", "exit status 1"),
    "writes nothing": ("exit 0\n", "ended well, but wrote no library"),
    "writes garbage": ("echo garbage > library.so\n", "compiled code cannot be loaded"),
    "does not end": ("exec sleep 100\n", "did not end within 0.2 s and was stopped"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_compiler_that_does_not_work(fake, monkeypatch, failure):
    body, message = FAILURES[failure]
    fake(body)
    monkeypatch.setattr(toolchain, "COMPILE_SECONDS", 0.2)
    run, other = layer(), layer(2)
    with pytest.warns(NativeWarning) as seen:
        said = [right(run), right(other)]
    assert message in said[0]
    assert message in said[1]
    assert len(seen) == 1
    assert message in str(seen[0].message)
    steps_right(run)
    if failure != "writes garbage":
        assert message in describe()["native code"]
        assert describe()["native code"].startswith("no: ")


@needs_compiler
def test_a_compiler_that_leaves_everything_out(fake):
    assert isinstance(FOUND, Compiler)
    fake(f"{FOUND.command[0]} -shared -x c /dev/null -o library.so\n")
    run = layer()
    assert "what the compiler has made lacks the functions of its source" in right(run)
    steps_right(run)


def test_no_compiler_is_no_reason_for_a_warning(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)
    run = layer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "pip install 'minigrad[native]'" in right(run)
        steps_right(run)
    assert "pip install 'minigrad[native]'" in describe()["native code"]


def test_a_warning_made_an_error_is_one(fake):
    fake("exit 1\n")
    run = layer(engine="plan")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NativeWarning, match="exit status 1"):
            run(sequence())
        run(sequence())
    assert "not compiled to C" in how(run)


@needs_compiler
@pytest.mark.parametrize("message", ["-march=native: ISA string must begin with rv64", "unknown CPU: 'native'"])
def test_a_compiler_that_does_not_know_the_processor(fake, folder, message, tmp_path):
    assert isinstance(FOUND, Compiler)
    log = tmp_path / "log"
    refuse = f'for word in "$@"; do case "$word" in *=native) echo "{message}" >&2; exit 1;; esac; done\n'
    fake(f'echo asked >> {log}\n{refuse}exec {FOUND.command[0]} "$@"\n')
    assert right(layer()) == COMPILED
    first = log.read_text().count("asked")
    assert 3 < first <= 2 * 3  # three units, of which those that were begun before it was known were refused
    assert answers() == 42 + 43
    assert log.read_text().count("asked") == first + 2  # it was not asked for its own processor again
    forget()
    assert right(layer()) == COMPILED
    assert 0 < log.read_text().count("asked") - first - 2 <= 3
    assert len(entries(folder)) == 3 + 2


def test_an_error_that_speaks_of_something_native_is_still_one(fake):
    fake("echo 'native trouble' >&2; exit 1\n")
    with pytest.warns(NativeWarning, match="native trouble"):
        assert "native trouble" in right(layer())
    assert not toolchain._without_own


@pytest.mark.parametrize(
    ("machine", "flag"),
    [("x86_64", "march"), ("arm64", "mcpu"), ("aarch64", "mcpu"), ("ppc64le", "mcpu"), ("riscv64", "march")],
)
def test_the_flag_for_the_machines_own_processor(monkeypatch, machine, flag):
    monkeypatch.setattr(toolchain.platform, "machine", lambda: machine)
    assert toolchain._own_processor() == [f"-{flag}=native"]


# --- other systems


class Windows:
    """The module os as Windows has it."""

    name = "nt"

    def __getattr__(self, name: str) -> Any:
        if name in ("O_NOFOLLOW", "geteuid", "killpg", "register_at_fork", "sched_getaffinity", "O_NONBLOCK"):
            raise AttributeError(name)
        return getattr(os, name)


def test_windows_does_without(monkeypatch, folder):
    for module in (toolchain, cache, pool):
        monkeypatch.setattr(module, "os", Windows())
    run = layer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "native code has not been made to work on" in right(run)
        steps_right(run)
    assert describe()["native code"].startswith("no: native code has not been made to work on")
    assert cache.clear() == (0, 0)
    assert pool.usable_cores() >= 1
    assert not folder.exists()


def test_macos_without_its_developer_tools(monkeypatch):
    """/usr/bin/cc would open a window there."""
    asked = []

    def run(command: list[str], *_: Any) -> Any:
        asked.append(command)
        return programs.Ended(2, "xcode-select: error: unable to get active developer directory")

    monkeypatch.setattr(toolchain.sys, "platform", "darwin")
    monkeypatch.setattr(toolchain.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(programs, "run", run)
    assert toolchain._ask("cc -m64") == "needs the developer tools (xcode-select --install)"
    assert asked == [["xcode-select", "-p"]]


def test_macos_tells_its_processor(monkeypatch):
    monkeypatch.setattr(toolchain.sys, "platform", "darwin")
    monkeypatch.setattr(toolchain.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(programs, "run", lambda command, *_: programs.Ended(0, f"value of {command[-1]}\n"))
    found = toolchain.processor.__wrapped__().splitlines()
    assert found[:2] == ["arm64", "value of machdep.cpu.brand_string"]
    assert len(found) == 4
