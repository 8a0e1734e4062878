"""The list of commands."""

from __future__ import annotations

import typer

from certiprune.cli import (
    certificates,
    datasets,
    experiments,
    presets,
    recommend,
    report,
    steps,
    sweep,
    verify,
    vnnlib,
)

app = typer.Typer(
    name="certiprune",
    help="Train, prune and completely verify ReLU networks.",
    epilog="Start with: certiprune demo",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(experiments.demo)
app.command("run")(experiments.run)
app.command("train")(experiments.train)
app.command("sweep")(sweep.sweep)
app.command("prune")(steps.prune)
app.command("verify")(verify.verify)
app.command("certify")(certificates.certify)
app.command("check")(certificates.check)
app.command("vnnlib")(vnnlib.vnnlib)
app.command("export")(steps.export)
app.command("report")(report.report)
app.command("recommend")(recommend.recommend)
app.command("presets")(presets.presets)
app.command("datasets")(datasets.datasets)
