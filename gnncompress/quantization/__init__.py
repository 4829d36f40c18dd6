"""Quantization: what a value becomes in a few bits, and how a network is trained to bear it.

Its names are imported on first use, and torch then.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gnncompress.quantization.affine import Grid, fake_quantize, grid_of
    from gnncompress.quantization.calibration import Calibrated, calibrate
    from gnncompress.quantization.learned_quantizer import LearnedQuantizer
    from gnncompress.quantization.observers import Observer
    from gnncompress.quantization.preparing import is_prepared, points, prepare, quantizers
    from gnncompress.quantization.protection import protection_probability
    from gnncompress.quantization.quantizer import Quantizer
    from gnncompress.quantization.weights import freeze, freeze_for

_EXPORTS = {
    "Calibrated": "gnncompress.quantization.calibration",
    "Grid": "gnncompress.quantization.affine",
    "LearnedQuantizer": "gnncompress.quantization.learned_quantizer",
    "Observer": "gnncompress.quantization.observers",
    "Quantizer": "gnncompress.quantization.quantizer",
    "calibrate": "gnncompress.quantization.calibration",
    "fake_quantize": "gnncompress.quantization.affine",
    "freeze": "gnncompress.quantization.weights",
    "freeze_for": "gnncompress.quantization.weights",
    "grid_of": "gnncompress.quantization.affine",
    "is_prepared": "gnncompress.quantization.preparing",
    "points": "gnncompress.quantization.preparing",
    "prepare": "gnncompress.quantization.preparing",
    "protection_probability": "gnncompress.quantization.protection",
    "quantizers": "gnncompress.quantization.preparing",
}

__all__ = [
    "Calibrated",
    "Grid",
    "LearnedQuantizer",
    "Observer",
    "Quantizer",
    "calibrate",
    "fake_quantize",
    "freeze",
    "freeze_for",
    "grid_of",
    "is_prepared",
    "points",
    "prepare",
    "protection_probability",
    "quantizers",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)
