"""HGP-SL against a dense numpy version written from the formulas, one graph and one pair of nodes at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.nn import GCNConv

from gnncompress.models import hgpsl
from gnncompress.models.hgpsl import HGPSL, Adjacency, candidates, gcn_adjacency, information_score, select

Graph = tuple[np.ndarray, np.ndarray]  # adjacency [n, n] and features [n, f]


def random_graph(nodes: int, density: float, seed: int, features: int = 4) -> Graph:
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.random((nodes, nodes)) < density, 1)
    return (upper | upper.T).astype(float), rng.normal(size=(nodes, features))


def batched(graphs: list[Graph], dtype: torch.dtype = torch.double) -> tuple[Tensor, Tensor, Tensor]:
    """Return x, edge_index and batch."""
    sizes = [len(features) for _, features in graphs]
    starts = np.cumsum([0, *sizes])
    edges = [np.stack(np.nonzero(adjacency)) + start for (adjacency, _), start in zip(graphs, starts, strict=False)]
    x = torch.tensor(np.concatenate([features for _, features in graphs]), dtype=dtype)
    return (
        x,
        torch.tensor(np.concatenate(edges, axis=1)),
        torch.arange(len(sizes)).repeat_interleave(Tensor(sizes).int()),
    )


def wrap(a: np.ndarray) -> Adjacency:
    """Return a dense matrix as an Adjacency."""
    rows, columns = np.nonzero(a)
    indptr = np.searchsorted(rows, np.arange(len(a) + 1)).astype(np.int32)
    return Adjacency(indptr, columns.astype(np.int32), torch.tensor(a[rows, columns]))


def dense(adjacency: Adjacency) -> np.ndarray:
    return adjacency.matrix().toarray()


def slow_score(x: np.ndarray, a: np.ndarray) -> np.ndarray:
    degree = a.sum(axis=1)
    score = np.zeros(len(x))
    for i in range(len(x)):
        expected = np.zeros(x.shape[1])
        for j in np.flatnonzero(a[i]):
            expected += a[i, j] / math.sqrt(degree[i] * degree[j]) * x[j]
        score[i] = np.abs(x[i] - expected).sum()
    return score


def slow_hops(a: np.ndarray) -> np.ndarray:
    """Return where a walk of one to four steps leads."""
    reach = a != 0
    for _ in range(2):
        reach = reach | (reach.astype(int) @ reach.astype(int) > 0)
    return reach


def slow_structure(x: np.ndarray, a: np.ndarray, kept: np.ndarray, att: np.ndarray, trade_off: float) -> np.ndarray:
    reach = slow_hops(a)
    learned = np.zeros((len(kept), len(kept)))
    for row, i in enumerate(kept):
        columns = [column for column, j in enumerate(kept) if i == j or reach[i, j]]
        logits = []
        for column in columns:
            attention = att @ np.concatenate([x[i], x[kept[column]]])
            logits.append((attention if attention > 0 else 0.2 * attention) + trade_off * a[i, kept[column]])
        z = np.sort(logits)[::-1]
        k = max(k for k in range(1, len(z) + 1) if 1 + k * z[k - 1] > z[:k].sum())
        learned[row, columns] = np.maximum(np.array(logits) - (z[:k].sum() - 1) / k, 0)
    return learned


def slow_pool(
    x: np.ndarray, a: np.ndarray, att: np.ndarray, ratio: float, trade_off: float
) -> tuple[np.ndarray, np.ndarray]:
    best = sorted(range(len(x)), key=lambda i: -slow_score(x, a)[i])[: math.ceil(ratio * len(x))]
    kept = np.array(sorted(best))
    return x[kept], slow_structure(x, a, kept, att, trade_off)


def slow_model(model: HGPSL, graph: Graph) -> np.ndarray:
    p = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}

    def affine(name: str, x: np.ndarray) -> np.ndarray:
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    a, x = graph
    looped = a + np.eye(len(a))
    scale = 1 / np.sqrt(looped.sum(axis=1))
    x = np.maximum(affine("conv1.lin", scale[:, None] * looped * scale @ x), 0)
    summary = np.zeros(0)
    for level in (1, 2):
        x, a = slow_pool(x, a, p[f"pool{level}.att"][0], model.pool1.ratio, model.pool1.trade_off)
        summary = np.concatenate([x.max(axis=0), x.mean(axis=0)]) + (summary if level == 2 else 0)
        x = np.maximum(affine(f"conv{level + 1}.lin", a @ x), 0)
    summary = summary + np.concatenate([x.max(axis=0), x.mean(axis=0)])
    return affine("lin3", np.maximum(affine("lin2", np.maximum(affine("lin1", summary), 0)), 0))


def new_model(seed: int = 0, features: int = 4, **settings: float) -> HGPSL:
    torch.manual_seed(seed)
    model = HGPSL(features, 3, hidden=16, **settings).double()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.2)
    return model


GRAPHS = [
    random_graph(11, 0.25, 0),
    random_graph(1, 0, 1),
    random_graph(6, 0, 2),
    random_graph(17, 0.12, 3),  # has isolated nodes
    random_graph(2, 1, 4),
    random_graph(9, 0.5, 5),
    random_graph(40, 0.04, 6),  # has paths longer than four
]


@pytest.mark.parametrize(("features", "count"), [(4, 75_458), (3, 75_330)])
def test_parameter_count(features: int, count: int) -> None:
    assert sum(parameter.numel() for parameter in HGPSL(features, 2).parameters()) == count


def test_the_examples_have_what_they_promise() -> None:
    assert (GRAPHS[3][0].sum(axis=0) == 0).any()
    reach = slow_hops(GRAPHS[6][0])
    assert ((reach.astype(int) @ reach.astype(int) > 0) & ~reach).any()


@given(nodes=st.integers(1, 14), density=st.floats(0, 0.6), seed=st.integers(0, 9), weighted=st.booleans())
def test_score(nodes: int, density: float, seed: int, weighted: bool) -> None:
    a, x = random_graph(nodes, density, seed)
    if weighted:  # as after a first pooling: not symmetric, with loops
        a = (a + np.eye(nodes)) * np.random.default_rng(seed).random(a.shape)
    got, _ = information_score(torch.tensor(x), wrap(a))
    np.testing.assert_allclose(got.numpy(), slow_score(x, a), atol=1e-12)


def test_score_by_hand() -> None:
    # A star of two leaves: 1 / sqrt(2 * 1) to and from the centre, which is node 0; node 3 is alone.
    x = torch.tensor([[1.0], [2.0], [4.0], [-3.0]], dtype=torch.double)
    adjacency = Adjacency.from_edges(torch.tensor([[0, 0, 1, 2], [1, 2, 0, 0]]), x)
    root = 1 / math.sqrt(2)
    expected = [abs(1 - root * 6), 2 - root, 4 - root, 3]
    np.testing.assert_allclose(information_score(x, adjacency)[0].numpy(), expected, atol=1e-12)


def test_selection() -> None:
    score = torch.tensor([1.0, 2, 2, 2, 0, 5, 5, 5, 5])
    batch = torch.tensor([0, 0, 0, 0, 0, 1, 2, 2, 2])
    exact = torch.zeros(9)
    assert select(score, exact, batch, 0.5).tolist() == [1, 2, 3, 5, 6, 7]
    assert select(score, exact, batch, 0.2).tolist() == [1, 5, 6]
    assert select(score, exact, batch, 1.0).tolist() == list(range(9))
    assert len(select(torch.zeros(100), torch.zeros(100), torch.zeros(100, dtype=torch.long), 0.07)) == 7


def test_rounding_does_not_decide_between_equal_nodes() -> None:
    score, batch = torch.tensor([1.0, 1.0001, 0.9999, 2, 1.0]), torch.zeros(5, dtype=torch.long)
    assert select(score, torch.full((5,), 1e-3), batch, 0.4).tolist() == [0, 3]
    assert select(score, torch.full((5,), 1e-5), batch, 0.4).tolist() == [1, 3]


def test_symmetric_nodes_have_equal_scores() -> None:
    # On a ring of equal nodes every score is 0 up to rounding.
    nodes = 30
    ring = np.roll(np.eye(nodes), 1, axis=1) + np.roll(np.eye(nodes), -1, axis=1)
    x, edge_index, batch = batched([(ring, np.full((nodes, 7), 0.3))], torch.float)
    assert select(*information_score(x, Adjacency.from_edges(edge_index, x)), batch, 0.5).tolist() == list(range(15))


@given(nodes=st.integers(1, 24), density=st.floats(0, 0.3), seed=st.integers(0, 9), keep=st.floats(0.1, 1))
def test_candidates(nodes: int, density: float, seed: int, keep: float) -> None:
    a, _ = random_graph(nodes, density, seed)
    a[np.random.default_rng(seed).random(a.shape) < 0.2] = 0  # any direction may be missing
    kept = np.flatnonzero(np.random.default_rng(seed + 1).random(nodes) < keep)
    adjacency = wrap(a)
    rows, columns, entries = candidates(adjacency, kept)
    found = np.zeros((len(kept), len(kept)), dtype=int)
    np.add.at(found, (rows, columns), 1)
    expected = slow_hops(a)[kept][:, kept] | np.eye(len(kept), dtype=bool)
    np.testing.assert_array_equal(found, expected.astype(int))
    assert (np.diff(rows) >= 0).all()
    known = entries > 0
    assert known.sum() == (a[kept][:, kept] != 0).sum()
    np.testing.assert_array_equal(adjacency.rows()[entries[known] - 1], kept[rows[known]])
    np.testing.assert_array_equal(adjacency.indices[entries[known] - 1], kept[columns[known]])


@given(
    nodes=st.integers(1, 14),
    density=st.floats(0, 0.5),
    seed=st.integers(0, 9),
    weighted=st.booleans(),
    trade_off=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_structure_learning(nodes: int, density: float, seed: int, weighted: bool, trade_off: float) -> None:
    a, x = random_graph(nodes, density, seed, features=16)
    if weighted:
        a = (a + np.eye(nodes)) * np.random.default_rng(seed).random(a.shape)
    pool = new_model(seed, trade_off=trade_off).pool1
    kept = np.arange(0, nodes, 2)
    learned = pool.learn_structure(torch.tensor(x[kept]), wrap(a), kept)
    expected = slow_structure(x, a, kept, pool.att.detach().numpy()[0], trade_off)
    np.testing.assert_allclose(dense(learned), expected, atol=1e-12)
    np.testing.assert_allclose(dense(learned).sum(axis=1), 1)
    assert len(learned.weights) == (expected > 0).sum()


@pytest.mark.parametrize("ratio", [0.5, 0.8])
def test_model_matches_the_dense_version(ratio: float) -> None:
    model = new_model(ratio=ratio, trade_off=0.7)
    logits = model(*batched(GRAPHS)).detach().numpy()
    for graph, got in zip(GRAPHS, logits, strict=True):
        np.testing.assert_allclose(got, slow_model(model, graph), atol=1e-10)


def test_first_convolution_matches_pyg() -> None:
    x, edge_index, _ = batched(GRAPHS)
    loops = torch.tensor([[2, 5], [2, 5]])
    edge_index = torch.cat([edge_index, loops], dim=1)
    ours, theirs = hgpsl.GraphConvolution(4, 16).double(), GCNConv(4, 16).double()
    theirs.load_state_dict({"lin.weight": ours.lin.weight, "bias": ours.lin.bias})
    got = ours(x, gcn_adjacency(Adjacency.from_edges(edge_index, x)))
    torch.testing.assert_close(got, theirs(x, edge_index))


@pytest.mark.parametrize("dtype", [torch.float, torch.double])
def test_a_batch_equals_its_graphs_alone(dtype: torch.dtype) -> None:
    model = new_model().to(dtype)
    together = model(*batched(GRAPHS, dtype))
    alone = torch.cat([model(*batched([graph], dtype)) for graph in GRAPHS])
    assert together.dtype == dtype
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@given(seed=st.integers(0, 99))
def test_the_order_of_edges_does_not_matter(seed: int) -> None:
    x, edge_index, batch = batched(GRAPHS, torch.float)
    model = new_model().float()
    shuffled = edge_index[:, torch.randperm(edge_index.size(1), generator=torch.Generator().manual_seed(seed))]
    assert torch.equal(model(x, shuffled, batch), model(x, edge_index, batch))


def test_the_order_of_nodes_does_not_matter() -> None:
    a, x = GRAPHS[0]
    order = np.random.default_rng(0).permutation(len(x))
    model = new_model()
    torch.testing.assert_close(model(*batched([(a[order][:, order], x[order])])), model(*batched([(a, x)])))


@pytest.mark.parametrize("graph", GRAPHS[1:3], ids=["one node", "no edge"])
def test_a_batch_without_any_edge(graph: Graph) -> None:
    model = new_model()
    logits = model(*batched([graph])[:2])
    logits.sum().backward()
    np.testing.assert_allclose(logits.detach().numpy()[0], slow_model(model, graph), atol=1e-10)


def test_a_gradient_reaches_every_parameter() -> None:
    model = new_model()
    model(*batched(GRAPHS)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    # A constant added to a whole row of logits is undone by sparsemax: only rows of mixed sign reach this half.
    assert model.pool1.att.grad is not None
    assert model.pool1.att.grad[0, :16].abs().sum() > 0


def test_gradient_of_the_whole_model() -> None:
    x, edge_index, batch = batched(GRAPHS[:4])
    model = new_model()
    names = ["conv1.lin.weight", "pool1.att", "conv2.lin.weight", "pool2.att", "conv3.lin.bias"]
    values = [model.get_parameter(name).detach().requires_grad_() for name in names]

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        replaced = dict(zip(names, parameters, strict=True))
        result: Tensor = torch.func.functional_call(model, replaced, (x, edge_index, batch))
        return result

    assert torch.autograd.gradcheck(run, (x.requires_grad_(), *values), fast_mode=True)


def test_equal_maxima_share_the_gradient() -> None:
    x = torch.tensor([[3.0, 1.0], [3.0, 0.0], [2.0, 5.0]], dtype=torch.double, requires_grad=True)
    out = hgpsl.readout(x, torch.tensor([2, 1]))
    torch.testing.assert_close(out, torch.tensor([[3, 1, 3, 0.5], [2, 5, 2, 5]], dtype=torch.double))
    out.backward(torch.tensor([[-1.0, -1, 0, 4], [-1, 1, 1, 0]], dtype=torch.double))
    torch.testing.assert_close(x.grad, torch.tensor([[-0.5, 1], [-0.5, 2], [0, 1]], dtype=torch.double))


def test_the_general_product_equals_the_fast_one() -> None:
    generator = torch.Generator().manual_seed(0)
    a, _ = random_graph(70, 0.8, 0)  # more entries than one chunk has
    pattern = wrap(a)
    assert len(pattern.weights) > hgpsl.CHUNK
    results = []
    weights = torch.randn(len(pattern.weights), generator=generator, dtype=torch.double)
    x, target = torch.randn(2, 70, 5, generator=generator, dtype=torch.double)
    for product in (hgpsl.propagate, hgpsl._gather_and_add):
        inputs = weights.clone().requires_grad_(), x.clone().requires_grad_()
        out = product(Adjacency(pattern.indptr, pattern.indices, inputs[0]), inputs[1])
        results.append((out, *torch.autograd.grad((out * target).sum(), inputs)))
    for fast, general in zip(*results, strict=True):
        torch.testing.assert_close(fast, general)


def test_pruned_by_parametrization() -> None:
    class Mask(torch.nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight * 0

    model = new_model()
    inputs = batched(GRAPHS)
    for name in ("conv1", "conv2", "conv3", "lin1", "lin2", "lin3"):
        layer = model.get_submodule(name)
        torch.nn.utils.parametrize.register_parametrization(getattr(layer, "lin", layer), "weight", Mask())
    for pool in (model.pool1, model.pool2):
        torch.nn.utils.parametrize.register_parametrization(pool, "att", Mask())
    torch.testing.assert_close(model(*inputs), model.lin3.bias.expand(len(GRAPHS), 3))


def test_dropout_acts_in_training_only() -> None:
    model, inputs = new_model(dropout=0.5), batched(GRAPHS)
    assert not torch.equal(model(*inputs), model(*inputs))
    model.eval()
    assert torch.equal(model(*inputs), model(*inputs))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pooling ratio 0 is not in \(0, 1\]"):
        HGPSL(4, 2, ratio=0)
    with pytest.raises(ValueError, match="batch is not in ascending order"):
        HGPSL(4, 2)(torch.ones(2, 4), torch.zeros(2, 0, dtype=torch.long), torch.tensor([1, 0]))
