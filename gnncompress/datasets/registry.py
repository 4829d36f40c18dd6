"""The data sets by name, and how each is found, loaded and told from another of the same name.

Listing and naming need no data and no torch. Every TUDataset and every MoleculeNet set can be named, also one of the
user's own in the same raw layout, and so can a function that returns graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from gnncompress.datasets import keeping
from gnncompress.datasets.locations import called, candidate_roots
from gnncompress.datasets.moleculenet import LAYOUTS
from gnncompress.datasets.tudataset_files import NAMES
from gnncompress.errors import DatasetError, UsageError
from gnncompress.factories import call_factory, is_reference, load_reference, source_digest, user_code
from gnncompress.measurements import GRAPHS, LINKS, MULTILABEL, NODES
from gnncompress.registry import Entry, Registry, unknown

if TYPE_CHECKING:
    from torch_geometric.data import Data

    from gnncompress.datasets.loaded import Loaded

_PLANETOID = "gnncompress.datasets.planetoid:load"
_TU = "gnncompress.datasets.tudataset:load"
_MOLECULES = "gnncompress.datasets.moleculenet:load"
_TU_CITATION = "Morris et al., TUDataset, 2020"
_MOLECULE_CITATION = "Wu et al., MoleculeNet, Chem. Sci. 2018"
_LABELS_ONLY = "-labels"


@dataclass(frozen=True)
class DatasetEntry(Entry):
    """A data set: the tasks it can serve, the first being its own, and its published statistics where known.

    ``source`` is the name within its collection. Units: ``statistics`` counts graphs, nodes, directed edges, features
    and classes; a loaded data set whose ``exact`` is set must show them.
    """

    tasks: tuple[str, ...] = ()
    source: str = ""
    statistics: Mapping[str, int] = field(default_factory=dict)
    exact: bool = False


def _statistics(graphs: int, nodes: int, edges: int, features: int, classes: int) -> dict[str, int]:
    return {"graphs": graphs, "nodes": nodes, "edges": edges, "features": features, "classes": classes}


def _tu(source: str, summary: str, **statistics: int) -> DatasetEntry:
    name = source.lower().replace(":labels", _LABELS_ONLY)
    return DatasetEntry(name, summary, _TU, _TU_CITATION, (GRAPHS,), source, statistics)


def _molecules(
    source: str, summary: str, tasks: tuple[str, ...] = (GRAPHS, MULTILABEL), **statistics: int
) -> DatasetEntry:
    return DatasetEntry(source.lower(), summary, _MOLECULES, _MOLECULE_CITATION, tasks, source, statistics)


def _citations(source: str, summary: str, exact: bool, *numbers: int) -> DatasetEntry:
    citation = "Yang et al., Revisiting Semi-Supervised Learning with Graph Embeddings, ICML 2016"
    statistics = _statistics(1, *numbers)
    return DatasetEntry(source.lower(), summary, _PLANETOID, citation, (NODES, LINKS), source, statistics, exact)


DATASETS = Registry(
    "dataset",
    [
        DatasetEntry(
            name="digits",
            summary="handwritten digits as one k-nearest-neighbour graph; embedded, no download",
            target="gnncompress.datasets.digits:load",
            citation="Franceschi et al., Learning Discrete Structures for GNNs, ICML 2019 (kNN graphs)",
            tasks=(NODES, LINKS),
            statistics=_statistics(1, 1797, 19858, 64, 10),
            exact=True,
        ),
        DatasetEntry(
            name="digits-grid",
            summary="each handwritten digit as a graph of its 8 x 8 pixels; embedded, no download",
            target="gnncompress.datasets.digits:load_grid",
            citation="Monti et al., Geometric Deep Learning using Mixture Model CNNs, CVPR 2017 (images as grids)",
            tasks=(GRAPHS,),
            statistics=_statistics(1797, 115008, 402528, 3, 10),
            exact=True,
        ),
        _citations("Cora", "citations; nodes are papers, features binary words", True, 2708, 10556, 1433, 7),
        _citations("CiteSeer", "citations; nodes are papers, features binary words", False, 3327, 9104, 3703, 6),
        _citations("PubMed", "citations; nodes are papers, features word weights", False, 19717, 88648, 500, 3),
        _tu("PROTEINS", "proteins, enzyme or not", graphs=1113, nodes=43471, edges=162088, features=4, classes=2),
        _tu(
            "PROTEINS:labels",
            "PROTEINS without its continuous attribute",
            graphs=1113,
            nodes=43471,
            edges=162088,
            features=3,
            classes=2,
        ),
        _tu("MUTAG", "molecules, mutagenic or not", graphs=188, features=7, classes=2),
        _tu("NCI1", "molecules, active against lung cancer or not", graphs=4110, features=37, classes=2),
        _tu("NCI109", "molecules, active against ovarian cancer or not", graphs=4127, features=38, classes=2),
        _tu("DD", "proteins, enzyme or not", graphs=1178, features=89, classes=2),
        _tu("ENZYMES", "proteins, six kinds of enzyme", graphs=600, features=21, classes=6),
        _tu("Mutagenicity", "molecules, mutagenic or not", graphs=4337, features=14, classes=2),
        _tu("PTC_MR", "molecules, carcinogenic or not", graphs=344, features=18, classes=2),
        _tu("COLLAB", "scientists' networks, by field; degrees as features", graphs=5000, classes=3),
        _tu("IMDB-BINARY", "actors' networks, by genre; degrees as features", graphs=1000, classes=2),
        _tu("IMDB-MULTI", "actors' networks, by genre; degrees as features", graphs=1500, classes=3),
        _tu("REDDIT-BINARY", "discussions, by kind; degrees as features", graphs=2000, classes=2),
        _tu("REDDIT-MULTI-5K", "discussions, by community; degrees as features", graphs=4999, classes=5),
        _molecules(
            "bbbp",
            "molecules, passing into the brain or not",
            (GRAPHS,),
            graphs=2039,
            nodes=49068,
            edges=105842,
            features=9,
            classes=2,
        ),
        _molecules("bace", "molecules, inhibiting BACE-1 or not", (GRAPHS,), graphs=1513, features=9, classes=2),
        _molecules("hiv", "molecules, inhibiting HIV or not", (GRAPHS,), graphs=41127, features=9, classes=2),
        _molecules("tox21", "molecules, 12 toxicity labels", (MULTILABEL,), features=9, classes=12),
        _molecules("toxcast", "molecules, 617 toxicity labels", (MULTILABEL,), features=9, classes=617),
        _molecules("sider", "drugs, 27 side effects", (MULTILABEL,), features=9, classes=27),
        _molecules("clintox", "drugs, approval and clinical toxicity", (MULTILABEL,), features=9, classes=2),
        _molecules("muv", "molecules, 17 labels, most missing", (MULTILABEL,), features=9, classes=17),
        _molecules("pcba", "molecules, 128 bioassays", (MULTILABEL,), features=9, classes=128),
    ],
)


@dataclass(frozen=True)
class _Collection:
    """Data sets of one layout: their folder, what makes an entry of one, and the names of the published ones."""

    folder: str
    entry: Callable[[str, str], DatasetEntry]
    published: Iterable[str]


_COLLECTIONS = {
    "tu": _Collection("TUDataset", _tu, NAMES),
    "moleculenet": _Collection("MoleculeNet", _molecules, LAYOUTS),
}


def find_dataset(name: str, data_root: Path | None = None) -> DatasetEntry:
    """Return the entry of ``name``; its own name finds it again.

    A name is, in this order: ``tu:NAME`` or ``moleculenet:NAME`` of any set of those collections; the user's own
    ``file.py:load``; a registered name or a published one of those collections; the name of a raw folder under
    ``data_root`` or the other places that are searched. All but the user's own may be in any case. ``-labels`` after
    a TUDataset leaves out its node attributes. An entry's name has its collection in front unless it is known.

    Raises:
        UsageError: with near-miss suggestions, if it is none of these.
    """
    entry = _find(name, data_root)
    if entry is None and name.lower().endswith(_LABELS_ONLY):
        whole = _find(name[: -len(_LABELS_ONLY)], data_root)
        entry = whole and _without_attributes(whole)
    if entry is None:
        raise UsageError(unknown("dataset", name.lower(), [known.name for known in DATASETS]))
    return entry


def _find(name: str, data_root: Path | None) -> DatasetEntry | None:
    prefix, _, source = name.partition(":")
    if source and prefix.lower() in _COLLECTIONS:
        return _of_collection(prefix.lower(), source, data_root)
    if is_reference(name):
        return DatasetEntry(name, "a data set of your own", name, "")
    return _known(name.lower()) or _local(name, data_root, _COLLECTIONS)


def _of_collection(prefix: str, source: str, data_root: Path | None) -> DatasetEntry | None:
    """Return the entry of a set of one collection, be it anywhere or not; none of a TUDataset's ``-labels``."""
    made = _prefixed(prefix, source)
    known = _known(source.lower())
    if known and known.target == made.target:
        return known
    labels_only = made.target == _TU and source.lower().endswith(_LABELS_ONLY)
    return _local(source, data_root, [prefix]) or (None if labels_only else made)


def _known(key: str) -> DatasetEntry | None:
    """Return the entry of a registered set, or of a published one that is not listed."""
    entry = DATASETS.get(key)
    if entry:
        return entry
    for collection in _COLLECTIONS.values():
        for source in collection.published:
            if source.lower() == key:
                return collection.entry(source, f"published in {collection.folder}")
    return None


def _local(name: str, data_root: Path | None, prefixes: Iterable[str]) -> DatasetEntry | None:
    """Return the entry of the first raw folder called ``name``, spelled as the folder is."""
    for root in candidate_roots(data_root):
        for prefix in prefixes:
            for folder in called(name, root / _COLLECTIONS[prefix].folder):
                return _prefixed(prefix, folder.name)
    return None


def _prefixed(prefix: str, source: str) -> DatasetEntry:
    """Return the entry of a set that nobody has listed: its bare name may mean another one elsewhere."""
    collection = _COLLECTIONS[prefix]
    entry = collection.entry(source, f"raw files of the {collection.folder} layout")
    return replace(entry, name=f"{prefix}:{source}")


def _without_attributes(entry: DatasetEntry) -> DatasetEntry | None:
    if entry.target != _TU:
        return None
    name, source = f"{entry.name}{_LABELS_ONLY}", f"{entry.source}:labels"
    return DatasetEntry(name, entry.summary, _TU, _TU_CITATION, entry.tasks, source)


def fingerprint(name: str, data_root: Path | None = None) -> str:
    """Return a SHA-256 that changes when the data set's raw files or code change; empty for embedded data.

    Raises:
        DatasetError: if the raw files are nowhere and cannot be downloaded.
    """
    entry = find_dataset(name, data_root)
    if is_reference(name) and entry.target == name:
        return source_digest(name)
    if not entry.source:
        return ""
    module = import_module(entry.target.partition(":")[0])
    digest: str = module.fingerprint(entry.source, data_root)
    return digest


def load_dataset(name: str, data_root: Path | None = None) -> Loaded:
    """Load the data set called ``name``, from under ``data_root`` if its raw files are there; once within ``kept()``.

    Raises:
        UsageError: if no data set has that name, or the user's own function raises.
        DatasetError: if it cannot be found or read, or is not the one that was published.
    """
    entry = find_dataset(name, data_root)

    def key() -> Hashable:
        # A name of the user's own code, and what that code reads, may depend on the folder one is in.
        return entry.name, entry.target, entry.source, data_root, Path.cwd(), fingerprint(name, data_root)

    return keeping.loaded(key, lambda: _load(entry, data_root))


def _load(entry: DatasetEntry, data_root: Path | None) -> Loaded:
    if entry.target == entry.name:
        return _own(entry.name)
    loaded: Loaded = entry.load()(entry.source, data_root)
    if entry.exact:
        _hold_to(entry, loaded)
    return loaded


def _hold_to(entry: DatasetEntry, loaded: Loaded) -> None:
    graphs = loaded.as_list()
    found = {
        "graphs": len(graphs),
        "nodes": sum(graph.num_nodes for graph in graphs),
        "edges": sum(graph.num_edges for graph in graphs),
        "features": graphs[0].num_features,
        "classes": max(int(graph.y.max()) for graph in graphs) + 1,
    }
    for what, expected in entry.statistics.items():
        if found[what] != expected:
            raise DatasetError(
                f"data set {entry.name}: {found[what]:,} {what} loaded where {expected:,} are expected; "
                "its raw files are not the published ones, restore them"
            )


def _own(reference: str) -> Loaded:
    """Call the user's function and take a Data, a Dataset or a sequence of Data; a data set of one graph is that graph.

    Raises:
        DatasetError: if it returns something else, no graph, or a graph that no task can take (``check_graph``).
    """
    from torch_geometric.data import Data, Dataset

    from gnncompress.datasets.checking import check_graphs
    from gnncompress.datasets.collated import Collated
    from gnncompress.datasets.loaded import Loaded

    given = call_factory(reference, load_reference(reference), {})
    with user_code(reference):  # a Dataset may read its graphs only now
        graphs: Sequence[Data] = list(given) if isinstance(given, (Dataset, Sequence)) else [given]
    if not graphs:
        raise DatasetError(f"{reference} returns no graph")
    for graph in graphs:
        if not isinstance(graph, Data):
            raise DatasetError(
                f"{reference} returns a {_kind(given, graph)}; it must return a torch_geometric Data, a Dataset or a "
                "list of Data"
            )
    if len(graphs) > 1 and all(type(graph) is Data for graph in graphs):
        graphs = Collated.of(graphs)  # a class of the user's own may be more than its fields
    check_graphs(lambda number: f"{reference}: graph {number}", graphs)
    return Loaded(graphs[0] if len(graphs) == 1 else graphs)


def _kind(given: object, graph: object) -> str:
    return type(given).__name__ if given is graph else f"{type(given).__name__} of {type(graph).__name__}"
