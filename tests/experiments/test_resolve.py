from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.datasets import DATASETS
from gnncompress.errors import UsageError
from gnncompress.experiments.levels import parse_levels
from gnncompress.experiments.resolve import resolve, resolve_device
from gnncompress.experiments.spec import RunSpec
from gnncompress.experiments.workloads import WORKLOADS, workload
from gnncompress.models import MODELS
from gnncompress.quantization.method import Quantization
from gnncompress.tasks.splits import SPLITS, SplitSpec


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
    def spec(scheme: str = "ptq-int4", **options: str) -> RunSpec:
        return resolve(method="quantize", scheme=scheme, **options)

    usual = spec()
    assert usual.version > 4, "runs of version 4 were calibrated by the observer of training"
    assert spec(calibration="auto").run_id == usual.run_id
    others = [spec(calibration="minmax"), spec(calibration="observer"), spec(observer="mom"), spec(config="gc-abs")]
    assert len({one.run_id for one in [usual, *others]}) == 5
    labels = ["ptq-int4 minmax", "ptq-int4 observer", "ptq-int4 ste-mom", "ptq-int4 gc-abs"]
    assert [one.scheme for one in others] == labels
    assert spec("qat-int4", config="ste-mom").run_id == spec("qat-int4").run_id, "the usual one of training"
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
    chosen = Quantization(0.0, "ptq-int8", calibration=calibration, config=config).chosen
    assert chosen.calibration == calibrated
    assert chosen.observer == ("abs" if config == "gc-abs" else "mom")
    trained = Quantization(0.0, "qat-int8", calibration=calibration, config=config).chosen
    assert trained.calibration == calibration


def test_spec_is_a_pure_function_of_the_choices() -> None:
    one, two = (resolve("cora", "spline", "global", 0.5, seed=3) for _ in range(2))
    assert one == two
    assert one.run_id == two.run_id
    assert RunSpec.model_validate_json(one.model_dump_json()).run_id == one.run_id
    others = {
        resolve("cora", "spline", "global", 0.5, seed=4).run_id,
        resolve("cora", "spline", "global", 0.6, seed=3).run_id,
        resolve("cora", "spline", "fine-grained", 0.5, seed=3).run_id,
        resolve("cora", "spline", "global", 0.5, seed=3, finetune=False).run_id,
        resolve("cora", "spline", "global", 0.5, seed=3, epochs=7).run_id,
        resolve("cora", "spline", "global", 0.5, seed=3, threads=2).run_id,
        resolve("cora", "gcn", "global", 0.5, seed=3).run_id,
        resolve("digits", "gcn", "global", 0.5, seed=3).run_id,
        resolve("cora", "spline", "global", 0.5, seed=3, split="public").run_id,
        resolve("cora", "spline", "global", 0.5, seed=3, split_seed=0).run_id,
        resolve("cora", "spline", "global", 0.5, seed=3, features="raw").run_id,
    }
    assert len(others) == 11
    assert one.run_id not in others


def test_split_is_in_the_spec_and_the_same_for_every_method() -> None:
    specs = [resolve("cora", "spline", method, 0.5, seed=1) for method in ("global", "fine-grained")]
    assert specs[0].split == specs[1].split == specs[0].base().split == SplitSpec("random", 1, 500, 500)
    assert resolve("cora", seed=2).split.seed == 2
    assert resolve("cora", seed=2, split_seed=7).split.seed == 7


def test_sparsity_zero_is_the_base_model() -> None:
    base = resolve("cora", "spline", "global", 0.0)
    assert base == resolve("cora", "spline", "fine-grained", 0.0, finetune=False) == resolve("cora", "spline")
    assert resolve("cora", "spline", "global", 0.5).base() == base


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"dataset": "coraa"}, r"unknown dataset 'coraa'; did you mean cora\?"),
        ({"model": "splin"}, r"unknown model 'splin'; did you mean spline\?"),
        ({"method": "globel", "sparsity": 0.5}, r"unknown method 'globel'; did you mean global\?"),
        ({"method": "global", "sparsity": 1.0}, "sparsity 1: must be at least 0 and below 1"),
        ({"seed": -1}, "seed -1: must be at least 0"),
        ({"seed": 2**32}, "seed 4294967296: must be at least 0 and below 4,294,967,296"),
        ({"seed": 10**30}, "seed 10{30}: must be at least 0 and below"),
        ({"split_seed": 2**32}, "split seed 4294967296: must be at least 0 and below"),
        ({"threads": 0}, "threads 0: must be at least 1"),
        ({"epochs": 0}, "epochs 0: must be at least 1"),
        ({"energy": "rapll"}, r"unknown energy source 'rapll'; did you mean rapl or pyrapl\?"),
        ({"split": "publik"}, r"unknown split 'publik'; did you mean public\?"),
        ({"split": "scaffold"}, "--split scaffold: node-classification has random, public, stratified-kfold"),
        ({"split_seed": -1}, "split seed -1: must be at least 0"),
        ({"features": "onehot"}, r"unknown encoding of features 'onehot'; did you mean one-hot\?"),
        ({"task": "link-predictions"}, r"unknown task 'link-predictions'; did you mean link-prediction"),
        ({"device": "gpu"}, "--device gpu: use auto, cpu or cuda"),
    ],
)
def test_bad_choices(choices: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(**choices)  # type: ignore[arg-type]


def test_cuda_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match="--device cuda: torch sees no CUDA device here"):
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
        resolve("mutag", "spline", data_root=Path("/"))


def test_a_model_without_its_channels_is_trained_as_long_as_the_dense_one() -> None:
    lengths = {}
    for method in ("global", "structured"):
        finetune = resolve(workload="gin-proteins", method=method, sparsity=0.5).finetune
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
        finetune = resolve("digits", "gcn", sparsity=sparsity, epochs=30, **choices).finetune
        assert finetune is not None
        assert finetune.epochs == epochs
    own = resolve("digits", "gcn", sparsity=0.5, epochs=30, finetune_epochs=7, **choices).finetune
    assert own is not None
    assert own.epochs == 7
    least = resolve("digits", "gcn", sparsity=0.5, epochs=1, **choices).finetune
    assert least is not None
    assert least.epochs == 1


@pytest.mark.parametrize(
    "how", [{}, {"epochs": 30}, {"epochs": 30, "finetune_epochs": 7}, {"epochs": 30, "finetune": False}]
)
@pytest.mark.parametrize("scheme", ["fp32", "ptq-int8", "qat-int4", "a2q"])
def test_what_is_quantized_is_the_very_run_that_prune_makes(scheme: str, how: dict[str, Any]) -> None:
    quantized = resolve("digits", "gcn", "quantize", 0.5, scheme=scheme, **how)
    assert quantized.origin == resolve("digits", "gcn", "global", 0.5, **how)
    assert (quantized.finetune is None) == (scheme == "ptq-int8" or "finetune" in how)
    if scheme not in ("fp32", "a2q"):
        integer = resolve("digits", "gcn", "quantize", 0.5, scheme=scheme, execute="integer", **how)
        assert integer.origin == quantized
    # Nothing of the pruning is in the spec of a model that is not pruned.
    dense = resolve("digits", "gcn", "quantize", 0.0, scheme=scheme, **how)
    assert dense.finetune_pruned is None
    assert dense.origin == resolve("digits", "gcn", epochs=how.get("epochs"))


def test_the_control_of_a_pruned_model_is_trained_as_long_and_not_pruned() -> None:
    pruned = resolve("digits", "gcn", "global", 0.5, epochs=30)
    control = pruned.control
    assert control is not None
    assert (control.method, control.sparsity, control.finetune) == ("none", 0.0, pruned.finetune)
    assert control.origin == control.base() == pruned.base()
    assert control.run_id not in (pruned.run_id, pruned.base().run_id)
    assert control.control is None
    same = [("global", 0.9, {"steps": 3}), ("fine-grained", 0.1, {"allocation": "erk"})]
    for method, sparsity, options in same:
        assert resolve("digits", "gcn", method, sparsity, epochs=30, **options).control == control
    longer = resolve("digits", "gcn", "structured", 0.5, epochs=30).control
    assert longer is not None
    assert longer.finetune == longer.recipe
    assert resolve("digits", "gcn", "structured", 0.5, epochs=30, finetune_epochs=15).control == control
    assert resolve("digits", "gcn", "none", epochs=30, finetune_epochs=15) == control


def test_the_control_of_a_model_trained_by_its_method_is_trained_on_by_it() -> None:
    pruned = resolve("digits", "gcn", "l2", 0.5, rate=0.1)
    control = pruned.control
    assert control is not None
    assert (control.method, control.settings, control.sparsity) == ("l2", {"rate": 0.1}, 0.0)
    assert control.finetune == pruned.finetune
    assert control.origin == pruned.origin == resolve("digits", "gcn", "l2", rate=0.1)
    assert control.control is None


def test_nothing_that_is_not_trained_on_has_a_control() -> None:
    others: list[dict[str, Any]] = [
        {},
        {"method": "global", "sparsity": 0.0},
        {"method": "global", "sparsity": 0.5, "finetune": False},
        {"method": "l2", "rate": 0.1},
        {"method": "quantize", "scheme": "dq-int8", "sparsity": 0.5},  # fp32 is its control
        {"method": "lottery", "round": 1, "sparsity": 0.2, "finetune": False},
    ]
    for choices in others:
        assert resolve("digits", "gcn", **choices).control is None, choices


@pytest.mark.parametrize(
    "choices", [{}, {"method": "global", "sparsity": 0.5}, {"method": "quantize", "scheme": "ptq-int8"}]
)
def test_epochs_of_a_finetuning_that_is_off_are_refused(choices: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="--finetune-epochs 5: there is no fine-tuning with --no-finetune; leave one"):
        resolve("digits", "gcn", finetune=False, finetune_epochs=5, **choices)


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
    asked = {"dataset": dataset, "model": model, "task": task, "method": "quantize", "scheme": "dq-int8"}
    assert resolve(**asked).model == model
    with pytest.raises(UsageError, match=f"--execute integer: model {model} has no integer execution; leave"):
        resolve(**asked, execute="integer")
