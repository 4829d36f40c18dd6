"""One run, from spec to rows. The house in one function: ``execute``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gnncompress.checkpoints import dense_size, load_checkpoint, same_bits, save_checkpoint, values_only_size
from gnncompress.errors import CheckpointError, GnncompressError
from gnncompress.experiments.building import executed, load_model, load_task, new_model
from gnncompress.experiments.inference import measure_inference, not_measured
from gnncompress.experiments.methods import METHODS
from gnncompress.experiments.restoring import card_of, program_of
from gnncompress.experiments.rows import read_measurements, to_csv
from gnncompress.experiments.spec import NO_METHOD, RunSpec
from gnncompress.experiments.store import ENVIRONMENT, MODEL, RESULTS, SAMPLES, SPEC, Store
from gnncompress.files import write_json, write_text
from gnncompress.masks import sparsity_measurements
from gnncompress.measurements import Compressed, Measurement
from gnncompress.profiling.energy import open_if_possible, reads
from gnncompress.profiling.environment import environment
from gnncompress.profiling.inference import Profiled
from gnncompress.profiling.isolation import isolated
from gnncompress.profiling.phase import profile
from gnncompress.pruning.edges import KEEP
from gnncompress.runtime.model import ProgramModel
from gnncompress.tasks.base import Task
from gnncompress.tasks.trainer import Trainer
from gnncompress.tasks.training import Progress

_OF_THE_MODEL = ("compress", "finetune")
OnEpoch = Callable[[Progress], None]


def execute(spec: RunSpec, store: Store, data_root: Path | None, on_epoch: OnEpoch) -> list[str]:
    """Carry out one run whose base model is in the store, and store it; return its warnings.

    The caller holds the run's lock.
    """
    torch.set_num_threads(spec.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    task = load_task(spec, data_root)
    task.insist_on_batch(spec.inference_batch)
    with store.staged(spec) as folder:  # before the work, so that a place that cannot be had costs none
        result, cost, said = _profiled(spec, lambda: _compress(spec, store, task, on_epoch))
        rows, notes = [*result.measurements, *cost], [*task.notes, *result.warnings, *said]
        if not spec.analysis:
            running = executed(result.model, spec.settings)
            rows += task.evaluate(running)
            if isinstance(running, ProgramModel):
                rows += running.saturation()
                notes += running.warnings()
            original = _original(spec.compressed, store) or result.model.state_dict()
            rows += _pack(result.model, folder / MODEL, original, card_of(spec, task) | program_of(running))
            found = _measured(spec, folder, data_root)
            rows += found.measurements
            notes += found.warnings
        write_json(folder / SPEC, spec.model_dump(mode="json"))
        write_json(folder / ENVIRONMENT, environment(spec.device, spec.threads) | {"notes": notes})
        write_text(folder / RESULTS, to_csv(spec, rows))
    return notes


def _profiled(spec: RunSpec, work: Callable[[], Compressed]) -> tuple[Compressed, list[Measurement], list[str]]:
    """Do the work that makes the run's model; return it with what all of it cost, and what to say of that.

    Others may be at work meanwhile: ``cpu_foreign`` says how much. That is warned of where energy is read.
    """
    if spec.compressed is not spec:
        return work(), [], []
    phase = "finetune" if spec.finetune else "train" if spec.method == NO_METHOD else "compress"
    meter = open_if_possible(spec.energy, gpu=spec.device == "cuda")
    # Without children: the process that measured ones are forked from is one, and may still be importing.
    with profile(phase, country=spec.country, children=False, meter=meter) as cost:
        result = work()
    rows = [row for row in cost.measurements if row.metric != "duration"]  # the loop's own is there already
    window = next(row for row in cost.measurements if row.metric == "duration")
    said = cost.warnings if reads(meter) else []
    return result, [*rows, Measurement(phase, "energy_window", window.value, "s")], said


def _measured(spec: RunSpec, folder: Path, data_root: Path | None) -> Profiled:
    """Measure the run's inference and keep the raw samples; whatever fails, say so and keep all else."""
    try:
        found: Profiled = isolated(measure_inference, spec, folder / MODEL, data_root)
    except Exception as error:
        what = error if isinstance(error, GnncompressError) else f"{type(error).__name__}: {error}"
        return Profiled(not_measured(spec), {}, [f"{what}; delete the folder of run {spec.run_id} to measure it again"])
    arrays: dict[str, Any] = found.samples
    try:
        np.savez_compressed(folder / SAMPLES, **arrays)
    except OSError as error:
        (folder / SAMPLES).unlink(missing_ok=True)
        found.warnings.append(f"{SAMPLES}: cannot be written ({error.strerror}); the rows are kept")
    return found


def _compress(spec: RunSpec, store: Store, task: Task, on_epoch: OnEpoch) -> Compressed:
    """Train the base model, or train it on, or apply the spec's method to the model that it starts from."""

    def fresh(seed: int) -> nn.Module:
        return new_model(spec.model_copy(update={"seed": seed}), task)

    trainer = Trainer(task, spec.recipe, spec.finetune, spec.seed, fresh, on_epoch)
    state = _original(spec, store)
    model = new_model(spec, task) if state is None else load_model(spec.origin or spec, task, state)
    if spec.method == NO_METHOD:
        rows = trainer.finetune(model) if spec.is_control else trainer.train(model)
        return Compressed(model, [*rows, *sparsity_measurements(model)])
    if spec.compressed is not spec:  # the model is what it was; only what computes for it is another
        kept = [row for row in read_measurements(store.path(spec.compressed) / RESULTS) if row.phase in _OF_THE_MODEL]
        return Compressed(model, kept)
    method = METHODS[spec.method].load()(sparsity=spec.sparsity, **spec.settings)
    compressed: Compressed = method.apply(model, trainer)
    return compressed


def _original(spec: RunSpec, store: Store) -> dict[str, Tensor] | None:
    """Return the tensors of the model that a method started from, if there is one."""
    if spec.origin is None:
        return None
    folder = store.path(spec.origin)
    try:
        return load_checkpoint(folder / MODEL)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; delete {folder}, and the run is made again") from error


def _pack(
    model: nn.Module, path: Path, original: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> list[Measurement]:
    """Write the packed checkpoint, read it back, insist that not a bit differs; compare it with the dense original."""
    state = model.state_dict()
    started = time.perf_counter()
    size = save_checkpoint(model, path, metadata)
    packed = time.perf_counter()
    restored = load_checkpoint(path, max_bytes=dense_size(state))
    unpacked = time.perf_counter()
    if not same_bits(restored, state):
        raise CheckpointError(f"{path}: what was read back differs from the model; please report this")
    dense = dense_size({name: tensor for name, tensor in original.items() if name != KEEP})
    return [
        Measurement("checkpoint", "checkpoint_size", size, "bytes"),
        Measurement("checkpoint", "dense_size", dense, "bytes", "computed"),
        Measurement("checkpoint", "size_ratio", dense / size, "ratio", "computed"),
        Measurement("checkpoint", "values_only_size", values_only_size(state), "bytes", "computed"),
        Measurement("checkpoint", "pack_duration", packed - started, "s"),
        Measurement("checkpoint", "unpack_duration", unpacked - packed, "s"),
    ]
