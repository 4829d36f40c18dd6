"""From a prepared model to a program of whole numbers."""

from gnncompress.quantization.lowering.fusing import fuse
from gnncompress.quantization.lowering.tracing import lower

__all__ = ["fuse", "lower"]
