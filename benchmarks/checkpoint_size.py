"""Claim: packed checkpoints are smaller than every peer's and than the paper's values-only files, at every sparsity.

Run: GNNCOMPRESS_DATA=... python benchmarks/checkpoint_size.py [--big] [FILE ...]   (needs the extra ``bench``)
FILE is any checkpoint, such as runs/<run>/model.safetensors of ``gnncompress train --workload bbbp``; its weights are
pruned by magnitude. Without files: gaussian weights of the size of a small model (73,879 parameters), with --big also
of a large one (4,946,985). Ratio = raw float32 bytes / file bytes, container included; limits A, B and C are those of
independent weights: H(mask) and 32-bit values; 24 bits and the exponent's entropy; 20 bits and that of the exponent
with the mantissa's top four bits. CPU time on one thread in MB of dense tensors a second, packing/unpacking, the data
touched; ours to and from a file, the peers' in memory, zipnn's with the start of its process.
"""

from __future__ import annotations

import argparse
import io
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import blosc2
import numpy as np
import torch
import zstandard
from safetensors.torch import load, save
from torch import Tensor

from gnncompress.checkpoints import (
    dense_size,
    inspect_checkpoint,
    load_checkpoint,
    read_state_dict,
    same_bits,
    save_checkpoint,
    values_only_size,
)

State = Mapping[str, Tensor]
SPARSITIES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
SMALL = {"w1": (1433, 32), "w2": (32, 512), "w3": (512, 22), "b1": (32,), "b2": (343,)}
BIG = {"w1": (1433, 1024), "w2": (1024, 2048), "w3": (2048, 674), "b1": (1024,), "b2": (1033,)}
ZIPNN = """
import sys, zipnn
coder = zipnn.ZipNN(bytearray_dtype="float32", input_format="byte")
sys.stdout.buffer.write(getattr(coder, sys.argv[1])(sys.stdin.buffer.read()))
"""


def main() -> None:
    """Print one table a set of weights."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--big", action="store_true")
    parser.add_argument("files", nargs="*", type=Path)
    arguments = parser.parse_args()
    sets: dict[str, State] = {"small gaussian": gaussian(SMALL)}
    if arguments.big:
        sets["big gaussian"] = gaussian(BIG)
    sets |= {str(path): read_state_dict(path) for path in arguments.files}
    for name, state in sets.items():
        print(f"\n{name}: {dense_size(state):,} bytes of tensors")
        table(state)
        quantized_table(state)


def table(state: State) -> None:
    """Print the ratios, then the speeds, of every codec at every sparsity."""
    dense = dense_size(state)
    columns: dict[str, list[str]] = {}
    rates: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for sparsity in SPARSITIES:
            model = pruned(state, sparsity)
            for name, size in limits(model).items():
                columns.setdefault(name, []).append(f"{dense / size:.2f}")
            for name, (size, save, load) in measured(model, Path(folder)).items():
                columns.setdefault(name, []).append(f"{dense / size:.2f}")
                if not math.isnan(save):
                    speeds = f"{dense / max(save, 1e-4) / 1e6:.0f}/{dense / max(load, 1e-4) / 1e6:.0f}"
                    rates.setdefault(f"{name}, MB/s", []).append(speeds)
    print(f"{'':28}" + "".join(f"{sparsity:>9}" for sparsity in SPARSITIES))
    for name, cells in (columns | rates).items():
        print(f"{name:28}" + "".join(f"{cell:>9}" for cell in cells))


def quantized_table(state: State) -> None:
    """Print sizes with weights as integer codes; normalizations are folded to a factor and a shift a channel."""
    dense, folded = dense_size(state), fold(state)
    print("integer codes; ratio to the dense float32 model, bytes to those of the entropy of codes and of floats:")
    print(f"{'':28}{'ratio':>9}{'raw':>9}{'entropy':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for name, sparsity, bits in (("int8", 0.0, 8), ("int4", 0.0, 4), ("0.9 and int8", 0.9, 8)):
            path = Path(folder) / "packed"
            size = save_checkpoint(quantized(pruned(folded, sparsity), bits), path)
            tensors = inspect_checkpoint(path).tensors
            codes = sum(tensor.limit for tensor in tensors if tensor.dtype == "int8")
            floats = [tensor for tensor in tensors if tensor.dtype != "int8"]
            raw, limit = (codes + sum(getattr(tensor, what) for tensor in floats) for what in ("dense", "limit"))
            print(f"{name:28}{dense / size:9.2f}{size / raw:9.3f}{size / limit:9.3f}")


def fold(state: State) -> State:
    """Return the state with every batch normalization as the factor and the shift that inference needs.

    GIN has two in a row after each convolution, which are one affine map.
    """
    folded = dict(state)
    for name in state:
        if name.endswith("running_var"):
            prefix = name.removesuffix("running_var")
            factor = state[f"{prefix}weight"] / (state[name] + 1e-5).sqrt()
            folded[f"{prefix}weight"] = factor
            folded[f"{prefix}bias"] = state[f"{prefix}bias"] - factor * state[f"{prefix}running_mean"]
            for gone in ("running_var", "running_mean", "num_batches_tracked"):
                folded.pop(prefix + gone, None)
    for outer in [name.removesuffix(".running_var") for name in state if name.endswith("running_var")]:
        inner = outer.replace("norms", "convs") + ".nn.4"
        if f"{inner}.weight" in folded and f"{outer}.weight" in folded:
            factor, shift = folded.pop(f"{inner}.weight"), folded.pop(f"{inner}.bias")
            folded[f"{outer}.bias"] = folded[f"{outer}.bias"] + folded[f"{outer}.weight"] * shift
            folded[f"{outer}.weight"] = folded[f"{outer}.weight"] * factor
    return folded


def quantized(state: State, bits: int) -> State:
    """Return the state with tensors of two or more dimensions as symmetric integer codes and a scale each."""
    codes: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if tensor.dim() < 2:
            codes[name] = tensor
            continue
        scale = tensor.abs().max() / (2 ** (bits - 1) - 1)
        codes |= {name: (tensor / scale).round().to(torch.int8), f"{name}.scale": scale}
    return codes


def measured(state: State, folder: Path) -> dict[str, tuple[float, float, float]]:
    """Return bytes and CPU seconds of packing and of unpacking, by codec."""
    found: dict[str, tuple[float, float, float]] = {}
    for codec in ("small", "fast"):
        path = folder / codec
        save = timed(partial(save_checkpoint, state, path, codec=codec))
        load = timed(partial(load_checkpoint, path))
        assert same_bits(load_checkpoint(path), state)
        found[f"ours, {codec}"] = (path.stat().st_size, save, load)
    found["the paper's, values only"] = (values_only_size(state), math.nan, math.nan)
    for name, (pack, unpack) in peers(state, folder).items():
        packed = pack()
        found[name] = (len(packed), timed(pack), timed(partial(unpack, packed)))
    return found


def peers(state: State, folder: Path) -> dict[str, tuple[Callable[[], bytes], Callable[[bytes], object]]]:
    """Return how each peer packs the state to bytes and unpacks them; unpacking touches the tensors."""
    raw = b"".join(tensor.contiguous().numpy().tobytes() for tensor in state.values())

    def saved() -> bytes:
        file = io.BytesIO()
        torch.save(dict(state), file)
        return file.getvalue()

    def zipped() -> bytes:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as file:
            file.writestr("model", saved())
        return archive.getvalue()

    def loaded(content: bytes) -> object:
        return torch.load(io.BytesIO(content), weights_only=True)

    def unzipped(content: bytes) -> object:
        return loaded(zipfile.ZipFile(io.BytesIO(content)).read("model"))

    def unzstd(content: bytes) -> object:
        return loaded(zstandard.ZstdDecompressor().decompress(content))

    def zstd(level: int) -> bytes:
        return zstandard.ZstdCompressor(level=level).compress(saved())

    def masked() -> bytes:
        # compressed-tensors' sparse bit mask; tensors of one dimension are dense in it.
        from compressed_tensors.compressors.sparse_compressors.sparse_bitmask import BitmaskTensor

        parts: dict[str, Tensor] = {}
        for name, tensor in state.items():
            parts |= BitmaskTensor.from_dense(tensor).dict(name) if tensor.dim() == 2 else {name: tensor}
        return save({name: part.contiguous() for name, part in parts.items()})

    def unmasked(content: bytes) -> object:
        from compressed_tensors.compressors.sparse_compressors.sparse_bitmask import bitmask_decompress

        parts = load(content)
        return [
            bitmask_decompress(parts[f"{name}.compressed"], parts[f"{name}.bitmask"], list(tensor.shape))
            for name, tensor in state.items()
            if tensor.dim() == 2
        ]

    return {
        "torch.save": (saved, loaded),
        "safetensors": (partial(save, dict(state)), lambda content: [t.sum() for t in load(content).values()]),
        "zip -6": (zipped, unzipped),
        "zstd -3": (partial(zstd, 3), unzstd),
        "zstd -19": (partial(zstd, 19), unzstd),
        "blosc2": (partial(blosc2.compress2, raw, typesize=4, clevel=5), blosc2.decompress2),
        "compressed-tensors bit mask": (masked, unmasked),
        "zipnn": (partial(zipnn, "compress", raw), partial(zipnn, "decompress")),
    }


def zipnn(what: str, content: bytes) -> bytes:
    """Call zipnn in a process of its own: it changes its input in place and may abort."""
    return subprocess.run([sys.executable, "-c", ZIPNN, what], input=content, capture_output=True, check=True).stdout


def timed(call: Callable[[], object]) -> float:
    """Return the median CPU seconds of three calls; one is enough if it takes more than two seconds."""
    spent: list[float] = []
    while len(spent) < 3 and sum(spent) < 2:
        started = cpu_seconds()
        call()
        spent.append(cpu_seconds() - started)
    return statistics.median(spent)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of the finished ones that it started."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def gaussian(shapes: Mapping[str, tuple[int, ...]]) -> State:
    """Return normal weights of these shapes."""
    torch.manual_seed(0)
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def pruned(state: State, sparsity: float) -> State:
    """Set the smallest weights of tensors of two or more dimensions to +0, under one threshold."""
    weights = {name: tensor for name, tensor in state.items() if tensor.dim() > 1 and tensor.is_floating_point()}
    sizes = torch.cat([tensor.abs().reshape(-1) for tensor in weights.values()])
    gone = round(sparsity * len(sizes))
    if not gone:
        return state
    threshold = torch.kthvalue(sizes, gone).values
    return dict(state) | {name: tensor.masked_fill(tensor.abs() <= threshold, 0) for name, tensor in weights.items()}


def limits(state: State) -> dict[str, float]:
    """Return the limits A, B and C in bytes, the floating tensors taken as one row of float32; others count whole."""
    rows = [tensor for tensor in state.values() if tensor.dtype == torch.float32]
    words = torch.cat([tensor.reshape(-1) for tensor in rows]).numpy().view(np.uint32)
    kept = words[words != 0]
    mask = len(words) * entropy(np.array([len(kept), len(words) - len(kept)]))
    others = 8 * (dense_size(state) - words.nbytes)
    bits = {
        "limit A": 32.0,
        "limit B": 24 + entropy(np.bincount(kept >> 23 & 255)),
        "limit C": 20 + entropy(np.bincount(kept >> 19 & 4095)),
    }
    return {name: (others + mask + len(kept) * each) / 8 for name, each in bits.items()}


def entropy(counts: np.ndarray) -> float:
    """Return bits a symbol."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


if __name__ == "__main__":
    main()
