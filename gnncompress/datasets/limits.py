"""What a data set may ask of the machine's memory at most, and the words to refuse the rest with.

The limits are checked before memory is taken for what they bound. By their published statistics the largest sets that
the loaders read lie below them: REDDIT-MULTI-12K has 2.2 GiB of one-hot degrees, FRANKENSTEIN a file of 57 million
numbers, PCBA 437,929 molecules.
"""

from __future__ import annotations

# Features of all graphs together, as float32.
MOST_FEATURE_BYTES = 5 * 2**29
# One-hot columns of all integer columns together.
MOST_CATEGORIES = 10_000
# Of one raw file.
MOST_NUMBERS = 2**27
MOST_COLUMNS = 2**15
MOST_LINE = 2**22
MOST_PICKLE = 2**28
# A graph is an object of 2 kB when it is asked for.
MOST_GRAPHS = 2**20
# Of what a download is unpacked to.
MOST_UNPACKED = 2**33
# rdkit's time for a scaffold grows with the third power of the atoms: ten seconds for 2,000.
MOST_ATOMS = 2_000
MOST_SMILES = 10_000


def too_wide(nodes: int, columns: int) -> str:
    """Return why float32 features [nodes, columns] are too many; nothing if they are not."""
    if 4 * nodes * columns <= MOST_FEATURE_BYTES:
        return ""
    size, most = (number / 2**30 for number in (4 * nodes * columns, MOST_FEATURE_BYTES))
    return f"{nodes:,} nodes times {columns:,} columns are features of {size:,.1f} GiB, at most {most:g} are read"
