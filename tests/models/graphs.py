"""Small random graphs, and what a dense numpy version of a network is made of."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data


def random_data(nodes: int, features: int, seed: int, share: float = 0.3) -> Data:
    """Return an undirected graph whose last node has no edge."""
    rng = np.random.default_rng(seed)
    adjacency = np.triu(rng.uniform(size=(nodes, nodes)) < share, 1)
    adjacency[:, -1] = False
    edges = np.array(np.nonzero(adjacency | adjacency.T))
    return Data(x=torch.from_numpy(rng.normal(size=(nodes, features))).float(), edge_index=torch.from_numpy(edges))


def random_batch(features: int, seed: int = 0) -> Batch:
    """Return graphs of several sizes, one of them without edges and one of a single node."""
    bare = Data(x=torch.randn(3, features), edge_index=torch.empty(2, 0, dtype=torch.long))
    single = Data(x=torch.randn(1, features), edge_index=torch.empty(2, 0, dtype=torch.long))
    return Batch.from_data_list([random_data(9, features, seed), bare, random_data(6, features, seed + 1), single])


def dense_adjacency(edge_index: Tensor, nodes: int) -> np.ndarray:
    """Return A [N, N] with A_ij = 1 for an edge j -> i."""
    adjacency = np.zeros((nodes, nodes))
    adjacency[edge_index[1].numpy(), edge_index[0].numpy()] = 1
    return adjacency


def normalised(adjacency: np.ndarray) -> np.ndarray:
    """Return D^-1/2 A D^-1/2, zero where a degree is."""
    degree = adjacency.sum(1)
    scale = np.divide(1, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0)
    return scale[:, None] * adjacency * scale[None, :]


def numpy_state(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Return a model's parameters and buffers in double precision."""
    return {name: tensor.detach().numpy().astype(float) for name, tensor in model.state_dict().items()}


def shake(model: torch.nn.Module, seed: int = 0) -> None:
    """Draw biases, epsilons and running statistics at random, so that none of them is invisible at its start value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point() and tensor.dim() < 2:
                drawn = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(drawn + 0.5 if "var" in name or "norm" in name or "weight" in name else drawn - 0.5)
