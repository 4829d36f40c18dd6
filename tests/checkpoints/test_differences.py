from __future__ import annotations

import torch

from gnncompress.checkpoints import differences


def test_what_differs_is_said() -> None:
    one = {
        "same": torch.tensor([float("nan"), 1.0]),
        "values": torch.tensor([1.0, 2.0, 3.0]),
        "zeros": torch.tensor([0.0]),
        "shape": torch.ones(2),
        "codes": torch.tensor([1, 2], dtype=torch.int8),
        "gone": torch.ones(1),
        "complex": torch.tensor([1 + 1j]),
        "empty": torch.ones(0),
    }
    other = {
        **one,
        "values": torch.tensor([1.0, 2.5, 3.25]),
        "zeros": torch.tensor([-0.0]),
        "shape": torch.ones(2, 1, dtype=torch.float64),
        "codes": torch.tensor([1, 3], dtype=torch.int8),
        "complex": torch.tensor([1 + 2j]),
        "new": torch.ones(1),
    }
    del other["gone"]
    assert {difference.name: difference.what for difference in differences(one, other)} == {
        "values": "2 of 3 values, by 0.5 at most",
        "zeros": "1 of 1 values, by 0 at most",
        "shape": "float32 [2] and float64 [2, 1]",
        "codes": "1 of 2 values",
        "gone": "only in the first",
        "complex": "1 of 1 values, by 1 at most",
        "new": "only in the second",
    }
    assert differences(one, one) == []
