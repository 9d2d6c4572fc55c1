"""Compiled libraries kept in a folder that only their owner can write, so that each is compiled once per machine.

The folder is `native` in the user's cache folder for minigrad, or in the folder that `MINIGRAD_CACHE` names. An entry
is called `<key>-<digest>.so`: the key says what it was compiled from, the digest what it must contain. An entry is
written under another name and renamed, so that another process sees all of it or nothing; one whose contents do not
have its digest is deleted and compiled anew. When the entries exceed `LIMIT_BYTES`, the least recently used go.

Whoever can write to the folder can run code as its user. A folder that others own or may write is therefore not used,
nor one that others could put another in place of; libraries are then kept in a temporary folder until the process ends.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

LIMIT_BYTES = 200 * 2**20
"""How much the entries may take together."""

ABANDONED_SECONDS = 3600
"""After this long without a change, an unfinished entry is taken for one of a process that was killed."""

ZIG = "zig"
"""The folder, among the entries, in which Zig's compiler keeps parts of its own."""

_ENTRY = re.compile(r"[0-9a-f]{32}-[0-9a-f]{32}\.so")
_UNFINISHED = re.compile(r"[0-9a-f]{32}-[0-9a-f]{16}\.part")
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class NativeWarning(UserWarning):
    """Native code is not used, or its cache is not; what was asked for is computed all the same."""


class UnsafeFolderError(Exception):
    """Others own the cache folder or may write to it, or could put another in its place."""


@dataclass(frozen=True)
class Store:
    """A folder for compiled libraries that only this user can write.

    Attributes:
        path: the folder.
        note: why it is a temporary one; empty if it is the user's cache folder.
        read_only: the user's cache folder, if that cannot be written, but its entries can be used.
    """

    path: Path
    note: str = ""
    read_only: Path | None = None

    def find(self, key: str) -> Path | None:
        """The entry of a key, now the most recently used; None if there is none that is whole and the user's own."""
        folders = [folder for folder in (self.path, self.read_only) if folder is not None]
        for path in [path for folder in folders for path in sorted(folder.glob(f"{key}-*.so"))]:
            contents = _read_own(path)
            if contents is not None and path.name == _entry_name(key, contents):
                with contextlib.suppress(OSError):  # another process may just have deleted it
                    os.utime(path)
                return path
            self.discard(path)
        return None

    def put(self, key: str, contents: bytes) -> Path:
        """Write an entry, then delete the least recently used ones that exceed the limit.

        Raises:
            OSError: the folder cannot be written.
        """
        path = self.path / _entry_name(key, contents)
        unfinished = self.path / f"{key}-{secrets.token_hex(8)}.part"
        descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(contents)
            os.replace(unfinished, path)
        except BaseException:
            self.discard(unfinished)
            raise
        self._prune(keep=path)
        return path

    def discard(self, path: Path) -> None:
        """Delete a file of the folder, if it is there and can be deleted."""
        with contextlib.suppress(OSError):
            path.unlink()

    def entries(self) -> list[tuple[Path, os.stat_result]]:
        """The entries, least recently used first."""
        return sorted(self._files(_ENTRY), key=lambda entry: entry[1].st_mtime_ns)

    def unfinished(self) -> list[tuple[Path, os.stat_result]]:
        """The entries that are just being written, or never were to their end."""
        return self._files(_UNFINISHED)

    def _files(self, name: re.Pattern[str]) -> list[tuple[Path, os.stat_result]]:
        found = []
        for path in self.path.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if name.fullmatch(path.name):
                    found.append((path, path.lstat()))
        return found

    def _prune(self, keep: Path) -> None:
        for path, status in self.unfinished():
            if status.st_mtime < time.time() - ABANDONED_SECONDS:
                self.discard(path)
        entries = self.entries()
        total = sum(status.st_size for _, status in entries)
        for path, status in entries:
            if total <= LIMIT_BYTES:
                return
            if path != keep:
                self.discard(path)
                total -= status.st_size


def user_folder() -> Path:
    """Where the user's entries lie: `native` in `MINIGRAD_CACHE`, or in the user's cache folder for minigrad.

    Raises:
        FileNotFoundError: the user has no home folder.
    """
    chosen = os.environ.get("MINIGRAD_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute() / "native"
    import platformdirs  # not at the top: `import minigrad` does without it

    try:
        found = Path(platformdirs.user_cache_dir("minigrad", appauthor=False))
    except RuntimeError:
        found = Path("~")
    if not found.is_absolute():  # HOME is not set, and the system does not know the user
        raise FileNotFoundError("there is no home folder; set HOME, or MINIGRAD_CACHE to a folder")
    return found / "native"


def open_store() -> Store:
    """The user's folder, made if it is missing; a temporary one, with the reason, where that cannot be used.

    A folder that is refused because others could write to it is warned of once. One that cannot be written, as where
    the home folder is read-only, is not: nothing is wrong with it, and `Store.note` tells. What it holds is used.
    """
    try:
        folder = user_folder()
    except FileNotFoundError as error:
        return temporary_store(str(error))
    try:
        _prepare(folder)
    except UnsafeFolderError as error:
        warn_once(f"The cache of compiled code is not used: {error}. Code is compiled anew in each process until then.")
        return temporary_store(str(error))
    except OSError as error:
        note = f"{folder} cannot be written ({error.strerror or error})"
        return temporary_store(note, folder if _can_be_read(folder) else None)
    return Store(folder)


def temporary_store(note: str, read_only: Path | None = None) -> Store:
    """This process's temporary folder, deleted when it ends; see `Store`."""
    global _temporary
    if _temporary is None or _temporary[0] != os.getpid() or not _temporary[1].is_dir():
        made = os.getpid(), Path(tempfile.mkdtemp(prefix="minigrad-native-"))
        atexit.register(_remove, *made)
        _temporary = made
    return Store(_temporary[1], note, read_only)


def clear() -> tuple[int, int]:
    """Delete all entries of the user's folder, and what Zig's compiler keeps there. Loaded libraries stay usable.

    Returns:
        How many entries were deleted, and how many bytes they had.

    Raises:
        UnsafeFolderError: the folder is not only this user's to write; nothing was deleted.
    """
    folder = user_folder()
    if os.name != "posix" or not folder.is_dir():
        return 0, 0
    _check(folder)
    store = Store(folder)
    files = [*store.entries(), *store.unfinished()]
    for path, _ in files:
        store.discard(path)
    shutil.rmtree(folder / ZIG, ignore_errors=True)
    gone = [status.st_size for path, status in files if not path.exists()]
    return len(gone), sum(gone)


def warn_once(message: str) -> None:
    """Warn, but not of the same twice in a process."""
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, NativeWarning, stacklevel=2)


def _entry_name(key: str, contents: bytes) -> str:
    return f"{key}-{hashlib.sha256(contents).hexdigest()[:32]}.so"


def _read_own(path: Path) -> bytes | None:
    """The contents of a plain file that this user owns and nobody else may write; None of anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        if status.st_uid != os.geteuid() or status.st_mode & _OTHERS_WRITE:
            warn_once(f"{path} is not used: others own it or may write to it. It is compiled anew.")
            return None
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def _prepare(folder: Path) -> None:
    """Make the folder and those above it that are missing, for their owner only, and check it."""
    missing = [folder]
    while not os.path.lexists(missing[-1].parent):
        missing.append(missing[-1].parent)
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
    _check(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(13, "no permission to write", str(folder))


def _check(folder: Path) -> None:
    """Raise UnsafeFolderError unless only this user, and root, can change what is in the folder or which it is."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise UnsafeFolderError(
            f"{folder} is not a folder, or a link to one; remove it, or set MINIGRAD_CACHE to another"
        )
    if status.st_uid != os.geteuid():
        raise UnsafeFolderError(f"{folder} belongs to user {status.st_uid}; set MINIGRAD_CACHE to a folder of your own")
    if status.st_mode & _OTHERS_WRITE:
        raise UnsafeFolderError(
            f"others may write to {folder}; delete it (what is in it may be theirs), or set MINIGRAD_CACHE to another"
        )
    for above in Path(os.path.realpath(folder)).parents:
        status = above.stat()
        if status.st_uid not in (0, os.geteuid()):
            raise UnsafeFolderError(
                f"{above}, above {folder}, belongs to user {status.st_uid}; set MINIGRAD_CACHE to a folder of your own"
            )
        writable = status.st_mode & _OTHERS_WRITE and not status.st_mode & stat.S_ISVTX
        if writable and not (status.st_mode & _OTHERS_WRITE == stat.S_IWGRP and _only_this_user(status.st_gid)):
            raise UnsafeFolderError(
                f"others may write to {above}, above {folder}; take the permission away (chmod go-w {above}), "
                "or set MINIGRAD_CACHE to a folder elsewhere"
            )


def _can_be_read(folder: Path) -> bool:
    """Whether there is such a folder, and only this user, and root, can have put in it what is there."""
    try:
        _check(folder)
    except (UnsafeFolderError, OSError):
        return False
    return True


def _only_this_user(group: int) -> bool:
    """Whether a group is the user's private one, as many systems make one for each user."""
    import grp
    import pwd

    try:
        user, found = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return user.pw_gid == group and found.gr_name == user.pw_name and set(found.gr_mem) <= {user.pw_name}


def _remove(owner: int, folder: Path) -> None:
    if os.getpid() == owner:  # a forked child also comes here
        shutil.rmtree(folder, ignore_errors=True)


_temporary: tuple[int, Path] | None = None
_warned: set[str] = set()
