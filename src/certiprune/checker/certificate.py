"""Certificates: what is in them, and whether they prove their claim.

A certificate is an ``.npz`` file (numpy's, without pickled objects). Its ``header`` is JSON: ``kind`` "certificate",
``version``, ``index``, ``label``, ``eps`` and ``domain`` (texts of exact numbers such as "2/255"), ``model`` (SHA-256
of the ONNX file that it was made for). ReLUs and neurons are numbers, in the file's order, flat. Arrays:

    image                        [inputs] float32 or float64
    {p}.{k}.neuron, .upper       [m] forms that bound an end of what enters ReLU k, in pass p over the network
    {p}.{k}.{j}.seen, .slopes    [u], [m, u]: the forms' slopes of these neurons of the earlier ReLU j; all others
                                 have CROWN's
    tree.{c}.split               nodes of the tree against class c, parents before children, the child with z >= 0
                                 first: the column that is split, or -1 in a leaf
    tree.{c}.relu, .neuron       [columns]
    tree.{c}.theta               [leaves, columns]: slopes where a column is not split, multipliers where it is

Nothing in it is believed: every array is a hint, and a wrong one can only make the proof fail.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from .bounds import Choice, Interval, intervals, walk
from .graph import Array, Graph

KIND, VERSION = "certificate", 1
# Linear forms walked back at once.
BATCH = 128
# Bytes of a certificate, unpacked.
LARGEST = 1 << 33


class Refused(Exception):
    """The certificate does not prove its claim, or cannot be read."""


@dataclass(frozen=True)
class Forms:
    """Ends of what enters one ReLU, bounded by linear forms; ``slopes`` by an earlier ReLU's number: (seen, slopes)."""

    neuron: Array
    upper: Array
    slopes: Mapping[int, tuple[Array, Array]]


@dataclass(frozen=True)
class Tree:
    """A proof that the label's score is above one other; columns are neurons, leaves in the order of ``split``."""

    relu: Array
    neuron: Array
    split: Array
    theta: Array


@dataclass(frozen=True)
class Certificate:
    """The claim that ``image`` keeps its ``label`` within ``eps`` and the ``domain``, and hints to its proof."""

    index: int
    label: int
    eps: Fraction
    domain: tuple[Fraction, Fraction]
    model: str
    image: Array
    passes: tuple[Mapping[int, Forms], ...]
    trees: Mapping[int, Tree]


@dataclass(frozen=True)
class Report:
    """What was done to check a certificate that holds: how many forms and leaves, and the smallest margin shown."""

    forms: int
    leaves: int
    margin: float
    seconds: float


def check(certificate: Certificate, graph: Graph) -> Report:
    """Prove the certificate's claim about the network.

    Raises:
        Refused: what its hints give is not enough, or they do not fit.
    """
    start = time.perf_counter()
    classes = graph.sizes[graph.output]
    if not 0 <= certificate.label < classes:
        raise Refused(f"the label {certificate.label} is none of the network's {classes} classes")
    values = intervals(graph, *ball(certificate, graph.sizes[0]))
    for forms in certificate.passes:
        values = refined(graph, values, forms)
    margins = []
    for other in range(classes):
        if other != certificate.label:
            tree = certificate.trees.get(other)
            margin = plain_margin(graph, values, certificate.label, other)
            if tree is not None and not margin > 0:
                margin = tree_margin(graph, values, certificate.label, other, tree)
            if not margin > 0:
                raise Refused(f"it is not proved that class {certificate.label} scores above class {other}: "
                              f"the difference is shown to be at least {margin:g} only")  # fmt: skip
            margins.append(margin)
    return Report(
        forms=sum(len(f.neuron) for forms in certificate.passes for f in forms.values()),
        leaves=sum(len(tree.theta) for tree in certificate.trees.values()),
        margin=min(margins, default=np.inf),
        seconds=time.perf_counter() - start,
    )


def ball(certificate: Certificate, inputs: int) -> Interval:
    """The box of the claim, each end rounded outward from exact arithmetic."""
    image, eps = certificate.image, certificate.eps
    first, last = certificate.domain
    if image.shape != (inputs,) or not np.isfinite(image).all() or eps < 0:
        raise Refused(f"the image must be {inputs} finite numbers, and eps not negative")
    exact = [Fraction(float(x)) for x in image]
    if not all(first <= x <= last for x in exact):
        raise Refused("the image lies outside of the domain")
    low = [_below(max(first, x - eps)) for x in exact]
    high = [-_below(-min(last, x + eps)) for x in exact]
    return np.array(low), np.array(high)


def _below(x: Fraction) -> float:
    near = float(x)
    return near if Fraction(near) <= x else float(np.nextafter(near, -np.inf))


def refined(graph: Graph, known: list[Interval], forms: Mapping[int, Forms]) -> list[Interval]:
    """Bounds of all values from ``known`` ones, with those that the forms prove."""

    def tighten(number: int, low: Array, high: Array, values: list[Interval]) -> Interval:
        source = graph.source(number)
        low, high = np.maximum(low, known[source][0]), np.minimum(high, known[source][1])
        return form_ends(graph, values, number, low, high, forms[number]) if number in forms else (low, high)

    return intervals(graph, *known[0], tighten)


def form_ends(
    graph: Graph, values: list[Interval], number: int, low: Array, high: Array, forms: Forms
) -> Interval:
    """The ends ``low`` and ``high`` of what enters a ReLU, tighter where the forms prove more."""
    neuron, upper, source = forms.neuron, forms.upper, graph.source(number)
    _fits(neuron, graph.sizes[source], f"forms of ReLU {number}")
    if upper.shape != neuron.shape or any(j not in range(number) for j in forms.slopes):
        raise Refused(f"the forms of ReLU {number} are damaged")
    low, high = low.copy(), high.copy()
    for at in range(0, len(neuron), BATCH):
        part = slice(at, at + BATCH)
        n, up = neuron[part], upper[part].astype(bool)
        c = np.zeros((graph.sizes[source], len(n)))
        c[n, np.arange(len(n))] = np.where(up, -1.0, 1.0)
        choices = {}
        for j, (seen, slopes) in forms.slopes.items():
            _fits(seen, graph.sizes[graph.relus[j]], f"slopes of ReLU {j}", different=True)
            if slopes.shape != (len(neuron), len(seen)):
                raise Refused(f"the slopes of ReLU {j} are damaged")
            theta = _finite(slopes[part])
            choices[graph.relus[j]] = Choice(seen, theta, np.zeros_like(theta))
        bound = walk(graph, values, source, c, choices)
        np.maximum.at(low, n[~up], bound[~up])
        np.minimum.at(high, n[up], -bound[up])
    return low, high


def plain_margin(graph: Graph, values: list[Interval], label: int, other: int) -> float:
    """A lower bound of score(label) - score(other) by intervals, or by CROWN's slopes."""
    low, high = values[graph.output]
    apart = float(np.nextafter(low[label] - high[other], -np.inf))
    return max(apart, float(walk(graph, values, graph.output, _difference(graph, label, other, 1))[0]))


def tree_margin(graph: Graph, values: list[Interval], label: int, other: int, tree: Tree) -> float:
    """The smallest lower bound of score(label) - score(other) over the tree's leaves."""
    return float(leaf_margins(graph, values, label, other, tree).min())


def leaf_margins(graph: Graph, values: list[Interval], label: int, other: int, tree: Tree) -> Array:
    """Lower bounds [leaves] of score(label) - score(other), each where its leaf's signs hold."""
    relus = graph.relus
    _fits(tree.relu, len(relus), "columns of a tree")
    if tree.neuron.shape != tree.relu.shape:
        raise Refused("the columns of a tree are damaged")
    columns = {int(j): np.nonzero(tree.relu == j)[0] for j in np.unique(tree.relu)}
    for j, places in columns.items():
        _fits(tree.neuron[places], graph.sizes[relus[j]], f"columns of ReLU {j}", different=True)
    signs = leaf_signs(tree.split, len(tree.relu))
    if tree.theta.shape != signs.shape:
        raise Refused(f"a tree of {len(signs)} leaves has parameters of the shape {tree.theta.shape}")
    found = []
    for at in range(0, len(signs), BATCH):
        sign, theta = signs[at : at + BATCH].T, _finite(tree.theta[at : at + BATCH])
        choices = {relus[j]: Choice(tree.neuron[k], theta[k], sign[k]) for j, k in columns.items()}
        forms = _difference(graph, label, other, sign.shape[1])
        found.append(walk(graph, values, graph.output, forms, choices))
    return np.concatenate(found)


def leaf_signs(split: Array, columns: int) -> Array:
    """The signs [leaves, columns] under which each leaf of a tree stands; together they leave no input out.

    Raises:
        Refused: the nodes do not make one whole tree.
    """
    found: list[Array] = []
    open_ = [np.zeros(columns, dtype=np.int8)]
    for column in np.asarray(split).tolist():
        if not open_:
            raise Refused("a tree has nodes behind its end")
        signs = open_.pop()
        if column == -1:
            found.append(signs)
            continue
        if not (isinstance(column, int) and 0 <= column < columns) or signs[column]:
            raise Refused("a tree splits a column that there is not, or splits one twice")
        for sign in (-1, 1):
            child = signs.copy()
            child[column] = sign
            open_.append(child)
    if open_ or not found:
        raise Refused("a tree lacks nodes")
    return np.stack(found)


def _difference(graph: Graph, label: int, other: int, count: int) -> Array:
    forms = np.zeros((graph.sizes[graph.output], count))
    forms[label], forms[other] = 1.0, -1.0
    return forms


def _finite(theta: Array) -> Array:
    """Parameters [m, k] as [k, m]; what is not a number counts as 0."""
    return np.nan_to_num(theta.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0).T


def _fits(index: Array, size: int, what: str, *, different: bool = False) -> None:
    good = index.ndim == 1 and index.dtype.kind in "iu" and bool(((index >= 0) & (index < size)).all())
    if not good or (different and len(np.unique(index)) != len(index)):
        raise Refused(f"{what}: the numbers do not fit the network")


# --- files -----------------------------------------------------------------------------------------------------------


def load(path: str | Path) -> Certificate:
    """The certificate in a file.

    Raises:
        Refused: there is none, or it is damaged.
    """
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            assert file.zip is not None
            if sum(entry.file_size for entry in file.zip.infolist()) > LARGEST:
                raise Refused(f"{path} unpacks to more than {LARGEST >> 30} GiB")
            arrays = {name: file[name] for name in file.files}
        header = json.loads(str(arrays.pop("header")))
        if any(t.dtype.kind not in "biuf" for t in arrays.values()):
            raise Refused(f"{path} is damaged: it holds arrays that are not of numbers")
        if (header["kind"], header["version"]) != (KIND, VERSION):
            raise Refused(f"{path}: this program reads certificates of version {VERSION}")
        first, last = header["domain"]
        parts = {name: tuple(name.split(".")) for name in arrays}
        count = 1 + max((int(p[0]) for p in parts.values() if p[0].isdigit()), default=-1)
        return Certificate(
            index=int(header["index"]),
            label=int(header["label"]),
            eps=Fraction(header["eps"]),
            domain=(Fraction(first), Fraction(last)),
            model=str(header["model"]),
            image=arrays["image"].astype(np.float64).reshape(-1),
            passes=tuple(_pass(arrays, p) for p in range(count)),
            trees={
                int(p[1]): _tree(arrays, p[1]) for p in parts.values() if p[0] == "tree" and p[2] == "split"
            },
        )
    except Refused:
        raise
    except FileNotFoundError as error:
        raise Refused(f"there is no certificate at {path}") from error
    except Exception as error:  # there is no end to what a damaged archive makes its readers raise
        raise Refused(f"{path} is no certificate, or is damaged: {error}") from error


def _pass(arrays: Mapping[str, Array], p: int) -> dict[int, Forms]:
    names = [name.split(".") for name in arrays if name.startswith(f"{p}.")]
    found = {}
    for _, k, *_ in (n for n in names if n[2] == "neuron"):
        earlier = [n[2] for n in names if n[1] == k and n[-1] == "seen"]
        slopes = {int(j): (arrays[f"{p}.{k}.{j}.seen"], arrays[f"{p}.{k}.{j}.slopes"]) for j in earlier}
        found[int(k)] = Forms(arrays[f"{p}.{k}.neuron"], arrays[f"{p}.{k}.upper"], slopes)
    return found


def _tree(arrays: Mapping[str, Array], c: str) -> Tree:
    return Tree(*(arrays[f"tree.{c}.{part}"] for part in ("relu", "neuron", "split", "theta")))


def save(certificate: Certificate, path: Path) -> None:
    """Write a certificate; ``load`` reads it back."""
    c = certificate
    header = {"kind": KIND, "version": VERSION, "index": c.index, "label": c.label, "eps": str(c.eps),
              "domain": [str(end) for end in c.domain], "model": c.model}  # fmt: skip
    short = c.image.astype(np.float32)
    image = short if np.array_equal(short, c.image) else c.image
    arrays: dict[str, Array] = {"header": np.array(json.dumps(header)), "image": image}
    for p, by_relu in enumerate(c.passes):
        for k, forms in by_relu.items():
            arrays |= {f"{p}.{k}.neuron": forms.neuron, f"{p}.{k}.upper": forms.upper}
            for j, (seen, slopes) in forms.slopes.items():
                arrays |= {f"{p}.{k}.{j}.seen": seen, f"{p}.{k}.{j}.slopes": slopes}
    for other, tree in c.trees.items():
        arrays |= {
            f"tree.{other}.{part}": getattr(tree, part) for part in ("relu", "neuron", "split", "theta")
        }
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
