"""Structured pruning as a method: what it measures, warns of and refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch_geometric import nn as pyg

from gnncompress.errors import ParameterError, PruningError
from gnncompress.pruning.magnitude import GlobalPruning
from gnncompress.pruning.structured.method import StructuredPruning
from gnncompress.quantization.method import Quantization
from gnncompress.tasks.recipe import Recipe
from gnncompress.tasks.trainer import Trainer
from tests.pruning.helpers import RECIPE
from tests.pruning.test_lottery import build, task, trainer


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_a_smaller_model_with_rows_of_what_went() -> None:
    model = build(0)
    dense = size(model)
    result = StructuredPruning(sparsity=0.5).apply(model, trainer())
    assert result.model is model
    assert result.warnings == []
    rows = {(row.phase, row.metric, row.layer): row for row in result.measurements}
    assert rows["compress", "parameters_removed", ""].value == pytest.approx(1 - size(model) / dense)
    assert rows["compress", "parameters_removed", ""].source == "computed"
    assert rows["compress", "channels_kept", "convs.0"].value == model.convs[0].out_channels / 8
    assert rows["compress", "parameters", ""].value == size(model) < dense
    assert rows["compress", "duration", ""].value > 0
    assert not any(phase == "finetune" for phase, _, _ in rows), "there is no recipe for it"


def test_it_is_trained_on_by_the_recipe() -> None:
    recipe = Recipe(epochs=2, learning_rate=0.05, weight_decay=0.0, patience=2, select="last")
    plan = Trainer(task(), recipe, recipe, 0, build)
    rows = {(row.phase, row.metric): row.value for row in StructuredPruning().apply(build(0), plan).measurements}
    assert rows["finetune", "epochs"] == 2
    assert StructuredPruning().finetuning(RECIPE) == RECIPE, "as long as training was"


class Opaque(nn.Module):
    """Has a layer without a rule, which keeps the one before it whole."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = pyg.SAGEConv(6, 8), pyg.SAGEConv(8, 8)
        self.norm, self.last = nn.LayerNorm(8), nn.Linear(8, 2)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.last(self.norm(self.inner(self.first(x, edge_index).relu(), edge_index)))


def test_layers_that_stay_whole_are_a_warning() -> None:
    torch.manual_seed(0)
    (said,) = StructuredPruning(sparsity=0.2).apply(Opaque(), trainer()).warnings
    assert said.startswith("kept whole: ")
    assert "norm (no rule for LayerNorm)" in said
    assert "last (its channels are the model's output)" not in said, "which is no news"


def test_what_it_is_among_methods() -> None:
    assert StructuredPruning.reshapes
    assert StructuredPruning(sparsity=0).does_nothing()
    assert not StructuredPruning(sparsity=0.01).does_nothing()
    assert StructuredPruning().starts_from() == "trained"
    assert StructuredPruning().refusal([]) == StructuredPruning().refusal([GlobalPruning()]) == ""
    wanted = "codes cannot be pruned; prune first, then quantize: the zeros last"
    assert StructuredPruning().refusal([Quantization()]) == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, "sparsity 1.0: must be a finite number, at least 0 and below 1"),
        ({"sparsity": "half"}, "sparsity half: must be a number"),
        ({"importance": "magnitude"}, "importance: unknown importance 'magnitude'; there is: l1, l2, random, taylor"),
        ({"min_keep": 0.1}, "min_keep: method structured has no such option; it has sparsity, importance"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        StructuredPruning.of(options)
    assert str(caught.value) == message


def test_a_model_without_channels_is_refused_before_it_is_trained() -> None:
    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.lin(x)

    StructuredPruning().check(build(0), task())
    with pytest.raises(PruningError, match="Alone has no channels that could be removed"):
        StructuredPruning().check(Alone(), task())
