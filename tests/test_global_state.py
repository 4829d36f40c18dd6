"""The library is a guest: random generators, threads and determinism are as they were after each of its calls."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric import seed_everything
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv

import gnncompress
from gnncompress.global_state import global_state_kept, random_state_kept
from tests.models.graphs import random_data


def state() -> dict[str, Any]:
    """Return all that a caller may have set."""
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": [part.tolist() if isinstance(part, np.ndarray) else part for part in np.random.get_state()],
        "python": random.getstate(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
    }


def changed(before: dict[str, Any]) -> list[str]:
    """Return the names of what is not as it was."""
    return [name for name, value in state().items() if value != before[name]]


@pytest.fixture(autouse=True)
def callers() -> Iterator[None]:
    """Give the caller a state of their own, and the other tests theirs again."""
    with global_state_kept():
        seed_everything(12345)
        torch.set_num_threads(2)
        yield


def spoil() -> None:
    seed_everything(0)
    torch.set_num_threads(3)
    torch.use_deterministic_algorithms(True, warn_only=True)


@pytest.mark.parametrize("modes", [(False, False), (True, False), (True, True)])
def test_all_is_put_back(modes: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(modes[0], warn_only=modes[1])
    torch.set_num_threads(2)
    before = state()
    with global_state_kept():
        spoil()
        assert {"torch", "numpy", "python", "threads"} <= set(changed(before))
    assert changed(before) == []


def test_all_is_put_back_after_an_error() -> None:
    before = state()

    @global_state_kept()
    def interrupted() -> None:
        spoil()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert changed(before) == []


def test_random_state_is_put_back_after_each_call_of_a_decorated_function() -> None:
    @random_state_kept()
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    assert draw() == draw()
    random.random()
    before = state()
    assert draw() == draw()
    assert changed(before) == []


class Net(nn.Module):
    """A user's model that draws random numbers of all kinds, in evaluation, too."""

    def __init__(self, draws: bool = True) -> None:
        super().__init__()
        self.first, self.second, self.draws = GCNConv(5, 16), GCNConv(16, 3), draws

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        if self.draws:
            draw()
        return self.second(self.first(x, edge_index).relu(), edge_index)


def draw() -> None:
    random.random(), np.random.rand(), torch.rand(1)


def net(draws: bool = True) -> nn.Module:
    """Return a model; what its weights drew is put back."""
    with random_state_kept():
        return Net(draws)


def prune(data: Data, **settings: Any) -> None:
    gnncompress.prune(
        net(),
        forward=lambda model: model(data.x, data.edge_index),
        loss=lambda model: model(data.x, data.edge_index).square().mean(),
        **settings,
    )


def sensitivity(data: Data) -> None:
    gnncompress.sensitivity(net(), lambda model: model(data.x, data.edge_index).square().mean(), [0.5])


def lottery(data: Data) -> None:
    def build(seed: int) -> nn.Module:
        seed_everything(seed)
        return Net()

    def train(model: nn.Module, seed: int) -> None:
        draw()

    gnncompress.lottery(build, train, lambda model: 0.0, rounds=1, seeds=[0])


def prepared(data: Data, scheme: str, **settings: Any) -> nn.Module:
    """Return a calibrated model."""
    model = net(draws=False)
    gnncompress.prepare(model, scheme, **settings)
    gnncompress.calibrate(model, lambda: (draw(), model(data.x, data.edge_index)))
    return model.eval()


def integer(data: Data) -> None:
    model = prepared(data, "ptq-int8")
    gnncompress.freeze(model)
    gnncompress.to_integer(model)(data.x, data.edge_index)


def compiled(data: Data) -> None:
    gnncompress.to_compiled(net(draws=False).eval())(data.x, data.edge_index)


CALLS: dict[str, Callable[[Data], Any]] = {
    "prune global": lambda data: prune(data, method="global"),
    "prune fine-grained": lambda data: prune(data, method="fine-grained", importance="random"),
    "prune by gradients": lambda data: prune(data, method="global", importance="gradient"),
    "prune structured": lambda data: prune(data, method="structured"),
    "prune structured by gradients": lambda data: prune(data, method="structured", importance="taylor"),
    "sensitivity": sensitivity,
    "lottery": lottery,
    "prepare and calibrate": lambda data: prepared(data, "ptq-int8"),
    "prepare and calibrate once": lambda data: prepared(data, "ptq-int8", calibration="minmax"),
    "prepare a2q": lambda data: prepared(data, "a2q"),
    "to_integer": integer,
    "to_compiled": compiled,
}


@pytest.mark.parametrize("name", CALLS)
def test_library_calls_leave_what_they_found(name: str) -> None:
    data, before = random_data(nodes=12, features=5, seed=0), state()
    CALLS[name](data)
    assert changed(before) == []


def test_a_profiled_block_draws_what_it_draws_alone() -> None:
    before = state()
    with gnncompress.profile(energy="none"):
        pass
    assert changed(before) == []
