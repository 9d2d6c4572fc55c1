"""How an operation is made: a forward on arrays, and beside it one rule per input for its gradient.

    @primitive
    def tanh(xp, x, /):
        return xp.tanh(x)

    defvjp(tanh, lambda g, y: g * (1 - y * y))

The first argument of a forward is the array namespace (`numpy`, `cupy`); those before the `/` are inputs; the rest
are attributes. A rule takes the cotangent `g` and then names what the tape has to keep for it: `y` (the result), an
input by its name, or the input's name with `_shape` or `_dtype`; attributes follow as keywords. Rules are written
with operators and with these same functions, so that one rule works on bare arrays (plain backward), on tensors
(double backward), and under a `Tape`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial, wraps
from itertools import count
from typing import Any, Concatenate, ParamSpec

from minigrad.backend import Backend, as_dtype, by_type, get_backend, is_floating
from minigrad.errors import DeviceMismatchError
from minigrad.tape import Node, recorder, tick
from minigrad.tensor import Tensor, as_tensor

__all__ = ["Primitive", "defvjp", "primitive"]

P = ParamSpec("P")
Rule = Callable[..., Any]


class Primitive:
    """An operation: its name, its forward on arrays, and the rules of its gradient.

    Attributes:
        name: what the tape shows.
        forward: `forward(xp, *arrays, **attributes) -> array`.
        inputs: names of the array arguments; a single `*xs` takes any number.
        attributes: names of the other arguments; `positional` of those that need not be named, `defaults` by name.
        rules: one rule per input, or None where no gradient flows; empty if the operation has no gradient.
        accumulate: `accumulate(buffer, g, *saved, **attributes)`: adds the first input's gradient to `buffer` in place.
        gives: `"new"` if what the rules return is nobody else's, so that the walk need not copy it; `"g"` if it is the
            very cotangent that they are given.
    """

    __slots__ = (
        "accumulate",
        "attributes",
        "defaults",
        "forward",
        "gives",
        "inputs",
        "keep",
        "keeps_inputs",
        "kept",
        "name",
        "optional",
        "positional",
        "required",
        "rules",
        "variadic",
        "view",
    )

    def __init__(self, forward: Callable[..., Any]) -> None:
        namespace, *parameters = inspect.signature(forward).parameters.values()
        self.name = forward.__name__.strip("_")
        self.forward = forward
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.inputs = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL)]
        self.optional = [p.default for p in parameters if p.kind is p.POSITIONAL_ONLY and p.default is not p.empty]
        if not self.inputs and namespace.kind is not namespace.POSITIONAL_ONLY:
            raise TypeError(
                f"a primitive names its inputs before a /, as in def {self.name}(xp, x, /, axis=None); "
                f"this is {self.name}{inspect.signature(forward)}"
            )
        attributes = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        self.attributes = [p.name for p in attributes]
        self.positional = [p.name for p in attributes if p.kind is p.POSITIONAL_OR_KEYWORD]
        self.required = [p.name for p in attributes if p.default is p.empty]
        self.defaults = {p.name: p.default for p in attributes if p.default is not p.empty}
        self.rules: tuple[Rule | None, ...] | _Each = ()
        self.accumulate: Callable[..., None] | None = None
        self.kept: list[tuple[str, int]] = []
        self.keeps_inputs = False
        self.view = False
        self.gives = ""
        self.keep: Callable[[Any, list[Any]], tuple[Any, ...]] = lambda y, arrays: ()

    def bind(self, args: tuple[Any, ...], attrs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Split a call's arguments into inputs and the complete attributes."""
        arity = len(args) if self.variadic else len(self.inputs)
        if len(args) < arity and len(args) + len(self.optional) >= arity:
            args += tuple(self.optional[len(args) - arity :])
        elif len(args) != arity:
            given = dict(zip(self.positional, args[arity:], strict=False))
            if not arity <= len(args) <= arity + len(self.positional):
                names = ", ".join(self.inputs + self.positional)
                raise TypeError(f"{self.name}() takes {names}; got {len(args)} arguments")
            if twice := given.keys() & attrs.keys():
                raise TypeError(f"{self.name}() got {', '.join(map(repr, sorted(twice)))} twice")
            args, attrs = args[:arity], {**given, **attrs}
        complete = {**self.defaults, **attrs}
        if len(complete) != len(self.attributes):
            raise TypeError(
                f"{self.name}() takes the keywords {self.attributes}, of which {self.required} are required; "
                f"got {list(attrs)}"
            )
        for name, value in attrs.items():
            if type(value) in by_type and not value.shape:  # a NumPy scalar would widen float32
                complete[name] = value.item()
        return args, complete

    def saved_as_tensors(self, node: Node) -> tuple[Any, ...]:
        """What the node saved, with values as tensors in their place on the tape: for rules that are recorded."""
        assert node.saved is not None
        values: list[Any] = []
        for (kind, position), value in zip(self.kept, node.saved, strict=True):
            source = node if kind == "y" else node.inputs[position] if kind == "input" else None
            if isinstance(source, Node):
                value = Tensor(value, True, source)
            elif isinstance(source, Tensor):
                value = source
            values.append(value)
        return tuple(values)


class _Each:
    """The rules of an operation with any number of inputs: one rule that is told which input it is for."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def __iter__(self) -> Iterator[Rule]:
        return (partial(self.rule, index) for index in count())


def primitive(forward: Callable[Concatenate[Any, P], Any]) -> Callable[P, Tensor]:
    """Make an operation of a forward on arrays. Give it a gradient with `defvjp`.

    The result runs on tensors (and records), or on bare arrays (and just computes).
    """
    op = Primitive(forward)
    compute = op.forward
    arity = -1 if op.variadic or op.required else len(op.inputs)
    defaults = op.defaults
    is_source = not op.inputs  # random numbers: always a tensor

    @wraps(forward)
    def apply(*args: Any, **attrs: Any) -> Any:
        if attrs or len(args) != arity:
            args, attrs = op.bind(args, attrs)
        else:
            attrs = defaults
        arrays = []
        sources = []
        any_tensor = is_source
        needs_grad = other_constants = False
        for value in args:
            if isinstance(value, Tensor):
                any_tensor = True
                if value.requires_grad:
                    needs_grad = True
                    sources.append(value.node or value)
                else:
                    sources.append(value)
                arrays.append(value.data)
            else:
                if type(value) not in _WEAK:
                    other_constants = True
                arrays.append(value)
                sources.append(value)
        if other_constants and any_tensor:
            arrays = _constants_as(args)
        backend = by_type.get(type(arrays[0])) if arrays else None
        try:
            y = compute((backend or _backend_of(op, arrays)).xp, *arrays, **attrs)
        except (TypeError, ValueError, IndexError, MemoryError) as error:
            raise _explained(op, arrays, error) from error
        if not any_tensor:
            return y
        try:
            shape = y.shape
        except AttributeError:
            raise TypeError(f"the forward of {op.name} must return an array; it returned {y!r}") from None
        if y.dtype is _FLOAT64 and "dtype" not in attrs:
            y, arrays = _narrowed(op, backend or _backend_of(op, arrays), y, arrays, attrs)
        if not shape and not hasattr(y, "__array_function__"):  # a scalar, which NumPy returns for a 0-d array
            y = (backend or _backend_of(op, arrays)).xp.asarray(y)
        record = needs_grad and op.rules and recorder.grad
        if recorder.tape is not None:
            node = Node(tick(), op, sources, attrs, op.keep(y, arrays), shape)
            recorder.tape.note(node, y)
            return Tensor(y, bool(record), node)
        return Tensor(y, True, Node(tick(), op, sources, attrs, op.keep(y, arrays), shape)) if record else Tensor(y)

    apply.op = op  # type: ignore[attr-defined]  # where defvjp finds it
    return apply


def defvjp(
    function: Callable[..., Any],
    *rules: Rule | None,
    each: Rule | None = None,
    accumulate: Any = None,
    view: bool = False,
) -> None:
    """Give a primitive its vector-Jacobian products: for each input, the cotangent `g` of the result pulled back.

    Args:
        function: what `primitive` returned.
        rules: one per input, `rule(g, *kept, **attributes)`; None where no gradient flows. All of them name the same
            things to keep. A result that is broadcast against the input is summed back by the walk.
        each: instead, for a primitive of `*xs`: `each(index, g, *kept, **attributes)`.
        accumulate: see `Primitive`; an optional faster form of the first rule.
        view: whether the result may share memory with the input, so that an update of one changes the other.
    """
    op: Primitive | None = getattr(function, "op", None)
    if op is None:
        raise TypeError(f"defvjp takes what mg.primitive returned, not {function!r}")
    if each is None and len(rules) != len(op.inputs):
        raise TypeError(f"{op.name} has the inputs {op.inputs}, but {len(rules)} rules")
    if each is None and all(rule is None for rule in rules):
        raise TypeError(f"{op.name} needs at least one rule; without defvjp no gradient flows")
    signatures = {_kept_names(op, rule, skip=1 + (each is not None)) for rule in (*rules, each) if rule is not None}
    if len(signatures) != 1:
        raise TypeError(f"the rules of {op.name} must all keep the same: {sorted(signatures)}")
    names = signatures.pop()
    op.kept = [_kept_as(op, name) for name in names]
    op.rules = _Each(each) if each is not None else rules
    op.accumulate = accumulate
    op.view = view
    op.keeps_inputs = any(kind == "input" for kind, _ in op.kept)
    code = {"y": "y", "input": "a[{0}]", "_shape": "a[{0}].shape", "_dtype": "a[{0}].dtype", "*": "_shapes(a)"}
    parts = "".join(code[kind].format(position) + ", " for kind, position in op.kept)
    op.keep = eval(f"lambda y, a: ({parts})", {"_shapes": lambda arrays: [array.shape for array in arrays]})


def _kept_names(op: Primitive, rule: Rule, skip: int) -> tuple[str, ...]:
    attributes = op.attributes
    names = list(inspect.signature(rule).parameters)[skip:]
    if missing := [name for name in attributes if name not in names]:
        raise TypeError(f"a rule of {op.name} lacks the attributes {missing}; rules take all of {attributes}")
    return tuple(name for name in names if name not in attributes)


def _kept_as(op: Primitive, name: str) -> tuple[str, int]:
    if name == "y":
        return "y", 0
    if op.variadic:
        if name.removesuffix("_shape") in op.inputs and name not in op.inputs:
            return "*", 0
        raise TypeError(f"a rule of {op.name} names {name!r}; it may name y and {op.inputs[0]}_shape")
    if name in op.inputs:
        return "input", op.inputs.index(name)
    for suffix in ("_shape", "_dtype"):
        if name.removesuffix(suffix) in op.inputs:
            return suffix, op.inputs.index(name.removesuffix(suffix))
    raise TypeError(f"a rule of {op.name} names {name!r}; it may name y and {op.inputs}, with _shape or _dtype")


# --- off the fast path --------------------------------------------------------------------------------------

_WEAK = frozenset({bool, int, float, type(None)})
"""Constants that take the dtype of the arrays they meet."""

_FLOAT64 = as_dtype("float64")


def _narrowed(op: Primitive, backend: Backend, y: Any, arrays: list[Any], attrs: dict[str, Any]) -> tuple[Any, Any]:
    """A float64 result, computed again in the dtype it should have had if it only comes of integers being widened."""
    dtypes = [array.dtype for array in arrays if hasattr(array, "dtype")]
    floating = [dtype for dtype in dtypes if is_floating(dtype)]
    wanted = max(floating, default=as_dtype(None), key=lambda dtype: dtype.itemsize)
    if wanted == _FLOAT64 or not dtypes:
        return y, arrays
    arrays = [a.astype(wanted) if hasattr(a, "dtype") and a.dtype.kind in "iu" else a for a in arrays]
    return op.forward(backend.xp, *arrays, **attrs).astype(wanted), arrays


def _constants_as(args: tuple[Any, ...]) -> list[Any]:
    """The arrays of a call in which tensors meet bare arrays, which are weak too: they never widen a tensor.

    Bare arrays are copied, since whoever has made them may write into them before the tape needs them.
    """
    tensors = [value for value in args if isinstance(value, Tensor)]
    like = next((value for value in tensors if is_floating(value.dtype)), tensors[0])
    arrays: list[Any] = []
    for value in args:
        if isinstance(value, Tensor):
            arrays.append(value.data)
        elif type(value) in _WEAK:
            arrays.append(value)
        elif type(value) in by_type and hasattr(value, "astype"):
            both = is_floating(value.dtype) and is_floating(like.dtype)
            value = value.astype(like.dtype) if both and value.dtype != like.dtype else value
            arrays.append(value.copy() if value.shape or type(value) is type(like.data) else value.item())
        else:
            arrays.append(as_tensor(value, like).data)
    return arrays


def _backend_of(op: Primitive, arrays: list[Any]) -> Backend:
    for array in arrays:
        if type(array) in by_type:
            return by_type[type(array)]
        if type(array) not in _WEAK:
            raise TypeError(
                f"{op.name} takes tensors, arrays and numbers, not {type(array).__name__}: use mg.tensor(...)"
            )
    return get_backend()


def _explained(op: Primitive, arrays: list[Any], error: Exception) -> Exception:
    """An error of the array library with the operation and its operands named."""
    names = op.inputs if not op.variadic else [f"{op.inputs[0]}[{index}]" for index in range(len(arrays))]
    known = {name: array for name, array in zip(names, arrays, strict=False) if type(array) in by_type}
    places = {name: by_type[type(array)].name for name, array in known.items()}
    if len(set(places.values())) > 1:
        where = ", ".join(f"{name} is on {place}" for name, place in places.items())
        first, other = next(iter(places)), next(n for n, p in places.items() if p != next(iter(places.values())))
        return DeviceMismatchError(
            f"{op.name}: {where}. Move one of them: {other}.to({places[first]!r}), or {first}.to({places[other]!r})"
        )
    places = {name: by_type[type(array)].place(array) for name, array in known.items()}
    if len(set(places.values())) > 1:
        where = ", ".join(f"{name} is on {place}" for name, place in places.items())
        return DeviceMismatchError(
            f"{op.name}: {where}. Make both on one device: inside `with cupy.cuda.Device(n):`, with arrays copied to it"
        )
    shapes = ", ".join(f"{name} {_described(array)}" for name, array in zip(names, arrays, strict=False))
    kind = next(kind for kind in (TypeError, IndexError, ValueError, MemoryError) if isinstance(error, kind))
    message = str(error).removeprefix(f"{op.name}: ").removeprefix(f"{op.name}() ")
    if kind is MemoryError:
        message = f"{message.rstrip('.')}. {LESS_MEMORY}"
    return kind(f"{op.name}: {message} (with {shapes})" if shapes else f"{op.name}: {message}")


LESS_MEMORY = "Less memory is needed with a smaller batch, a shorter window of steps, or checkpoint_every=n"


def _described(array: Any) -> str:
    return f"of shape {array.shape}, {array.dtype}" if hasattr(array, "shape") else repr(array)
