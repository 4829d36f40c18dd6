from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch_geometric.data import Batch

import gnncompress
from gnncompress.datasets.transforms import TRANSFORMS, edge_order, target_indegree
from gnncompress.errors import UsageError
from gnncompress.measurements import GRAPHS, LINKS, MULTILABEL, TASKS
from gnncompress.models import MODELS, build_model, find_model
from gnncompress.tasks.calling import arguments, wants
from tests.models.graphs import random_batch

CASES = [(entry.name, task) for entry in MODELS for task in entry.tasks]


@pytest.fixture
def batch() -> Batch:
    torch.manual_seed(0)
    data = edge_order(target_indegree(random_batch(5)))
    data.edge_label_index = torch.tensor([[0, 1], [2, 3]])
    return data


@pytest.mark.parametrize("name", [entry.name for entry in MODELS])
def test_every_model_has_a_paper_a_test_and_known_transforms(name: str) -> None:
    found = find_model(name)
    assert found.summary
    assert any(character.isdigit() for character in found.citation)
    module = found.target.partition(":")[0].rpartition(".")[2]
    assert (Path(__file__).parent / f"test_{module}.py").is_file()
    assert set(found.transforms) <= set(TRANSFORMS)
    assert set(found.tasks) <= set(TASKS)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_every_model_is_built_pruned_and_called(name: str, task: str, batch: Batch) -> None:
    model = build_model(name, 5, 3, find_model(name).arguments(task))
    result = gnncompress.prune(model, sparsity=0.5)
    total = sum(mask.numel() for mask in result.masks.values())
    assert result.sparsity == round(0.5 * total) / total
    out = model.eval()(**arguments(model, batch))
    if task in (GRAPHS, MULTILABEL):
        assert out.shape == (4, 3)
    elif task == LINKS:
        assert out.shape[0] == (2 if wants(model, "edge_label_index") else batch.num_nodes)
    else:
        assert out.shape == (batch.num_nodes, 3)
    assert torch.isfinite(out).all()
    gnncompress.make_permanent(model)
    again = model(**arguments(model, batch))
    torch.testing.assert_close(again, out)


def test_a_model_of_another_task_is_refused() -> None:
    with pytest.raises(
        UsageError, match="model gin is for graph-classification and multilabel-graph-classification, not"
    ):
        find_model("gin").arguments(LINKS)


def test_a_factory_of_the_users_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch_geometric.nn import GCN\n"
        "import torch\n"
        "def build(in_channels, out_channels): return GCN(in_channels, 8, 2, out_channels)\n"
        "class Net(torch.nn.Linear):\n"
        "    def __init__(self, features, outputs): super().__init__(features, outputs)\n"
        "def number(): return 7\n"
        "def strange(width): return width\n"
    )
    model = build_model(f"{file}:build", 5, 3, find_model(f"{file}:build").arguments(GRAPHS))
    assert model(torch.ones(2, 5), torch.tensor([[0, 1], [1, 0]])).shape == (2, 3)
    assert build_model(f"{file}:Net", 5, 3, {}).weight.shape == (3, 5)
    with pytest.raises(UsageError, match=r"mine\.py:number returns a int; it must return a torch\.nn\.Module"):
        build_model(f"{file}:number", 5, 3, {})
    with pytest.raises(
        UsageError, match=r"mine\.py:strange wants width; it may take any of: features, outputs, classes"
    ):
        build_model(f"{file}:strange", 5, 3, {})


def test_unknown_model() -> None:
    with pytest.raises(UsageError, match=r"unknown model 'hgpls'; did you mean hgpsl\?"):
        build_model("hgpls", 5, 3, {})
