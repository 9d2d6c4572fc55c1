"""A fresh virtual environment for a package under test, on top of this one: nothing is downloaded."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path


class FreshVenv:
    """An environment with one more package than this one.

    Args:
        folder: where to make it.
    """

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False)
        scripts = folder / ("Scripts" if sys.platform == "win32" else "bin")
        self.python = scripts / Path(sys.executable).name
        (site_packages,) = folder.rglob("site-packages")
        ours = sysconfig.get_path("purelib")
        (site_packages / "this.pth").write_text(f"import site; site.addsitedir({ours!r})\n", encoding="utf-8")

    def install(self, package: Path) -> None:
        """Build and install a package without its dependencies, which are there."""
        options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run(
            [sys.executable, "-m", "pip", "--python", str(self.python), "install", *options, str(package)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments."""
        return subprocess.run([str(self.python), *arguments], cwd=cwd, capture_output=True, text=True)
