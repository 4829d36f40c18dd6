"""The networks of the paper and of the field; imports no torch until a model is built."""

from gnncompress.models.registry import MODELS, ModelEntry, build_model, find_model

__all__ = ["MODELS", "ModelEntry", "build_model", "find_model"]
