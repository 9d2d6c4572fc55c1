"""The cache of compiled code: many processes, damaged entries, attacks, folders that cannot be written, its size."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import native_toolchain
import pytest
from native_toolchain import FOUND, OTHER, SOURCE, answer, answers, entries, forget, mode, needs_compiler

from minigrad.plan.native import cache, toolchain
from minigrad.plan.native.cache import NativeWarning, UnsafeFolderError
from minigrad.plan.native.toolchain import Compiler, NativeUnavailable, load

pytestmark = [
    pytest.mark.host_only("compiled code knows no backend"),
    pytest.mark.skipif(os.name != "posix", reason="native code has not been made to work on this system yet"),
    pytest.mark.usefixtures("folder"),
]
folder, fake, counting = native_toolchain.folder, native_toolchain.fake, native_toolchain.counting

USE = f"""
import sys
from minigrad.plan.native.toolchain import NativeUnavailable, load
library = load({SOURCE!r})
print(library.answer())
"""


@needs_compiler
def test_eight_processes_at_once(counting, folder):
    processes = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", USE], stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    assert [process.communicate(timeout=120)[0].strip() for process in processes] == ["42"] * 8
    assert len(entries(folder)) == 1  # no leftovers, and the same bytes from each
    done = counting()
    assert 1 <= done <= 8
    assert answer() == 42
    assert counting() == done


@needs_compiler
@pytest.mark.parametrize("damage", ["cut off", "one bit", "empty", "a folder", "a link", "a pipe"])
def test_a_damaged_entry_is_compiled_anew(counting, folder, tmp_path, damage):
    answer()
    forget()
    (entry,) = entries(folder)
    contents = entry.read_bytes()
    entry.unlink()
    if damage == "cut off":
        entry.write_bytes(contents[: len(contents) // 2])
    elif damage == "one bit":
        entry.write_bytes(contents[:999] + bytes([contents[999] ^ 1]) + contents[1000:])
    elif damage == "empty":
        entry.touch()
    elif damage == "a folder":
        entry.mkdir()
    elif damage == "a link":
        (tmp_path / "elsewhere.so").write_bytes(contents)  # with the right digest: it could be exchanged any time
        entry.symlink_to(tmp_path / "elsewhere.so")
    else:
        os.mkfifo(entry)
    assert answer() == 42
    assert counting() == 2
    if damage != "a folder":
        assert entry.read_bytes() == contents
        assert not entry.is_symlink()
        assert mode(entry) == 0o600


@needs_compiler
def test_an_entry_that_others_may_write_is_not_used(counting, folder):
    answer()
    forget()
    (entry,) = entries(folder)
    entry.chmod(0o666)
    with pytest.warns(NativeWarning, match="others own it or may write to it"):
        assert answer() == 42
    assert counting() == 2
    assert mode(entry) == 0o600


@needs_compiler
@pytest.mark.parametrize("bits", [0o777, 0o720, 0o702])
def test_a_folder_that_others_may_write_is_not_used(folder, bits):
    folder.mkdir(parents=True)
    folder.parent.chmod(0o700)
    folder.chmod(bits)
    with pytest.warns(NativeWarning, match=r"others may write to .*native; delete it") as seen:
        assert answers() == 42 + 43
    assert len(seen) == 1
    assert entries(folder) == []
    with pytest.raises(UnsafeFolderError):
        cache.clear()
    assert "temporary, because others may write" in toolchain.describe()["cache of native code"]


@needs_compiler
def test_a_folder_in_one_that_others_may_write_is_not_used(folder):
    folder.mkdir(parents=True, mode=0o700)
    folder.parent.chmod(0o777)
    with pytest.warns(NativeWarning, match=r"others may write to .*cache, above .*chmod go-w"):
        assert answer() == 42
    assert entries(folder) == []
    folder.parent.chmod(0o1777)  # where only owners may rename, as in /tmp
    forget()
    assert answer() == 42
    assert len(entries(folder)) == 1


@needs_compiler
def test_a_folder_of_somebody_else_is_not_used(folder, monkeypatch):
    folder.mkdir(parents=True, mode=0o700)
    owner = folder.stat().st_uid
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: owner + 1)
        with pytest.warns(NativeWarning, match=rf"belongs to user {owner}"):
            assert answer() == 42
    assert entries(folder) == []


@needs_compiler
def test_a_link_in_place_of_the_folder_is_not_followed(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.parent.mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.warns(NativeWarning, match="is not a folder, or a link to one"):
        assert answer() == 42
    assert entries(tmp_path / "elsewhere") == []


@needs_compiler
def test_a_home_that_cannot_be_written_costs_the_cache_only(monkeypatch, tmp_path):
    home = tmp_path / "home"
    home.write_text("a file: nothing can be made in it, by root either")
    monkeypatch.delenv("MINIGRAD_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(home))
    assert answer() == 42
    said = toolchain.describe()["cache of native code"]
    assert "temporary, because" in said
    assert "cannot be written" in said


@needs_compiler
def test_a_folder_that_cannot_be_written_costs_the_cache_only(folder, monkeypatch):
    answer()
    forget()
    kept = entries(folder)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, wanted: Path(path) != folder and access(path, wanted))
    assert answer(OTHER) == 43
    assert entries(folder) == kept


@needs_compiler
def test_the_temporary_folder_goes_with_its_process(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MINIGRAD_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    fork = "import os\nif os.fork() == 0: sys.exit(0)\nos.wait()\nprint(len(os.listdir(os.environ['TMPDIR'])))"
    ended = subprocess.run([sys.executable, "-c", USE + fork], capture_output=True, text=True, timeout=120)
    assert ended.stdout.split() == ["42", "1"], ended.stderr  # the child's end did not delete it
    assert os.listdir(tmp_path / "temporary") == []


@needs_compiler
def test_a_disk_that_runs_no_code(folder, monkeypatch):
    """As one that is mounted noexec."""
    opened = ctypes.CDLL

    class Refusing(opened):  # type: ignore[misc, valid-type]
        def __init__(self, name: str) -> None:
            if name.startswith(str(folder)):
                raise OSError("failed to map segment from shared object")
            super().__init__(name)

    monkeypatch.setattr(toolchain.ctypes, "CDLL", Refusing)
    assert answer() == 42


@needs_compiler
def test_the_least_recently_used_go_first(folder, monkeypatch):
    sources = [f"int answer(void) {{ return {n}; }}" for n in range(4)]
    for age, source in zip((40, 30, 20), sources, strict=False):
        load(source)
        newest = max(entries(folder), key=lambda path: path.stat().st_mtime)
        os.utime(newest, (time.time() - age, time.time() - age))
    size = max(path.stat().st_size for path in entries(folder))
    forget()
    load(sources[0])  # used again: now the most recent
    monkeypatch.setattr(cache, "LIMIT_BYTES", 3 * size + size // 2)
    abandoned, fresh = folder / f"{'0' * 32}-{'1' * 16}.part", folder / f"{'0' * 32}-{'2' * 16}.part"
    for path in (abandoned, fresh, folder / "notes.txt"):
        path.touch()
    os.utime(abandoned, (0, 0))
    load(sources[3])
    assert (fresh.exists(), abandoned.exists(), (folder / "notes.txt").exists()) == (True, False, True)
    left = []
    for number, source in enumerate(sources):
        forget()
        before = set(entries(folder))
        monkeypatch.setattr(cache, "LIMIT_BYTES", 1 << 30)
        load(source)
        if set(entries(folder)) == before:
            left.append(number)
    assert left == [0, 2, 3]


@needs_compiler
def test_clear(folder):
    answer()
    load(OTHER)
    (folder / "notes.txt").write_text("mine")
    size = sum(path.stat().st_size for path in entries(folder) if path.suffix == ".so")
    assert cache.clear() == (2, size)
    assert [path.name for path in entries(folder)] == ["notes.txt"]
    assert cache.clear() == (0, 0)
    assert answer() == 42  # still loaded
    shutil.rmtree(folder.parent)
    assert cache.clear() == (0, 0)
    assert not folder.exists()


@needs_compiler
def test_a_cache_folder_that_makes_no_sense(monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE", "~nobody-of-this-name/cache")
    with pytest.warns(NativeWarning, match="home directory"):
        assert isinstance(load(SOURCE), NativeUnavailable)
    assert "home directory" in toolchain.describe()["native code"]


@needs_compiler
def test_the_users_own_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("MINIGRAD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform != "linux":
        pytest.skip("XDG_CACHE_HOME is Linux's")
    answer()
    assert len(entries(tmp_path / "xdg" / "minigrad" / "native")) == 1


@needs_compiler
def test_a_child_forked_while_another_thread_compiles_can_compile(folder, fake, tmp_path):
    """The thread's compiler waits until the child is done; the child's does not."""
    assert isinstance(FOUND, Compiler)
    wait = f"while [ ! -e {tmp_path}/done ]; do sleep 0.01; done"
    fake(f'mkdir {tmp_path}/begun 2>/dev/null && {wait}\nexec {FOUND.command[0]} "$@"\n')
    script = f"""
import os, time
from minigrad.plan.native import toolchain
toolchain.load_ahead({SOURCE!r})
while not os.path.exists({str(tmp_path / "begun")!r}):
    time.sleep(0.01)
time.sleep(0.2)
child = os.fork()
if child == 0:
    os._exit(toolchain.load({SOURCE!r}).answer())
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
open({str(tmp_path / "done")!r}, "w")
"""
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.stdout.strip() == "42", ended.stderr
