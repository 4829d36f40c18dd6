"""Quantization: what a value becomes in a few bits, and how a network is trained to bear it."""

from gnncompress.quantization.affine import Grid, fake_quantize, grid_of
from gnncompress.quantization.observers import Observer
from gnncompress.quantization.protection import protection_probability
from gnncompress.quantization.quantizer import Quantizer

__all__ = ["Grid", "Observer", "Quantizer", "fake_quantize", "grid_of", "protection_probability"]
