"""``python -m certiprune`` is the ``certiprune`` command."""

from certiprune.cli import main

if __name__ == "__main__":
    main()
