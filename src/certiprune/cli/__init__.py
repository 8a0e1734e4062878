"""The command line: arguments in, calls to ``certiprune.api`` out.

Only Typer is imported up front; each command imports what it needs when it runs, so that ``--help`` is
instant.
"""

from certiprune.cli.entry import main

__all__ = ["main"]
