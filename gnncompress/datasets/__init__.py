"""Where data comes from: embedded, local raw files, or a download; imports no torch until data is loaded."""

from gnncompress.datasets.keeping import kept
from gnncompress.datasets.registry import DATASETS, DatasetEntry, find_dataset, fingerprint, load_dataset

__all__ = ["DATASETS", "DatasetEntry", "find_dataset", "fingerprint", "kept", "load_dataset"]
