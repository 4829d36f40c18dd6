"""Claim: packed checkpoints of the trained Spline model are smaller than the paper's values-only files.

Run: GNNCOMPRESS_DATA=... python benchmarks/checkpoint_size.py (needs the extra ``bench``)
The paper's files hold the non-zero values without their positions and cannot be decoded; ours can. Peers in the
same run: torch.save, Zstandard of torch.save, and blosc2 of the raw tensors. Ratio = raw float32 bytes / file bytes.
"""

from __future__ import annotations

import copy
import io
import tempfile
from pathlib import Path

import blosc2
import torch
import zstandard
from torch import nn

import gnncompress
from gnncompress.checkpoints import dense_size
from gnncompress.experiments.building import load_task, new_model
from gnncompress.experiments.resolve import resolve
from gnncompress.tasks.training import train

# arXiv 2510.22058, Table 10, Cora-Node.
PAPER = {0.1: 1.11, 0.2: 1.25, 0.3: 1.42, 0.4: 1.65, 0.5: 1.98, 0.6: 2.45, 0.7: 3.24, 0.8: 4.76, 0.9: 8.98}


def sizes(model: nn.Module, folder: Path) -> dict[str, int]:
    """Return the bytes of ``model`` in every format."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    saved = file.getvalue()
    raw = [tensor.contiguous().numpy() for tensor in model.state_dict().values()]
    return {
        "ours": gnncompress.save_checkpoint(model, folder / "packed.safetensors"),
        "torch.save": len(saved),
        "zstd -19": len(zstandard.ZstdCompressor(level=19).compress(saved)),
        "blosc2": sum(len(blosc2.compress2(tensor, typesize=4, clevel=5)) for tensor in raw),
    }


def main() -> None:
    """Print the ratios at every sparsity beside the paper's."""
    torch.set_num_threads(1)
    spec = resolve("cora", "spline")
    task = load_task(spec, None)
    base = new_model(spec, task)
    train(base, task, spec.recipe, spec.seed, "train")
    dense = dense_size(base.state_dict())
    with tempfile.TemporaryDirectory() as folder:
        for sparsity, paper in PAPER.items():
            model = copy.deepcopy(base)
            gnncompress.prune(model, sparsity=sparsity)
            ratios = {
                name: dense / size for name, size in sizes(gnncompress.make_permanent(model), Path(folder)).items()
            }
            if sparsity == min(PAPER):
                print(f"{'sparsity':>8} {'paper':>10} " + " ".join(f"{name:>10}" for name in ratios))
            print(f"{sparsity:8.1f} {paper:10.2f} " + " ".join(f"{ratio:10.2f}" for ratio in ratios.values()))


if __name__ == "__main__":
    main()
