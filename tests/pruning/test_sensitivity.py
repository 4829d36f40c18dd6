from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import gnncompress
from gnncompress.errors import UsageError
from gnncompress.masks import effective_weights
from gnncompress.pruning.sensitivity import LayerSensitivity
from tests.pruning.test_lottery import dense, trainer, weights


def test_each_layer_alone_and_the_model_as_it_was() -> None:
    model, plan = dense(), trainer()
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    result = LayerSensitivity(sparsity=0.5).apply(model, plan)
    assert result.model is model
    assert {name: tensor.tolist() for name, tensor in model.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in before.items()
    }
    rows = {(row.metric, row.layer): row.value for row in result.measurements}
    assert (rows["validation_score", ""], rows["validation_loss", ""]) == plan.task.validate(model)
    for layer, weight in weights(dense()).items():
        pruned = dense()
        values = weights(pruned)[layer].data
        threshold = values.abs().flatten().sort().values[round(0.5 * values.numel()) - 1]
        values[values.abs() <= threshold] = 0
        score, loss = plan.task.validate(pruned)
        assert rows["validation_score", layer] == score
        assert rows["validation_loss", layer] == pytest.approx(loss)
        assert rows["weights", layer] == weight.numel()


def test_bad_sparsity() -> None:
    with pytest.raises(UsageError, match="must be a finite number, at least 0 and below 1"):
        LayerSensitivity(sparsity=1.0)


def test_another_importance() -> None:
    torch.manual_seed(0)
    magnitude, random = (
        [row.value for row in LayerSensitivity(sparsity=0.8, importance=kind).apply(dense(), trainer()).measurements]  # type: ignore[arg-type]
        for kind in ("magnitude", "random")
    )
    assert magnitude != random


def test_in_memory_from_curves_to_a_pruned_model() -> None:
    model, plan = dense(), trainer()
    curves = gnncompress.sensitivity(model, lambda pruned: plan.task.validate(pruned)[1], (0.3, 0.6, 0.9))
    assert curves["layer"].nunique() == 2
    result = LayerSensitivity(sparsity=0.6).apply(dense(), plan)
    rows = {row.layer: row.value for row in result.measurements if row.metric == "validation_loss"}
    for line in curves[curves["sparsity"] == 0.6].itertuples():
        assert line.loss_rise == pytest.approx(rows[line.layer] - rows[""], abs=1e-6)
    budgets = gnncompress.recommend(curves, 0.7)
    pruned = gnncompress.prune(model, "fine-grained", 0.7, allocation="given", layers=budgets)
    assert pruned.sparsity == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize("masked_by", ["torch", "us"])
def test_a_masked_model_keeps_its_masks(masked_by: str) -> None:
    model, plan = dense(), trainer()
    if masked_by == "us":
        gnncompress.prune(model, "global", 0.5)
    else:
        prune.random_unstructured(model.get_submodule("convs.0.lin"), "weight", 0.5)
    names, zeros = list(model.state_dict()), {n: int((w == 0).sum()) for n, w in effective_weights(model).items()}
    before = plan.task.validate(model)
    curves = gnncompress.sensitivity(model, lambda pruned: counted(zeros, pruned), (0.25, 0.75))
    for line in curves.itertuples():
        more = max(round(line.sparsity * line.weights) - zeros[line.layer], 0)
        assert line.loss_rise == more, "zeros of the layer, counted"
    assert list(model.state_dict()) == names
    assert {n: int((w == 0).sum()) for n, w in effective_weights(model).items()} == zeros
    assert plan.task.validate(model) == before


def counted(before: dict[str, int], model: nn.Module) -> float:
    """Return how many more weights are zero in what the model reads."""
    return sum(int((w == 0).sum()) - before[name] for name, w in effective_weights(model).items())
