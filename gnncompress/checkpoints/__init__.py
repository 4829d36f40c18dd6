"""Packed checkpoints: lossless, smaller than the dense file, and valid safetensors."""

from gnncompress.checkpoints.container import (
    CheckpointInfo,
    TensorInfo,
    inspect_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from gnncompress.checkpoints.interchange import read_state_dict, write_state_dict
from gnncompress.checkpoints.state_dicts import dense_size, same_bits

__all__ = [
    "CheckpointInfo",
    "TensorInfo",
    "dense_size",
    "inspect_checkpoint",
    "load_checkpoint",
    "read_state_dict",
    "same_bits",
    "save_checkpoint",
    "write_state_dict",
]
