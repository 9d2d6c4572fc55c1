"""Finding and running the C compiler: what it depends on, and every way to fail."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import native_toolchain
import pytest
from native_toolchain import FOUND, OTHER, SOURCE, answer, answers, entries, forget, load_both, mode, needs_compiler

from minigrad.plan.native import toolchain
from minigrad.plan.native.cache import NativeWarning
from minigrad.plan.native.toolchain import Compiler, NativeUnavailable, load

pytestmark = [
    pytest.mark.host_only("compiled code knows no backend"),
    pytest.mark.skipif(os.name != "posix", reason="native code has not been made to work on this system yet"),
    pytest.mark.usefixtures("folder"),
]
folder, fake, counting = native_toolchain.folder, native_toolchain.fake, native_toolchain.counting


@needs_compiler
def test_a_source_is_compiled_once(counting, folder):
    assert answer() == 42
    assert answer() == 42
    forget()
    assert answer() == 42
    assert counting() == 1
    assert answer(OTHER) == 43
    assert counting() == 2
    assert len(entries(folder)) == 2


@needs_compiler
@pytest.mark.parametrize("what", ["flags", "version", "processor", "source"])
def test_whatever_the_code_depends_on_is_in_the_key(counting, fake, monkeypatch, what, tmp_path):
    load(SOURCE)
    forget()
    if what == "version":
        script = tmp_path / "fake-cc"
        script.write_text(script.read_text().replace("fake 1.0", "fake 1.1"))
    elif what == "processor":
        monkeypatch.setattr(toolchain, "processor", lambda: "another")
    load(SOURCE + "\n" if what == "source" else SOURCE, ["-DX"] if what == "flags" else [])
    assert counting() == 2


@needs_compiler
def test_flags_come_after_the_fixed_ones():
    library = load("int answer(void) { return ANSWER; }", ["-DANSWER=7"])
    assert isinstance(library, ctypes.CDLL)
    assert library.answer() == 7


@needs_compiler
def test_only_the_owner_may_read_or_write(folder):
    before = os.umask(0)
    try:
        answer()
    finally:
        os.umask(before)
    assert mode(folder.parent) == mode(folder) == 0o700
    assert [mode(path) for path in entries(folder)] == [0o600]


def test_switched_off(monkeypatch, folder):
    monkeypatch.setenv("MINIGRAD_NATIVE", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load(SOURCE)
    assert found == NativeUnavailable("MINIGRAD_NATIVE=0 switches native code off")
    assert toolchain.unavailable() == found
    assert not folder.exists()


def test_no_compiler_on_the_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)
    with pytest.warns(NativeWarning, match=r"pip install 'minigrad\[native\]'") as seen:
        found = load_both()
    assert len(seen) == 1
    assert isinstance(found, NativeUnavailable)
    for name in ("cc", "gcc", "clang"):
        assert f"{name}: not found" in found.reason
    assert toolchain.unavailable() == found
    assert toolchain.describe() == {"native code": f"no: {found.reason}"}


def test_a_named_compiler_that_is_not_there_is_not_replaced(monkeypatch):
    monkeypatch.setenv("MINIGRAD_CC", "no-such-compiler -m64")
    found = toolchain.unavailable()
    assert isinstance(found, NativeUnavailable)
    assert "no-such-compiler -m64: not found" in found.reason
    monkeypatch.setenv("MINIGRAD_CC", "unbalanced 'quote")
    found = toolchain.unavailable()
    assert isinstance(found, NativeUnavailable)
    assert "No closing quotation" in found.reason


@needs_compiler
def test_cc_is_tried_first_and_others_after_it(monkeypatch, tmp_path):
    assert isinstance(FOUND, Compiler)
    monkeypatch.setenv("CC", f"{FOUND.command[0]} -DANSWER=5")
    library = load("int answer(void) { return ANSWER; }")
    assert isinstance(library, ctypes.CDLL)
    assert library.answer() == 5
    monkeypatch.setenv("CC", "no-such-compiler")
    assert answer() == 42


@needs_compiler
def test_what_is_begun_ahead_is_compiled_beside_and_once(fake, tmp_path):
    """Each compiler waits until the other has begun."""
    assert isinstance(FOUND, Compiler)
    note = f"touch {tmp_path}/$(cksum < source.c | cut -d' ' -f1).c"
    wait = f"while [ $(ls {tmp_path}/*.c | wc -l) -lt 2 ]; do sleep 0.01; done"
    fake(f'echo compiled >> {tmp_path}/log\n{note}\n{wait}\nexec {FOUND.command[0]} "$@"\n')
    for _ in range(2):
        toolchain.load_ahead(OTHER)
    assert answers() == 85
    toolchain.load_ahead(SOURCE)
    assert (tmp_path / "log").read_text().count("compiled") == 2


@needs_compiler
def test_without_another_thread_compiling_ahead_is_left_out(monkeypatch):
    monkeypatch.setattr(toolchain.threading.Thread, "start", refuse)
    toolchain.load_ahead(SOURCE)
    assert answers() == 85


@needs_compiler
def test_an_interrupt_ends_the_program_at_once_and_leaves_nothing(tmp_path, fake):
    """Though compilers run that take long, one of them begun ahead."""
    fake(f"touch {tmp_path}/$(cksum < source.c | cut -d' ' -f1).c\nsleep 60\n")
    script = f"""
from minigrad.plan.native import toolchain
toolchain.load_ahead({OTHER!r})
try:
    toolchain.load({SOURCE!r})
except KeyboardInterrupt:
    print("interrupted")
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    (tmp_path / "temporary").mkdir()
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    while len(list(tmp_path.glob("*.c"))) < 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[0] == "interrupted\n"  # the compilers would take twice as long
    assert process.returncode == 0
    assert list((tmp_path / "temporary").iterdir()) == []


@needs_compiler
def test_after_an_interrupt_it_is_compiled_anew(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(toolchain, "_load", interrupt)
        with pytest.raises(KeyboardInterrupt):
            load(SOURCE)
    assert answer() == 42


def interrupt(source: str, flags: Any) -> Any:
    raise KeyboardInterrupt


@needs_compiler
@pytest.mark.parametrize("how", ["interrupted", "done"])
def test_who_waits_for_another_thread(monkeypatch, how):
    """The library that it has loaded; or, if that was interrupted, one's own."""
    begun, go_on, seen = threading.Event(), threading.Event(), []
    sound = toolchain._load

    def slow(source: str, flags: Any) -> Any:
        seen.append(threading.current_thread().name)
        if len(seen) > 1:
            return sound(source, flags)
        begun.set()
        go_on.wait(20)
        if how == "interrupted":
            raise KeyboardInterrupt
        return sound(source, flags)

    monkeypatch.setattr(toolchain, "_load", slow)
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    first = threading.Thread(target=load, args=(SOURCE,), name="first")
    first.start()
    begun.wait(20)
    found: list[Any] = []
    second = threading.Thread(target=lambda: found.append(load(SOURCE)), name="second")
    second.start()
    time.sleep(0.05)
    assert found == []
    go_on.set()
    for thread in (first, second):
        thread.join(30)
    assert seen == (["first", "second"] if how == "interrupted" else ["first"])
    assert found[0].answer() == 42


def refuse(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


FAILURES = {
    "exits with 1": ("echo 'error: no such thing' >&2\nexit 1\n", "exit status 1\nerror: no such thing"),
    "crashes": ("echo before; kill -SEGV $$\n", "crashed with signal 11\nbefore"),
    "writes garbage": ("echo garbage > library.so\n", "compiled code cannot be loaded: "),
    "writes nothing": ("exit 0\n", "ended well, but wrote no library"),
    "says garbage": ("printf '\\377\\376\\000bad\\n'\nexit 3\n", "exit status 3\n\ufffd\ufffd\0bad"),
    "says much": ("yes 'the same line' | head -100000\nexit 1\n", "exit status 1\n" + "the same line\n" * 7),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_compiler_that_fails_gives_one_warning(fake, folder, failure):
    body, message = FAILURES[failure]
    fake(body)
    with pytest.warns(NativeWarning) as seen:
        found = load_both()
    assert len(seen) == 1
    assert isinstance(found, NativeUnavailable)
    assert message in found.reason
    assert len(found.reason) < 2000
    assert found.reason in str(seen[0].message)
    assert not folder.exists() or entries(folder) == []


def test_an_error_in_the_source_does_not_condemn_the_compiler():
    if not isinstance(FOUND, Compiler):
        pytest.skip(f"no C compiler: {FOUND}")
    with pytest.warns(NativeWarning, match="undeclared"):
        found = load("int answer(void) { return unknown; }")
    assert isinstance(found, NativeUnavailable)
    assert answer() == 42


def test_a_compiler_that_does_not_end_is_stopped_with_all_it_started(fake, tmp_path, monkeypatch):
    fake(f"sleep 100 &\necho $! > {tmp_path}/child\necho waiting\nsleep 100\n")
    monkeypatch.setattr(toolchain, "COMPILE_SECONDS", 0.5)
    start = time.monotonic()
    with pytest.warns(NativeWarning, match=r"did not end within 0.5 s and was stopped\nwaiting"):
        assert isinstance(load(SOURCE), NativeUnavailable)
    assert isinstance(load(OTHER), NativeUnavailable)  # at once: it is not waited for again
    assert time.monotonic() - start < 50  # the fake compiler sleeps for 100 s
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        state = Path(f"/proc/{child}/stat")
        if not _runs(child) or (state.exists() and state.read_text().split()[2] == "Z"):
            return
        time.sleep(0.05)
    pytest.fail("what the compiler had started still runs")


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_warnings_as_errors_do_not_lose_the_reason(fake):
    fake("exit 1\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(NativeWarning):
            load(SOURCE)
        assert isinstance(load(SOURCE), NativeUnavailable)


@needs_compiler
def test_describe(folder, monkeypatch):
    monkeypatch.setattr(toolchain, "processor", lambda: "x86_64\nA Processor\nflags")
    answer()
    said = toolchain.describe()
    assert isinstance(FOUND, Compiler)
    assert said["native code"] == f"{FOUND.command[0]} ({FOUND.version})"
    assert said["processor"] == "x86_64, A Processor"
    assert said["cache of native code"].startswith(f"{folder}, 1 libraries, ")
