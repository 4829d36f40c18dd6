"""From a spec to rows: specs, workloads, one run, sweeps and the store of runs."""
