from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.datasets import DATASETS
from gnncompress.errors import UsageError
from gnncompress.experiments.resolve import parse_levels, resolve, resolve_device
from gnncompress.experiments.spec import RunSpec
from gnncompress.experiments.workloads import WORKLOADS, workload
from gnncompress.models import MODELS


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


@pytest.mark.parametrize("text", ["", "x", "0.1,", "0:0.9", "0:0.9:0", "0:0.9:-0.1", "0.9:0:0.1", "nan", "1:2:3:4"])
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
    }
    assert len(others) == 8
    assert one.run_id not in others


def test_split_is_in_the_spec_and_the_same_for_every_method() -> None:
    specs = [resolve("cora", "spline", method, 0.5, seed=1) for method in ("global", "fine-grained")]
    assert specs[0].split == specs[1].split == specs[0].base().split
    assert [len(part) for part in (specs[0].split.train, specs[0].split.validation, specs[0].split.test)] == [
        1708,
        500,
        500,
    ]
    assert resolve("cora", seed=2).split != specs[0].split


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
        ({"seed": -1}, "a seed is at least 0"),
        ({"threads": 0}, "threads at least 1"),
        ({"epochs": 0}, "epochs 0: must be at least 1"),
        ({"energy": "rapll"}, r"unknown energy source 'rapll'; did you mean pyrapl\?"),
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
    for known in WORKLOADS:
        assert DATASETS[known.dataset]
        assert MODELS[known.model]
        assert workload(known.dataset, known.model) == known
    assert workload("cora").model == "spline"
    assert workload("digits").model == "gcn"
    assert workload("digits", "spline").recipe == workload("cora", "spline").recipe
