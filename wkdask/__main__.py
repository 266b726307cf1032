"""``python -m wkdask``."""

from wkdask.cli import main

if __name__ == "__main__":
    main()
