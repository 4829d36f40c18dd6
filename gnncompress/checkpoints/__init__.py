"""Packed checkpoints: lossless, smaller than the dense file, and valid safetensors."""

from gnncompress.checkpoints.container import load_checkpoint, read_checkpoint, save_checkpoint
from gnncompress.checkpoints.differences import Difference, differences
from gnncompress.checkpoints.inspection import CheckpointInfo, TensorInfo, inspect_checkpoint
from gnncompress.checkpoints.interchange import read_state_dict, write_state_dict
from gnncompress.checkpoints.state_dicts import dense_size, same_bits, values_only_size

__all__ = [
    "CheckpointInfo",
    "Difference",
    "TensorInfo",
    "dense_size",
    "differences",
    "inspect_checkpoint",
    "load_checkpoint",
    "read_checkpoint",
    "read_state_dict",
    "same_bits",
    "save_checkpoint",
    "values_only_size",
    "write_state_dict",
]
