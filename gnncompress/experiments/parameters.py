"""How many parameters each workload's model has.

Written down, since building nine models takes torch and seconds for a list that answers at once without. A test
builds every one and compares.
"""

from __future__ import annotations

from collections.abc import Mapping

# With the widths and classes that the data set is published with.
PARAMETERS: Mapping[str, int] = {
    "digits": 4_810,
    "digits-link": 2_080,
    "digits-grid": 43_791,
    "cora-node": 69_143,
    "cora-link": 45_888,
    "proteins": 75_458,
    "bbbp": 34_562,
    "gin-proteins": 43_271,
    "gin-bbbp": 43_655,
}
