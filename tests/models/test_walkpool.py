"""WalkPooling against a slow version in numpy, and what a link model must not depend on."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gnncompress.models import walkpool
from gnncompress.models.enclosing import Neighbourhoods, enclosing_subgraph
from gnncompress.models.walkpool import WalkPool, collate, transitions, walk_profile


def slow_transitions(logits: np.ndarray, adjacent: np.ndarray) -> np.ndarray:
    out = np.zeros_like(logits)
    for x in range(len(logits)):
        total = sum(np.exp(logits[x, z]) for z in np.flatnonzero(adjacent[x]))
        for y in np.flatnonzero(adjacent[x]):
            out[x, y] = np.exp(logits[x, y]) / total
    return out


def slow_profile(p: np.ndarray, length: int) -> np.ndarray:
    """Node, link, graph [3, length], each power formed in full."""
    powers = [np.linalg.matrix_power(p, steps) for steps in range(2, length + 2)]
    return np.array([[t[0, 0] + t[1, 1], t[0, 1] + t[1, 0], np.trace(t)] for t in powers]).T


def slow_logit(model: WalkPool, x: np.ndarray, edges: np.ndarray, pair: tuple[int, int]) -> float:
    """The logit of one pair, from the formulas in the docstring, in double precision and without padding."""
    p = {name: value.double().numpy() for name, value in model.state_dict().items()}
    found = enclosing_subgraph(Neighbourhoods(edges, len(x)), pair, 2, 100)
    size = len(found.nodes)
    without = np.zeros((size, size), dtype=bool)
    without[tuple(found.edges)] = True
    with_link = without.copy()
    with_link[0, 1] = with_link[1, 0] = True
    loops = with_link + np.eye(size)
    propagate = loops / np.sqrt(np.outer(loops.sum(0), loops.sum(1)))
    z0 = (x @ p["project.weight"].T + p["project.bias"])[found.nodes] + p["label.weight"][found.labels]
    z1 = np.maximum(propagate @ z0 @ p["conv1.lin.weight"].T + p["conv1.bias"], 0)
    z = np.concatenate([z0, z1, propagate @ z1 @ p["conv2.lin.weight"].T + p["conv2.bias"]], axis=1)
    query, key = (z @ p[f"{name}.weight"].T + p[f"{name}.bias"] for name in ("query", "key"))
    hidden, profile = z0.shape[1], []
    for head in range(model.heads):
        part = slice(head * hidden, (head + 1) * hidden)
        logits = query[:, part] @ key[:, part].T / np.sqrt(hidden)
        plus = slow_profile(slow_transitions(logits, with_link), model.walk_length)
        minus = slow_profile(slow_transitions(logits, without), model.walk_length)
        profile += [(logits[0, 1] + logits[1, 0]) / 2, *plus[0], *minus[0], *plus[1], *minus[1], *(plus[2] - minus[2])]
    out = np.maximum(p["lin1.weight"] @ np.array(profile) + p["lin1.bias"], 0)
    return float((p["lin2.weight"] @ out + p["lin2.bias"])[0])


def random_graph(seed: int, nodes: int = 14, edges: int = 22) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(0, nodes, (2, edges), generator=generator)
    return torch.randn(nodes, 5, generator=generator), torch.cat([edge_index, edge_index.flip(0)], dim=1)


def all_pairs(nodes: int) -> Tensor:
    return torch.tensor(list(itertools.combinations(range(nodes), 2))).t()


@pytest.fixture
def model() -> WalkPool:
    torch.manual_seed(0)
    return WalkPool(5, 1, hidden=8, walk_length=3).eval()


@given(seed=st.integers(0, 10**6), size=st.integers(2, 8), length=st.integers(1, 8), density=st.floats(0, 1))
def test_profile_matches_the_slow_version(seed: int, size: int, length: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    adjacent, logits = rng.random((2, size, size)) < density, rng.normal(size=(2, size, size)) * 3
    p = transitions(torch.tensor(logits), torch.tensor(adjacent))
    got = torch.stack(walk_profile(p, length), dim=1)
    for b in range(2):
        want = slow_transitions(logits[b], adjacent[b])
        np.testing.assert_allclose(p[b].numpy(), want, atol=1e-12)
        np.testing.assert_allclose(got[b].numpy(), slow_profile(want, length), atol=1e-12)


def test_walks_on_a_triangle_by_hand() -> None:
    p = transitions(torch.zeros(3, 3), ~torch.eye(3, dtype=torch.bool))
    node, link, graph = walk_profile(p, 2)
    # Two steps return with 1/2 and reach another node with 1/4; three steps with 1/4 and 3/8.
    assert node.tolist() == [1.0, 0.5]
    assert link.tolist() == [0.5, 0.75]
    assert graph.tolist() == [1.5, 0.75]


@pytest.mark.parametrize("seed", range(4))
def test_logits_match_the_slow_version(model: WalkPool, seed: int) -> None:
    x, edges = random_graph(seed)
    pairs = all_pairs(14)[:, ::3]
    got = model(x, edges, pairs).detach().numpy()
    want = [slow_logit(model, x.double().numpy(), edges.numpy(), (a, b)) for a, b in pairs.t().tolist()]
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_the_answer_is_not_seen(model: WalkPool) -> None:
    x, edges = random_graph(1)
    for pair in all_pairs(14)[:, ::7].t():
        column = pair.unsqueeze(1)
        other = ~((edges == column).all(0) | (edges == column.flip(0)).all(0))
        absent = edges[:, other]
        one_way, both = torch.cat([absent, column], 1), torch.cat([absent, column, column.flip(0)], 1)
        logits = torch.cat([model(x, known, column) for known in (absent, one_way, both)])
        assert logits.unique().numel() == 1


def test_order_of_a_pair_does_not_matter(model: WalkPool) -> None:
    x, edges = random_graph(2)
    pairs = all_pairs(14)
    assert torch.equal(model(x, edges, pairs), model(x, edges, pairs.flip(0)))
    # The cache sorts a pair; the layers alone must be symmetric too.
    graph = Neighbourhoods(edges.numpy(), 14)
    projected, logits = model.project(x), []
    for ends in (pairs, pairs.flip(0)):
        batch = collate([enclosing_subgraph(graph, (a, b), 2, 100) for a, b in ends.t().tolist()], x.device)
        logits.append(model._score(projected, *batch))
    torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-5)


def test_numbering_of_nodes_does_not_matter(model: WalkPool) -> None:
    x, edges = random_graph(3)
    pairs, order = all_pairs(14), torch.randperm(14)
    renamed = model(x[order.argsort()], order[edges], order[pairs])
    torch.testing.assert_close(renamed, model(x, edges, pairs), atol=1e-5, rtol=1e-5)


def test_isolated_ends_and_no_edges(model: WalkPool) -> None:
    x = torch.randn(6, 5)
    pairs = torch.tensor([[0, 0, 4], [1, 5, 5]])
    for edges in (torch.tensor([[0, 1, 2], [1, 2, 3]]), torch.empty(2, 0, dtype=torch.long)):
        logits = model(x, edges, pairs)
        assert logits.shape == (3,)
        assert logits.isfinite().all()
        model.zero_grad()
        logits.sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())  # type: ignore[union-attr]
    assert model(x, edges, pairs[:, :0]).shape == (0,)


def test_a_batch_equals_one_by_one(model: WalkPool) -> None:
    x, edges = random_graph(4)
    pairs = all_pairs(14)
    single = torch.cat([model(x, edges, pair.unsqueeze(1)) for pair in pairs.t()])
    torch.testing.assert_close(model(x, edges, pairs), single, atol=1e-5, rtol=1e-5)


def test_small_chunks_and_recomputation_change_nothing(model: WalkPool, monkeypatch: pytest.MonkeyPatch) -> None:
    x, edges = random_graph(5)
    pairs, results, calls = all_pairs(14), [], []

    def counted(*arguments: object, use_reentrant: bool) -> Tensor:
        calls.append(1)
        result: Tensor = checkpoint(*arguments, use_reentrant=use_reentrant)
        return result

    monkeypatch.setattr(walkpool, "checkpoint", counted)
    for limit in (walkpool.CHUNK_BYTES, 40_000):
        monkeypatch.setattr(walkpool, "CHUNK_BYTES", limit)
        model.zero_grad()
        logits = model(x, edges, pairs)
        logits.square().sum().backward()
        results.append((logits.detach(), [p.grad.clone() for p in model.parameters()]))  # type: ignore[union-attr]
        assert bool(calls) == (limit == 40_000)
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-4)


def test_sparse_and_dense_features_agree(model: WalkPool) -> None:
    x, edges = random_graph(6)
    x = x * (x > 0.5)
    pairs = all_pairs(14)
    results = []
    for features in (x, x.to_sparse_csr()):
        model.zero_grad()
        logits = model(features, edges, pairs)
        logits.sum().backward()
        results.append((logits.detach(), model.project.weight.grad.clone()))  # type: ignore[union-attr]
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-4)


def test_count_and_state() -> None:
    model = WalkPool(1433, 64)
    # projection, labels 0..17, two convolutions, queries and keys, 2 (5 * 6 + 1) features -> 32 -> 1
    parts = [1433 * 32 + 32, 18 * 32, 2 * (32 * 32 + 32), 2 * (96 * 64 + 64), 62 * 32 + 32, 33]
    assert sum(parameter.numel() for parameter in model.parameters()) == sum(parts) == 63_041
    before = set(model.state_dict())
    x, edges = torch.rand(14, 1433), random_graph(0)[1]
    model(x, edges, all_pairs(14))
    assert len(model._enclosures) == 91
    assert set(model.state_dict()) == before == {name for name, _ in model.named_parameters()}
    assert len(copy.deepcopy(model)._enclosures) == 0


def test_gradient_reaches_every_parameter(model: WalkPool) -> None:
    x, edges = random_graph(7)
    model.train()
    model(x, edges, all_pairs(14)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def rungs(groups: int, size: int) -> Iterator[tuple[int, int]]:
    """Groups whose members are all linked, one link in four left out."""
    for group in range(groups):
        for number, (a, b) in enumerate(itertools.combinations(range(size), 2)):
            if number % 4:
                yield group * size + a, group * size + b


def test_training_separates_a_toy_graph() -> None:
    """Links inside groups from pairs across them, no useful features: the walks alone tell."""
    torch.manual_seed(0)
    links = torch.tensor(list(rungs(4, 6))).t()
    edges = torch.cat([links, links.flip(0)], dim=1)
    pairs = all_pairs(24)
    truth = (pairs[0] // 6 == pairs[1] // 6).float()
    seen = torch.rand(pairs.size(1)) < 0.5
    model = WalkPool(1, 1, hidden=8, walk_length=3, dropout=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x = torch.ones(24, 1)
    weight = (1 - truth).sum() / truth.sum()
    for _ in range(40):
        optimizer.zero_grad()
        logits = model(x, edges, pairs[:, seen])
        F.binary_cross_entropy_with_logits(logits, truth[seen], pos_weight=weight).backward()
        optimizer.step()
    right = (model.eval()(x, edges, pairs) > 0) == truth.bool()
    assert right[~seen].float().mean() > 0.95
