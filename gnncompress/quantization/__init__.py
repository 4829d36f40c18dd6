"""Quantization: what a value becomes in a few bits, and how a network is trained to bear it."""

from gnncompress.quantization.affine import Grid, fake_quantize, grid_of
from gnncompress.quantization.calibration import Calibrated, calibrate
from gnncompress.quantization.learned_quantizer import LearnedQuantizer
from gnncompress.quantization.observers import Observer
from gnncompress.quantization.prepare import is_prepared, points, prepare, quantizers
from gnncompress.quantization.protection import protection_probability
from gnncompress.quantization.quantizer import Quantizer
from gnncompress.quantization.weights import freeze, freeze_for

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
