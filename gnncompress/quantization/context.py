"""What the quantizers of a model need to know of the forward pass under way: which nodes and edges are protected."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.utils import is_torch_sparse_tensor, to_edge_index

from gnncompress.errors import QuantizationError
from gnncompress.quantization.learned_quantizer import LearnedQuantizer
from gnncompress.quantization.protection import protection_probability
from gnncompress.quantization.quantizer import Rows
from gnncompress.schemes import Scheme

# The buffer of a model whose steps and bits belong to one graph: nodes, edges, and a sum over the edges.
GRAPH = "quantization_graph"
_FACTOR, _MODULUS = 1_000_003, 2**31 - 1


class Call:
    """One call of a convolution: which of its nodes are protected, all of it only in training.

    ``protected`` [nodes] is bool, or None if no node is. What follows from it is worked out once and kept as long as
    the same edges are asked for, which the layers of a model often share.
    """

    def __init__(self, protected: Tensor | None = None) -> None:
        self.protected = protected
        self.early = False  # the messages were quantized before they were gathered
        self.edge_index: Tensor | None = None
        self._nodes = None if protected is None else Rows(_where(protected), _where(~protected))
        self._known: dict[tuple[int, int, bool], tuple[Tensor, Rows]] = {}

    def nodes(self, x: Any) -> Rows | None:
        """Return what is protected of ``x`` if it has a row a node."""
        if self._nodes is None or self.protected is None or len(x) != len(self.protected):
            return None
        return self._nodes

    def edges(self, sources: Tensor) -> Rows | None:
        """Return which edges start at a protected node: their messages stay as they are."""
        if self.protected is None:
            return None
        return self._once(sources, False, self._edges)

    def sources(self, sources: Tensor, nodes: int) -> Rows:
        """Return the same for what is quantized a node and then gathered, seen as often as it will be gathered."""
        return self._once(sources, True, lambda found: self._sources(found, nodes))

    def _once(self, sources: Tensor, by_node: bool, make: Callable[[Tensor], Rows]) -> Rows:
        key = sources.data_ptr(), len(sources), by_node
        if key not in self._known:
            # The tensor is kept, so that no other can come to stand at its address.
            self._known[key] = sources, make(sources)
        return self._known[key][1]

    def _edges(self, sources: Tensor) -> Rows:
        assert self.protected is not None
        protected = self.protected[sources]
        return Rows(_where(protected), _where(~protected))

    def _sources(self, sources: Tensor, nodes: int) -> Rows:
        counts = torch.bincount(sources, minlength=nodes)
        kept = None
        if self.protected is not None:
            counts[self.protected] = 0
            kept = None if self._nodes is None else self._nodes.kept
        seen = _where(counts > 0)
        return Rows(kept, seen, counts[seen])


class Context:
    """Draws the protective masks of a model's forward passes and says which convolution is under way."""

    def __init__(self, scheme: Scheme) -> None:
        self.scheme = scheme
        self.calls: list[Call] = []
        self.raw_inputs_pending = True
        self.calibrating = False
        self._inside = False
        self._graph: Tensor | None = None
        self._batch: Tensor | None = None
        self._drawn: dict[tuple[int, int], tuple[Tensor, Call]] = {}
        self._unprotected = Call()
        self._probability: tuple[Any, int, Tensor] | None = None

    @property
    def current(self) -> Call:
        """The call of the innermost convolution; one without protection outside of any."""
        return self.calls[-1] if self.calls else self._unprotected

    def begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Start a forward pass of the whole model."""
        self.calls.clear()
        self._drawn.clear()
        self._unprotected = Call()
        self._batch = _batch(model, args, kwargs) if self._protects(model) else None
        self._graph = getattr(model, GRAPH, None)
        self._inside = True

    def end(self, model: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """End it."""
        self._inside = False

    def enter(self, conv: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str) -> Call:
        """Start a call of a convolution."""
        if not self._inside and not self.calls:  # called by itself, not in a forward pass of the model
            self._drawn.clear()
            self._unprotected = Call()
        if self._graph is not None:
            self._recognize(self._graph, conv, [*args, *kwargs.values()], name)
            self._graph = None
        call = self._call(conv, [*args, *kwargs.values()], name)
        call.early = False
        self.calls.append(call)
        return call

    def leave(self) -> Call:
        """End the call of the innermost convolution."""
        return self.calls.pop() if self.calls else self._unprotected

    def _recognize(self, known: Tensor, conv: nn.Module, given: list[Any], name: str) -> None:
        """Keep the graph that a model is calibrated on in mind, and insist on it in evaluation."""
        edges, degree = _in_degree(conv, given)
        if edges is None or degree is None or edges.dim() != 2:
            return
        total = (edges[0] * _FACTOR + edges[1]).remainder(_MODULUS).sum()
        found = torch.stack([total.new_tensor(len(degree)), total.new_tensor(edges.size(1)), total])
        if self.calibrating:
            known.copy_(found)
        elif not conv.training and bool(known[0] == found[0]) and not torch.equal(known, found.to(known)):
            raise QuantizationError(
                f"{name}: the graph has other edges than the one that the model's steps and bits belong to; "
                "groups of them (--groups 1000) make a model for any graph"
            )

    def meet(self, quantizer: nn.Module) -> None:
        """Let the first quantizer that is met know that it stands at the model's raw input."""
        if self.raw_inputs_pending:
            self.raw_inputs_pending = False
            if isinstance(quantizer, LearnedQuantizer):
                quantizer.raw = True

    def _protects(self, module: nn.Module) -> bool:
        return self.scheme.kind == "dq" and module.training

    def _call(self, conv: nn.Module, given: list[Any], name: str) -> Call:
        if not self._protects(conv):
            return self._unprotected
        if any(_bipartite(value) for value in given):
            raise QuantizationError(
                f"{name}: sources and targets are different nodes, and protection ranks one set of them; use a qat "
                "scheme, or leave the layer in floats with --keep-float"
            )
        edges, degree = _in_degree(conv, given)
        if edges is None or degree is None:
            raise QuantizationError(
                f"{name}: protecting nodes by their degree needs edge_index among its arguments; "
                "use a qat scheme, or leave the layer in floats with --keep-float"
            )
        key = (edges.data_ptr(), len(degree))
        if self.scheme.draw == "forward" and key in self._drawn:
            return self._drawn[key][1]
        call = Call(self.draw(edges, degree))
        self._drawn[key] = edges, call
        return call

    def draw(self, edges: Tensor, degree: Tensor) -> Tensor:
        """Return a mask of protected nodes, True with each node's probability."""
        return torch.bernoulli(self._probabilities(edges, degree)).bool()

    def _probabilities(self, edges: Tensor, degree: Tensor) -> Tensor:
        known = self._probability
        if known is not None and known[0]() is edges and known[1] == edges._version and len(known[2]) == len(degree):
            return known[2]
        # After pooling the nodes are others, and are ranked among all of the batch.
        batch = self._batch if self._batch is not None and len(self._batch) == len(degree) else None
        graphs = int(batch.max()) + 1 if batch is not None and len(batch) else 1
        found = protection_probability(degree, self.scheme.protect, self.scheme.protect_more, batch, graphs)
        self._probability = weakref.ref(edges), edges._version, found
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> Context:
        new = Context(self.scheme)
        new.raw_inputs_pending = self.raw_inputs_pending
        memo[id(self)] = new
        return new


def _where(chosen: Tensor) -> Tensor:
    return chosen.nonzero().squeeze(1)


def _batch(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """Return the graph of each node, from the model's argument called batch or from a Data object."""
    names = inspect.signature(model.forward).parameters
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    found = given.get("batch")
    if not isinstance(found, Tensor):
        found = next((value.batch for value in given.values() if isinstance(getattr(value, "batch", 0), Tensor)), None)
    return found if isinstance(found, Tensor) else None


def _bipartite(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2 and value[0] is not value[1]


def _in_degree(conv: nn.Module, given: Iterable[Any]) -> tuple[Tensor | None, Tensor | None]:
    """Return the edges among a layer's arguments and the in-degree of its nodes."""
    nodes, edges, into = 0, None, 1 if getattr(conv, "flow", "source_to_target") == "source_to_target" else 0
    for value in given:
        features = value[0] if isinstance(value, (tuple, list)) and value else value
        if isinstance(value, Tensor) and is_torch_sparse_tensor(value) and value.size(0) == value.size(1) == nodes:
            edges = to_edge_index(value)[0].flip(0)
        elif isinstance(value, Tensor) and not value.is_floating_point() and value.dim() == 2 and len(value) == 2:
            edges = value
        elif isinstance(features, Tensor) and features.is_floating_point() and not nodes:
            nodes = len(features)
        elif hasattr(value, "indptr") and hasattr(value, "weights"):  # the adjacency of HGP-SL
            return value.weights, torch.from_numpy(value.indptr).diff()
    if edges is None:
        return None, None
    return edges, torch.bincount(edges[into], minlength=nodes)
