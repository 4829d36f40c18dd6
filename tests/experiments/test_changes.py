from __future__ import annotations

import pytest

from gnncompress.errors import UsageError
from gnncompress.experiments.changes import parse_changes
from tests.experiments.helpers import asked, finetune_of


def test_recipe_and_model_change_and_nothing_else() -> None:
    plain = asked("digits").workload
    changed = asked("digits", changes=parse_changes(["learning_rate=0.1", "hidden=8"])).workload
    assert (changed.recipe.learning_rate, changed.arguments["hidden"]) == (0.1, 8)
    assert changed.arguments == {**plain.arguments, "hidden": 8}
    assert changed.model_copy(update={"recipe": plain.recipe, "arguments": plain.arguments}) == plain


def test_fine_tuning_follows_the_recipe() -> None:
    finetune = finetune_of(asked("digits", method="global", sparsity=0.5, changes={"epochs": 60, "weight_decay": 0.25}))
    assert finetune is not None
    assert (finetune.epochs, finetune.weight_decay) == (30, 0.25)


def test_the_contrastive_loss_is_an_option() -> None:
    chain = asked(workload="cora-link", changes={"contrastive": "0.5"})
    assert chain.workload.arguments["contrastive"] == 0.5


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["hidden"], "--set hidden: write name=value, e.g. --set learning_rate=0.01"),
        (["hidden=8", "hidden=9"], "--set hidden: given twice"),
        (["hiden=8"], r"--set hiden: unknown setting 'hiden'; did you mean hidden\?"),
        (["hidden=wide"], "--set hidden=wide: must be a whole number, such as 64"),
        (["learning_rate=fast"], r"--set learning_rate=fast: must be a number, such as 0\.01"),
        (["learning_rate=-1"], "--set learning_rate=-1: must be a finite number, at least 0"),
        (["learning_rate=inf"], "must be a finite number"),
        (["epochs=0"], "--set epochs=0: must be a finite number, at least 1"),
        (["optimizer=sgd"], "--set optimizer=sgd: use adam, adamw"),
    ],
)
def test_bad_changes(pairs: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        asked("digits", changes=parse_changes(pairs))
