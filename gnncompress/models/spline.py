"""SplineCNN in plain PyTorch: no compiled extension is needed.

PyG's own ``SplineConv`` needs pyg-lib, which the package index does not carry. Here the features are multiplied
by all kernel weights first, in one product that also covers the root weight, and the (much narrower) results
are gathered along the edges; a message-first order would touch every edge's full feature vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import MessagePassing

from gnncompress.models.dropout import FeatureDropout
from gnncompress.splines import kernel_coefficients


class SplineConv(MessagePassing):
    """B-spline graph convolution with a root weight and a bias.

    out_i = mean_{j -> i} sum_k B_k(u_ij) x_j W_k + x_i W_root + b; the mean of no neighbour is 0.

    Shapes: x [N, in] dense or CSR, edge_index [2, E], pseudo [E, D] in [0, 1] -> [N, out]. Parameters, named as in
    PyG: weight [prod K, in, out], lin.weight [out, in], bias [out].

    Source: Fey et al., SplineCNN, CVPR 2018, equation 2. The kernel weights are applied before the gather, which
    changes the order of the sums and nothing else.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dim: int,
        kernel_size: int | Sequence[int],
        is_open_spline: bool | Sequence[bool] = True,
        degree: int = 1,
    ) -> None:
        super().__init__(aggr="mean")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = [kernel_size] * dim if isinstance(kernel_size, int) else list(kernel_size)
        self.is_open_spline = [is_open_spline] * dim if isinstance(is_open_spline, bool) else list(is_open_spline)
        self.degree = degree
        if len(self.kernel_size) != dim or len(self.is_open_spline) != dim:
            raise ValueError(f"kernel_size and is_open_spline need one value for each of the {dim} dimensions")
        self.weight = nn.Parameter(torch.empty(math.prod(self.kernel_size), in_channels, out_channels))
        self.lin = nn.Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the kernel from U(+-1/sqrt(prod K * in)), the root from U(+-1/sqrt(in)); the bias is 0."""
        bound = 1 / math.sqrt(self.weight.size(0) * self.in_channels)
        nn.init.uniform_(self.weight, -bound, bound)
        self.lin.reset_parameters()
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, edge_index: Tensor, pseudo: Tensor) -> Tensor:
        """Return the convolved features [N, out]."""
        weight = self.weight
        kernels = weight.size(0)
        stacked = torch.cat([*weight.unbind(0), self.lin.weight.t()], dim=1)
        transformed = x @ stacked
        neighbours, root = transformed.split([kernels * self.out_channels, self.out_channels], dim=1)
        coefficients = kernel_coefficients(pseudo, self.kernel_size, self.is_open_spline, self.degree)
        out: Tensor = self.propagate(edge_index, x=neighbours, coefficients=coefficients)
        return out + root + self.bias

    def message(self, x_j: Tensor, coefficients: Tensor) -> Tensor:
        """Return sum_k B_k(u_ij) (x_j W_k) for every edge: [E, out]."""
        by_kernel = x_j.view(x_j.size(0), coefficients.size(1), self.out_channels)
        return (coefficients.unsqueeze(2) * by_kernel).sum(dim=1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size})"


class SplineNet(nn.Module):
    """SplineCNN for node classification: dropout, SplineConv, ELU, dropout, SplineConv.

    Shapes: x [N, features] dense or CSR, edge_index [2, E], edge_attr [E, 1] in [0, 1] -> logits [N, classes].
    69,143 parameters on Cora (1,433 features, hidden 16, 7 classes).

    Source: Fey et al., CVPR 2018, section 5.2, with the two layers of PyG's Cora example.
    """

    def __init__(self, features: int, classes: int, hidden: int = 16, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = FeatureDropout(dropout)
        self.conv1 = SplineConv(features, hidden, dim=1, kernel_size=2)
        self.conv2 = SplineConv(hidden, classes, dim=1, kernel_size=2)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        """Return one logit per node and class."""
        hidden = F.elu(self.conv1(self.dropout(x), edge_index, edge_attr))
        return self.conv2(self.dropout(hidden), edge_index, edge_attr)
