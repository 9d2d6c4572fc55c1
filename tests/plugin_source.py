"""What a plugin's source uses that is not public, read from its syntax tree: private names, and NumPy or CuPy."""

from __future__ import annotations

import ast
from collections.abc import Iterator

PUBLIC_MODULES = {"minigrad", "minigrad.losses", "minigrad.optimizers", "minigrad.testing"}


def not_public(source: str, own: str) -> list[str]:
    """All uses of private names that the source does not make itself, and imports of what plugins do not import.

    Args:
        source: of a module.
        own: the package that it is in, whose modules it may import.
    """
    tree = ast.parse(source)
    made = set(_made_here(tree))
    found = []
    for node in ast.walk(tree):
        for module, names in _imported(node):
            top = module.partition(".")[0]
            if top in ("numpy", "cupy") or (top == "minigrad" and module not in PUBLIC_MODULES):
                found.append(f"line {node.lineno}: import of {module}")  # type: ignore[attr-defined]  # imports have it
            if top != own:
                found += [f"private {name} of {module}" for name in (*module.split("."), *names) if _is_private(name)]
        if isinstance(node, ast.Attribute) and _is_private(node.attr) and node.attr not in made:
            found.append(f"line {node.lineno}: private {ast.unparse(node)}")
        if isinstance(node, ast.Call):
            found += [f"line {node.lineno}: private {name!r} by its name" for name in _named(node) if name not in made]
    return found


def _imported(node: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """The modules that a statement or a call imports, and names from them."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, []) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        names = [alias.name for alias in node.names]
        yield node.module, names
        if node.module == "minigrad":
            yield from ((f"minigrad.{name}", []) for name in names if f"minigrad.{name}" in _hidden_modules())
    elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__"):
        yield from ((arg.value, []) for arg in node.args[:1] if isinstance(arg, ast.Constant))


def _hidden_modules() -> set[str]:
    import minigrad

    return {f"minigrad.{name}" for name in dir(minigrad) if name not in minigrad.__all__} - PUBLIC_MODULES


def _made_here(tree: ast.AST) -> Iterator[str]:
    """Private names that the module defines or assigns, as attributes of its own objects too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _name(node.value) == "self":
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _named(call: ast.Call) -> Iterator[str]:
    """Private names in `getattr(x, "_name")` and the like."""
    if _name(call.func) in ("getattr", "setattr", "hasattr", "delattr", "attrgetter", "methodcaller"):
        texts = (arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))
        yield from (text for text in texts if any(map(_is_private, text.split("."))))


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))
