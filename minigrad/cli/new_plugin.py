"""`minigrad new-plugin`: a package with a plugin, ready to be installed, tested and changed."""

from __future__ import annotations

import keyword
import re
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Annotated

import typer
from packaging.version import Version

import minigrad as mg
from minigrad.cli.console import Kind, console, fail

USAGE = {
    Kind.CELL: 'layer = mg.recurrent("$name", input_size=8, hidden_size=16, num_layers=2)',
    Kind.WRAPPER: 'layer = mg.Recurrent(mg.wrapper("$name", mg.LSTMCell(8, 16)))',
    Kind.LOSS: 'loss = mg.loss("$name")',
    Kind.OPTIMIZER: 'optimizer = mg.optimizer("$name", model.parameters(), lr=0.01)',
}
"""How each kind is used, for the new package's README."""

LONGEST = 40
"""Characters in a name, so that an import of what is called after it fits into a line."""


@dataclass(frozen=True)
class Names:
    """What the parts of a plugin are called.

    Attributes:
        distribution: what is installed, such as `minigrad-soft-gate`.
        package: what is imported, `minigrad_soft_gate`.
        name: what is registered, `soft_gate`.
        factory: the class, `SoftGateCell`, or of a loss the function, `soft_gate_loss`.
    """

    distribution: str
    package: str
    name: str
    factory: str

    @classmethod
    def of(cls, distribution: str, kind: Kind) -> Names:
        """The names that follow from that of the distribution.

        Raises:
            ValueError: it is no name for a distribution, or one that follows from it is no good.
        """
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", distribution):
            raise ValueError(
                f"{distribution!r} is no name for a distribution: ASCII letters, digits, '-', '_' and '.', with a "
                "letter or digit at both ends, such as minigrad-mgu"
            )
        if len(distribution) > LONGEST:
            raise ValueError(f"{distribution!r} has {len(distribution)} characters; at most {LONGEST} fit into a line")
        package = re.sub(r"[-_.]+", "_", distribution).lower()
        name = package.removeprefix("minigrad_")
        for what, word in (("the package to import", package), ("the registered name", name)):
            if not word.isidentifier() or keyword.iskeyword(word):
                problem = "a keyword of Python" if keyword.iskeyword(word) else "no name in Python"
                raise ValueError(f"{distribution!r}: {what} would be {word!r}, which is {problem}; choose another name")
        longer = name if name.endswith(f"_{kind}") else f"{name}_{kind}"
        camel = "".join(part.capitalize() for part in longer.split("_"))
        return cls(distribution, package, name, longer if kind is Kind.LOSS else camel)


def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the distribution, such as minigrad-mgu.")],
    kind: Annotated[Kind, typer.Option(help="What it offers.")] = Kind.CELL,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where to put the new folder, which is called NAME.")
    ] = Path(),
) -> None:
    """Write a package with a plugin: code that runs, tests that pass, a README and a CI workflow.

    **Examples**

    `minigrad new-plugin minigrad-mgu`: the cell `mgu`, in the folder minigrad-mgu

    `minigrad new-plugin minigrad-tilted --kind loss --out ~/src`: the loss `tilted`
    """
    folder = out.expanduser() / name
    try:
        names = Names.of(name, kind)
        _check_free(names, kind, folder)
        _write(folder, _files(names, kind))
    except ValueError as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot write {folder}: {error.strerror or error}")
    console.print(
        f"{folder} has {_article(kind)} {kind}, {names.name!r}, which runs as it is. Next:\n"
        f"  cd {folder}\n"
        "  pip install -e '.[test]'\n"
        "  python -m pytest\n"
        f"  minigrad check {kind} {names.name}\n"
        f"and put your own into {names.package}/{kind}.py"
    )


def _check_free(names: Names, kind: Kind, folder: Path) -> None:
    """Raise unless nothing is called so yet."""
    owners = {**dict.fromkeys(sys.stdlib_module_names, "Python's"), "minigrad": "minigrad's", "tests": "its own"}
    if owner := owners.get(names.package):
        raise ValueError(f"{names.distribution!r} would hide {owner} module {names.package}; choose another name")
    if folder.exists() or folder.is_symlink():
        raise ValueError(f"{folder} exists; choose another name, or another place with --out")
    if spec := _spec(names.package):
        raise ValueError(
            f"{names.distribution!r} would hide the module {names.package} that is installed ({spec}); choose another "
            "name, or uninstall that"
        )
    taken = [info for info in mg.plugins() if (info.kind, info.name) == (kind.value, names.name)]
    if taken:
        raise ValueError(
            f"the {kind} {names.name!r} is already offered by {taken[0].distribution} {taken[0].version}; choose "
            "another name"
        )


def _spec(package: str) -> str | None:
    """Where an installed module is, if there is one."""
    try:
        spec = find_spec(package)
    except ValueError:  # there is one without a spec, such as __main__
        return "no file"
    return None if spec is None else spec.origin or "a folder"


def _files(names: Names, kind: Kind) -> dict[str, str]:
    """The text of each file by its place in the new folder."""
    words = {
        "distribution": names.distribution,
        "package": names.package,
        "name": names.name,
        "factory": names.factory,
        "class_name": "".join(part.capitalize() for part in names.name.split("_")),
        "kind": kind.value,
        "article": _article(kind).capitalize(),
        "minigrad": Version(version("minigrad")).public,
    }
    words["usage"] = Template(USAGE[kind]).substitute(words)
    places = {
        "pyproject.toml": "common/pyproject.toml",
        "README.md": "common/README.md",
        ".gitignore": "common/gitignore",
        ".github/workflows/test.yml": "common/test.yml",
        f"{names.package}/__init__.py": f"{kind}/__init__.py",
        f"{names.package}/{kind}.py": f"{kind}/{kind}.py",
        f"tests/test_{names.name}.py": f"{kind}/tests.py",
    }
    templates = files("minigrad.cli") / "templates"
    return {
        place: Template((templates / f"{source}.template").read_text(encoding="utf-8")).substitute(words)
        for place, source in places.items()
    }


def _article(kind: Kind) -> str:
    return "an" if kind is Kind.OPTIMIZER else "a"


def _write(folder: Path, texts: dict[str, str]) -> None:
    """Write all files, or none: beside their place first, and then moved there in one step."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        for place, text in texts.items():
            path = beside / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        beside.rename(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
