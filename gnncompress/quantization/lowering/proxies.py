"""What stands for a tensor while ``forward`` is followed by torch.fx, and which of its questions have an answer."""

from __future__ import annotations

import builtins
import inspect
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from threading import Lock, get_ident
from types import UnionType
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, fx, nn
from torch_geometric import utils
from torch_geometric.nn import MessagePassing, global_add_pool, global_max_pool, global_mean_pool

from gnncompress.models.convnet import read_out
from gnncompress.quantization.lowering.known import BY_CHANNEL, IDENTITIES
from gnncompress.quantization.places import LINEARS

if TYPE_CHECKING:
    from gnncompress.quantization.lowering.state import Slot

POOLS = {global_add_pool: "sum", global_mean_pool: "mean", global_max_pool: "max"}
# Questions about an input's layout, by the layouts of which the answer is yes.
_OF_LAYOUT = {
    "is_sparse": (torch.sparse_coo,),
    "is_sparse_csr": (torch.sparse_csr,),
    "is_mkldnn": (torch._mkldnn,),  # type: ignore[attr-defined]
}
# What is true of every tensor of a program: it runs on a CPU, and no gradient is followed.
_ALWAYS: Mapping[str, Any] = {"is_cuda": False, "device": torch.device("cpu"), "requires_grad": False}
# ``a += b`` changes what other names of ``a`` stand for, which ``a = a + b`` does not.
AUGMENTED = tuple(
    f"i{name}" for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "matmul")
)


def set_item(x: Any, key: Any, value: Any) -> Any:
    """Do ``x[key] = value`` and return x."""
    x[key] = value
    return x


class TensorProxy(fx.Proxy):
    """Stands for a tensor: it is not None, and an input knows its layout. ``tensors_stood_for`` answers isinstance.

    What depends on values, shapes or dtypes raises: those differ from call to call.
    """

    @property
    def layout(self) -> Any:
        """The layout of an input; that of any other value is not known."""
        return self._told("layout", lambda layout: layout)

    def __getattr__(self, name: str) -> Any:
        if name in _ALWAYS:
            return _ALWAYS[name]
        if name in _OF_LAYOUT:
            return self._told(name, lambda layout: layout in _OF_LAYOUT[name])
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "data":
            self._refuse("a tensor's data are replaced")
        super().__setattr__(name, value)

    def __len__(self) -> int:
        return self._refuse("the length of a tensor is asked for")

    def __int__(self) -> int:
        return self._refuse("a tensor's value is asked for")

    def __float__(self) -> float:
        return self._refuse("a tensor's value is asked for")

    def _refuse(self, why: str) -> NoReturn:
        if isinstance(self.tracer, Tracer):
            self.tracer.refuse(why)
        raise fx.proxy.TraceError(why)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", set_item, (self, key, value), {})

    def _told(self, name: str, answer: Callable[[torch.layout], Any]) -> Any:
        if self.node.op != "placeholder" or not isinstance(self.tracer, Tracer):
            return super().__getattr__(name)
        return answer(self.tracer.layout_of(str(self.node.target)))


def _augmented(function: Callable[[Any, Any], Any]) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    def augment(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return augment


for _name in AUGMENTED:
    setattr(TensorProxy, f"__{_name}__", _augmented(getattr(operator, _name)))


# PyG's functions that look at what they are given, and do as they say with any tensor.
_UTILITIES = (utils.scatter, utils.softmax)
_A_TENSOR = torch.empty(0)
_TRACING = Lock()
_is_instance = builtins.isinstance


@contextmanager
def tensors_stood_for() -> Iterator[None]:
    """Let ``isinstance`` take what stands for a tensor for one, in one trace at a time.

    The function itself is replaced: a proxy whose ``__class__`` is Tensor would be read as one by torch's C++.
    """

    def is_instance(value: Any, kinds: Any) -> bool:
        if type(value) is not TensorProxy:
            return _is_instance(value, kinds)
        return any(_stands_for_one(value, kind) for kind in _each_of(kinds))

    with _TRACING:
        builtins.isinstance = is_instance
        for function in _UTILITIES:
            setattr(utils, function.__name__, _recorded(function))
        try:
            yield
        finally:
            builtins.isinstance = _is_instance
            for function in _UTILITIES:
                setattr(utils, function.__name__, function)


def _recorded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is an operation of the graph if it is given what stands for a tensor."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        known = next((one for one in (*args, *kwargs.values()) if type(one) is TensorProxy), None)
        return (
            function(*args, **kwargs)
            if known is None
            else known.tracer.create_proxy("call_function", function, args, kwargs)
        )

    return call


def _each_of(kinds: Any) -> Iterator[Any]:
    if _is_instance(kinds, (tuple, UnionType)):
        for kind in kinds if _is_instance(kinds, tuple) else kinds.__args__:
            yield from _each_of(kind)
    else:
        yield kinds


def _stands_for_one(value: TensorProxy, kind: Any) -> bool:
    if _is_instance(kind, type(torch.FloatTensor)):
        value._refuse("a tensor is asked for its dtype")
    if _is_instance(kind, type) and issubclass(kind, Tensor):
        return _is_instance(_A_TENSOR, kind)
    return _is_instance(value, kind) or _is_instance(_A_TENSOR, kind)


class Tracer(fx.Tracer):
    """Follows a forward; arguments with a value in ``concrete_args`` have that value and are no inputs.

    ``layouts`` are those of the inputs that are not strided; ``asked`` holds the inputs whose layout was asked for,
    ``unfollowed`` the modules that are no layers but could not be followed, ``refused`` the questions without an
    answer: a forward that catches the error goes a way that calls may not go. ``state`` are what calls change in the
    model itself; their values stand in for unknown numbers, ``carried``.
    """

    def __init__(self, layouts: Mapping[str, torch.layout] | None = None, state: Sequence[Slot] = ()) -> None:
        super().__init__(autowrap_functions=(read_out, *POOLS, *_UTILITIES))
        self.state, self.carried = state, set[fx.Node]()
        self.refused: list[str] = []
        self.layouts = layouts or {}
        self.asked: set[str] = set()
        self.unfollowed: list[nn.Module] = []
        self._thread = get_ident()  # torch.fx catches what all threads do meanwhile

    def refuse(self, why: str) -> NoReturn:
        """Note that a question has no answer, and raise."""
        self.refused.append(why)
        raise fx.proxy.TraceError(why)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Refuse a branch on a value."""
        self.refuse("symbolically traced variables cannot be used as inputs to control flow")

    def create_args_for_root(self, *args: Any, **kwargs: Any) -> Any:
        """Let unknown numbers stand in for what calls change in the model."""
        found = super().create_args_for_root(*args, **kwargs)
        for number, slot in enumerate(self.state):
            unknown = self.create_proxy("placeholder", f"state_{number}", (), {})
            self.carried.add(unknown.node)
            slot.holder[slot.name] = unknown
        return found

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return what stands for a node's value."""
        return TensorProxy(node, self)

    def create_arg(self, a: Any) -> Any:
        """Return what stands for a value in the graph; a proxy must not be taken for a tensor that is a constant."""
        return a.node if issubclass(type(a), fx.Proxy) else super().create_arg(a)

    def layout_of(self, name: str) -> torch.layout:
        """Return the layout of an input, and note that it was asked for."""
        self.asked.add(name)
        return self.layouts.get(name, torch.strided)

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Say whether a module is a layer; what a user's own modules and PyG's models do is followed."""
        if isinstance(module, (MessagePassing, *IDENTITIES, *BY_CHANNEL, *LINEARS)):
            return True
        home = type(module).__module__
        holds = isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
        return home.startswith(("torch.", "torch_geometric.nn.")) and not holds and ".models." not in home

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Let parameters be proxies to the forward that is followed; others read modules at the same time."""
        if get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Follow a module that is no layer; one that cannot be followed is a layer, which torch computes."""
        if get_ident() != self._thread:
            return forward(*args, **kwargs)
        known, refused = len(self.graph.nodes), len(self.refused)
        try:
            found = super().call_module(m, forward, args, kwargs)
            if len(self.refused) > refused:
                raise fx.proxy.TraceError(self.refused[-1])
            return found
        except Exception:  # whatever its forward does
            del self.refused[refused:]
            for node in reversed(list(self.graph.nodes)[known:]):
                self.graph.erase_node(node)
            self.unfollowed.append(m)
            return self.create_proxy("call_module", self.path_of_module(m), args, kwargs)

    def _proxy_placeholder(self, name: str, concrete_args: Any, sig: inspect.Signature, function: Any) -> Any:
        if concrete_args is not None and name in concrete_args:
            return concrete_args[name]
        return super()._proxy_placeholder(name, concrete_args, sig, function)
