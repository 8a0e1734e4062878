"""CIFAR-100: 32x32 colour images, labelled by their 100 fine classes."""

from __future__ import annotations

from pathlib import Path

from certiprune.data.cifar import find_binary, read_binary
from certiprune.data.source import Raw, Source

TRAIN, TEST = "train.bin", "test.bin"
SUBFOLDER = "cifar-100-binary"
ADVICE = "unpack cifar-100-binary.tar.gz (www.cs.toronto.edu/~kriz/cifar.html) and name its folder"
FINE_LABELS = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark
shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CLASS_NAMES = tuple(FINE_LABELS.split())


def read(folder: Path | None) -> Raw:
    """The official training and test parts, with fine labels."""
    return read_binary(
        "cifar100",
        folder,
        subfolder=SUBFOLDER,
        train=(TRAIN,),
        test=TEST,
        label_bytes=2,
        class_names=CLASS_NAMES,
        advice=ADVICE,
    )


def find(folder: Path | None) -> str | None:
    paths = find_binary(folder, SUBFOLDER, (TRAIN, TEST))
    return str(paths[0].parent) if paths else None


SOURCE = Source(
    name="cifar100",
    description="CIFAR-100, binary form: 50,000 + 10,000 colour images, 32x32, 100 fine classes",
    advice=ADVICE,
    read=read,
    find=find,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
)
