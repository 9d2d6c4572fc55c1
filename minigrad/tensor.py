"""`Tensor`: an array that remembers how it was made, and `tensor`, which makes one from host data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from minigrad.backend import (
    Array,
    Backend,
    as_dtype,
    backend_of,
    by_type,
    get_backend,
    host_array,
    is_floating,
    load_backend,
)
from minigrad.tape import Node, tick

__all__ = ["Parameter", "Tensor", "as_tensor", "tensor"]


class Tensor:
    """An array, whether it needs a gradient, and its place on the tape.

    Attributes:
        data: the array, of the backend that the tensor lives on. Treat it as read-only: the tape may need it.
        requires_grad: whether gradients flow to it.
        grad: the gradient that `backward` left, a tensor of the same shape, or None.
        node: the operation that made it; None for a leaf or a constant.

    Operators and methods are the functions of `minigrad.ops`: `x * y` is `mg.multiply(x, y)`.
    """

    __slots__ = ("__weakref__", "data", "grad", "node", "requires_grad")
    __array_ufunc__ = None  # so that `array * tensor` comes to Tensor.__rmul__
    __hash__ = object.__hash__
    version = 0  # a constant never changes; see Parameter

    def __init__(self, data: Array, requires_grad: bool = False, node: Node | None = None) -> None:
        self.data = data
        self.requires_grad = requires_grad
        self.grad: Tensor | None = None
        self.node = node

    # --- what it is

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.data.shape
        return shape

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return len(self.data.shape)

    @property
    def size(self) -> int:
        return int(self.data.size)

    @property
    def backend(self) -> Backend:
        """The backend that the tensor lives on."""
        return backend_of(self.data)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a 0-d tensor has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        values = repr(self.numpy()).removeprefix("array(").removesuffix(")")
        flag = ", requires_grad=True" if self.requires_grad else ""
        place = "" if self.backend.name == "numpy" else f", backend={self.backend.name!r}"
        return f"{type(self).__name__.lower()}({values}{flag}{place})"

    # --- out of the graph

    def numpy(self) -> Any:
        """The values as a NumPy array on the host (which may share memory: treat it as read-only)."""
        return self.backend.to_host(self.data)

    def item(self) -> Any:
        """The value of a tensor of one element as a Python number."""
        if self.size != 1:
            raise ValueError(f"item() takes a tensor of one element; this one has shape {self.shape}")
        return self.numpy().item()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ValueError(
                f"the truth of a tensor of shape {self.shape} is ambiguous; "
                "reduce it to one element, or select with mg.where(condition, a, b)"
            )
        return bool(self.item())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if self.backend.name != "numpy":
            raise TypeError(
                f"this tensor lives on the {self.backend.name} backend; call .numpy() to copy it to the host"
            )
        return self.data.astype(self.dtype if dtype is None else dtype, copy=copy is True)

    def __format__(self, spec: str) -> str:
        """The one element by a format such as `.3f`; without a format any tensor as `str` shows it."""
        return format(self.item(), spec) if spec else str(self)

    def __pos__(self) -> Tensor:
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError("tensors are not changed in place; select with mg.where, or build with mg.concat or mg.stack")

    # --- gradients

    def backward(self, grad: Any = None, create_graph: bool = False, retain_graph: bool = False) -> None:
        """Add the gradient of this tensor to the `.grad` of every leaf it depends on.

        Args:
            grad: the gradient of what follows with respect to this tensor; may be left out for one element.
            create_graph: record the walk itself, so that the gradients can be differentiated again.
            retain_graph: keep what the tape has saved, so that another walk can follow.

        Raises:
            RuntimeError: the tensor needs no gradient, or has more than one element and `grad` is missing.
            FreedGraphError: an earlier walk has used up a part of the graph.
            StaleParameterError: a parameter has been updated since the graph was recorded.
        """
        from minigrad.autograd import backward

        backward(self, grad, create_graph=create_graph, retain_graph=retain_graph)

    # --- to another place or type

    def to(self, backend: str | Backend) -> Tensor:
        """This tensor on another backend (itself if it is there).

        Gradients do not flow through a move: a leaf that needs one becomes another such leaf, a result a constant.
        """
        target = load_backend(backend)
        if target is self.backend:
            return self
        return Tensor(target.asarray(self.numpy()), self.requires_grad and self.node is None)

    if TYPE_CHECKING:  # bound in minigrad/ops/__init__.py
        T: Tensor
        mT: Tensor

        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __eq__(self, other: Any) -> Tensor: ...  # type: ignore[override]  # elementwise, as in the array API
        def __ne__(self, other: Any) -> Tensor: ...  # type: ignore[override]  # elementwise, as in the array API
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __getitem__(self, index: Any) -> Tensor: ...
        def astype(self, dtype: Any) -> Tensor: ...
        def detach(self) -> Tensor: ...
        def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def max(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def min(self, axis: Any = None, keepdims: bool = False) -> Tensor: ...
        def var(self, axis: Any = None, correction: float = 0, keepdims: bool = False) -> Tensor: ...
        def reshape(self, *shape: Any) -> Tensor: ...
        def squeeze(self, axis: Any) -> Tensor: ...


class Parameter(Tensor):
    """A leaf tensor that a module learns. It needs a gradient from the start.

    Assigning `data` (what an optimizer does) sets `version` to the tape's clock, and a backward walk that needs a
    value recorded before that raises `StaleParameterError` instead of mixing old values with new.

    Args:
        data: initial values: host data, an array, or a tensor.

    Attributes:
        name: the module and attribute that it was first assigned to, for messages.
        version: the tape's clock at the last update; 0 before the first.
    """

    __slots__ = ("name", "version")

    def __init__(self, data: Any) -> None:
        object.__setattr__(self, "version", 0)
        self.name = "parameter"
        values = tensor(data).data
        if not is_floating(values.dtype):
            values = values.astype(as_dtype(None))
        super().__init__(values, requires_grad=True)
        object.__setattr__(self, "version", 0)

    def to(self, backend: str | Backend) -> Parameter:
        """This parameter on another backend (itself if it is there), under the same name and without its gradient."""
        target = load_backend(backend)
        if target is self.backend:
            return self
        moved = Parameter(Tensor(target.asarray(self.numpy())))
        moved.name = self.name
        return moved

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "data":
            super().__setattr__("version", tick())

    def __setstate__(self, state: tuple[None, dict[str, Any]]) -> None:
        """Unpickle (or copy), with a version on the clock of this process."""
        for name, value in state[1].items():
            setattr(self, name, value)
        self.version = tick()


def tensor(data: Any, requires_grad: bool = False, dtype: Any = None) -> Tensor:
    """A new leaf tensor holding a copy of `data`: host data on the current backend, device data where it is.

    Args:
        data: a number, nested sequences of numbers, an array, or a tensor (its values are copied).
        requires_grad: whether gradients flow to it; only for floating-point values.
        dtype: `"float32"`, `"int64"`, ...; by default arrays keep their dtype and Python floats take the default dtype.

    >>> mg.tensor([[1.0, 2.0], [3.0, 4.0]]).dtype
    dtype('float32')
    """
    if isinstance(data, Tensor):
        values = data.data.copy()
    elif _is_on_device(data):
        values = data.copy()
    else:
        values = get_backend().asarray(host_array(data, dtype))
    if dtype is not None:
        values = values.astype(as_dtype(dtype))
    if requires_grad and not is_floating(values.dtype):
        raise ValueError(f"requires_grad needs floating-point values; these are {values.dtype} (pass dtype='float32')")
    return Tensor(values, requires_grad)


def _is_on_device(data: Any) -> bool:
    return type(data) in by_type and by_type[type(data)].name != "numpy"


def as_tensor(data: Any, like: Tensor | None = None) -> Tensor:
    """`data` itself if it is a tensor; otherwise a tensor of it, in the dtype and on the backend of `like`."""
    if isinstance(data, Tensor):
        return data
    dtype = like.dtype if like is not None and is_floating(like.dtype) else None
    if _is_on_device(data):
        made = Tensor(data)
    else:
        made = Tensor((like.backend if like is not None else get_backend()).asarray(host_array(data, dtype)))
    if dtype is not None and is_floating(made.dtype):
        made.data = made.data.astype(dtype)
    return made
