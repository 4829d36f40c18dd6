"""``python -m gnncompress`` is ``gnncompress``."""

from gnncompress.cli import main

if __name__ == "__main__":
    main()
