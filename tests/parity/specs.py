"""The specs: small lists of command lines that between them touch every command, method, scheme and task.

Each is cheap: two to five epochs, small data, no energy but where it is the point. A spec's commands share a folder,
which is their working folder, so that a later one finds the runs of an earlier one. What an option does to the numbers
must show in a run's labels or in the command that made it: a command has no two runs with the same labels unless they
cannot be told apart by design.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

OLD, NEW = "old", "new"
# Options that had another name: how they were written, and how they are.
RENAMED = (("--weights channel", "--granularity channel"),)


@dataclass(frozen=True)
class Command:
    """A command line without ``gnncompress``, and what to compare of it.

    ``{run:method=global,sparsity=0.5}`` in it stands for the folder of the one run of the spec with these labels.
    ``code`` is the exit code on the old side; ``shows`` the form of standard output: text, json, csv or nothing;
    ``tells`` compares standard error, too, which is always done where the code is not 0.
    """

    line: str
    code: int = 0
    shows: str = "text"
    tells: bool = False

    @property
    def arguments(self) -> list[str]:
        """The words of the command line."""
        return shlex.split(self.line)

    def arguments_of(self, side: str) -> list[str]:
        """Return the words of the command line as a side has them: an option may have had another name."""
        line = self.line
        for old, new in RENAMED:
            line = line.replace(new, old) if side == OLD else line
        return shlex.split(line)


@dataclass(frozen=True)
class Spec:
    """Commands that share a folder; ``files`` are there before, ``keeps`` are compared after, by name and form."""

    name: str
    commands: tuple[Command, ...]
    files: tuple[tuple[str, str], ...] = ()
    keeps: tuple[tuple[str, str], ...] = ()


_QUICK = "--energy none --quiet"


def _runs(name: str, *lines: str, **more: object) -> Spec:
    """Return a spec of commands that make runs, without energy."""
    return Spec(name, tuple(Command(f"{line} {_QUICK}") for line in lines), **more)  # type: ignore[arg-type]


_OWN = """
import torch
from torch_geometric.data import Data
from torch_geometric.nn import GAT, GCNConv, global_mean_pool


def load():
    draw = torch.Generator().manual_seed(1)
    y = torch.arange(120) % 3
    x = torch.randn(120, 6, generator=draw) + torch.nn.functional.one_hot(y, 6)
    edges = torch.randint(0, 120, (2, 500), generator=draw)
    return Data(x=x, y=y, edge_index=torch.cat([edges, edges.flip(0)], 1).unique(dim=1))


def graphs():
    draw = torch.Generator().manual_seed(2)
    made = []
    for number in range(60):
        edges = torch.randint(0, 8, (2, 12), generator=draw)
        x = torch.randn(8, 4, generator=draw) + number % 2
        y = torch.tensor([[number % 2, (number // 2) % 2, (number // 4) % 2]], dtype=torch.float)
        made.append(Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], 1).unique(dim=1), y=y))
    return made


def build(features, classes):
    return GAT(features, hidden_channels=8, num_layers=2, out_channels=classes, heads=2)


class Pooled(torch.nn.Module):
    def __init__(self, features, classes):
        super().__init__()
        self.conv = GCNConv(features, 16)
        self.norm = torch.nn.BatchNorm1d(16)
        self.head = torch.nn.Linear(16, classes)

    def forward(self, x, edge_index, batch):
        return self.head(global_mean_pool(self.norm(self.conv(x, edge_index).relu()), batch))
"""
_RINGS = ("", "c1ccccc1", "C1CCCC1", "c1ccncc1", "C1CCOC1", "c1ccsc1")
_ENDS = ("O", "N", "Cl", "C(=O)O", "F", "S", "C#N")
_MOLECULES = [f"{'C' * (2 + place)}{end}{ring}" for place, end in enumerate(_ENDS) for ring in _RINGS]
_MOLECULE_CSV = "smiles,toxic,soluble,stable\n" + "".join(
    f"{smiles},{number % 2},{'' if number % 5 == 0 else (number // 2) % 2},{(number // 3) % 2}\n"
    for number, smiles in enumerate(_MOLECULES)
)
_MOLECULE_FILE = "data/MoleculeNet/few/raw/few.csv"
_ONE_LABEL_CSV = "smiles,toxic\n" + "".join(f"{smiles},{number // 3 % 2}\n" for number, smiles in enumerate(_MOLECULES))
_BUDGETS = json.dumps({"sparsity": 0.6, "layers": {"convs.0.lin.weight": 0.62, "convs.1.lin.weight": 0.4}})
_FEW = "-d moleculenet:few --data-root data --task multilabel --set hidden=8"
_MUTAG = "-d mutag -m gin --split stratified-kfold --set hidden=16"

TRAINING = (
    _runs("train-digits-seeds", "train --epochs 4 --seeds 2 --seed 3"),
    _runs(
        "train-node-models",
        *(f"train -m {model} --epochs 2 --set dropout=0.1" for model in ("graphsage", "gat")),
        "train -m supergat --epochs 2",
        "train -m ssp --epochs 2",
    ),
    _runs(
        "train-settings",
        "train --epochs 3 --set hidden=16 --set learning_rate=0.02 --set weight_decay=0 --set select=loss",
        "train --epochs 3 --split-seed 7 --seed 2 --features standard --set optimizer=adamw",
    ),
    _runs("train-cora-public", "train -d cora -m gcn --split public --epochs 2", "train -w cora-node --epochs 2"),
    _runs(
        "train-link",
        "train -w digits-link --epochs 2",
        "train -d digits --task link -m graphsage --epochs 2 --seed 1",
    ),
    _runs(
        "train-graph",
        f"train {_MUTAG} --epochs 2 --seeds 2",
        "train -d mutag -m gnnnet --split random --epochs 2 --batch-size 8",
        "train -d mutag -m hgpsl --split hgpsl --seed 777 --features standard --epochs 1",
    ),
    _runs("train-multilabel", f"train {_FEW} --epochs 3", files=((_MOLECULE_FILE, _MOLECULE_CSV),)),
    _runs(
        "train-scaffold",
        "train -d moleculenet:few --data-root data --task graph --split scaffold --epochs 2 --set hidden=8",
        files=((_MOLECULE_FILE, _ONE_LABEL_CSV),),
    ),
    Spec(
        "train-own",
        (
            Command(f"train -d my_file.py:load -m my_file.py:build --epochs 3 {_QUICK}", tells=True),
            Command(f"train -d my_file.py:load --task link -m graphsage --epochs 2 {_QUICK}", tells=True),
            Command(f"train -d my_file.py:graphs -m my_file.py:Pooled --task multilabel --epochs 3 {_QUICK}"),
        ),
        files=(("my_file.py", _OWN),),
    ),
    Spec(
        "train-energy",
        (
            Command("train --epochs 2 --quick --country FRA --json --output first", shows="json", tells=True),
            Command(
                "train --epochs 2 --energy codecarbon --energy-seconds 0.1 --country USA --json -q -o second",
                shows="json",
            ),
        ),
    ),
)

PRUNING = (
    _runs("prune-global", "prune --allocation global --epochs 4 -s 0:0.9:0.45"),
    Spec(
        "prune-json",
        (Command(f"prune -s 0,0.8 --no-finetune --epochs 3 --json {_QUICK}", shows="json", tells=True),),
    ),
    _runs("prune-epochs", "prune -s 0.7 --epochs 3 --finetune-epochs 2 --seed 1"),
    _runs(
        "prune-importance",
        *(
            f"prune -s 0.8 --importance {importance} --no-finetune --epochs 3"
            for importance in ("gradient", "taylor", "random")
        ),
    ),
    _runs("prune-steps", "prune -s 0.95 --steps 3 --min-keep 0.1 --epochs 3 --finetune-epochs 3"),
    _runs(
        "prune-allocation",
        *(
            f"prune -s 0.7 --allocation {allocation} --no-finetune --epochs 3"
            for allocation in ("uniform", "erk", "lamp-score")
        ),
        "prune --allocation budgets.json --no-finetune --epochs 3",
        "prune --method fine-grained -s 0.5 --importance taylor --no-finetune --epochs 3",
        files=(("budgets.json", _BUDGETS),),
    ),
    _runs(
        "prune-l2",
        "prune --method l2 --rate 1e-3,0.1 --epochs 3",
        "prune --method l2 --rate 1e-3 -s 0.5 --epochs 3",
    ),
    _runs(
        "prune-structured",
        "prune --method structured -s 0.5 --epochs 3",
        *(
            f"prune --method structured -s 0.3 --importance {name} --no-finetune --epochs 3"
            for name in ("l1", "taylor")
        ),
    ),
    _runs(
        "prune-structured-graph",
        f"prune {_MUTAG} --method structured -s 0.4 --epochs 2 --finetune-epochs 1",
    ),
    _runs(
        "prune-graph",
        f"prune {_MUTAG} -s 0.6 --epochs 2 --finetune-epochs 1 --seed 4",
        f"prune {_MUTAG} -s 0.6 --allocation erk --importance taylor --no-finetune --epochs 2 --seed 4",
    ),
    _runs("prune-link", "prune -w digits-link -s 0.5 --epochs 2 --no-finetune --importance gradient"),
    _runs(
        "prune-multilabel", f"prune {_FEW} -s 0.5 --epochs 3 --no-finetune", files=((_MOLECULE_FILE, _MOLECULE_CSV),)
    ),
    _runs("prune-own", "prune -d my_file.py:load -m my_file.py:build -s 0.5 --epochs 3", files=(("my_file.py", _OWN),)),
    Spec(
        "prune-found-again",
        (
            Command(f"train --epochs 3 {_QUICK}"),
            Command(f"prune --epochs 3 -s 0.5 {_QUICK}"),
            Command(f"prune --epochs 3 -s 0.5 --json {_QUICK}", shows="json"),
            Command("report"),
        ),
    ),
    Spec(
        "prune-dry-run",
        (
            Command("prune -w gin-proteins --dry-run"),
            Command("prune -w digits-link --method structured --dry-run"),
            Command("prune -d my_file.py:load -m my_file.py:build --dry-run"),
        ),
        files=(("my_file.py", _OWN),),
    ),
)

QUANTIZATION = (
    _runs("quantize-ptq", "quantize --scheme fp32,ptq-int8,ptq-int4 --epochs 3 --finetune-epochs 2"),
    _runs("quantize-training", "quantize --scheme qat-int8,dq-int4,a2q --epochs 3 --finetune-epochs 2"),
    _runs(
        "quantize-calibration",
        *(
            f"quantize --scheme ptq-int4 --calibration {calibration} --epochs 3"
            for calibration in ("minmax", "percentile", "mse", "observer --observer per")
        ),
    ),
    _runs(
        "quantize-config",
        "quantize --scheme dq-int8 --config gc-abs --granularity channel --epochs 3 --finetune-epochs 2",
        "quantize --scheme dq-int4 --observer per --draw layer --protect 0.1 --protect-more 0.2 --epochs 3"
        " --finetune-epochs 1",
        "quantize --scheme qat-int4 --gradient gc --calibration mse --epochs 3 --finetune-epochs 1",
    ),
    _runs("quantize-integer", "quantize --scheme ptq-int8,qat-int4 --execute integer --epochs 3 --finetune-epochs 1"),
    _runs(
        "quantize-float",
        "quantize --scheme ptq-int8 --keep-float convs.1 --epochs 3",
        f"quantize --scheme ptq-int2 --head-bits 2 {_MUTAG} --epochs 2",
    ),
    _runs(
        "quantize-pruned",
        "quantize --scheme ptq-int8,qat-int8 --prune-sparsity 0.5 --epochs 4 --finetune-epochs 2",
        "quantize --scheme qat-int4 --prune-sparsity 0,0.7 --no-finetune --epochs 4",
    ),
    _runs(
        "quantize-official",
        "quantize --scheme qat-int8,a2q --official-protocol --epochs 3 --finetune-epochs 2",
        "quantize --scheme a2q --target-bits 2 --no-finetune --epochs 3",
    ),
    _runs(
        "quantize-graph",
        f"quantize --scheme dq-int8,a2q --groups 10 {_MUTAG} --epochs 2 --finetune-epochs 1",
    ),
    _runs("quantize-graph-integer", f"quantize --scheme dq-int8 --execute integer {_MUTAG} --epochs 2 --device cpu"),
    _runs("quantize-link", "quantize --scheme qat-int8 -w digits-link --epochs 2"),
    _runs(
        "quantize-multilabel",
        f"quantize --scheme ptq-int8 {_FEW} --epochs 2",
        files=((_MOLECULE_FILE, _MOLECULE_CSV),),
    ),
    _runs(
        "quantize-own",
        "quantize -d my_file.py:load -m my_file.py:build --scheme qat-int8 --epochs 3",
        files=(("my_file.py", _OWN),),
    ),
    Spec(
        "quantize-dry-run",
        (
            Command("quantize --scheme dq-int8,a2q --dry-run"),
            Command(f"quantize --scheme ptq-int4 --keep-float head --dry-run {_MUTAG}", code=2),
            Command("quantize --scheme qat-int8 -d my_file.py:load -m my_file.py:build --dry-run"),
        ),
        files=(("my_file.py", _OWN),),
    ),
    Spec(
        "quantize-twice",
        (
            Command(f"quantize --scheme ptq-int8 --epochs 3 {_QUICK}"),
            Command(f"quantize --scheme ptq-int8,ptq-int4 --epochs 3 --json {_QUICK}", shows="json"),
            Command("report --format csv", shows="csv"),
        ),
    ),
)

STUDIES = (
    Spec(
        "lottery",
        (
            Command(f"lottery --rounds 2 --rate 0.4 --rewind 1 --seeds 1 --epochs 3 --json {_QUICK}", shows="json"),
            Command(f"lottery --rounds 1 --rate 0.4 --rewind 1 --seeds 2 --epochs 3 {_QUICK}"),
        ),
    ),
    Spec(
        "lottery-edges",
        (Command(f"lottery -m gcn --prune-edges 0.1 --rounds 1 --seeds 1 --epochs 3 {_QUICK}"),),
    ),
    Spec(
        "sensitivity",
        (
            Command("sensitivity -s 0.5,0.9 --epochs 3 --target 0.8 --write budgets.json --json -q", shows="json"),
            Command(f"prune --allocation budgets.json --no-finetune --epochs 3 {_QUICK}"),
            Command("sensitivity -s 0.5,0.9 --epochs 3 --target 0.8 --importance taylor -q"),
        ),
        keeps=(("budgets.json", "json"),),
    ),
)

REPORTING = (
    Spec(
        "report",
        (
            Command(f"prune -s 0,0.5 --seeds 2 --epochs 3 --no-finetune {_QUICK}"),
            Command("report"),
            Command("report runs --format markdown"),
            Command("report runs --format latex --output table.tex"),
            Command("report --format csv -o table.csv"),
            Command("report --format json -o table.json"),
            Command("report {run:method=global,seed=1} -f json", shows="json"),
        ),
        keeps=(("table.tex", "text"), ("table.csv", "csv"), ("table.json", "json")),
    ),
    Spec(
        "compare",
        (
            Command(f"prune -s 0,0.9 --epochs 3 --no-finetune {_QUICK}"),
            Command(f"quantize --scheme ptq-int8 --execute integer --epochs 3 {_QUICK}"),
            Command(
                "compare {run:method=none} {run:method=global}/model.safetensors --rounds 5 --seconds 0.05 "
                "--energy none --json",
                shows="json",
            ),
            Command(
                "compare {run:method=none} {run:scheme=ptq-int8 integer} --rounds 5 --seconds 0.05 --energy none "
                "--confidence 0.9",
                shows="nothing",
            ),
        ),
    ),
    Spec(
        "checkpoint",
        (
            Command(f"prune -s 0,0.9 --epochs 3 --no-finetune {_QUICK}"),
            Command("checkpoint inspect {run:method=global}/model.safetensors"),
            Command("checkpoint inspect {run:method=none}/model.safetensors --json", shows="json"),
            Command("checkpoint verify {run:method=global}/model.safetensors"),
            Command("checkpoint unpack {run:method=global}/model.safetensors dense.pt"),
            Command("checkpoint unpack {run:method=global}/model.safetensors dense.safetensors"),
            Command("checkpoint diff dense.pt dense.safetensors"),
            Command("checkpoint pack dense.pt packed.safetensors"),
            Command("checkpoint pack dense.pt fast.safetensors --codec fast"),
            Command("checkpoint diff {run:method=global}/model.safetensors fast.safetensors"),
            Command(
                "checkpoint diff {run:method=none}/model.safetensors {run:method=global}/model.safetensors", code=1
            ),
            Command("checkpoint pack dense.pt packed.safetensors", code=2),
        ),
        keeps=(("dense.pt", "tensors"), ("packed.safetensors", "tensors"), ("fast.safetensors", "tensors")),
    ),
    Spec(
        "profile",
        (
            Command("profile --energy none --label hello -o costs.csv -- sh -c 'sleep 0.5; echo 42'"),
            Command("profile --energy none -q --output costs.csv -- sh -c 'sleep 0.5; exit 3'", code=3),
            Command("profile --energy none -- no-such-command", code=127),
        ),
        keeps=(("costs.csv", "csv"),),
    ),
    Spec(
        "listings",
        (
            *(Command(name) for name in ("methods", "models", "datasets", "workloads", "--version")),
            Command("doctor --json", shows="nothing"),
        ),
    ),
    Spec(
        "usage",
        (
            Command("prune -s 1.5", code=2),
            Command("prune -m nonsuch", code=2),
            Command("prune --method l2 --steps 2", code=2),
            Command("quantize --scheme dq-int9", code=2),
            Command("quantize --scheme ptq-int8 --groups 3", code=2),
            Command("train -d cora --split scaffold", code=2),
            Command("train --set nonsuch=1", code=2),
            Command("prune --no-finetune --finetune-epochs 3", code=2),
            Command("lottery --prune-edges 0.1 -d mutag", code=2),
            Command("report nowhere", code=1),
            Command("checkpoint inspect nowhere.safetensors", code=1),
        ),
    ),
)

SPECS = (*TRAINING, *PRUNING, *QUANTIZATION, *STUDIES, *REPORTING)
