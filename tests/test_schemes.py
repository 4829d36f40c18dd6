"""Which options a scheme has, and what observer, gradient and configuration make together."""

from __future__ import annotations

import pytest

from gnncompress.errors import ParameterError
from gnncompress.schemes import SCHEMES, configuration, insist_on_options, options_of


def test_options_go_to_the_schemes_that_have_them() -> None:
    given = {"granularity": "channel", "target_bits": 3.0, "draw": None, "protect": 0.1, "scheme": "x"}
    found = options_of(["fp32", "qat-int4", "dq-int8", "a2q"], given)
    assert found == {
        "fp32": {"scheme": "x"},
        "qat-int4": {"granularity": "channel", "scheme": "x"},
        "dq-int8": {"granularity": "channel", "protect": 0.1, "scheme": "x"},
        "a2q": {"target_bits": 3.0, "scheme": "x"},
    }
    with pytest.raises(ParameterError) as caught:
        options_of(["fp32", "ptq-int8"], {"draw": "layer"})
    assert str(caught.value) == "draw: scheme fp32 has no such option; it belongs to dq"


def test_options_of_no_kind_are_everyones() -> None:
    for name in SCHEMES:
        insist_on_options(name, ["scheme"])
    insist_on_options("no-such-scheme", ["draw"])


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (("dq-int8", None, None, None), None),
        (("dq-int8", "ste-mom", None, None), None),
        (("dq-int8", None, "per", None), "ste-per"),
        (("qat-int8", None, None, "gc"), "gc-mom"),
        (("qat-int8", "gc-per", "per", "gc"), "gc-per"),
        (("ptq-int8", None, "mom", None), "ste-mom"),
    ],
)
def test_configurations(given: tuple[str, str | None, str | None, str | None], made: str | None) -> None:
    assert configuration(*given) == made


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("dq-int8", "ste", None, None), "config: unknown configuration 'ste'; did you mean"),
        (("dq-int8", None, "x", None), "observer: unknown observer 'x'; there is: abs, mom, per"),
        (("dq-int8", None, None, "x"), "gradient: unknown gradient 'x'; there is: gc, ste"),
        (("a2q", None, "mom", None), "observer: scheme a2q has no such option"),
        (("dq-int8", "gc-abs", "mom", None), "config gc-abs: contradicts observer or gradient, which make it gc-mom"),
    ],
)
def test_bad_configurations(given: tuple[str, str | None, str | None, str | None], message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        configuration(*given)
    assert str(caught.value).startswith(message)
