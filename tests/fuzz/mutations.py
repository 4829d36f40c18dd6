"""Damaged and forged checkpoints, without end.

Run for a minute: python -m tests.fuzz.mutations --seconds 60
Each damaged file must be refused with a CheckpointError in one line that names it, or give back exactly the tensors
that were packed; a forged one may also be another model. Anything else stops the run and shows the seed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import struct
import tempfile
import time
import zlib
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import zstandard
from torch import Tensor

from gnncompress.checkpoints import load_checkpoint, same_bits, save_checkpoint
from gnncompress.checkpoints.index import HEADER
from gnncompress.checkpoints.index import header as head
from gnncompress.errors import CheckpointError


def model(rng: np.random.Generator) -> dict[str, Tensor]:
    """Return a few tensors of several kinds."""
    weight = rng.standard_normal((int(rng.integers(1, 30)), int(rng.integers(1, 30)))).astype(np.float32)
    weight[rng.random(weight.shape) < rng.random()] = 0
    return {
        "weight": torch.from_numpy(weight),
        "half": torch.from_numpy(rng.standard_normal(int(rng.integers(0, 40)))).half(),
        "codes": torch.from_numpy(rng.integers(-8, 8, (9, 9)).astype(np.int8)),
        "edges": torch.arange(60).reshape(2, 30),
        "a.bias": torch.from_numpy(weight[0].copy()),
        "b.bias": torch.from_numpy(weight[-1].copy()),
        "ones": torch.ones(5, dtype=torch.float64),
    }


@lru_cache
def packed(seed: int) -> tuple[dict[str, Tensor], bytes]:
    """Return a model and the file that it is packed into."""
    state = model(np.random.default_rng(seed))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        save_checkpoint(state, path, {"seed": seed}, "small" if seed % 2 else "fast")
        return state, path.read_bytes()


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Return the file with one kind of damage."""
    file = bytearray(content)
    place = int(rng.integers(len(file)))
    kind = int(rng.integers(5))
    if kind == 0:
        file[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del file[place:]
    elif kind == 2:
        file[place : place + int(rng.integers(1, 9))] = rng.bytes(int(rng.integers(0, 9)))
    elif kind == 3:
        file += rng.bytes(int(rng.integers(1, 20)))
    else:
        file[8 + HEADER : 8 + HEADER + 40] = rng.bytes(40)
    return bytes(file)


def forged(content: bytes, rng: np.random.Generator) -> bytes:
    """Return the file with an index that lies and is sound in itself: checksum, lengths and header fit."""
    header = json.loads(content[8 : 8 + HEADER])
    length = header["streams"]["shape"][0]
    streams, frame = bytearray(content[8 + HEADER : 8 + HEADER + length]), content[8 + HEADER + length + 4 :]
    index = json.loads(zstandard.ZstdDecompressor().decompress(frame))
    entry = index["tensors"][int(rng.integers(len(index["tensors"])))]
    field = int(rng.integers(6))
    if field == 4:
        index["streams"][int(rng.integers(len(index["streams"])))][0] = int(rng.integers(-1, 2**40))
    lies = [
        ("weight", "half", "\ud800", ""),
        ("float64", "int8", "os.system", "bool", "complex64"),
        ([], [-1], [2**40], [2**62, 4], [0, 2**63], [7, 7], [1] * 400, "x"),
        (0, 1, 4, -1, 2**63, 1e3, None),
    ]
    if field < len(lies):
        entry[field] = lies[field][int(rng.integers(len(lies[field])))]
    elif field == 5 and streams:
        streams[int(rng.integers(len(streams)))] = int(rng.integers(256))
    frame = zstandard.ZstdCompressor().compress(json.dumps(index).encode())
    packed = struct.pack("<I", zlib.crc32(frame)) + frame
    return head(len(streams), len(packed)) + bytes(streams) + packed


def attempt(seed: int, folder: Path) -> str:
    """Mutate one file once; return what happened.

    Raises:
        AssertionError: if a damaged file was taken for another model, or refused in more than a line.
    """
    rng = np.random.default_rng(seed)
    state, content = packed(seed % 64)
    path, lying = folder / "x", rng.random() < 0.3
    path.write_bytes((forged if lying else damaged)(content, rng))
    message = refusal(path)
    if message:
        assert str(path) in message, f"seed {seed}: {message}"
        assert "\n" not in message, f"seed {seed}: {message}"
        return message.removeprefix(str(path))[:40]
    if lying:  # a lie that is sound in itself is another model: a new name, a shape of as many values
        return "another model"
    assert same_bits(load_checkpoint(path), state), f"seed {seed}: another model was read"
    return "unharmed"


def refusal(path: Path) -> str:
    """Return the error that loading a file raises, nothing if it loads."""
    try:
        load_checkpoint(path)
    except CheckpointError as error:
        return str(error)
    return ""


def main() -> None:
    """Try seed after seed until the time is up, and count what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    arguments = parser.parse_args()
    end, outcomes = time.monotonic() + arguments.seconds, Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for seed in itertools.count(arguments.first):
            if time.monotonic() > end:
                break
            outcomes[attempt(seed, Path(folder))] += 1
    print(f"{outcomes.total():,} files, {outcomes['unharmed']:,} of them unharmed")


if __name__ == "__main__":
    main()
