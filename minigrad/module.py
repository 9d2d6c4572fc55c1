"""`Module`: something with parameters. Parameters and submodules are simply attributes, also in lists and dicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from minigrad.backend import Backend, as_dtype, host_array, is_floating, load_backend
from minigrad.errors import StateDictError
from minigrad.tensor import Parameter, Tensor

__all__ = ["Module"]


class Module:
    """Base class of everything that holds parameters.

    Assign `Parameter`s and other modules as attributes, also in lists, tuples and dicts (nothing else is searched), and
    write `forward`; no `super().__init__()` is needed.

    Attributes:
        training: whether layers such as dropout are active; changed by `train` and `eval`.

    >>> class Affine(mg.Module):
    ...     def __init__(self, size):
    ...         self.scale = mg.Parameter(mg.ones(size))
    ...     def forward(self, x):
    ...         return x * self.scale
    >>> Affine(2)(mg.tensor([3.0, 4.0]))
    tensor([3., 4.], dtype=float32, requires_grad=True)
    """

    training = True
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        module = super().__new__(cls)
        object.__setattr__(module, "_arguments", (args, kwargs))
        return module

    def __setattr__(self, name: str, value: Any) -> None:
        old = vars(self).get(name)
        if isinstance(old, Parameter) and isinstance(value, Tensor) and not isinstance(value, Parameter):
            raise TypeError(
                f"{type(self).__name__}.{name} is a parameter, and a plain tensor in its place would no longer be "
                f"trained: assign {name}.data, or a new mg.Parameter"
            )
        if isinstance(value, Parameter | list | tuple | dict):
            for path, member in _members(name, value, set()):
                if isinstance(member, Parameter) and member.name == "parameter":
                    member.name = f"{type(self).__name__}.{path}"
        super().__setattr__(name, value)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What calling the module computes."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(...)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    # --- what is in it

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """This module (with an empty name) and all below it with their dotted names, each once."""
        for name, value in _members("", self, set()):
            if isinstance(value, Module):
                yield name, value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their dotted names, each once, in the order of assignment."""
        names = set()
        for name, value in _members("", self, set()):
            if isinstance(value, Parameter):
                if name in names:
                    raise ValueError(f"two parameters of {type(self).__name__} are called {name!r}; rename a key")
                names.add(name)
                yield name, value

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (parameter for _, parameter in self.named_parameters())

    def first_parameter(self) -> Parameter | None:
        """The first of `parameters()`, or None. It is what new states and inputs take their backend and dtype from.

        Layers ask at each call, and it is nearly always found without a look at all that the module holds.
        """
        part: Any = self
        for _ in range(16):  # modules may lead round in a circle
            if not isinstance(part, Module):
                break
            part = next((p for name, p in vars(part).items() if isinstance(p, _HOLDERS) and name != "_arguments"), None)
        return part if isinstance(part, Parameter) else next(self.parameters(), None)

    @contextmanager
    def substitute(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """A context in which other tensors stand in the place of parameters.

        Gradients flow to these tensors, and through them to what they were computed from; the parameters replaced get
        none. A parameter that is in several places is replaced in all of them. Afterwards, also after an error, they
        are back. This is how a wrapper computes the weights of the cell that it wraps:

        >>> class Halved(mg.Cell):
        ...     def __init__(self, cell):
        ...         self.cell = cell
        ...     def init_state(self, batch_size):
        ...         return self.cell.init_state(batch_size)
        ...     def step(self, x, state):
        ...         with self.cell.substitute({"weight_hh": self.cell.weight_hh * 0.5}):
        ...             return self.cell.step(x, state)
        >>> cell = mg.RNNCell(3, 5)
        >>> ys, h = mg.Recurrent(Halved(cell))(mg.ones((7, 2, 3)))
        >>> ys.sum().backward()
        >>> cell.weight_hh.grad.shape
        (5, 5)

        A plan computes such weights once for the whole sequence. Around a call of a layer the context works too, but
        then each call with new tensors compiles a new plan. Other threads that use the module meanwhile see the
        substitutes.

        Args:
            tensors: dotted names, as in `state_dict`, to tensors of the same shape and dtype. Constant tensors among
                the attributes can be replaced like parameters.

        Raises:
            ValueError: the module has no tensor of a name, or one of another shape.
            TypeError: one is not a tensor, or has another dtype.
        """
        held = {name: value for name, value in _members("", self, set()) if isinstance(value, Tensor)}
        new: dict[int, Tensor] = {}
        for name, tensor in tensors.items():
            if name not in held:
                known = ", ".join(held) or "none"
                raise ValueError(f"{type(self).__name__} has no tensor {name!r}; those to substitute are: {known}")
            new[id(held[name])] = _check_substitute(name, held[name], tensor)
        places = [(slots, key, old, _exchanged(old, new)) for slots, key, old in _places(self, set())]
        places = [place for place in places if place[2] is not place[3]]
        try:
            for slots, key, _, value in places:
                slots[key] = value
            yield
        finally:
            for slots, key, old, _ in places:
                slots[key] = old

    def clone(self) -> Self:
        """A new module made with the same constructor arguments, with fresh weights of the same dtype and backend.

        Modules among the arguments are cloned too; one that is used twice stays one.
        """
        copy: Self = _clone(self, {})
        parameter = self.first_parameter()
        copy.train(self.training)
        return copy if parameter is None else copy.to(parameter.backend, parameter.dtype)

    # --- weights in and out

    def state_dict(self) -> dict[str, Any]:
        """A copy of all parameters on the host: dotted names to NumPy arrays."""
        return {name: parameter.numpy().copy() for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Set the parameters from a mapping such as `state_dict` (or PyTorch's) returns.

        Args:
            state: dotted names to arrays, or to anything that NumPy makes an array of.
            strict: every parameter must be there, and nothing else. Otherwise what is missing or unknown is left out.

        Raises:
            StateDictError: lists all names that are missing, unexpected or of the wrong shape; nothing is changed.
        """
        parameters = dict(self.named_parameters())
        values, problems = {}, []
        for name, parameter in parameters.items():
            if name in state:
                try:
                    values[name] = _to_host(state[name], parameter.dtype)
                except (TypeError, ValueError) as error:
                    problems.append(f"not numbers: {name}: {error}")
        if strict:
            problems += [f"missing: {name} {p.shape}" for name, p in parameters.items() if name not in state]
            problems += [f"unexpected: {name}" for name in state if name not in parameters]
        for name, value in values.items():
            if value.shape != parameters[name].shape:
                problems.append(f"misshaped: {name} is {value.shape}, the module's is {parameters[name].shape}")
            elif value.dtype.kind not in "fiub":
                problems.append(f"not numbers: {name} is {value.dtype}")
        if problems:
            raise StateDictError(
                f"the state dict does not fit {type(self).__name__}; nothing was loaded:\n  " + "\n  ".join(problems)
            )
        for name, value in values.items():
            parameter = parameters[name]
            parameter.data = parameter.backend.asarray(value.astype(parameter.dtype))

    # --- modes, gradients, places

    def train(self, mode: bool = True) -> Self:
        """Put this module and all below it into training mode (or, with False, out of it)."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Put this module and all below it out of training mode."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def to(self, backend: str | Backend | None = None, dtype: Any = None) -> Self:
        """Move all parameters, and constant tensors among the attributes, to a backend, a dtype, or both.

        Gradients are dropped. Make the optimizer after moving.
        """
        if dtype is not None and as_dtype(dtype).name not in ("float32", "float64"):
            raise ValueError(f"the dtype of parameters is 'float32' or 'float64', not {dtype!r}")
        target = None if backend is None else load_backend(backend)
        for _, value in _members("", self, set()):
            if isinstance(value, Tensor):
                data = value.data if target in (None, value.backend) else target.asarray(value.numpy())
                if dtype is not None and is_floating(data.dtype):
                    data = data.astype(as_dtype(dtype))
                if data is not value.data:
                    value.data, value.grad = data, None
        return self

    def __repr__(self) -> str:
        lines = [line for name, part in _direct(self) for line in _shown(name, part)]
        return f"{type(self).__name__}(" + "".join(f"\n  {line}" for line in lines) + ("\n)" if lines else ")")


def _shown(name: str, value: Any) -> list[str]:
    """The lines that show a part in its module's repr: modules and parameters, also in containers."""
    if isinstance(value, Module):
        return f"({name}): {value!r}".split("\n")
    if isinstance(value, Parameter):
        return [f"({name}): {value.shape}"]
    if isinstance(value, list | tuple | dict):
        return [line for key, part in _direct(value) for line in _shown(f"{name}.{key}", part)]
    return []


def _members(name: str, value: Any, seen: set[int]) -> list[tuple[str, Any]]:
    """Everything of interest in a module or container, depth first: modules and tensors, each once."""
    if id(value) in seen:
        return []
    seen.add(id(value))
    if isinstance(value, Tensor):
        return [(name, value)]
    found = [(name, value)] if isinstance(value, Module) else []
    for key, part in _direct(value):
        found += _members(f"{name}.{key}" if name else key, part, seen)
    return found


def _direct(value: Any) -> list[tuple[str, Any]]:
    """The named parts of a module or container that are, or may hold, modules and tensors."""
    if isinstance(value, Module):
        return [(k, part) for k, part in vars(value).items() if isinstance(part, _HOLDERS) and k != "_arguments"]
    parts: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, dict) else enumerate(value)
    return [(str(key), part) for key, part in parts if isinstance(part, _HOLDERS)]


def _places(holder: Any, seen: set[int]) -> Iterator[tuple[Any, Any, Any]]:
    """Every place below a module or container that can be assigned to: the dict or list it is in, its key, its value.

    Tuples count as values.
    """
    if id(holder) in seen:
        return
    seen.add(id(holder))
    slots = vars(holder) if isinstance(holder, Module) else holder
    for key, part in list(slots.items() if isinstance(slots, dict) else enumerate(slots)):
        if isinstance(part, _HOLDERS) and not (slots is not holder and key == "_arguments"):
            if isinstance(slots, dict | list):
                yield slots, key, part
            if not isinstance(part, Tensor):
                yield from _places(part, seen)


def _check_substitute(name: str, old: Tensor, new: Any) -> Tensor:
    """A tensor that may stand in the place of another, or an error that says why not."""
    if not isinstance(new, Tensor):
        raise TypeError(f"the substitute for {name} must be a tensor, not {type(new).__name__}: mg.tensor(...)")
    if new.shape != old.shape:
        raise ValueError(f"the substitute for {name} must have its shape, {old.shape}; it has {new.shape}")
    if new.dtype != old.dtype:
        convert = f"tensor.astype({str(old.dtype)!r})"
        raise TypeError(f"the substitute for {name} must have its dtype, {old.dtype}; it has {new.dtype}: {convert}")
    return new


def _exchanged(value: Any, new: dict[int, Tensor]) -> Any:
    """The tensor that takes the place of another, also in tuples; all else as it is."""
    if isinstance(value, Tensor):
        return new.get(id(value), value)
    if isinstance(value, tuple):
        parts = [_exchanged(part, new) for part in value]
        if any(part is not old for part, old in zip(parts, value, strict=True)):
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


_HOLDERS = (Module, Tensor, list, tuple, dict)


def _clone(value: Any, made: dict[int, Any]) -> Any:
    """A constructor argument with each module in it replaced by one new module, noted in `made`."""
    if isinstance(value, Module):
        if id(value) not in made:
            args, kwargs = value._arguments
            made[id(value)] = type(value)(*_clone(args, made), **_clone(kwargs, made))
        return made[id(value)]
    if isinstance(value, Iterator):
        raise TypeError(
            "a module made with an iterator as an argument cannot be cloned, since it is used up: pass a list"
        )
    if isinstance(value, dict):
        return {key: _clone(part, made) for key, part in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)([_clone(part, made) for part in value])
    return value


def _to_host(value: Any, dtype: Any) -> Any:
    return value.numpy() if isinstance(value, Tensor) else host_array(value, dtype)
