from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import gnncompress
from gnncompress.errors import PruningError, UsageError
from gnncompress.masked_states import Mask
from gnncompress.measurements import Measurement
from gnncompress.methods import methods
from gnncompress.pruning.magnitude import FineGrainedPruning, GlobalPruning, MagnitudePruning, in_total
from tests.pruning.helpers import still


def network(seed: int = 0, sizes: tuple[int, ...] = (7, 5, 3)) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(sizes)))


def by_hand() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, -4.0]]))
        model[1].weight.copy_(torch.tensor([[0.1, -0.2], [5.0, -0.4]]))
    return model


def test_global_by_hand() -> None:
    model = GlobalPruning(sparsity=0.5).apply(by_hand(), still()).model
    assert model[0].weight.tolist() == [[0, -2], [3, -4]]
    assert model[1].weight.tolist() == [[0, 0], [5, 0]]


def test_fine_grained_by_hand() -> None:
    model = FineGrainedPruning(sparsity=0.5).apply(by_hand(), still()).model
    assert model[0].weight.tolist() == [[0, 0], [3, -4]]
    assert model[1].weight.tolist() == [[0, 0], [5, pytest.approx(-0.4)]]


@given(
    sparsity=st.floats(0, 1, exclude_max=True),
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    tied=st.booleans(),
    seed=st.integers(0, 99),
)
def test_masks_match_a_slow_numpy_version(sparsity: float, sizes: list[int], tied: bool, seed: int) -> None:
    model = network(seed, tuple(sizes))
    if tied:
        with torch.no_grad():
            for layer in model:
                layer.weight.copy_((layer.weight * 3).round())
    weights = {f"{index}.weight": np.abs(layer.weight.detach().numpy()) for index, layer in enumerate(model)}

    def slow(values: np.ndarray) -> np.ndarray:
        keep = np.ones(values.size, bool)
        keep[np.argsort(values.ravel(), kind="stable")[: round(sparsity * values.size)]] = False
        return keep

    by_layer = np.concatenate([slow(values) for values in weights.values()])
    everything = slow(np.concatenate([values.ravel() for values in weights.values()]))
    for method, wanted in ((FineGrainedPruning, by_layer), (GlobalPruning, everything)):
        if wanted.any():
            masks = method(sparsity=sparsity).masks(model)
            assert torch.cat([masks[name].flatten() for name in weights]).tolist() == wanted.tolist()
        else:
            with pytest.raises(PruningError, match="would leave none of the"):
                method(sparsity=sparsity).masks(model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(dtype: torch.dtype) -> None:
    result = gnncompress.prune(network().to(dtype), sparsity=0.5)
    assert result.sparsity == 0.5
    assert result.model[0].weight.dtype == dtype


def test_rising_sparsity_keeps_what_was_pruned() -> None:
    model = network()
    first = gnncompress.prune(model, sparsity=0.3)
    zeros = {name: ~mask for name, mask in first.masks.items()}
    with torch.no_grad():  # what lies behind a mask may grow; it must not count
        for layer in model:
            layer.parametrizations.weight.original.add_(100)
    second = gnncompress.prune(model, sparsity=0.8)
    assert second.sparsity == pytest.approx(0.8)
    for name, was_zero in zeros.items():
        assert not (second.masks[name] & was_zero).any()


def test_apply_fine_tunes_under_the_masks_and_reports() -> None:
    def finetune(model: nn.Module) -> list[Measurement]:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(7)
        return [Measurement("finetune", "epochs", 3, "epochs")]

    result = GlobalPruning(sparsity=0.5).apply(by_hand(), still(finetune))
    assert result.model[1].weight.tolist() == [[0, 0], [7, 0]]
    rows = {(row.phase, row.metric, row.layer): row.value for row in result.measurements}
    assert rows["finetune", "epochs", ""] == 3
    assert rows["compress", "sparsity", ""] == 0.5
    assert rows["compress", "sparsity", "1.weight"] == 0.75
    assert rows["compress", "duration", ""] > 0
    assert result.warnings == []


def test_collapsed_layer_is_a_warning_and_a_row() -> None:
    model = by_hand()
    with torch.no_grad():
        model[1].weight.mul_(1e-3)
    result = GlobalPruning(sparsity=0.5).apply(model, still())
    assert result.warnings == ["every weight of 1.weight is zero (layer collapse); --min-keep 0.01 would prevent it"]
    assert {row.metric: row.value for row in result.measurements}["collapsed_layers"] == 1


def test_result_of_the_library() -> None:
    result = gnncompress.prune(by_hand(), method="fine-grained", sparsity=0.25)
    assert result.layers == {"0.weight": 0.25, "1.weight": 0.25}
    assert result.sparsity == 0.25


def test_bad_input() -> None:
    for sparsity in (1.0, -0.1, float("nan")):
        with pytest.raises(UsageError, match="must be a finite number, at least 0 and below 1"):
            gnncompress.prune(network(), sparsity=sparsity)
    with pytest.raises(UsageError, match=r"unknown method 'globl'; did you mean global\?"):
        gnncompress.prune(network(), method="globl")
    with pytest.raises(PruningError, match="ReLU has nothing to prune"):
        gnncompress.prune(nn.ReLU())
    model = network()
    with torch.no_grad():
        model[1].weight[0, 0] = float("nan")
    with pytest.raises(PruningError, match=r"layer 1\.weight: 1 of 15 weights are NaN or infinite"):
        gnncompress.prune(model)


def test_every_method_has_a_citation_and_is_in_the_library() -> None:
    for method in methods():
        assert method.citation
        assert method.summary
        if issubclass(method, MagnitudePruning):
            wanted = method(sparsity=0.5).masks(network())
            for one in (method.name, method(sparsity=0.5)):
                found = gnncompress.prune(network(), one).masks
                assert {name: mask.tolist() for name, mask in found.items()} == {
                    name: mask.tolist() for name, mask in wanted.items()
                }


def test_steps_follow_the_cubic_schedule_and_share_the_epochs() -> None:
    seen: list[tuple[float, float]] = []
    model = network(sizes=(20, 20, 10))

    def finetune(tuned: nn.Module, share: float) -> list[Measurement]:
        zeros = sum(int((layer.weight == 0).sum()) for layer in tuned)
        seen.append((zeros / 600, share))
        return [Measurement("finetune", "epochs", 5, "epochs"), Measurement("finetune", "best_epoch", 2, "epochs")]

    result = GlobalPruning(sparsity=0.8, steps=4).apply(model, still(finetune))
    wanted = [0.8 * (1 - (1 - step / 4) ** 3) for step in (1, 2, 3, 4)]
    assert [sparsity for sparsity, _ in seen] == pytest.approx(wanted, abs=1 / 600)
    assert [share for _, share in seen] == [0.25] * 4
    rows = {(row.phase, row.metric, row.layer): row.value for row in result.measurements}
    assert rows["finetune", "epochs", ""] == 20
    assert rows["finetune", "best_epoch", ""] == 2
    assert rows["compress", "sparsity", ""] == pytest.approx(0.8)


def test_totals_add_durations_and_epochs_only() -> None:
    rows = [Measurement("finetune", "duration", 1.5, "s"), Measurement("finetune", "duration", 2.0, "s")]
    assert in_total(rows) == [Measurement("finetune", "duration", 3.5, "s")]


def test_given_budgets_rise_with_the_steps() -> None:
    model = network(sizes=(20, 20, 10))
    method = FineGrainedPruning(sparsity=0.6, steps=2, allocation="given", layers={"0.weight": 0.9})
    result = method.apply(model, still())
    assert int((result.model[0].weight == 0).sum()) == 360
    assert int((result.model[1].weight == 0).sum()) == 0


@pytest.mark.parametrize("allocation", ["uniform", "erk", "lamp-score"])
def test_no_layer_falls_below_the_floor(allocation: str) -> None:
    model = network(sizes=(30, 20, 2))
    with torch.no_grad():
        model[1].weight.mul_(1e-6)
    masks = FineGrainedPruning(sparsity=0.8, min_keep=0.15, allocation=allocation).masks(model)  # type: ignore[arg-type]
    assert all(float(mask.float().mean()) >= 0.15 for mask in masks.values())
    assert not GlobalPruning(sparsity=0.8).masks(model)["1.weight"].any()
    assert int(GlobalPruning(sparsity=0.8, min_keep=0.15).masks(model)["1.weight"].sum()) == 6


def test_bad_settings() -> None:
    with pytest.raises(UsageError, match=r"min_keep 1\.5: must be a finite number, at least 0 and below 1"):
        gnncompress.prune(network(), min_keep=1.5)
    with pytest.raises(UsageError, match="steps 0: must be a whole number, at least 1"):
        GlobalPruning(sparsity=0.5, steps=0)
    with pytest.raises(UsageError, match="steps: there is fine-tuning between steps; call prune once for each"):
        gnncompress.prune(network(), GlobalPruning(steps=3))
    with pytest.raises(UsageError, match=r"unknown importance 'magnitud'; did you mean magnitude\?"):
        gnncompress.prune(network(), importance="magnitud")
    with pytest.raises(UsageError, match=r"unknown allocation 'ekr'; did you mean erk\?"):
        gnncompress.prune(network(), "fine-grained", allocation="ekr")
    with pytest.raises(UsageError, match=r"prune takes a torch\.nn\.Module, not a str"):
        gnncompress.prune("model")  # type: ignore[arg-type]
    for method in ("global", "fine-grained"):
        with pytest.raises(PruningError, match=r"sparsity 0\.999 would leave none of the 50 weights; lower it"):
            gnncompress.prune(network(), method, 0.999)
    with pytest.raises(TypeError, match="unexpected keyword argument 'alocation'"):
        gnncompress.prune(network(), alocation="erk")  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="allocation: method global has no such option; it belongs to fine-grained"):
        gnncompress.prune(network(), "global", allocation="erk")
    with pytest.raises(UsageError, match=r"sparsity 0\.3: the method is given with its options; leave this one out"):
        gnncompress.prune(network(), GlobalPruning(), 0.3)
    with pytest.raises(UsageError, match="method sensitivity trains models"):
        gnncompress.prune(network(), "sensitivity")
    with pytest.raises(UsageError, match="needs gradients: give loss="):
        gnncompress.prune(network(), importance="taylor")


@pytest.mark.parametrize("steps", [1, 3])
def test_a_model_that_was_sparser_is_named(steps: int) -> None:
    model = GlobalPruning(sparsity=0.8).apply(network(sizes=(20, 20, 10)), still()).model
    result = GlobalPruning(sparsity=0.5, steps=steps).apply(model, still())
    assert {(row.metric, row.layer): row.value for row in result.measurements}["sparsity", ""] == 0.8
    assert result.warnings == [
        "sparsity 0.5 was asked for, but 0.8000 of the weights are zero: more of them, or of a layer's, were zero "
        "before"
    ]
    assert GlobalPruning(sparsity=0.8, steps=steps).apply(model, still()).warnings == []


def test_fine_tuning_that_brings_pruned_weights_back_is_noticed() -> None:
    def finetune(model: nn.Module) -> list[Measurement]:
        for layer in model:
            original = layer.parametrizations.weight.original
            nn.utils.parametrize.remove_parametrizations(layer, "weight")
            nn.utils.parametrize.register_parametrization(layer, "weight", Mask(torch.ones_like(original) > 0))
            with torch.no_grad():
                original.fill_(7)
        return []

    with pytest.raises(PruningError, match=r"layer 0\.weight: 1 weights should be zero after pruning, but 0 of 4 are"):
        GlobalPruning(sparsity=0.5).apply(by_hand(), still(finetune))
