"""Methods by name, by reference and by entry point, and the orders in which they can follow each other."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from torch import nn

from gnncompress.compression import CompressionMethod, CompressionResult
from gnncompress.errors import ParameterError, UsageError
from gnncompress.methods import GROUP, find_method, method_named, method_names, methods, name_of
from gnncompress.pruning.l2 import L2Regularization
from gnncompress.pruning.lottery import LotteryTicket
from gnncompress.pruning.magnitude import FineGrainedPruning, GlobalPruning
from gnncompress.pruning.sensitivity import LayerSensitivity
from gnncompress.pruning.structured.method import StructuredPruning
from gnncompress.quantization.method import Quantization
from gnncompress.tasks.trainer import Trainer

OWN = ["global", "fine-grained", "l2", "structured", "quantize", "lottery", "sensitivity"]
HALVING = """
from dataclasses import dataclass
from typing import ClassVar
from gnncompress.compression import CompressionMethod, CompressionResult, option

@dataclass(frozen=True)
class Halving(CompressionMethod):
    name: ClassVar[str] = "halving"
    by: float = option(2.0, least=1, help="What weights are divided by.")

    def apply(self, model, trainer):
        return CompressionResult(model)

def no_class(): ...
class NoMethod: ...
"""


class Installed(CompressionMethod):
    """What an installed package would add."""

    name: ClassVar[str] = "Installed"
    command: ClassVar[str] = "quantize"

    def apply(self, model: nn.Module, trainer: Trainer) -> CompressionResult:
        return CompressionResult(model)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("Installed", f"{__name__}:Installed", GROUP),
        EntryPoint("wrong", "json:dumps", GROUP),
        EntryPoint("global", f"{__name__}:Installed", GROUP),
    ]
    monkeypatch.setattr("gnncompress.methods.entry_points", lambda group: points if group == GROUP else [])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(HALVING)
    return path


def test_every_method_is_found_by_its_name_in_any_case() -> None:
    assert method_names()[: len(OWN)] == OWN
    for name in OWN:
        assert find_method(name) is find_method(name.upper())
        assert find_method(name).name == name


def test_methods_by_command() -> None:
    by_command = {command: [one.name for one in methods(command)] for command in ("prune", "quantize", "none")}
    assert by_command == {"prune": ["global", "fine-grained", "l2", "structured"], "quantize": ["quantize"], "none": []}
    assert [one.name for one in methods()] == OWN


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("globl", "unknown method 'globl'; did you mean global?"),
        ("Quantise", "unknown method 'Quantise'; did you mean quantize?"),
        ("xyz", f"unknown method 'xyz'; there is: {', '.join(sorted(OWN))}"),
        ("", f"unknown method ''; there is: {', '.join(sorted(OWN))}"),
    ],
)
def test_a_near_miss(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_method(name)
    assert str(caught.value) == message


def test_a_method_of_the_users_own(file: Path) -> None:
    found = find_method(f"{file}:Halving")
    made = found.of({"by": 4})
    assert made.changed() == {"by": 4.0}
    with pytest.raises(ParameterError, match=r"^by 0: must be a finite number, at least 1$"):
        found.of({"by": 0})
    assert isinstance(method_named(f"{file}:Halving", {"by": 3}), found)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (":no_class", "is no subclass of gnncompress.compression.CompressionMethod"),
        (":NoMethod", "is no subclass of gnncompress.compression.CompressionMethod"),
        (":Halfing", "has no 'Halfing'; it has: Halving, NoMethod, no_class"),
        ("", "name a function in it, such as"),
    ],
)
def test_references_that_are_no_method(file: Path, rest: str, message: str) -> None:
    with pytest.raises(UsageError, match=r"mine\.py") as caught:
        find_method(f"{file}{rest}")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_installed_packages_add_methods(installed: None) -> None:
    assert method_names() == [*OWN, "Installed", "wrong"]
    assert find_method("installed") is find_method("Installed") is Installed
    assert find_method("global") is GlobalPruning, "a name of the package's own stays its own"
    with pytest.raises(UsageError, match=r"unknown method 'instaled'; did you mean Installed\?"):
        find_method("instaled")
    with pytest.raises(UsageError, match=r"method wrong: <function dumps at .*> is no subclass of gnncompress"):
        find_method("wrong")


def test_an_option_that_a_method_does_not_have_names_who_has_it() -> None:
    messages = {
        ("global", "rate"): "rate: method global has no such option; it belongs to l2, lottery",
        ("global", "allocation"): "allocation: method global has no such option; it belongs to fine-grained",
        ("structured", "steps"): "steps: method structured has no such option; it belongs to global, fine-grained",
        ("l2", "scheme"): "scheme: method l2 has no such option; it belongs to quantize",
        ("l2", "colour"): "colour: method l2 has no such option; it has rate, sparsity",
    }
    for (method, name), message in messages.items():
        with pytest.raises(ParameterError) as caught:
            method_named(method, {name: 1})
        assert str(caught.value) == message
    assert method_named("global", {"rate": None, "sparsity": 0.3}) == GlobalPruning(sparsity=0.3)
    with pytest.raises(ParameterError, match=r"^rate: method l2 needs it$"):
        method_named("l2", {})


def test_a_method_finds_its_name_again(installed: None) -> None:
    for one in (GlobalPruning(), Quantization(), L2Regularization(rate=0.1), LotteryTicket(round=1)):
        assert name_of(one) == one.name
    assert name_of(Installed()) == "Installed"


class Unnamed(GlobalPruning):
    """Has the name of another, so only a reference tells them apart."""


def test_what_is_not_registered_is_named_by_where_it_is() -> None:
    assert name_of(Unnamed()) == f"{__name__}:Unnamed"
    assert find_method(name_of(Unnamed())) is Unnamed

    class Local(GlobalPruning):
        pass

    with pytest.raises(UsageError, match=r"^method Local: .*Local cannot be imported; put the class into a module"):
        name_of(Local())


PRUNING = [GlobalPruning(), FineGrainedPruning(), StructuredPruning(), LayerSensitivity()]
CODES = "codes cannot be pruned; prune first, then quantize: the zeros last"
FRESH = "it trains a fresh model, so nothing can come before it; make it the first"
TICKET = "a ticket is drawn of a trained, dense model; make it the first"


@pytest.mark.parametrize("method", PRUNING, ids=lambda one: one.name)
def test_pruning_comes_before_quantization(method: CompressionMethod) -> None:
    assert method.refusal([Quantization()]) == CODES
    assert method.refusal([GlobalPruning(), Quantization()]) == CODES
    for earlier in (
        [],
        [GlobalPruning()],
        [StructuredPruning()],
        [L2Regularization(rate=0.1)],
        [LotteryTicket(round=1)],
    ):
        assert method.refusal(earlier) == ""


def test_a_model_is_quantized_once() -> None:
    twice = "the model is quantized already; leave one of the two out"
    assert Quantization(scheme="a2q").refusal([Quantization()]) == twice
    assert Quantization().refusal([GlobalPruning(), Quantization(scheme="fp32")]) == twice
    for earlier in ([], [GlobalPruning()], [GlobalPruning(), FineGrainedPruning()], [L2Regularization(rate=0)]):
        assert Quantization().refusal(earlier) == ""
    assert "shapes of the dense model" in Quantization().refusal([StructuredPruning(), FineGrainedPruning()])


def test_what_starts_from_a_fresh_model_comes_first() -> None:
    for earlier in (GlobalPruning(), Quantization(), LotteryTicket(round=1)):
        assert L2Regularization(rate=0.1).refusal([earlier]) == FRESH
    for other in (GlobalPruning(), Quantization(), L2Regularization(rate=0.1)):
        assert LotteryTicket(round=1).refusal([other]) == TICKET
    assert L2Regularization(rate=0.1, sparsity=0.5).refusal([L2Regularization(rate=0.1)]) == ""
    assert LotteryTicket(round=2).refusal([LotteryTicket(round=1)]) == ""


def test_what_each_starts_from() -> None:
    assert L2Regularization(rate=0.1).starts_from() == "fresh"
    assert L2Regularization(rate=0.1, sparsity=0.5).starts_from() == L2Regularization(rate=0.1)
    assert LotteryTicket(round=1).starts_from() == "trained"
    assert LotteryTicket(round=3).starts_from() == LotteryTicket(round=2)
    assert LotteryTicket(round=3, arm="random").starts_from() == LotteryTicket(round=3)
    for one in (*PRUNING, Quantization()):
        assert one.starts_from() == "trained"


IMPORTANCES = "there is: gradient, magnitude, random, taylor"
OF_CHANNELS = "there is: l1, l2, random, taylor"
NO_OPTION = "has no such option; it belongs to"
CONTRADICTS = "contradicts observer or gradient, which make it"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("global", {"sparsity": 1}, "sparsity 1: must be a finite number, at least 0 and below 1"),
        (
            "global",
            {"importance": "l1"},
            f"importance: unknown importance 'l1'; {IMPORTANCES}",
        ),
        ("global", {"min_keep": 2}, "min_keep 2: must be a finite number, at least 0 and below 1"),
        ("global", {"steps": 0}, "steps 0: must be a whole number, at least 1"),
        ("fine-grained", {"allocation": "ekr"}, "allocation: unknown allocation 'ekr'; did you mean erk?"),
        ("fine-grained", {"layers": {"a": 2}}, "layers of a 2: must be a finite number, at least 0 and below 1"),
        ("fine-grained", {"layers": "a"}, "layers a: must be numbers by name"),
        ("l2", {"rate": -1}, "rate -1: must be a finite number, at least 0"),
        ("l2", {"rate": 1, "sparsity": 1}, "sparsity 1: must be a finite number, at least 0 and below 1"),
        (
            "structured",
            {"importance": "magnitude"},
            f"importance: unknown importance 'magnitude'; {OF_CHANNELS}",
        ),
        ("lottery", {}, "round: method lottery needs it"),
        ("lottery", {"round": 1, "rate": 0}, "rate 0: must be above 0 and below 1"),
        ("lottery", {"round": 1, "arm": "x"}, "arm: unknown arm 'x'; there is: random, reinit, ticket"),
        ("sensitivity", {"sparsity": -1}, "sparsity -1: must be a finite number, at least 0 and below 1"),
        (
            "sensitivity",
            {"importance": "l2"},
            f"importance: unknown importance 'l2'; {IMPORTANCES}",
        ),
        ("quantize", {"scheme": "dq-int9"}, "scheme: unknown scheme 'dq-int9'; did you mean "),
        ("quantize", {"config": "ste-max"}, "config: unknown config 'ste-max'; did you mean ste-mom"),
        ("quantize", {"calibration": "max"}, "calibration: unknown calibration 'max'; did you mean minmax?"),
        ("quantize", {"granularity": "row"}, "granularity: unknown granularity 'row'; there is: channel, tensor"),
        ("quantize", {"head_bits": 9}, "head_bits 9: must be a whole number, at least 2 and below 9"),
        ("quantize", {"protect": 1}, "protect 1: must be a finite number, at least 0 and below 1"),
        ("quantize", {"target_bits": 4}, "target_bits: scheme dq-int8 has no such option; it belongs to a2q"),
        (
            "quantize",
            {"scheme": "a2q", "target_bits": 16},
            "target_bits 16: must be a finite number, at least 0 and below 16",
        ),
        ("quantize", {"scheme": "a2q", "groups": -1}, "groups -1: must be a whole number, at least 0"),
        ("quantize", {"scheme": "fp32", "draw": "layer"}, "draw: scheme fp32 has no such option; it belongs to dq"),
        (
            "quantize",
            {"scheme": "ptq-int8", "official_protocol": True},
            f"official_protocol: scheme ptq-int8 {NO_OPTION} fp32, qat, dq, a2q",
        ),
        (
            "quantize",
            {"config": "ste-abs", "observer": "mom"},
            f"config ste-abs: {CONTRADICTS} ste-mom",
        ),
        (
            "quantize",
            {"scheme": "ptq-int8", "observer": "abs", "calibration": "mse"},
            "calibration mse: does not use the observer of ste-abs; leave one of them out",
        ),
        ("quantize", {"keep_float": [1]}, "keep_float [1]: must be names"),
    ],
)
def test_bad_options_of_every_method(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        method_named(name, options)
    said = str(caught.value)
    assert said == message or (said.startswith(message) and "did you mean" in message)
    assert "\n" not in said


def test_every_method_is_in_the_table_of_bad_options() -> None:
    marks = test_bad_options_of_every_method.pytestmark  # type: ignore[attr-defined]
    assert {row[0] for row in marks[0].args[1]} == set(OWN)


def test_no_entry_point_is_loaded_for_a_name_of_the_packages_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ImportError("a package that does not load")

    monkeypatch.setattr("gnncompress.methods.entry_points", lambda group: [SimpleNamespace(name="other", load=broken)])
    assert find_method("global") is GlobalPruning
