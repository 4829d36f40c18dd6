"""One stage, from its configuration to its files. The house in one function: ``execute``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gnncompress.checkpoints import dense_size, load_checkpoint, same_bits, save_checkpoint, values_only_size
from gnncompress.compression import CompressionResult
from gnncompress.errors import CheckpointError, GnncompressError
from gnncompress.experiments.building import Tasks, compressed_model, new_model
from gnncompress.experiments.code import code_digest
from gnncompress.experiments.given import fill_with
from gnncompress.experiments.inference import measure_inference, not_measured, packed_task
from gnncompress.experiments.restoring import EXECUTED, card_of, program_of
from gnncompress.experiments.rows import costs_csv, of_chain, read_measurements, runs_csv, to_csv
from gnncompress.experiments.stages import Chain, Compress, Given, Measure, TrainOn
from gnncompress.experiments.store import COSTS, ENVIRONMENT, MODEL, RESULTS, RUNS, SAMPLES, SPEC, Store
from gnncompress.factories import is_reference
from gnncompress.files import write_json, write_text
from gnncompress.masks import sparsity_measurements
from gnncompress.measurements import Measurement
from gnncompress.profiling.energy import open_if_possible, reads
from gnncompress.profiling.environment import environment
from gnncompress.profiling.inference import Profiled
from gnncompress.profiling.isolation import isolated
from gnncompress.profiling.joules import co2_rows
from gnncompress.profiling.phase import profile
from gnncompress.pruning.edges import KEEP
from gnncompress.runtime.model import ProgramModel
from gnncompress.tasks.base import Task
from gnncompress.tasks.trainer import Trainer
from gnncompress.tasks.training import Progress

OnEpoch = Callable[[Progress], None]


@dataclass
class Work:
    """What all stages of a command share: the store, the data, and who hears of epochs.

    ``energy`` is the source that the costs of training are read from: it changes no model, so it is not in a stage.
    """

    store: Store
    data_root: Path | None
    on_epoch: OnEpoch = lambda progress: None
    energy: str = "auto"
    tasks: Tasks = field(init=False)

    def __post_init__(self) -> None:
        self.tasks = Tasks(self.data_root)


def execute(chain: Chain, work: Work) -> list[str]:
    """Carry out the last stage of a chain whose stages before are in the store, and store it; return its warnings.

    The caller holds the stage's lock, and keeps torch's state.
    """
    workload = chain.workload
    torch.set_num_threads(workload.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    task = work.tasks.of(workload)
    with work.store.staged(chain) as folder:  # before the work, so that a place that cannot be had costs none
        made = _measured if chain.measure is not None else _modelled
        notes = made(chain, work, task, folder)
        threads = workload.threads if chain.measure is None else chain.measure.threads
        about = {"notes": notes, "code": code_digest(chain.last)}
        write_json(folder / SPEC, chain.dump())
        write_json(folder / ENVIRONMENT, environment(workload.device, threads) | about)
    return notes


def _modelled(chain: Chain, work: Work, task: Task, folder: Path) -> list[str]:
    """Make the chain's model, and store it with what that cost."""
    if isinstance(chain.last, Given):
        model = fill_with(new_model(chain.workload, task), chain.last)
        result = CompressionResult(model, sparsity_measurements(model))
        cost: list[Measurement] = []
        said: list[str] = []
    else:
        result, cost, said = _profiled(chain, work, lambda: _applied(chain, work, task))
    if not chain.analyzes:
        _packed(result.model, folder / MODEL, card_of(chain, task))
    write_text(folder / COSTS, costs_csv([*result.measurements, *cost]))
    return [*task.notes, *result.warnings, *said]


def _applied(chain: Chain, work: Work, task: Task) -> CompressionResult:
    """Train, compress or train on, starting from the model of the stage before."""
    workload, stage = chain.workload, chain.last

    def fresh(seed: int) -> nn.Module:
        return new_model(workload.model_copy(update={"seed": seed}), task)

    finetune = stage.finetune if isinstance(stage, (Compress, TrainOn)) else None
    parent = chain.parent
    pruned = parent is not None and any(method.command == "prune" for method in parent.methods)
    trainer = Trainer(task, workload.recipe, finetune, workload.seed, fresh, work.on_epoch, keep_zeros=pruned)
    model = fresh(workload.seed) if parent is None else _stored_model(parent, work, task)
    if isinstance(stage, Compress):
        return stage.applied.apply(model, trainer)
    rows = trainer.finetune(model) if isinstance(stage, TrainOn) else trainer.train(model)
    return CompressionResult(model, [*rows, *sparsity_measurements(model)])


def _profiled(
    chain: Chain, work: Work, make: Callable[[], CompressionResult]
) -> tuple[CompressionResult, list[Measurement], list[str]]:
    """Do the work that makes a stage's model; return it with what all of it cost, and what to say of that.

    Others may be at work meanwhile: ``cpu_foreign`` says how much. That is warned of where energy is read.
    """
    stage = chain.last
    trained_on = isinstance(stage, (Compress, TrainOn)) and stage.finetune is not None
    phase = "finetune" if trained_on else "compress" if isinstance(stage, Compress) else "train"
    meter = open_if_possible(work.energy, gpu=chain.workload.device == "cuda")
    # Without children: the process that measured ones are forked from is one, and may still be importing.
    with profile(phase, children=False, meter=meter) as cost:
        result = make()
    rows = [row for row in cost.measurements if row.metric != "duration"]  # the loop's own is there already
    window = next(row for row in cost.measurements if row.metric == "duration")
    said = cost.warnings if reads(meter) else []
    return result, [*rows, Measurement(phase, "energy_window", window.value, "s")], said


def _measured(chain: Chain, work: Work, task: Task, folder: Path) -> list[str]:
    """Evaluate, pack and measure the chain's model; store all of the run's rows."""
    measure, notes = chain.last, list(task.notes)
    assert isinstance(measure, Measure)
    stages = reversed(list(chain.model.beginnings))
    rows = of_chain([read_measurements(work.store.path(one) / COSTS) for one in stages])
    rows += co2_rows(rows, measure.country)
    if not chain.analyzes:
        task.insist_on_batch(measure.batch)
        model = _stored_model(chain.model, work, task)
        running = EXECUTED[measure.execute](model, True)
        rows += task.evaluate(running)
        if isinstance(running, ProgramModel):
            rows += running.saturation()
            notes += running.warnings()
        size = _packed(model, folder / MODEL, card_of(chain, task) | program_of(running))
        rows += _sizes(model, _original(chain, work), size)
        found = _inferred(chain, folder, task, work.data_root)
        rows += found.measurements
        notes += found.warnings
    write_text(folder / RUNS, runs_csv(chain))
    write_text(folder / RESULTS, to_csv(chain, rows))
    return notes


def _inferred(chain: Chain, folder: Path, task: Task, data_root: Path | None) -> Profiled:
    """Measure the run's inference and keep the raw samples; whatever fails, say so and keep all else."""
    own = is_reference(chain.workload.dataset) or bool(chain.workload.own)  # whose classes another process has not
    try:
        given = None if own else packed_task(task)
        found: Profiled = isolated(measure_inference, chain, folder / MODEL, given, data_root)
    except Exception as error:
        what = error if isinstance(error, GnncompressError) else f"{type(error).__name__}: {error}"
        return Profiled(not_measured(chain), {}, [f"{what}; --remeasure measures it again"])
    arrays: dict[str, Any] = found.samples
    try:
        np.savez_compressed(folder / SAMPLES, **arrays)
    except OSError as error:
        (folder / SAMPLES).unlink(missing_ok=True)
        found.warnings.append(f"{SAMPLES}: cannot be written ({error.strerror}); the rows are kept")
    return found


def _stored_model(chain: Chain, work: Work, task: Task) -> nn.Module:
    return compressed_model(chain.workload, task, chain.methods, _stored_state(chain, work))


def _stored_state(chain: Chain, work: Work) -> dict[str, Tensor]:
    """Return the tensors of a stage's model."""
    folder = work.store.path(chain)
    try:
        return load_checkpoint(folder / MODEL)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; delete {folder}, and it is made again") from error


def _original(chain: Chain, work: Work) -> Mapping[str, Tensor]:
    """Return the tensors of the dense model that the chain's compression began with."""
    dense = [one for one in chain.model.beginnings if not one.compressions]
    return _stored_state(dense[0] if dense else list(chain.model.beginnings)[-1], work)


@dataclass(frozen=True)
class _Packing:
    """Bytes of a packed file, and the seconds that it took to write and to read it."""

    size: int
    packed: float
    unpacked: float


def _packed(model: nn.Module, path: Path, metadata: Mapping[str, Any]) -> _Packing:
    """Write the packed checkpoint, read it back and insist that not a bit differs."""
    state = model.state_dict()
    started = time.perf_counter()
    size = save_checkpoint(model, path, metadata)
    packed = time.perf_counter()
    restored = load_checkpoint(path, max_bytes=dense_size(state))
    unpacked = time.perf_counter()
    if not same_bits(restored, state):
        raise CheckpointError(f"{path}: what was read back differs from the model; please report this")
    return _Packing(size, packed - started, unpacked - packed)


def _sizes(model: nn.Module, original: Mapping[str, Tensor], found: _Packing) -> list[Measurement]:
    """Return the rows of a packed checkpoint, compared with the dense original."""
    dense = dense_size({name: tensor for name, tensor in original.items() if name != KEEP})
    return [
        Measurement("checkpoint", "checkpoint_size", found.size, "bytes"),
        Measurement("checkpoint", "dense_size", dense, "bytes", "computed"),
        Measurement("checkpoint", "size_ratio", dense / found.size, "ratio", "computed"),
        Measurement("checkpoint", "values_only_size", values_only_size(model.state_dict()), "bytes", "computed"),
        Measurement("checkpoint", "pack_duration", found.packed, "s"),
        Measurement("checkpoint", "unpack_duration", found.unpacked, "s"),
    ]
