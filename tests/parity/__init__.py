"""The parity harness: the same commands run by two versions of the package, and what they left compared."""
