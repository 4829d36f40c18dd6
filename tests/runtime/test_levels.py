"""Which level a processor has, and which one the environment may name."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from gnncompress.errors import UsageError
from gnncompress.runtime import levels, products, vectors
from gnncompress.runtime.levels import FASTEST, LEVELS, VARIABLE, level


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("features", "wanted"),
    [
        ("+avx2,+avx512bw,+avx512vnni", "avx512-vnni"),
        ("+avx2,-avx512vnni", "avx2"),
        ("+sse2,-avx2", "exact-f32"),
        ("+neon", "exact-f32"),
        ("", "exact-f32"),
    ],
)
def test_the_fastest_that_the_processor_has_is_used(
    features: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "features_of_target", lambda: features)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert level().name == wanted
        assert products.weight(np.zeros((16, 16), np.int8), 16, 0, False).packed.dtype == level().dtype


@pytest.mark.parametrize("one", [one for one in LEVELS if one.available], ids=lambda one: one.name)
def test_the_environment_names_the_level(one: levels.Level, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, one.name)
    assert level() is one


def test_an_empty_name_names_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    assert level() is next(one for one in LEVELS if one.available)


@pytest.mark.parametrize("name", ["avx-512", "EXACT-F32", "1", "avx2 "])
def test_an_unknown_level_is_refused_in_a_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, name)
    with pytest.raises(UsageError) as refused:
        products.weight(np.zeros((16, 16), np.int8), 16, 0, False)
    assert str(refused.value).startswith(f"GNNCOMPRESS_LEVEL={name}: there is no such level; use one of: ")
    assert str(refused.value).endswith("exact-f32")


def test_a_level_that_the_processor_lacks_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "features_of_target", lambda: "+avx2,-avx512vnni")
    monkeypatch.setenv(VARIABLE, FASTEST.name)
    with pytest.raises(UsageError) as refused:
        level()
    assert str(refused.value) == (
        "GNNCOMPRESS_LEVEL=avx512-vnni: this processor does not have that level; use one of: avx2, exact-f32"
    )
