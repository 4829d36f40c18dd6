"""Natural gradients for the linear parts of a model: K-FAC as a preconditioner in front of any optimizer.

The curvature of a linear layer is approximated by a Kronecker product of two small matrices, so its inverse costs
two small inverses. Hooks read what those matrices need, so no model has to be written for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch_geometric.nn import Linear as PyGLinear


@dataclass
class _Moments:
    """Sums over the rows seen since the last refresh: of a a^T, of g g^T, and the number of rows."""

    inputs: Tensor
    gradients: Tensor
    rows: int


class KFAC:
    """Precondition the gradients of all linear layers: grad <- (G + eps I)^-1 grad (A + eps I)^-1.

    A = E[a a^T] over the rows a that enter the layer, with a 1 appended if the layer itself has a bias; grad is
    then [dW | db]. G = E[g g^T] over the gradients g of the rows that leave it. The loss is taken to be a mean over
    all N rows of the layer, so g is N times what arrives at the row: G does not shrink as the data grow. Damping is
    plain: eps is added to both factors as it is, without the pi-factor that balances their traces.

    Layers are torch.nn.Linear and torch_geometric.nn.Linear; a layer that is not called as a module (its weight is
    read directly, as in SplineConv) keeps its gradient. In GCNConv the linear layer comes before propagation, so
    the g that reaches it is already propagated by A'; a, the rows before propagation, and g are still the two
    factors of its weight's gradient sum_n g_n a_n^T. The bias of GCNConv belongs to no linear layer.

    Under a pruning mask the gradient of the unmasked original is preconditioned. That may move pruned entries
    of the original; the mask reads them as zero all the same.

    Shapes: grad [out, in (+1)], G [out, out], A [in (+1), in (+1)]; inputs [..., in] dense, or [N, in] CSR.

    Call ``step`` after ``loss.backward()`` and before ``optimizer.step()``. Factors and inverses are refreshed on
    the first step and then every ``update_every`` steps. Only what happens while ``model.training`` counts.

    Source: Martens and Grosse, Optimizing Neural Networks with Kronecker-factored Approximate Curvature, ICML 2015;
    for GCNs Izadi et al., Optimization of Graph Neural Networks with Natural Gradient Descent, 2020. G is that of
    the training loss and its labels (the empirical Fisher); the latter also draws labels for unlabelled nodes.
    """

    def __init__(self, model: nn.Module, eps: float = 0.01, update_every: int = 50) -> None:
        if eps <= 0 or update_every < 1:
            raise ValueError(f"eps must be positive and update_every at least 1, not {eps} and {update_every}")
        self.model, self.eps, self.update_every = model, eps, update_every
        layers = [module for module in model.modules() if isinstance(module, (nn.Linear, PyGLinear))]
        self._moments: dict[nn.Module, _Moments] = {}
        self._inverses: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self._steps = 0
        self._hooks = [layer.register_forward_hook(self._watch) for layer in layers]

    def __enter__(self) -> KFAC:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the hooks and forget the factors; ``step`` then changes nothing."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._moments.clear()
        self._inverses.clear()

    @torch.no_grad()
    def step(self) -> None:
        """Precondition the gradients in place; do nothing while the model is not in training mode."""
        if not self.model.training or not self._hooks:
            return
        if self._due:
            for layer, moments in self._moments.items():
                inverses = [_inverse(factor / moments.rows, self.eps) for factor in (moments.inputs, moments.gradients)]
                self._inverses[layer] = inverses[0], inverses[1]
            self._moments.clear()
        for layer, (inputs, gradients) in self._inverses.items():
            weight, bias = _trained(layer, "weight"), _trained(layer, "bias")
            if weight is None or weight.grad is None:
                continue
            grad = weight.grad
            if bias is not None:
                column = torch.zeros_like(bias) if bias.grad is None else bias.grad
                grad = torch.cat([grad, column.unsqueeze(1)], dim=1)
            natural = gradients @ grad @ inputs
            weight.grad.copy_(natural[:, : weight.size(1)])
            if bias is not None and bias.grad is not None:
                bias.grad.copy_(natural[:, -1])
        self._steps += 1

    @property
    def _due(self) -> bool:
        return self._steps % self.update_every == 0

    def _watch(self, layer: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        """Have the moments of this call gathered when, and only if, its gradient arrives."""
        if not (self._due and self.model.training and output.requires_grad):
            return
        x = arguments[0].detach()
        output.register_hook(lambda gradient: self._gather(layer, x, gradient.detach()))

    @torch.no_grad()
    def _gather(self, layer: nn.Module, x: Tensor, gradient: Tensor) -> None:
        """Add one call's rows to the moments of its layer, so that shared layers and several losses add up."""
        gradient = gradient.reshape(-1, gradient.size(-1))
        rows = gradient.size(0)
        scaled = gradient * rows
        new = _Moments(_second_moment(x, homogeneous=_trained(layer, "bias") is not None), scaled.t() @ scaled, rows)
        old = self._moments.get(layer)
        if old is not None:
            new = _Moments(old.inputs + new.inputs, old.gradients + new.gradients, old.rows + rows)
        self._moments[layer] = new


def _trained(layer: nn.Module, name: str) -> Tensor | None:
    """Return the parameter an optimizer sees, which for a parametrized weight is its original."""
    if parametrize.is_parametrized(layer, name):
        original: Tensor = layer.parametrizations[name].original  # type: ignore[union-attr, index]
        return original
    return getattr(layer, name, None)


def _second_moment(x: Tensor, homogeneous: bool) -> Tensor:
    """Return the sum of a a^T over the rows of x [..., F], a 1 appended to each if homogeneous."""
    if x.layout == torch.strided:
        x = x.reshape(-1, x.size(-1))
        product, total = x.t() @ x, x.sum(dim=0)
    else:
        # A dense copy of wide, sparse features would cost far more than the product of the few stored values.
        product = (x.t() @ x).to_dense()
        total = x.t() @ product.new_ones(x.size(0))
    if not homogeneous:
        return product
    side = total.unsqueeze(1)
    return torch.cat([torch.cat([product, side], 1), torch.cat([side.t(), side.new_full((1, 1), x.size(0))], 1)])


def _inverse(factor: Tensor, eps: float) -> Tensor:
    """Return (factor + eps I)^-1 for a symmetric positive semidefinite factor, by Cholesky in double precision."""
    damped = factor.double()
    damped.diagonal().add_(eps)
    return torch.cholesky_inverse(torch.linalg.cholesky(damped)).to(factor.dtype)
