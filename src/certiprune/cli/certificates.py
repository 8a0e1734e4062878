"""``certiprune certify`` and ``certiprune check``: certificates, written and checked."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from certiprune.cli.interrupt import on_interrupt
from certiprune.core.epsilon import exact_epsilon, parse_epsilon
from certiprune.core.errors import InputError

if TYPE_CHECKING:
    from certiprune.verify.certificates import Certified

# Why an image has no certificate, where it cannot be certified at all.
_CONTRADICT = ("falsified", "misclassified")


def certify(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="An ONNX file, a checkpoint of certiprune's own, or a run's folder."
        ),
    ],
    images: Annotated[
        Path | None, typer.Option(help="An .npz file: x [n, c, h, w] in [0, 1], y [n], eps if wanted.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder for certificates, INDEX.npz each.")] = None,
    eps: Annotated[str | None, typer.Option(help="Radius in input units, such as 0.1 or 2/255.")] = None,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", help="What verify wrote: only images that it calls certified are tried."),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that one image may take.")] = 300.0,
    nodes: Annotated[int | None, typer.Option(help="Subproblems that one image may take.")] = None,
    start: Annotated[int, typer.Option(help="The first image, counted from 0.")] = 0,
    end: Annotated[int | None, typer.Option(help="The image after the last.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    memory: Annotated[
        str | None, typer.Option(help="Memory for the search: 4G, 800M, or 60% of what is free.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Of a run: where its dataset's files are.")
    ] = None,
) -> None:
    """Write a certificate for each image whose robustness is proved, for "certiprune check" to prove it again.

    Certificates are about an ONNX file: a checkpoint is written to OUT/model.onnx first. Each is accepted by the
    checker before it is named INDEX.npz. The same command goes on with what is missing.

    Of a run's folder, all test images that its networks are certified for are tried; certificates lie in
    RUN/certificates, and the report says how many there are.

    \b
    Example:
      certiprune certify model.onnx --images images.npz --eps 2/255 --out certificates
      certiprune certify runs/mine
    """
    if eps is not None:
        parse_epsilon(eps)
    if not timeout > 0:
        raise InputError(f"--timeout {timeout:g} must be a number of seconds above 0")
    if not model.exists():
        raise InputError(f"{model}: no such model file; give an ONNX file or a checkpoint (.safetensors)")
    if (model / "results.sqlite").is_file():
        given = (images, out, eps, csv_file, nodes, end, threads)
        if start or any(option is not None for option in given):
            raise InputError(
                f"{model} is a run: of the options only --timeout, --memory and --data are for it"
            )
        _certify_run(model, timeout, memory, data)
        return
    if images is None or out is None or data is not None:
        raise InputError(
            "certify needs --images FILE.npz and --out FOLDER, or a run's folder and at most --data"
        )
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is no folder; --out needs one")
    from certiprune.cli.machine import shares, use_threads

    share = shares(1, threads, memory)
    use_threads(share.threads)
    from certiprune.cli import images as files

    chosen = files.read(images).cut(start, end)
    radius = chosen.eps if eps is None else eps
    if radius is None:
        raise InputError(f"{images} holds no eps: give --eps, such as --eps 2/255")
    numbers = list(range(start, start + len(chosen.x)))
    wanted = numbers if csv_file is None else _certified(csv_file, numbers)
    places = [number - start for number in wanted]
    from certiprune import api
    from certiprune.cli.progress import Meter

    found: list[Certified] = []
    if wanted:
        each = radius if isinstance(radius, str | float) else radius[places]
        asked = api.certify(
            model,
            chosen.x[places],
            chosen.y[places],
            eps=each,
            out=out,
            timeout=timeout,
            nodes=nodes,
            memory=share.memory,
            indices=wanted,
        )
        with on_interrupt(f"certificates are in {out}; the same command goes on"), Meter() as meter:
            for one in asked:
                found.append(one)
                count = sum(item.file is not None for item in found)
                meter.update("certify", len(found), len(wanted), f"{count} certificates")
    reasons = Counter(one.reason for one in found)
    print("\n".join(_summary(reasons, str(out))))  # noqa: T201
    if csv_file is not None and any(one.reason in _CONTRADICT for one in found):
        wrong = [str(one.index) for one in found if one.reason in _CONTRADICT]
        print(f"{csv_file} calls certified what is not: image {', '.join(wrong)}")  # noqa: T201
        raise typer.Exit(1)


def _certify_run(folder: Path, timeout: float, memory: str | None, data: Path | None) -> None:
    """Certificates of a run, and its report anew."""
    from certiprune import report
    from certiprune.cli.progress import Meter
    from certiprune.core.memory import parse_memory
    from certiprune.experiment.certify import certify as run
    from certiprune.experiment.events import Event

    allowed = None if memory is None else parse_memory(memory)
    with on_interrupt(f"certificates are in {folder}; the same command goes on"), Meter() as meter:

        def watch(event: Event) -> None:
            meter.update(event.stage, event.done, event.total, event.text)

        found = run(folder, seconds=timeout, progress=watch, data_folder=data, memory=allowed)
    for name, reasons in found.items():
        print("\n".join(_summary(reasons, name)))  # noqa: T201
    print(f"report: {report.write(folder)}")  # noqa: T201
    if any(reasons[wrong] for reasons in found.values() for wrong in _CONTRADICT):
        print("the run calls certified what is not")  # noqa: T201
        raise typer.Exit(1)


def check(
    certificates: Annotated[
        list[Path], typer.Argument(metavar="CERTIFICATE...", help="Certificates, or folders of them.")
    ],
    model: Annotated[
        Path | None,
        typer.Option(help="The ONNX file (or a checkpoint); a folder's own model.onnx when left out."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="An .npz file of x and y: are certificates about these images?")
    ] = None,
    eps: Annotated[
        str | None, typer.Option(help="The radius, such as 2/255, that certificates must be about.")
    ] = None,
    csv_file: Annotated[
        Path | None,
        typer.Option(
            "--csv", help="What verify wrote: has every image that it calls certified a certificate?"
        ),
    ] = None,
) -> None:
    """Prove again what certificates claim, by an independent program that shares no line with the verifier.

    Exit status 1 where a certificate does not hold, or an image of --csv has none.

    \b
    Example:
      certiprune check certificates --model model.onnx --images images.npz --eps 2/255
    """
    from certiprune.checker import Refused, Unsupported, read_model
    from certiprune.checker.__main__ import Wanted, found, holding, read_images

    if csv_file is not None and images is None:
        raise InputError("--csv is about images: name them with --images, and their radius with --eps")
    if model is None:
        inside = [path / "model.onnx" for path in certificates if (path / "model.onnx").is_file()]
        if len(inside) != 1:
            raise InputError("say which model the certificates are about: --model MODEL.onnx")
        model = inside[0]
    try:
        with TemporaryDirectory() as folder:
            graph = read_model(_onnx(model, Path(folder)))
        files = [file for path in certificates for file in found(path)]
        data = None if images is None else read_images(images)
        wanted = Wanted(data, None if eps is None else exact_epsilon(eps))
    except (Refused, Unsupported) as error:
        raise InputError(str(error)) from error
    if csv_file is not None and wanted.eps is None and (data is None or data.eps is None):
        raise InputError(
            f"--csv is about a radius, and {images} holds no eps: give --eps, such as --eps 2/255"
        )
    # What it is about counts, whatever the file is called.
    held = [certificate.index for certificate in holding(files, graph, wanted)]
    missing = [] if csv_file is None else [k for k in _certified(csv_file, None) if k not in held]
    if missing:
        print(f"{csv_file} calls certified, without a certificate: {', '.join(map(str, missing))}")  # noqa: T201
    if missing or len(held) < len(files):
        raise typer.Exit(1)


def _onnx(model: Path, folder: Path) -> Path:
    """The model as an ONNX file: itself, or what ``certify`` makes of it."""
    if not model.exists():
        raise InputError(f"{model}: no such model file; give an ONNX file or a checkpoint (.safetensors)")
    if model.suffix == ".onnx":
        return model
    from certiprune import api
    from certiprune.net import onnx_out

    network, _ = api.read(model)
    return onnx_out.write(api.compact(network)[0], folder / "model.onnx")


def _certified(csv_file: Path, among: list[int] | None) -> list[int]:
    """The images that the rows of ``verify`` call certified, among those chosen."""
    from certiprune.cli.rows import Row

    if not csv_file.is_file():
        raise InputError(f"{csv_file}: no such file; give what certiprune verify --csv wrote")
    try:
        rows = [Row.parse(line) for line in csv_file.read_text("utf-8").splitlines()[1:]]
    except ValueError as error:
        raise InputError(f"{csv_file} holds no rows of certiprune verify: {error}") from error
    return [r.index for r in rows if r.verdict == "certified" and (among is None or r.index in among)]


def _summary(reasons: Counter[str], where: str) -> list[str]:
    """From why images have no certificate (an empty text: they have one), and how many, to lines."""
    lines = [f"{reasons['']} of {reasons.total()} images have a certificate in {where}"]
    return lines + [f"{number:>14} {reason}" for reason, number in sorted(reasons.items()) if reason]
