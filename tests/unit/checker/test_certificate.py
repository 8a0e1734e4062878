"""Certificates: what is read, what is refused, and what tampering can do (nothing but spoil a proof)."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from certiprune import checker
from certiprune.checker import Certificate, Graph, Refused, ball
from certiprune.checker.__main__ import Images, Wanted, number, read_images, verdict
from certiprune.checker.certificate import leaf_signs
from certiprune.verify import Cascade
from certiprune.verify.bab import Settings
from certiprune.verify.certify import certify, tree_of
from helpers.claims import UNIT, hard_claim

HOW = Cascade(tighten_steps=2, alpha_steps=2, search=Settings(batch=4, steps=2))


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Certificate, Graph]:
    """A certificate with forms that have slopes of their own, and with a tree of several leaves."""
    folder = tmp_path_factory.mktemp("claim")
    for seed in range(0, 60, 2):
        claimed = hard_claim(seed, folder, relus=10, kind="mlp")
        if not (claimed.exact() > 0 and claimed.claim.eps < 9):
            continue
        found = certify(claimed.network, claimed.graph, claimed.claim, how=HOW)
        slopes = [forms.slopes for by_relu in found.passes for forms in by_relu.values() if forms.slopes]
        if slopes and any(len(tree.theta) > 2 for tree in found.trees.values()):
            return found, claimed.graph
    raise AssertionError("none of these claims needs all of it")


def test_it_holds_and_comes_back_from_its_file(proved: tuple[Certificate, Graph], tmp_path: Path) -> None:
    found, graph = proved
    first = checker.check(found, graph)
    checker.save(found, tmp_path / "7.npz")
    again = checker.load(tmp_path / "7.npz")
    second = checker.check(again, graph)
    assert (first.forms, first.leaves, first.margin) == (second.forms, second.leaves, second.margin)
    assert first.forms > 0 and first.leaves > 2 and first.margin > 0
    assert (again.index, again.label, again.eps, again.domain) == (0, found.label, found.eps, found.domain)
    assert np.array_equal(again.image, found.image)


def test_a_larger_radius_is_not_proved_by_the_same_hints(proved: tuple[Certificate, Graph]) -> None:
    found, graph = proved
    with pytest.raises(Refused, match="not proved"):
        checker.check(replace(found, eps=found.eps + Fraction(1, 100)), graph)


def test_another_label_is_not_proved(proved: tuple[Certificate, Graph]) -> None:
    found, graph = proved
    for label in range(graph.sizes[graph.output]):
        if label != found.label:
            with pytest.raises(Refused, match="not proved"):
                checker.check(replace(found, label=label), graph)


def test_a_tree_without_a_leaf_is_refused(proved: tuple[Certificate, Graph]) -> None:
    found, graph = proved
    other, tree = max(found.trees.items(), key=lambda item: len(item[1].theta))
    for split, theta in (
        (tree.split[:-1], tree.theta[:-1]),
        (tree.split, tree.theta[:-1]),
        (np.append(tree.split, -1), np.append(tree.theta, tree.theta[:1], axis=0)),
        (np.where(tree.split >= 0, len(tree.relu), tree.split), tree.theta),
    ):
        worse = replace(found, trees={**found.trees, other: replace(tree, split=split, theta=theta)})
        with pytest.raises(Refused, match="tree"):
            checker.check(worse, graph)


def test_hints_that_do_not_fit_are_refused(proved: tuple[Certificate, Graph]) -> None:
    found, graph = proved
    other, tree = max(found.trees.items(), key=lambda item: len(item[1].theta))
    for worse in (
        replace(tree, neuron=tree.neuron + 10_000),
        replace(tree, relu=tree.relu - 5),
        replace(tree, neuron=np.zeros_like(tree.neuron)),
        replace(tree, neuron=tree.neuron.astype(float)),
        replace(tree, neuron=tree.neuron[:-1]),
    ):
        with pytest.raises(Refused):
            checker.check(replace(found, trees={**found.trees, other: worse}), graph)


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ([], "lacks nodes"),
        ([0, -1], "lacks nodes"),
        ([-1, -1], "behind its end"),
        ([0, 0, -1, -1, -1], "twice"),
        ([3, -1, -1], "not"),
        ([-2, -1, -1], "not"),
    ],
)
def test_nodes_that_make_no_tree_are_refused(split: list[int], said: str) -> None:
    with pytest.raises(Refused, match=said):
        leaf_signs(np.array(split, dtype=int), 3)


@pytest.mark.parametrize("seed", range(20))
def test_leaves_of_a_tree_in_any_order_make_it_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = 6

    def grow(free: list[int]) -> list[int]:
        if not free or rng.random() < 0.3:
            return [-1]
        column = int(rng.choice(free))
        rest = [k for k in free if k != column]
        return [column, *grow(rest), *grow(rest)]

    signs = leaf_signs(np.array(grow(list(range(columns)))), columns)
    mixed = signs[rng.permutation(len(signs))]
    split, order = tree_of(mixed)
    assert np.array_equal(leaf_signs(split, columns), mixed[order])
    # Together the leaves leave no pattern of signs out, and none is in two.
    patterns = np.array(np.meshgrid(*[[-1, 1]] * columns)).reshape(columns, -1).T
    inside = ((signs[:, None] == 0) | (signs[:, None] == patterns)).all(2)
    assert (inside.sum(0) == 1).all()


def test_the_box_holds_the_ball_exactly() -> None:
    image = np.array([0.0, 0.1, 1 / 3, 0.999, 1.0])
    claim = Certificate(0, 0, Fraction(2, 255), UNIT, "", image, (), {})
    low, high = ball(claim, 5)
    for x, a, b in zip(image, low, high, strict=True):
        exact = Fraction(float(x))
        assert (
            Fraction(float(a))
            <= max(Fraction(0), exact - claim.eps)
            <= Fraction(float(a)) + Fraction(1, 10**15)
        )
        assert (
            Fraction(float(b)) - Fraction(1, 10**15)
            <= min(Fraction(1), exact + claim.eps)
            <= Fraction(float(b))
        )


@pytest.mark.parametrize(
    "claim",
    [
        Certificate(0, 0, Fraction(1, 10), UNIT, "", np.array([0.5, 1.5]), (), {}),
        Certificate(0, 0, Fraction(1, 10), UNIT, "", np.array([0.5, np.nan]), (), {}),
        Certificate(0, 0, Fraction(-1, 10), UNIT, "", np.array([0.5, 0.5]), (), {}),
        Certificate(0, 0, Fraction(1, 10), UNIT, "", np.array([0.5]), (), {}),
    ],
)
def test_claims_about_nothing_are_refused(claim: Certificate) -> None:
    with pytest.raises(Refused):
        ball(claim, 2)


def test_what_it_is_about_is_compared(proved: tuple[Certificate, Graph], tmp_path: Path) -> None:
    found, graph = proved
    checker.save(found, tmp_path / "0.npz")
    x, y = found.image[None].copy(), np.array([found.label])
    good = Wanted(Images(x, y, None), found.eps, (found.domain[0], found.domain[1]))
    holds, line = verdict(tmp_path / "0.npz", graph, good)
    assert holds and f"label {found.label} within {number(found.eps)}" in line
    for wanted, said in (
        (replace(good, images=Images(x + 1e-3, y, None)), "image 0"),
        (replace(good, images=Images(x, y + 1, None)), "image 0"),
        (replace(good, images=Images(x[:0], y[:0], None)), "image 0"),
        (replace(good, images=Images(x, y, (2 * found.eps,)), eps=None), "radius"),
        (replace(good, eps=found.eps * 2), "radius"),
        (replace(good, domain=UNIT), "inputs in"),
    ):
        holds, line = verdict(tmp_path / "0.npz", graph, wanted)
        assert not holds and said in line


def test_another_file_s_certificate_says_so(proved: tuple[Certificate, Graph], tmp_path: Path) -> None:
    found, graph = proved
    checker.save(replace(found, model="0" * 64), tmp_path / "0.npz")
    holds, line = verdict(tmp_path / "0.npz", graph, Wanted(domain=(found.domain[0], found.domain[1])))
    assert holds and "made for another file" in line


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (Fraction(2, 255), "2/255"),
        (Fraction("0.1"), "0.1"),
        (Fraction("0.00392156862745098"), "0.00392156862745098"),
        (Fraction(0), "0"),
        (Fraction(-9), "-9"),
    ],
)
def test_exact_numbers_are_written_as_people_do(x: Fraction, text: str) -> None:
    assert number(x) == text


def test_damaged_files_are_refused(proved: tuple[Certificate, Graph], tmp_path: Path) -> None:
    found, _ = proved
    file = tmp_path / "0.npz"
    checker.save(found, file)
    whole = file.read_bytes()
    with pytest.raises(Refused, match="no certificate at"):
        checker.load(tmp_path / "1.npz")
    for part in (b"", whole[:100], whole[: len(whole) // 2], b"PK" + whole[20:]):
        file.write_bytes(part)
        with pytest.raises(Refused):
            checker.load(file)
    for at in range(0, len(whole), max(1, len(whole) // 50)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
        try:
            checker.load(file)
        except Refused:
            continue


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("eps", "1/0"),
        ("eps", "much"),
        ("domain", ["0"]),
        ("version", 2),
        ("kind", "stability proof"),
        ("label", None),
        ("index", []),
    ],
)
def test_headers_that_say_nothing_are_refused(
    key: str, value: object, proved: tuple[Certificate, Graph], tmp_path: Path
) -> None:
    file = tmp_path / "0.npz"
    checker.save(proved[0], file)
    with np.load(file) as arrays:
        kept = dict(arrays)
    header = json.loads(str(kept["header"]))
    np.savez(file, **(kept | {"header": np.array(json.dumps(header | {key: value}))}))
    with pytest.raises(Refused):
        checker.load(file)


def test_objects_and_texts_are_not_read(proved: tuple[Certificate, Graph], tmp_path: Path) -> None:
    file = tmp_path / "0.npz"
    checker.save(proved[0], file)
    with np.load(file) as arrays:
        kept = dict(arrays)
    for image in (np.array([None], dtype=object), np.array(["a"])):
        np.savez(file, allow_pickle=True, **(kept | {"image": image}))
        with pytest.raises(Refused):
            checker.load(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("header.npy", b"nothing")
    with pytest.raises(Refused):
        checker.load(file)


def test_images_have_radii_as_they_are_written(tmp_path: Path) -> None:
    x, y = np.full((3, 1, 2, 2), 0.1), np.array([0, 1, 2])
    for eps, wanted in (
        (0.1, (Fraction(1, 10),) * 3),
        (np.array([0.0, 0.25, 1.0]), (Fraction(0), Fraction(1, 4), Fraction(1))),
        (np.array([0.5]), (Fraction(1, 2),) * 3),
    ):
        np.savez(tmp_path / "images.npz", x=x, y=y, eps=eps)
        images = read_images(tmp_path / "images.npz")
        assert images.eps == wanted and images.x.dtype == np.float32 and images.x.shape == (3, 4)
    np.savez(tmp_path / "images.npz", x=x, y=y, eps=np.array([0.1, 0.2]))
    with pytest.raises(Refused, match="holds no images"):
        read_images(tmp_path / "images.npz")
