"""The command line of the program: a line for each certificate, status 1 where one does not hold."""

from __future__ import annotations

import argparse
import sys
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from .certificate import Certificate, Refused, check, load
from .graph import Graph
from .reader import Unsupported, read_model


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the certificates named by ``arguments``; returns 0, 1 where one does not hold, or 2 for wrong use."""
    parser = argparse.ArgumentParser(prog="checker", description="Check certificates of robustness.")
    parser.add_argument("certificates", nargs="+", type=Path, help=".npz files, or folders of them")
    parser.add_argument("--model", required=True, type=Path, help="the ONNX file")
    parser.add_argument(
        "--images", type=Path, help="an .npz file of x, y and maybe eps that they must be about"
    )
    parser.add_argument("--eps", type=exact, help="the radius, such as 2/255, that they must be about")
    parser.add_argument(
        "--domain",
        type=exact,
        nargs=2,
        default=[Fraction(0), Fraction(1)],
        metavar=("LOW", "HIGH"),
        help="the smallest and the largest input; 0 and 1 when left out",
    )
    given = parser.parse_args(arguments)
    try:
        graph = read_model(given.model)
        files = [file for path in given.certificates for file in found(path)]
        images = None if given.images is None else read_images(given.images)
        wanted = Wanted(images, given.eps, (given.domain[0], given.domain[1]))
    except (Unsupported, Refused) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    return 0 if len(holding(files, graph, wanted)) == len(files) else 1


def holding(files: Sequence[Path], graph: Graph, wanted: Wanted) -> list[Certificate]:
    """The certificates that hold; prints a line for each file as it is checked, and how many there are."""
    held = []
    for file in files:
        certificate, line = verdict(file, graph, wanted)
        print(line, flush=True)  # noqa: T201
        held += [] if certificate is None else [certificate]
    print(f"{len(held)} of {len(files)} certificates hold")  # noqa: T201
    return held


def exact(text: str) -> Fraction:
    """The number that a text such as 2/255 or 0.1 writes down.

    Raises:
        ArgumentTypeError: it writes down none.
    """
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from error


def found(path: Path) -> list[Path]:
    """The certificates at a path: itself, or those in the folder, by their images' numbers.

    Raises:
        Refused: there are none.
    """
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.npz"), key=lambda file: (len(file.stem), file.stem))
    if not files:
        raise Refused(f"there are no certificates in {path}")
    return files


@dataclass(frozen=True)
class Images:
    """Inputs [n, inputs] in float32, as the verifier takes them, labels [n], and radii [n] where there are some."""

    x: np.ndarray
    y: np.ndarray
    eps: tuple[Fraction, ...] | None


@dataclass(frozen=True)
class Wanted:
    """What certificates must be about, besides the model.

    Attributes:
        images: among which a certificate's image must have its place; None for any.
        eps: the radius at least; None for that of the images, or for any.
        domain: the smallest and the largest input.
    """

    images: Images | None = None
    eps: Fraction | None = None
    domain: tuple[Fraction, Fraction] = (Fraction(0), Fraction(1))

    def check(self, certificate: Certificate) -> None:
        """See that a certificate is about this.

        Raises:
            Refused: it is about something else.
        """
        c, k, least = certificate, certificate.index, self.eps
        if c.domain != self.domain:
            raise Refused(f"it is about inputs in [{number(c.domain[0])}, {number(c.domain[1])}] only")
        if self.images is not None:
            x, y = self.images.x, self.images.y
            if not 0 <= k < len(x) or not np.array_equal(x[k], c.image) or int(y[k]) != c.label:
                raise Refused(f"image {k} of the file, or its label, is not the one that it is about")
            if least is None and self.images.eps is not None:
                least = self.images.eps[k]
        if least is not None and c.eps < least:
            raise Refused(f"it is about the radius {number(c.eps)} only")


def read_images(path: Path) -> Images:
    """The images, labels and radii of an .npz file.

    Raises:
        Refused: the file does not hold them.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            x, y, eps = file["x"], file["y"], file.get("eps")
        if not x.ndim or y.shape != x.shape[:1]:
            raise Refused(f"{path} holds {x.shape} images and {y.shape} labels: it takes one label per image")
        radii = None
        if eps is not None:
            # A radius counts as it is written: 0.1 is one tenth.
            radii = tuple(Fraction(repr(float(e))) for e in np.broadcast_to(eps, y.shape))
        return Images(x.reshape(len(x), -1).astype(np.float32), y.astype(np.int64, casting="safe"), radii)
    except (OSError, EOFError, LookupError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise Refused(f"{path} holds no images x and labels y: {error}") from error


def verdict(file: Path, graph: Graph, wanted: Wanted) -> tuple[Certificate | None, str]:
    """The certificate if it holds for the network and is about what is ``wanted``, and a line that says so."""
    try:
        certificate = load(file)
        wanted.check(certificate)
        report = check(certificate, graph)
    except Refused as error:
        return None, f"{file.name}: DOES NOT HOLD: {error}"
    c = certificate
    other = (
        "" if c.model == graph.digest else "; it was made for another file, and holds for this one as well"
    )
    return c, (
        f"{file.name}: holds: image {c.index} has label {c.label} within {number(c.eps)} "
        f"({report.forms} forms, {report.leaves} leaves, margin {report.margin:.2g}, {report.seconds:.1f} s){other}"
    )


def number(x: Fraction) -> str:
    """An exact number as people write it: a decimal number where it is a short one, else a fraction."""
    digits = next((k for k in range(21) if 10**k % x.denominator == 0), None)
    if not digits:
        return str(x)
    text = str(abs(x) * 10**digits).rjust(digits + 1, "0")
    return f"{'-' if x < 0 else ''}{text[:-digits]}.{text[-digits:]}"


if __name__ == "__main__":
    sys.exit(main())
