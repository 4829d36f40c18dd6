"""Quantization schemes by name; no torch, so that a command line can check one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from gnncompress.errors import ParameterError, UsageError
from gnncompress.registry import unknown

Kind = Literal["fp32", "ptq", "qat", "dq", "a2q"]
BITS = range(2, 9)
# How many steps and bits the nodes of many graphs share: that of A2Q's scripts.
GROUPS = 1000
SCHEMES = ("fp32", *(f"{kind}-int{bits}" for kind in ("ptq", "qat", "dq") for bits in BITS), "a2q")
# The six configurations of arXiv 2510.22058: a gradient and an observer.
CONFIGS = tuple(f"{gradient}-{observer}" for gradient in ("ste", "gc") for observer in ("abs", "mom", "per"))
_USUAL = {"ptq": "ste-mom", "qat": "ste-mom", "dq": "ste-mom"}
# How a quantized model computes: in floats what few bits would give, or in whole numbers.
SIMULATED: Literal["simulated"] = "simulated"
INTEGER: Literal["integer"] = "integer"
# How ranges are made of the batches of calibration: of several ways the one whose outputs are best, or one of them.
AUTO, OBSERVER = "auto", "observer"
CALIBRATIONS = (AUTO, "minmax", "percentile", "mse", OBSERVER)
# Options that only some kinds of scheme have.
_KINDS = {
    "calibration": ("ptq", "qat", "dq"),
    "config": ("ptq", "qat", "dq"),
    "observer": ("ptq", "qat", "dq"),
    "gradient": ("qat", "dq"),
    "granularity": ("ptq", "qat", "dq"),
    "head_bits": ("ptq", "qat", "dq"),
    "draw": ("dq",),
    "protect": ("dq",),
    "protect_more": ("dq",),
    "groups": ("a2q",),
    "target_bits": ("a2q",),
    "official_protocol": ("fp32", "qat", "dq", "a2q"),
    "keep_float": ("ptq", "qat", "dq", "a2q"),
    "execute": ("ptq", "qat", "dq"),
}


@dataclass(frozen=True)
class Scheme:
    """How a model is quantized.

    kind: fp32 (not at all, the control), ptq (ranges from calibration only), qat, dq (with protected nodes), a2q
    (steps and bits are learnt). ``observer`` abs, mom or per and ``gradient`` ste or gc are those of ``Quantizer``.
    ``calibration`` is how ``calibrate`` makes ranges of all batches: minmax, percentile, mse, observer (as
    ``observer`` makes them) or auto, the one of these with the least error of the model's output; a ptq scheme that
    is given an observer is calibrated by it. ``granularity``: weights have one grid per tensor or per channel.
    Linear layers outside the convolutions, such as those after pooling, have at least ``head_bits``. ``protect`` is
    the probability with which the node of lowest degree is protected, nearly, and ``protect_more`` how much more
    that of the highest; a mask is drawn for each ``draw``, a forward pass or a layer. ``groups`` is how many steps
    and bits A2Q's rows share; 0: each row has its own, as the nodes of one graph may. ``target_bits`` is A2Q's
    memory target for each value, sign included.

    Source: Tailor et al., Degree-Quant, ICLR 2021; Zhu et al., A2Q, ICLR 2023; configurations arXiv 2510.22058.
    Deviation: Degree-Quant gives all layers the same bits, which is head_bits=2 here. What a sum over the nodes of
    graphs of 4 to 620 nodes gives does not fit into 16 steps of one size.
    """

    name: str
    kind: Kind
    bits: int
    observer: str = "abs"
    gradient: str = "ste"
    calibration: str = AUTO
    granularity: str = "tensor"
    head_bits: int = 8
    protect: float = 0.0
    protect_more: float = 0.1
    draw: str = "forward"
    groups: int = 0
    target_bits: float = 0.0

    @property
    def bits_outside(self) -> int:
        """The bits of linear layers outside the convolutions."""
        return max(self.bits, self.head_bits)

    @property
    def target(self) -> float:
        """A2Q's target bits: what was asked for, or near none for one graph, and what it starts with for many."""
        return self.target_bits or (8.0 if self.groups else 1.0)

    @property
    def first_bits(self) -> int:
        """The most bits that A2Q's features start with, so that no epoch is far above the target."""
        return max(math.ceil(self.target), 3)

    @property
    def trains(self) -> bool:
        """Whether the model is trained with its quantizers in place."""
        return self.kind in ("qat", "dq", "a2q")


_SETTINGS = tuple(field.name for field in fields(Scheme) if field.name not in ("name", "kind", "bits"))


def scheme(name: str, config: str | None = None, **settings: Any) -> Scheme:
    """Return the scheme called ``name`` with the paper's ``config`` and ``settings`` that differ from what is usual.

    Usual is ste-mom, and that dq protects with probability 0 to 0.1. Deviation: the official scripts have gc-per for
    dq, and at 4 bits 0.1 to 0.2. A range that only widens, as abs and per have it, never recovers from one batch of
    large sums: on PROTEINS (GIN, 8 bits, three folds) gc-per reached 0.68 and ste-mom 0.74.

    Raises:
        UsageError: if the name, the configuration or a setting is unknown, or settings contradict each other.
    """
    if name not in SCHEMES:
        raise UsageError(unknown("scheme", name, SCHEMES))
    if name in ("fp32", "a2q"):
        made = Scheme(name, "fp32" if name == "fp32" else "a2q", 32 if name == "fp32" else 4)
    else:
        kind, bits = name.split("-int")
        gradient, observer = _USUAL[kind].split("-")
        made = Scheme(name, kind, int(bits), observer, gradient)  # type: ignore[arg-type]
    if config is not None:
        if config not in CONFIGS:
            raise UsageError(unknown("configuration", config, CONFIGS))
        settings["gradient"], settings["observer"] = config.split("-")
    for key in settings:
        if key not in _SETTINGS:
            raise UsageError(f"scheme {name}: {unknown('setting', key, _SETTINGS)}")
    if made.kind == "ptq" and settings.get("observer") is not None:  # there is no training that it could be meant for
        if settings.get("calibration") not in (None, OBSERVER):
            raise UsageError(
                f"scheme {name}: calibration {settings['calibration']} does not use observer {settings['observer']}; "
                "leave one of them out"
            )
        settings["calibration"] = OBSERVER
    made = replace(made, **{key: value for key, value in settings.items() if value is not None})
    choices = {"granularity": ("tensor", "channel"), "draw": ("forward", "layer"), "calibration": CALIBRATIONS}
    for setting, known in choices.items():
        if getattr(made, setting) not in known:
            raise UsageError(unknown(setting, getattr(made, setting), known))
    if made.head_bits not in BITS:
        raise UsageError(f"head_bits {made.head_bits}: use {BITS[0]} to {BITS[-1]}")
    if not 0 <= made.protect <= 1 or made.protect_more < 0 or made.groups < 0:
        raise UsageError("protect must be in [0, 1], protect_more and groups not below 0")
    return made


def configuration(
    name: str, config: str | None, observer: str | None, gradient: str | None, calibration: str | None = None
) -> str | None:
    """Return the paper's configuration that ``config``, or ``observer`` and ``gradient``, ask for; None: the usual one.

    Raises:
        UsageError: if they are unknown, contradict each other or ``calibration``, or the scheme has none.
    """
    usual = _USUAL.get(name.split("-")[0])
    if config is not None and config not in CONFIGS:
        raise ParameterError("config", "", unknown("configuration", config, CONFIGS))
    for option, given, known in (("observer", observer, ("abs", "mom", "per")), ("gradient", gradient, ("ste", "gc"))):
        if given is not None and given not in known:
            raise ParameterError(option, "", unknown(option, given, known))
        if given is not None and usual is None:
            raise ParameterError(option, "", f"scheme {name} has no such option")
    if usual is not None and (observer or gradient):
        parts = (config or usual).split("-")
        made = f"{gradient or parts[0]}-{observer or parts[-1]}"
        if config not in (None, made):
            raise ParameterError("config", config, f"contradicts observer or gradient, which make it {made}")
        config = made
    if config is not None and name.startswith("ptq") and calibration not in (None, OBSERVER):
        raise ParameterError(
            "calibration", calibration, f"does not use the observer of {config}; leave one of them out"
        )
    # An observer that ptq is given takes the place of auto, whichever it is.
    return None if config == usual and not name.startswith("ptq") else config


_NAMES = {"fp32"}.union(*_KINDS.values())


def options_of(names: Sequence[str], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return which of the options ``given`` to several schemes each of them has.

    Raises:
        UsageError: naming an option that none of them has.
    """
    given = {option: value for option, value in given.items() if value is not None}
    kinds = {name: name.split("-")[0] for name in names}
    for option in given:
        if not any(kind in _KINDS.get(option, (kind,)) for kind in kinds.values()):
            insist_on_options(names[0], [option])
    return {
        name: {option: value for option, value in given.items() if kind in _KINDS.get(option, (kind,))}
        for name, kind in kinds.items()
    }


def insist_on_options(name: str, settings: Iterable[str]) -> None:
    """Refuse settings that a scheme does not have; an unknown scheme is for others to refuse.

    Raises:
        UsageError: naming the first.
    """
    kind = name.split("-")[0]
    for setting in settings:
        if kind in _NAMES and kind not in _KINDS.get(setting, (kind,)):
            raise ParameterError(
                setting, "", f"scheme {name} has no such option; it belongs to {', '.join(_KINDS[setting])}"
            )
