"""The compression methods by name; a new one adds a line here."""

from gnncompress.registry import Entry, Registry

METHODS = Registry(
    "method",
    [
        Entry(
            name="global",
            summary="magnitude pruning under one threshold for the whole model",
            target="gnncompress.pruning.magnitude:GlobalPruning",
            citation="Han et al., NeurIPS 2015; arXiv 2510.22058, section 2.4",
        ),
        Entry(
            name="fine-grained",
            summary="magnitude pruning within each layer, every layer to the same sparsity",
            target="gnncompress.pruning.magnitude:FineGrainedPruning",
            citation="arXiv 2510.22058, section 2.4",
        ),
    ],
)
