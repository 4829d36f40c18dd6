"""Configurations: types, bounds and choices of fields, their messages, what tables and hashes see of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from torch import nn

from gnncompress.compression import (
    CompressionMethod,
    CompressionResult,
    Config,
    Option,
    default_of,
    flag_of,
    option,
    option_of,
    types_of,
)
from gnncompress.errors import ParameterError, UsageError
from gnncompress.methods import methods
from gnncompress.pruning.magnitude import GlobalPruning
from gnncompress.schemes import insist_on_options
from gnncompress.tasks.recipe import Recipe
from gnncompress.tasks.trainer import Trainer


@dataclass(frozen=True)
class Fruit(CompressionMethod):
    """A method with a field of every kind."""

    name: ClassVar[str] = "fruit"

    size: float = option(0.5, least=0, below=1, help="How big.", letter="-s")
    pips: int = option(3, least=1, help="How many.", short="p")
    free: float = option(1.0, help="Any finite number.")
    skin: Literal["smooth", "furry"] = option("smooth", help="What it feels like.")
    sort: str = option("apple", choices=("apple", "Pear"), shown=True, help="Which.")
    ripe: bool = option(False, help="Whether it is.")
    leaves: tuple[str, ...] = option((), short="leaf", help="Their names.")
    parts: Mapping[str, float] = option(default_factory=dict, least=0, below=1, hidden=True, help="Shares.")
    stones: int | None = option(None, least=0, help="How many, if any.")
    taste: Literal["sweet", "sour"] | None = option(None, help="If known.")
    sparsity: float = option(0.0, least=0, below=1, help="What the tables show elsewhere.")

    def apply(self, model: nn.Module, trainer: Trainer) -> CompressionResult:
        return CompressionResult(model)


@dataclass(frozen=True)
class Needy(CompressionMethod):
    """A method that must be told something."""

    name: ClassVar[str] = "needy"

    rate: float = option(least=0, help="A rate.")

    def apply(self, model: nn.Module, trainer: Trainer) -> CompressionResult:
        return CompressionResult(model)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("size", 1.0, "size 1.0: must be a finite number, at least 0 and below 1"),
        ("size", -0.1, "size -0.1: must be a finite number, at least 0 and below 1"),
        ("size", math.nan, "size nan: must be a finite number, at least 0 and below 1"),
        ("size", "0.5", "size 0.5: must be a number"),
        ("size", None, "size None: must be a number"),
        ("size", True, "size True: must be a number"),
        ("pips", 0, "pips 0: must be a whole number, at least 1"),
        ("pips", 2.5, "pips 2.5: must be a whole number, at least 1"),
        ("pips", math.inf, "pips inf: must be a whole number, at least 1"),
        ("free", math.inf, "free inf: must be a finite number"),
        ("free", -math.inf, "free -inf: must be a finite number"),
        ("free", math.nan, "free nan: must be a finite number"),
        ("free", 10**400, f"free {10**400}: must be a finite number"),
        ("skin", "fury", "skin: unknown skin 'fury'; did you mean furry?"),
        ("skin", "x", "skin: unknown skin 'x'; there is: furry, smooth"),
        ("skin", 3, "skin: unknown skin '3'; there is: furry, smooth"),
        ("sort", "appel", "sort: unknown sort 'appel'; did you mean apple?"),
        ("ripe", 1, "ripe 1: must be a bool"),
        ("ripe", "yes", "ripe yes: must be a bool"),
        ("leaves", (1,), "leaves (1,): must be names"),
        ("leaves", 4, "leaves 4: must be names"),
        ("parts", [1.0], "parts [1.0]: must be numbers by name"),
        ("parts", {"a": 1.0}, "parts of a 1.0: must be a finite number, at least 0 and below 1"),
        ("stones", -1, "stones -1: must be a whole number, at least 0"),
        ("taste", "bitter", "taste: unknown taste 'bitter'; there is: sour, sweet"),
    ],
)
def test_values_that_a_field_cannot_have(field: str, value: Any, message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        Fruit(**{field: value})
    assert str(caught.value) == message
    assert isinstance(caught.value, UsageError)
    flagged = message.replace(field, f"--{field}", 1)
    assert caught.value.told(f"--{caught.value.parameter}") == flagged, "a command line says its flag"


@pytest.mark.parametrize(
    ("field", "value", "has"),
    [
        ("size", 0, 0.0),
        ("size", -0.0, 0.0),
        ("size", np.float32(0.5), 0.5),
        ("pips", 4.0, 4),
        ("pips", np.int64(4), 4),
        ("skin", "FURRY", "furry"),
        ("sort", "pear", "Pear"),
        ("leaves", "b", ("b",)),
        ("leaves", ["b", "a", "b"], ("a", "b")),
        ("parts", {"a": 0}, {"a": 0.0}),
        ("stones", 0, 0),
        ("stones", None, None),
        ("taste", "Sweet", "sweet"),
    ],
)
def test_a_value_is_what_its_field_says(field: str, value: Any, has: Any) -> None:
    found = getattr(Fruit(**{field: value}), field)
    assert found == has
    assert type(found) is type(has)
    assert math.copysign(1, found) > 0 if isinstance(found, float) else True


def test_it_is_frozen_and_equal_by_value() -> None:
    one = Fruit(size=0.25)
    with pytest.raises(FrozenInstanceError):
        one.size = 0.5  # type: ignore[misc]
    assert one == Fruit(size=0.25) != Fruit()
    assert Fruit(pips=3.0) == Fruit()  # type: ignore[arg-type]
    assert hash(GlobalPruning(sparsity=0.5)) == hash(GlobalPruning())


def test_changed_are_the_fields_that_differ_as_json_values() -> None:
    assert Fruit().changed() == {}
    assert Fruit(size=0.5, pips=3).changed() == {}
    one = Fruit(parts={"a": 0.5}, leaves=["y", "x"], ripe=True, stones=0, size=0.1)  # type: ignore[arg-type]
    assert one.changed() == {"size": 0.1, "ripe": True, "leaves": ["x", "y"], "parts": {"a": 0.5}, "stones": 0}
    assert list(one.changed()) == ["size", "ripe", "leaves", "parts", "stones"], "in the order of the fields"
    assert Fruit.of(json.loads(json.dumps(one.changed()))) == one


def test_what_is_none_was_not_given() -> None:
    assert Fruit.of({"size": None, "pips": 5, "taste": None}) == Fruit(pips=5)


def test_options_that_there_are_not_and_those_that_are_needed() -> None:
    with pytest.raises(ParameterError) as caught:
        Needy.of({"rat": 1})
    assert str(caught.value) == "rat: method needy has no such option; it has rate"
    for given_ in ({}, {"rate": None}):
        with pytest.raises(ParameterError) as caught:
            Needy.of(given_)
        assert str(caught.value) == "rate: method needy needs it"


@dataclass(frozen=True)
class Bare(Config):
    """Nothing to configure."""


def test_a_configuration_without_fields() -> None:
    assert Bare().changed() == {}
    with pytest.raises(ParameterError, match=r"^a: Bare has no such option; it has none$"):
        Bare.of({"a": 1})


def test_labels() -> None:
    assert Fruit().label() == "apple", "what is shown always"
    assert Fruit(sparsity=0.5).label() == "apple", "sparsity has a column of its own"
    one = Fruit(sort="Pear", ripe=True, leaves=("b", "a"), pips=7, size=0.25)
    assert one.label() == "Pear ripe leaf=a,b size=0.25 p=7"
    assert one.label("integer") == "Pear ripe leaf=a,b integer size=0.25 p=7"
    assert Fruit(parts={"a": 0.5}).label() == "apple"


def test_what_is_known_of_a_field() -> None:
    known = {one.name: one for one in fields(Fruit)}
    assert option_of(known["size"]) == Option("How big.", least=0, below=1, letter="-s")
    assert default_of(known["parts"]) == {}
    assert default_of({one.name: one for one in fields(Needy)}["rate"]) is MISSING
    assert types_of(Fruit)["pips"] is int
    flags = {one.name: flag_of(one) for method in methods() for one in fields(method)}
    assert flags["min_keep"] == "--min-keep"
    assert flags["edges"] == "--prune-edges"


def test_what_a_method_is_if_it_says_nothing() -> None:
    recipe = Recipe(epochs=10, learning_rate=0.1, weight_decay=0.0, patience=3)
    one = Fruit()
    assert one.starts_from() == "trained"
    assert not one.does_nothing()
    assert one.finetuning(recipe) == recipe.halved
    assert one.for_task("node-classification") is one
    assert one.penalized(recipe) is recipe
    assert one.refusal([Fruit(), Fruit()]) == ""
    model = nn.Linear(1, 1)
    assert one.rebuilt(model) is model


def values_of(kind: Any, about: Option) -> st.SearchStrategy[Any]:
    """Return values that a field can have."""
    text = str(kind)
    choices = about.choices or (kind.__args__ if text.startswith("typing.Literal") else ())
    if choices:
        return st.sampled_from(choices)
    if kind is bool:
        return st.booleans()
    low = max(about.least, -1e6)
    if kind is int:
        return st.integers(math.ceil(low), math.ceil(min(about.below, 1e6)) - 1)
    if kind is float:
        return st.floats(low, min(about.below, 1e6), exclude_max=about.below < math.inf)
    if text.startswith("tuple"):
        return st.lists(st.text(max_size=4), max_size=3)
    if text.startswith("collections.abc.Mapping"):
        return st.dictionaries(st.text(max_size=4), st.floats(0, 1, exclude_max=True), max_size=3)
    return st.none() | values_of(kind.__args__[0], about)


def has(scheme: str, option_: str) -> bool:
    """Say whether a scheme has an option."""
    try:
        insist_on_options(scheme, [option_])
    except UsageError:
        return False
    return True


@pytest.mark.parametrize("method", [Fruit, Needy, *methods()], ids=lambda method: method.name)
@given(data=st.data())
def test_configurations_round_trip(method: type[CompressionMethod], data: st.DataObject) -> None:
    known = {one.name: one for one in fields(method)}
    chosen = data.draw(st.sets(st.sampled_from(sorted(known))))
    needed = {name for name, one in known.items() if default_of(one) is MISSING}
    values = {
        name: data.draw(values_of(types_of(method)[name], option_of(known[name])), label=name)
        for name in sorted(chosen | needed)
    }
    if method.name == "quantize":  # whose schemes have some of its options each
        scheme = values.get("scheme", "dq-int8")
        values = {name: value for name, value in values.items() if has(scheme, name)}
    try:
        made = method.of(values)
    except UsageError:
        if method.name not in ("quantize", "lottery"):  # of which some values do not go together
            raise
        reject()
    written = json.loads(json.dumps(made.changed()))
    again = method.of(written)
    assert again == made
    assert again.changed() == made.changed() == written
    assert again.label() == made.label()
