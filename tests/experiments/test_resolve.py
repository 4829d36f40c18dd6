from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.datasets import DATASETS
from gnncompress.errors import UsageError
from gnncompress.experiments.levels import parse_levels
from gnncompress.experiments.resolve import resolve_device
from gnncompress.experiments.stages import Chain
from gnncompress.experiments.workloads import WORKLOADS, workload
from gnncompress.models import MODELS
from gnncompress.quantization.method import Quantization
from gnncompress.tasks.splits import SPLITS, SplitSpec
from tests.experiments.helpers import asked, finetune_of


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("0.5", [0.5]),
        ("0.1,0.5,0.9", [0.1, 0.5, 0.9]),
        ("0:0.9:0.1", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        ("0:0.95:0.1", [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        ("0.5, 0.5,0.2:0.4:0.2", [0.5, 0.2, 0.4]),
        ("-0.0", [0.0]),
        (".5,5e-1", [0.5]),
    ],
)
def test_levels(text: str, levels: list[float]) -> None:
    assert parse_levels(text) == levels


@pytest.mark.parametrize("text", ["", "x", "0.1,", "0:0.9", "0:0.9:0", "0:0.9:-0.1", "nan", "1:2:3:4"])
def test_malformed_levels_show_the_forms(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a level; use 0\.5, 0\.1,0\.5,0\.9 or 0:0\.9:0\.1"):
        parse_levels(text)


@pytest.mark.parametrize("text", ["1", "-0.1", "0:1:0.5", "1.5,0.2", "50"])
def test_levels_outside_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="must be at least 0 and below 1"):
        parse_levels(text)


@given(count=st.integers(1, 99))
def test_a_range_has_both_ends(count: int) -> None:
    levels = parse_levels(f"0:0.{count:02d}:0.01")
    assert len(levels) == count + 1
    assert levels == [float(f"0.{index:02d}") for index in range(count + 1)]


def test_calibrations_are_runs_of_their_own() -> None:
    def spec(scheme: str = "ptq-int4", **options: str) -> Chain:
        return asked(method="quantize", scheme=scheme, **options)

    usual = spec()
    assert spec(calibration="auto").id == usual.id
    others = [spec(calibration="minmax"), spec(calibration="observer"), spec(observer="mom"), spec(config="gc-abs")]
    assert len({one.id for one in [usual, *others]}) == 5
    labels = ["ptq-int4 minmax", "ptq-int4 observer", "ptq-int4 ste-mom", "ptq-int4 gc-abs"]
    assert [one.scheme for one in others] == labels
    assert spec("qat-int4", config="ste-mom").id == spec("qat-int4").id, "the usual one of training"
    assert spec("qat-int4", config="gc-abs", calibration="mse").scheme == "qat-int4 mse gc-abs"


@pytest.mark.parametrize(
    ("calibration", "config", "calibrated"),
    [
        ("auto", "usual", "auto"),
        ("mse", "usual", "mse"),
        ("auto", "gc-abs", "observer"),
        ("observer", "gc-abs", "observer"),
    ],
)
def test_an_observer_that_ptq_is_given_calibrates(calibration: str, config: str, calibrated: str) -> None:
    chosen = Quantization(scheme="ptq-int8", calibration=calibration, config=config).chosen
    assert chosen.calibration == calibrated
    assert chosen.observer == ("abs" if config == "gc-abs" else "mom")
    trained = Quantization(scheme="qat-int8", calibration=calibration, config=config).chosen
    assert trained.calibration == calibration


def test_spec_is_a_pure_function_of_the_choices() -> None:
    one, two = (asked("cora", "spline", "global", 0.5, seed=3) for _ in range(2))
    assert one == two
    assert one.id == two.id
    assert Chain.load(json.loads(json.dumps(one.dump()))).id == one.id
    others = {
        asked("cora", "spline", "global", 0.5, seed=4).id,
        asked("cora", "spline", "global", 0.6, seed=3).id,
        asked("cora", "spline", "fine-grained", 0.5, seed=3).id,
        asked("cora", "spline", "global", 0.5, seed=3, finetune=False).id,
        asked("cora", "spline", "global", 0.5, seed=3, epochs=7).id,
        asked("cora", "spline", "global", 0.5, seed=3, threads=2).id,
        asked("cora", "gcn", "global", 0.5, seed=3).id,
        asked("digits", "gcn", "global", 0.5, seed=3).id,
        asked("cora", "spline", "global", 0.5, seed=3, split="public").id,
        asked("cora", "spline", "global", 0.5, seed=3, split_seed=0).id,
        asked("cora", "spline", "global", 0.5, seed=3, features="raw").id,
    }
    assert len(others) == 11
    assert one.id not in others


def test_split_is_in_the_spec_and_the_same_for_every_method() -> None:
    specs = [asked("cora", "spline", method, 0.5, seed=1) for method in ("global", "fine-grained")]
    splits = [chain.workload.split for chain in (*specs, specs[0].base)]
    assert splits == 3 * [SplitSpec("random", 1, 500, 500)]
    assert asked("cora", seed=2).workload.split.seed == 2
    assert asked("cora", seed=2, split_seed=7).workload.split.seed == 7


def test_sparsity_zero_is_the_base_model() -> None:
    base = asked("cora", "spline", "global", 0.0)
    assert base == asked("cora", "spline", "fine-grained", 0.0, finetune=False) == asked("cora", "spline")
    assert asked("cora", "spline", "global", 0.5).base == base


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"dataset": "coraa"}, r"unknown dataset 'coraa'; did you mean cora\?"),
        ({"model": "splin"}, r"unknown model 'splin'; did you mean spline\?"),
        ({"method": "globel", "sparsity": 0.5}, r"unknown method 'globel'; did you mean global\?"),
        ({"method": "global", "sparsity": 1.0}, "sparsity 1.0: must be a finite number, at least 0 and below 1"),
        ({"seed": -1}, "seed -1: must be at least 0"),
        ({"seed": 2**32}, "seed 4294967296: must be at least 0 and below 4,294,967,296"),
        ({"seed": 10**30}, "seed 10{30}: must be at least 0 and below"),
        ({"split_seed": 2**32}, "split_seed 4294967296: must be at least 0 and below"),
        ({"threads": 0}, "threads 0: must be at least 1"),
        ({"epochs": 0}, "epochs 0: must be at least 1"),
        ({"energy": "rapll"}, r"unknown energy source 'rapll'; did you mean rapl or pyrapl\?"),
        ({"split": "publik"}, r"unknown split 'publik'; did you mean public\?"),
        ({"split": "scaffold"}, "split scaffold: node-classification has random, public, stratified-kfold"),
        ({"split_seed": -1}, "split_seed -1: must be at least 0"),
        ({"features": "onehot"}, r"unknown encoding of features 'onehot'; did you mean one-hot\?"),
        ({"task": "link-predictions"}, r"unknown task 'link-predictions'; did you mean link-prediction"),
        ({"device": "gpu"}, "device gpu: use auto, cpu or cuda"),
    ],
)
def test_bad_choices(choices: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        asked(**choices)  # type: ignore[arg-type]


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match="device cuda: torch sees no CUDA device here"):
        resolve_device("cuda")
    assert resolve_device("auto") == "cpu"


def test_workloads_name_what_there_is() -> None:
    expected = "cora-node cora-link proteins bbbp gin-proteins gin-bbbp digits digits-link digits-grid"
    assert set(WORKLOADS) == set(expected.split())
    for name, known in WORKLOADS.items():
        assert known.name == name
        assert known.task in DATASETS[known.dataset].tasks
        assert known.task in MODELS[known.model].tasks
        assert known.split.kind in SPLITS[known.task]
        assert workload(name=name) == known
        assert workload(known.dataset, known.model, known.task) == known


def test_choices_find_the_workload_that_fits() -> None:
    assert workload().name == "digits"
    assert workload("cora").name == "cora-node"
    assert workload("cora", "ness").name == "cora-link"
    assert workload("cora", task="link-prediction").name == "cora-link"
    assert workload("bbbp", "gin").name == "gin-bbbp"
    assert workload("PROTEINS").name == "proteins"


def test_other_choices_make_a_workload() -> None:
    made = workload("cora", "graphsage", "link-prediction")
    assert made.split == WORKLOADS["cora-link"].split
    assert made.task == "link-prediction"
    assert workload("mutag").model == "gin"
    assert workload("tox21").task == "multilabel-graph-classification"
    assert workload("tu:Letter-high").task == "graph-classification"
    replaced = workload(name="proteins", model="gin")
    assert (replaced.model, replaced.split, replaced.recipe) == (
        "gin",
        WORKLOADS["proteins"].split,
        WORKLOADS["gin-proteins"].recipe,
    )


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"name": "proteinz"}, r"unknown workload 'proteinz'; did you mean proteins"),
        ({"name": "proteins", "dataset": "cora"}, "--dataset cora: workload proteins has proteins"),
        ({"name": "cora-link", "task": "node-classification"}, "workload cora-link has link-prediction"),
        ({"dataset": "proteins", "task": "node-classification"}, "data set proteins is for graph-classification, not"),
        ({"dataset": "cora", "task": "nodes"}, "unknown task 'nodes'; there is: graph-classification, link"),
    ],
)
def test_contradictions_are_refused(choices: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        workload(**choices)


def test_a_model_of_another_task_is_refused() -> None:
    with pytest.raises(UsageError, match="model spline is for node-classification, not for graph-classification; use"):
        asked("mutag", "spline", data_root=Path("/"))


def test_a_model_without_its_channels_is_trained_as_long_as_the_dense_one() -> None:
    lengths = {}
    for method in ("global", "structured"):
        finetune = finetune_of(asked(workload="gin-proteins", method=method, sparsity=0.5))
        assert finetune is not None
        lengths[method] = finetune.epochs
    assert lengths == {"global": 30, "structured": 60}


@pytest.mark.parametrize(
    ("choices", "epochs"),
    [
        ({"method": "global"}, 15),
        ({"method": "fine-grained", "allocation": "erk"}, 15),
        ({"method": "l2", "rate": 0.1}, 15),
        ({"method": "structured"}, 30),
        ({"method": "quantize", "scheme": "dq-int8"}, 30),
        ({"method": "quantize", "scheme": "fp32"}, 30),
    ],
)
def test_finetuning_follows_the_epochs_of_training(choices: dict[str, Any], epochs: int) -> None:
    for sparsity in (0.5, 0.9):
        finetune = finetune_of(asked("digits", "gcn", sparsity=sparsity, epochs=30, **choices))
        assert finetune is not None
        assert finetune.epochs == epochs
    own = finetune_of(asked("digits", "gcn", sparsity=0.5, epochs=30, finetune_epochs=7, **choices))
    assert own is not None
    assert own.epochs == 7
    least = finetune_of(asked("digits", "gcn", sparsity=0.5, epochs=1, **choices))
    assert least is not None
    assert least.epochs == 1


@pytest.mark.parametrize(
    "how", [{}, {"epochs": 30}, {"epochs": 30, "finetune_epochs": 7}, {"epochs": 30, "finetune": False}]
)
@pytest.mark.parametrize("scheme", ["fp32", "ptq-int8", "qat-int4", "a2q"])
def test_what_is_quantized_is_the_very_run_that_prune_makes(scheme: str, how: dict[str, Any]) -> None:
    quantized = asked("digits", "gcn", "quantize", 0.5, scheme=scheme, **how)
    assert quantized.model.parent == asked("digits", "gcn", "global", 0.5, **how).model
    assert (finetune_of(quantized) is None) == (scheme == "ptq-int8" or "finetune" in how)
    if scheme not in ("fp32", "a2q"):
        integer = asked("digits", "gcn", "quantize", 0.5, scheme=scheme, execute="integer", **how)
        assert integer.model == quantized.model
        assert integer.id != quantized.id
    # Nothing of the pruning is in the spec of a model that is not pruned.
    dense = asked("digits", "gcn", "quantize", 0.0, scheme=scheme, **how)
    assert dense.model.parent == asked("digits", "gcn", epochs=how.get("epochs")).model


def test_the_control_of_a_pruned_model_is_trained_as_long_and_not_pruned() -> None:
    pruned = asked("digits", "gcn", "global", 0.5, epochs=30)
    control = pruned.control
    assert control is not None
    assert (control.method, control.sparsity, finetune_of(control)) == ("none", 0.0, finetune_of(pruned))
    assert control.model.parent == control.base.model == pruned.base.model
    assert control.id not in (pruned.id, pruned.base.id)
    assert control.control is None
    same = [("global", 0.9, {"steps": 3}), ("fine-grained", 0.1, {"allocation": "erk"})]
    for method, sparsity, options in same:
        assert asked("digits", "gcn", method, sparsity, epochs=30, **options).control == control
    longer = asked("digits", "gcn", "structured", 0.5, epochs=30).control
    assert longer is not None
    assert finetune_of(longer) == longer.workload.recipe
    assert asked("digits", "gcn", "structured", 0.5, epochs=30, finetune_epochs=15).control == control
    assert asked("digits", "gcn", "none", epochs=30, finetune_epochs=15) == control


def test_the_control_of_a_model_trained_by_its_method_is_trained_on_by_it() -> None:
    pruned = asked("digits", "gcn", "l2", 0.5, rate=0.1)
    control = pruned.control
    assert control is not None
    assert (control.method, control.compressions[-1].config, control.sparsity) == ("l2", {"rate": 0.1}, 0.0)
    assert finetune_of(control) == finetune_of(pruned)
    assert control.model.parent == pruned.model.parent == asked("digits", "gcn", "l2", rate=0.1).model
    assert control.control is None


def test_nothing_that_is_not_trained_on_has_a_control() -> None:
    others: list[dict[str, Any]] = [
        {},
        {"method": "global", "sparsity": 0.0},
        {"method": "global", "sparsity": 0.5, "finetune": False},
        {"method": "l2", "rate": 0.1},
        {"method": "quantize", "scheme": "dq-int8", "sparsity": 0.5},  # fp32 is its control
        {"method": "lottery", "round": 1, "finetune": False},
    ]
    for choices in others:
        assert asked("digits", "gcn", **choices).control is None, choices


@pytest.mark.parametrize(
    "choices", [{}, {"method": "global", "sparsity": 0.5}, {"method": "quantize", "scheme": "ptq-int8"}]
)
def test_epochs_of_a_finetuning_that_is_off_are_refused(choices: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="finetune_epochs 5: there is no fine-tuning with --no-finetune; leave one"):
        asked("digits", "gcn", finetune=False, finetune_epochs=5, **choices)


@pytest.mark.parametrize(
    ("model", "dataset", "task"),
    [
        ("supergat", "digits", None),
        ("ness", "digits", "link-prediction"),
        ("walkpool", "digits", "link-prediction"),
        ("hgpsl", "digits-grid", None),
    ],
)
def test_models_without_integer_execution_are_refused_before_anything_is_trained(
    model: str, dataset: str, task: str | None
) -> None:
    choices: dict[str, Any] = {
        "dataset": dataset,
        "model": model,
        "task": task,
        "method": "quantize",
        "scheme": "dq-int8",
    }
    assert asked(**choices).workload.model == model
    with pytest.raises(UsageError, match=f"execute integer: model {model} has no integer execution; leave"):
        asked(**choices, execute="integer")
