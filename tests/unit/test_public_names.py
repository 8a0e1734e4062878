"""What ``import certiprune`` offers."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import certiprune
from certiprune.core.errors import InputError


def test_every_public_name_is_there() -> None:
    assert {name for name in certiprune.__all__ if not hasattr(certiprune, name)} == set()
    assert dir(certiprune) == sorted(certiprune.__all__)
    with pytest.raises(AttributeError, match="no attribute 'verfy'"):
        certiprune.verfy  # noqa: B018


@pytest.mark.parametrize(
    "imports",
    [
        "",
        "import certiprune.verify.outcome as o\nfrom certiprune.prune import prune\nfrom certiprune import verify",
    ],
)
def test_packages_that_share_a_name_with_a_function_are_both(imports: str) -> None:
    code = (
        f"{imports or 'pass'}\n"
        "import torch, certiprune\n"
        "model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))\n"
        "pruned = certiprune.prune(model, amount=0.5)\n"
        "mask = certiprune.mask_of(pruned)\n"
        "found = certiprune.verify(pruned, torch.zeros(1, 1, 2, 2), [0], eps='1/255')\n"
        "assert mask.kept == 4 and isinstance(found[0].verdict, certiprune.verify.Verdict)\n"
        "assert certiprune.prune.scores.names()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_verify_answers_in_the_order_of_the_images_and_checks_them_first() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(3, 4))
        model[1].bias.zero_()
    images = torch.tensor([[0.9, 0, 0, 0], [0, 0.9, 0, 0], [0.5, 0.45, 0, 0], [0, 0, 0.9, 0]]).reshape(
        -1, 1, 2, 2
    )
    found = certiprune.verify(model, images, [0, 1, 0, 1], eps=0.1)
    assert [outcome.index for outcome in found] == [0, 1, 2, 3]
    assert [str(o.verdict) for o in found] == ["certified", "certified", "falsified", "misclassified"]
    point = found[2].counterexample
    assert point is not None and (point - images[2]).abs().max() <= 0.1 + 1e-6
    scores = model(point.float().reshape(1, 1, 2, 2))[0]
    assert scores[0] <= scores[1:].max()  # a tie is a violation
    per_image = certiprune.verify(model, images, [0, 1, 0, 1], eps=[0.1, 0.1, 0.01, 0.1])
    assert per_image[2].verdict == certiprune.Verdict.CERTIFIED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(2, 1, 3, 3)}, "does not|takes|fit|shape"),
        ({"images": torch.full((2, 1, 2, 2), 1.5)}, "outside"),
        ({"images": "text"}, "no array of numbers"),
        ({"labels": [0]}, "one per image"),
        ({"labels": [0, 2]}, "label 2 of image 1"),
        ({"labels": [0.5, 1]}, "whole numbers"),
        ({"eps": 8}, "input units"),
        ({"eps": [0.1]}, None),
        ({"eps": [0.1, 0.1, 0.1]}, "3 epsilons for 2 images"),
        ({"eps": [0.1, float("nan")]}, "number 1"),
        ({"timeout": 0}, "timeout"),
        ({"nodes": 0}, "node limit"),
        ({"domain": (1.0, 0.0)}, "domain"),
        ({"device": "nowhere"}, "no device"),
        ({"model": "nothere.onnx"}, "no such model file"),
    ],
)
def test_verify_refuses_what_does_not_fit(change: dict[str, object], message: str | None) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    arguments: dict[str, object] = {
        "model": model,
        "images": torch.zeros(2, 1, 2, 2),
        "labels": [0, 1],
        "eps": 0.1,
    }
    if message is None:
        assert len(certiprune.verify(**(arguments | change))) == 2  # type: ignore[arg-type]
        return
    with pytest.raises(certiprune.CertipruneError, match=message) as caught:
        certiprune.verify(**(arguments | change))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_an_image_without_a_batch_is_refused() -> None:
    with pytest.raises(InputError, match="must be"):
        certiprune.verify(torch.nn.Linear(2, 2), torch.zeros(2), [0, 1], eps=0.1)
