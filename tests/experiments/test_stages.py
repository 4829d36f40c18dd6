"""Chains: what names them, what they are compared with, and which cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnncompress.errors import UsageError
from gnncompress.experiments import stages
from gnncompress.experiments.stages import Chain, Compress, Measure, Stage, Train, TrainOn, changed, insist_on_order
from gnncompress.methods import method_named
from tests.experiments.helpers import asked

BASE = asked("digits", "gcn")
PRUNED = asked("digits", "gcn", "global", 0.7)


def ids(chain: Chain) -> list[str]:
    return [one.id for one in chain.beginnings]


@pytest.mark.parametrize(
    "how",
    [
        {"energy": "none"},
        {"energy_seconds": 1.0},
        {"country": "FRA"},
        {"inference_threads": 2},
        {"repetition": 1},
    ],
)
def test_how_a_model_is_measured_changes_no_model(how: dict[str, Any]) -> None:
    other = asked("digits", "gcn", "global", 0.7, **how)
    assert other.id != PRUNED.id
    assert ids(other)[1:] == ids(PRUNED)[1:]


def test_threads_of_training_change_the_model() -> None:
    assert asked("digits", "gcn", threads=2).model.id != BASE.model.id
    two = asked("digits", "gcn", threads=2).measure
    assert two is not None
    assert two.threads == 2, "inference has as many unless told otherwise"


def test_a_new_option_with_a_default_renames_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wider(Measure):
        novel: int = 3

    wide = Wider(**{name: getattr(BASE.last, name) for name in Measure.model_fields})
    chain = Chain(BASE.workload, (*BASE.stages[:-1], wide))
    assert chain.id == BASE.id
    assert Chain(BASE.workload, (*BASE.stages[:-1], wide.model_copy(update={"novel": 4}))).id != BASE.id


def test_another_version_of_a_stage_is_another_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids(PRUNED)
    monkeypatch.setattr(Measure, "VERSION", 2)
    assert ids(PRUNED_again())[0] != before[0]
    assert ids(PRUNED_again())[1:] == before[1:]
    monkeypatch.setattr(Train, "VERSION", 2)
    assert not set(ids(PRUNED_again())) & set(before)


def PRUNED_again() -> Chain:  # noqa: N802  the same, with no id remembered
    return Chain(PRUNED.workload, PRUNED.stages)


def test_another_version_of_a_method_is_another_stage() -> None:
    (stage,) = PRUNED.compressions
    newer = Chain(PRUNED.workload, (PRUNED.stages[0], stage.model_copy(update={"version": 2})))
    assert newer.id != PRUNED.model.id


@given(
    sparsity=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
    epochs=st.integers(1, 500),
    scheme=st.sampled_from(["", "dq-int4", "ptq-int8", "a2q"]),
)
def test_a_chain_is_what_it_is_written_as(sparsity: float, seed: int, epochs: int, scheme: str) -> None:
    options = {"method": "quantize", "scheme": scheme} if scheme else {"method": "global"}
    chain = asked("digits", "gcn", sparsity=sparsity, seed=seed, epochs=epochs, **options)  # type: ignore[arg-type]
    again = Chain.load(json.loads(json.dumps(chain.dump())))
    assert again == chain
    assert ids(again) == ids(chain)


def test_numbers_that_are_equal_name_the_same() -> None:
    assert changed({"a": 1}) == changed({"a": 1})
    one, other = (replace(BASE.workload.recipe, learning_rate=rate) for rate in (1, 1.0))
    assert json.dumps(changed(one)) == json.dumps(changed(other))


def test_chains_share_their_beginnings() -> None:
    quantized = asked("digits", "gcn", "quantize", 0.7, scheme="dq-int8")
    assert ids(quantized)[2:] == ids(PRUNED)[1:]
    integer = asked("digits", "gcn", "quantize", 0.7, scheme="dq-int8", execute="integer")
    assert integer.model.id == quantized.model.id
    assert (quantized.method, quantized.scheme, quantized.sparsity) == ("quantize", "dq-int8", 0.7)
    assert integer.scheme == "dq-int8 integer"


def test_tickets_are_chains_of_tickets() -> None:
    third = asked("digits", "gcn", "lottery", round=3, finetune=False)
    assert [stage.config for stage in third.compressions] == [{"round": 1}, {"round": 2}, {"round": 3}]
    control = asked("digits", "gcn", "lottery", round=3, arm="random", finetune=False)
    assert control.model.parent == third.model
    assert third.sparsity == control.sparsity == pytest.approx(1 - 0.8**3)


@pytest.mark.parametrize(
    ("methods", "reason"),
    [
        ([("quantize", {}), ("global", {})], "global after quantize: codes cannot be pruned; prune first"),
        ([("quantize", {}), ("structured", {})], "structured after quantize: codes cannot be pruned"),
        (
            [("quantize", {}), ("quantize", {"scheme": "a2q"})],
            "quantize after quantize: the model is quantized already",
        ),
        ([("structured", {}), ("quantize", {})], "quantize after structured: quantizers are rebuilt with the shapes"),
        ([("global", {}), ("l2", {"rate": 0.1})], "l2 after global: it trains a fresh model"),
        ([("global", {}), ("lottery", {"round": 1})], "lottery after global: a ticket is drawn of a trained, dense"),
        ([("sensitivity", {}), ("global", {})], "global after sensitivity: sensitivity makes no model; leave it out"),
    ],
)
def test_orders_that_make_no_sense_are_refused(methods: list[tuple[str, dict[str, Any]]], reason: str) -> None:
    found = [Compress(method=name, config=method_named(name, options).changed()) for name, options in methods]
    with pytest.raises(UsageError, match=reason):
        insist_on_order(Chain(BASE.workload, (Train(), *found)))


@pytest.mark.parametrize(
    "found",
    [
        (Measure(), Train()),
        (Train(), Train()),
        (Train(), Measure(), Measure()),
        (Train(), Measure(), TrainOn(finetune=BASE.workload.recipe)),
    ],
)
def test_stages_out_of_place_are_refused(found: tuple[Any, ...]) -> None:
    with pytest.raises(UsageError, match=r"can only be the (first|last)"):
        insist_on_order(Chain(BASE.workload, found))


def test_every_stage_says_what_its_numbers_depend_on() -> None:
    kinds = [kind for kind in vars(stages).values() if isinstance(kind, type) and issubclass(kind, Stage)]
    assert len(kinds) >= 6
    for kind in kinds:
        assert set(kind.ROOMS) >= {"datasets", "models", "tasks"}
        assert kind.VERSION >= 1


def test_a_chain_needs_no_torch() -> None:
    code = (
        "import sys\nfrom tests.experiments.helpers import asked\n"
        "chain = asked('digits', 'gcn', 'quantize', 0.5, scheme='dq-int8')\nassert chain.id and chain.control is None\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
