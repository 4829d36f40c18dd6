"""Quantization as a method: what of its options makes a scheme, what is trained, kept at zero, measured and refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from gnncompress.errors import ParameterError, QuantizationError, UsageError
from gnncompress.masks import effective_weights
from gnncompress.measurements import GRAPHS, MULTILABEL, NODES, Measurement
from gnncompress.pruning.magnitude import GlobalPruning
from gnncompress.quantization import is_prepared
from gnncompress.quantization.method import GROUPED_RATE, Quantization
from gnncompress.schemes import GROUPS, scheme
from gnncompress.tasks.recipe import Recipe
from gnncompress.tasks.trainer import Trainer
from tests.pruning.test_lottery import build, task

RECIPE = Recipe(epochs=2, learning_rate=0.05, weight_decay=0.0, patience=2)


class Watched(Trainer):
    """Remembers by which recipes it fine-tuned."""

    def finetune(self, model: nn.Module, share: float = 1.0, groups: Any = None) -> list[Measurement]:
        SEEN.append(self.finetune_recipe)
        return super().finetune(model, share, groups)


SEEN: list[Recipe | None] = []


def trainer(**changes: Any) -> Trainer:
    SEEN.clear()
    return replace(Watched(task(), RECIPE, RECIPE, 0, build), **changes)


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, {"name": "dq-int8"}),
        ({"scheme": "ptq-int4", "granularity": "channel"}, {"name": "ptq-int4", "granularity": "channel"}),
        ({"scheme": "qat-int8", "config": "gc-per"}, {"name": "qat-int8", "config": "gc-per"}),
        ({"scheme": "qat-int8", "observer": "per"}, {"name": "qat-int8", "config": "ste-per"}),
        ({"gradient": "gc", "observer": "abs"}, {"name": "dq-int8", "config": "gc-abs"}),
        ({"scheme": "ptq-int8", "observer": "mom"}, {"name": "ptq-int8", "calibration": "observer"}),
        ({"scheme": "ptq-int8", "calibration": "mse"}, {"name": "ptq-int8", "calibration": "mse"}),
        ({"protect": 0.1, "draw": "layer"}, {"name": "dq-int8", "protect": 0.1, "draw": "layer"}),
        ({"head_bits": 2}, {"name": "dq-int8", "head_bits": 2}),
        ({"scheme": "a2q", "groups": 20, "target_bits": 3}, {"name": "a2q", "groups": 20, "target_bits": 3.0}),
        ({"scheme": "fp32"}, {"name": "fp32"}),
    ],
)
def test_options_make_a_scheme(options: dict[str, Any], settings: dict[str, Any]) -> None:
    assert Quantization(**options).chosen == scheme(**settings)


def test_one_configuration_however_it_is_said() -> None:
    for options in ({"config": "ste-mom"}, {"observer": "mom"}, {"gradient": "ste"}, {"config": "usual"}):
        assert Quantization(**options) == Quantization()
    assert Quantization(observer="per") == Quantization(config="ste-per")
    assert Quantization(observer="per", gradient="gc").changed() == {"config": "gc-per"}
    by_observer = Quantization(scheme="ptq-int8", observer="mom")
    assert by_observer.changed() == {"scheme": "ptq-int8", "config": "ste-mom"}, "for ptq another calibration than auto"
    assert by_observer != Quantization(scheme="ptq-int8")
    assert Quantization(keep_float="b") == Quantization(keep_float=["b", "b"])  # type: ignore[arg-type]


def test_labels() -> None:
    assert Quantization().label() == "dq-int8"
    assert Quantization().label("integer") == "dq-int8 integer"
    one = Quantization(scheme="qat-int4", observer="per", keep_float=("a", "b"), official_protocol=True, head_bits=4)
    assert one.label() == "qat-int4 ste-per official-protocol float=a,b head_bits=4"


def test_steps_that_nodes_share_follow_the_task() -> None:
    one = Quantization(scheme="a2q")
    assert one.for_task(NODES) == one == Quantization(scheme="a2q", groups=0).for_task(NODES)
    for many in (GRAPHS, MULTILABEL):
        assert one.for_task(many) == Quantization(scheme="a2q", groups=GROUPS)
        assert Quantization(scheme="a2q", groups=5).for_task(many).groups == 5
        with pytest.raises(ParameterError, match="groups 0: the nodes of many graphs cannot have steps of their own"):
            Quantization(scheme="a2q", groups=0).for_task(many)
        assert Quantization().for_task(many) == Quantization()


def test_which_schemes_are_trained_on() -> None:
    assert Quantization(scheme="ptq-int8").finetuning(RECIPE) is None
    for name in ("fp32", "qat-int8", "dq-int8", "a2q"):
        assert Quantization(scheme=name).finetuning(RECIPE) == RECIPE, "as long as training was"


@pytest.mark.parametrize("name", ["fp32", "ptq-int8", "qat-int8", "dq-int4", "a2q"])
def test_a_model_is_quantized_and_built_again(name: str) -> None:
    method = Quantization(scheme=name)
    result = method.apply(build(0), trainer())
    rows = {(row.phase, row.metric): row for row in result.measurements if not row.layer}
    assert (("finetune", "epochs") in rows) == (name != "ptq-int8")
    assert rows["compress", "duration"].value > 0  # type: ignore[operator]
    assert is_prepared(result.model) == (name != "fp32")
    if name == "fp32":
        assert ("compress", "bits_average_weights") not in rows
    else:
        assert 4 <= rows["compress", "bits_average_weights"].value < 16, "biases have 32"  # type: ignore[operator]
    again = method.rebuilt(build(1))
    again.load_state_dict(result.model.state_dict())
    data = task().data
    with torch.no_grad():
        wanted, found = (model.eval()(data.x, data.edge_index) for model in (result.model, again))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", ["ptq-int4", "qat-int8", "a2q", "fp32"])
def test_zeros_of_a_pruned_model_stay_zeros(name: str) -> None:
    plan = trainer()
    model = GlobalPruning(sparsity=0.6).apply(build(0), replace(plan, finetune_recipe=None)).model
    zeros = {layer: weight == 0 for layer, weight in effective_weights(model).items()}
    result = Quantization(scheme=name).apply(model, replace(plan, keep_zeros=True))
    rows = {(row.metric, row.layer): row.value for row in result.measurements if row.phase == "compress"}
    assert rows["sparsity", ""] is not None
    assert rows["sparsity", ""] >= 0.6 - 0.01
    for layer, weight in effective_weights(result.model).items():
        assert not weight[zeros[layer]].any()


@pytest.mark.parametrize(
    ("options", "select", "rate"),
    [
        ({}, "score", 1.0),
        ({"scheme": "dq-int8", "official_protocol": True}, "loss", 1.0),
        ({"scheme": "fp32", "official_protocol": True}, "loss", 1.0),
        ({"scheme": "a2q", "official_protocol": True}, "test", 1.0),
        ({"scheme": "a2q", "groups": 4}, "score", GROUPED_RATE),
    ],
)
def test_the_recipe_of_training_on(options: dict[str, Any], select: str, rate: float) -> None:
    Quantization(**options).apply(build(0), trainer())
    assert [replace(RECIPE, select=select, learning_rate=0.05 * rate)] == SEEN  # type: ignore[arg-type]


def test_what_cannot_be_quantized_is_refused_before_anything_is_trained() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.ones(6, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.table

    Quantization(keep_float=("convs.1",)).check(build(0), task())
    with pytest.raises(UsageError, match=r"keep.float conv\.1: the model has no such layer; did you mean convs\.1\?"):
        Quantization(keep_float=("conv.1",)).check(build(0), task())
    with pytest.raises(QuantizationError, match=r"cannot quantize the model itself \(Own\)"):
        Quantization().check(Own(), task())
