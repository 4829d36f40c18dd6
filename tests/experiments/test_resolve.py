from __future__ import annotations

from pathlib import Path

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
