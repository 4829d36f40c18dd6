"""Train graph neural networks, compress them, and measure honestly what the compression bought.

The names below are imported on first use, so that ``import gnncompress`` and ``gnncompress --help``
stay free of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gnncompress.checkpoints import load_checkpoint, save_checkpoint
    from gnncompress.compression import CompressionMethod, CompressionResult, option
    from gnncompress.errors import GnncompressError
    from gnncompress.experiments.api import experiment
    from gnncompress.experiments.comparing import compare
    from gnncompress.experiments.restoring import load_model
    from gnncompress.profiling.phase import profile
    from gnncompress.pruning import make_permanent, prune
    from gnncompress.pruning.l2 import L2Regularization
    from gnncompress.pruning.lottery import LotteryTicket, lottery
    from gnncompress.pruning.magnitude import FineGrainedPruning, GlobalPruning
    from gnncompress.pruning.sensitivity import LayerSensitivity, sensitivity
    from gnncompress.pruning.structured.method import StructuredPruning
    from gnncompress.quantization import calibrate, freeze, prepare
    from gnncompress.quantization.lowering import to_compiled, to_integer
    from gnncompress.quantization.method import Quantization
    from gnncompress.reporting import read_results, recommend, summarize, verdicts

_EXPORTS = {
    "CompressionMethod": "gnncompress.compression",
    "CompressionResult": "gnncompress.compression",
    "FineGrainedPruning": "gnncompress.pruning.magnitude",
    "GlobalPruning": "gnncompress.pruning.magnitude",
    "GnncompressError": "gnncompress.errors",
    "L2Regularization": "gnncompress.pruning.l2",
    "LayerSensitivity": "gnncompress.pruning.sensitivity",
    "LotteryTicket": "gnncompress.pruning.lottery",
    "Quantization": "gnncompress.quantization.method",
    "StructuredPruning": "gnncompress.pruning.structured.method",
    "calibrate": "gnncompress.quantization",
    "compare": "gnncompress.experiments.comparing",
    "experiment": "gnncompress.experiments.api",
    "freeze": "gnncompress.quantization",
    "load_checkpoint": "gnncompress.checkpoints",
    "load_model": "gnncompress.experiments.restoring",
    "lottery": "gnncompress.pruning.lottery",
    "make_permanent": "gnncompress.pruning",
    "option": "gnncompress.compression",
    "prepare": "gnncompress.quantization",
    "profile": "gnncompress.profiling.phase",
    "prune": "gnncompress.pruning",
    "read_results": "gnncompress.reporting",
    "recommend": "gnncompress.reporting",
    "save_checkpoint": "gnncompress.checkpoints",
    "sensitivity": "gnncompress.pruning.sensitivity",
    "summarize": "gnncompress.reporting",
    "to_compiled": "gnncompress.quantization.lowering",
    "to_integer": "gnncompress.quantization.lowering",
    "verdicts": "gnncompress.reporting",
}

__all__ = [
    "CompressionMethod",
    "CompressionResult",
    "FineGrainedPruning",
    "GlobalPruning",
    "GnncompressError",
    "L2Regularization",
    "LayerSensitivity",
    "LotteryTicket",
    "Quantization",
    "StructuredPruning",
    "__version__",
    "calibrate",
    "compare",
    "experiment",
    "freeze",
    "load_checkpoint",
    "load_model",
    "lottery",
    "make_permanent",
    "option",
    "prepare",
    "profile",
    "prune",
    "read_results",
    "recommend",
    "save_checkpoint",
    "sensitivity",
    "summarize",
    "to_compiled",
    "to_integer",
    "verdicts",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'gnncompress' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__
