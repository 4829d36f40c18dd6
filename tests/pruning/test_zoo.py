"""Early stopping under masks for every model of a collection that lies beside the data, where there is one."""

from __future__ import annotations

import copy
import importlib.util
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import gnncompress

_DATA = os.environ.get("GNNCOMPRESS_DATA", "")
ZOO = Path(_DATA).parent / "reference" / "zoo_models.py" if _DATA else Path("zoo_models.py")


@pytest.mark.skipif(not ZOO.is_file(), reason=f"no {ZOO}: GNNCOMPRESS_DATA names no folder beside the zoo of models")
def test_every_model_loads_its_best_state() -> None:
    zoo: Any = _imported()
    tried = 0
    for name, (_, make) in zoo.CASES.items():
        torch.manual_seed(0)
        try:
            model: nn.Module = make()
        except (ImportError, TypeError):  # 11 of 260 cannot be made without pyg-lib, or at all
            continue
        if any(nn.parameter.is_lazy(parameter) for parameter in model.parameters()):
            continue
        tried += 1
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.nan_to_num_(0.1, 0.1, 0.1).clamp_(-1, 1)  # RGATConv leaves some uninitialized
        result = gnncompress.prune(model, "global", 0.5)
        wide = {id(p): (p, t) for p, t in _read(model)}.values()
        zeros, total = (
            sum(numbers) for numbers in zip(*((int((t == 0).sum()), t.numel()) for _, t in wide), strict=True)
        )
        assert result.sparsity == zeros / total, name
        state = copy.deepcopy(model.state_dict())
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1)
        model.load_state_dict(state)
        assert state.keys() == model.state_dict().keys(), name
        assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items()), name
    assert tried >= 240


def _read(model: nn.Module) -> Any:
    """Yield (parameter, what is read) of each weight that is masked."""
    for module in model.modules():
        for name, chain in getattr(module, "parametrizations", {}).items():
            yield chain.original, getattr(module, name)


def _imported() -> Any:
    spec = importlib.util.spec_from_file_location("zoo_models", ZOO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module
