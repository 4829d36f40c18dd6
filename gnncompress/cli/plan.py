"""``gnncompress prune --dry-run``."""

from __future__ import annotations

from pathlib import Path

from gnncompress.cli.console import output
from gnncompress.cli.tables import PIPED, print_table
from gnncompress.experiments.stages import Chain
from gnncompress.reporting.tables import Column


def show_plan(chain: Chain, data_root: Path | None) -> None:
    """Print each parameter of the run's model: that it may be pruned, or why it never is."""
    from gnncompress.experiments.plan import plan

    lines = plan(chain, data_root)
    print_table(
        (Column("parameter", text=True), Column("shape", rank=1), Column("weights"), Column("pruned", text=True)),
        ((line.name, " x ".join(map(str, line.shape)) or "1", f"{line.weights:,}", line.verdict) for line in lines),
        PIPED,
    )
    prunable, total = sum(line.weights for line in lines if line.prunable), sum(line.weights for line in lines)
    output.print(f"{prunable:,} of {total:,} parameters may be pruned", highlight=False)


def show_points(chain: Chain, data_root: Path | None) -> None:
    """Print each quantizer of the run's model: its layer, its place there, its bits; and what stays in floats."""
    from gnncompress.experiments.plan import quantization_points

    found, floats = quantization_points(chain, data_root)
    output.print(f"{chain.workload.dataset}, {chain.workload.model}, {chain.scheme}", highlight=False)
    columns = [Column(name, text=True) for name in ("layer", "place", "bits")]
    print_table(columns, ((one.layer, one.name, str(one.bits)) for one in found), PIPED)
    output.print(f"{len(found)} quantizers; in floats: {', '.join(floats) or 'nothing'}", highlight=False)
