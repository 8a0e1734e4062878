"""Outputs that are no files, answers of earlier runs, and streams that are closed."""

from __future__ import annotations

import json
import os
import stat
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from safetensors import safe_open


def test_a_device_is_written_to_and_not_replaced(certiprune, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        said = certiprune("datasets", "digits", "--npz", pipe, "--count", 1)
        assert (said.status, stat.S_ISFIFO(pipe.stat().st_mode)) == (0, True)
        assert os.read(reader, 2) == b"PK"
    finally:
        os.close(reader)


def test_a_checkpoint_cannot_replace_what_is_no_file(certiprune, model, tmp_path):
    pipe = tmp_path / "pipe.safetensors"
    os.mkfifo(pipe)
    said = certiprune("prune", model, "--amount", 0.5, "--out", pipe)
    assert said.status == 2 and "cannot write" in said.err
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize(
    "command", [("datasets", "digits", "--npz"), ("prune", "MODEL", "--amount", 0.5, "--out")]
)
def test_a_link_stays_a_link(certiprune, model, tmp_path, command):
    target, link = tmp_path / "target.safetensors", tmp_path / "link.safetensors"
    target.write_bytes(b"old")
    link.symlink_to(target)
    said = certiprune(*(model if word == "MODEL" else word for word in command), link)
    assert said.status == 0 and link.is_symlink() and target.read_bytes() != b"old"


@pytest.mark.parametrize("place", ["", "."])
def test_a_folder_or_no_name_in_a_files_place_is_said(certiprune, place):
    said = certiprune("datasets", "digits", "--npz", place, "--count", 1)
    assert said.status == 2
    assert "partial" not in said.err and "Traceback" not in said.err


def test_an_older_answer_does_not_outlive_the_start(certiprune, tmp_path, monkeypatch):
    answer, at_work = tmp_path / "answer.txt", []
    answer.write_text("unsat\n", encoding="utf-8")

    def decided(*_: object) -> str:
        at_work.append(answer.read_text(encoding="utf-8"))
        return "unknown\n"

    monkeypatch.setattr("certiprune.cli.vnnlib._decided", decided)
    assert certiprune("vnnlib", "m.onnx", "p.vnnlib", "--result", answer).status == 0
    assert (at_work, answer.read_text(encoding="utf-8")) == ([""], "unknown\n")


def test_what_is_asked_about_is_never_written_to(certiprune, model, images, tmp_path):
    other = tmp_path / "property.vnnlib"
    other.write_text("the property", encoding="utf-8")
    said = certiprune("vnnlib", model, other, "--result", other)
    assert (said.status, said.out, "another file" in said.err) == (2, "error\n", True)
    assert other.read_text(encoding="utf-8") == "the property"
    for file in (model, images):
        before = file.read_bytes()
        said = certiprune("verify", model, "--images", images, "--eps", 0.1, "--csv", file, "--fresh")
        assert (said.status, "another file" in said.err, file.read_bytes() == before) == (2, True, True)


@pytest.mark.parametrize("name", ["", "results.sqlite", "experiment.yaml"])
def test_json_takes_no_records_place(certiprune, tmp_path, name):
    (tmp_path / "results.sqlite").write_text("records", encoding="utf-8")
    said = certiprune("recommend", tmp_path, "--json", tmp_path / name)
    assert (said.status, "--json" in said.err) == (2, True)


def test_closed_streams_leave_no_traceback():
    words = "from certiprune.cli import main; main(['presets'])"
    for closed in (">&-", "2>&-"):
        ran = subprocess.run(
            ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, words],
            capture_output=True,
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, b"")


def test_archives_of_something_else_are_refused(certiprune, model, tmp_path):
    single, strange = tmp_path / "single.npz", tmp_path / "strange.npz"
    with single.open("wb") as file:
        np.save(file, np.zeros(3))
    with zipfile.ZipFile(strange, "w") as archive:
        archive.writestr("x.npy", b"no array")
        archive.writestr("y.npy", b"")
    for file, word in ((single, "single array"), (strange, "damaged")):
        said = certiprune("verify", model, "--images", file, "--eps", 0.1)
        assert (said.status, word in said.err) == (2, True)


@pytest.mark.parametrize("field, value", [("name", ["mlp"]), ("name", 3), ("classes", 10.5), ("width", 1e9)])
def test_a_checkpoint_that_describes_no_network_is_refused(certiprune, model, images, tmp_path, field, value):
    content = model.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    with safe_open(model, framework="pt") as file:
        ours = json.loads(file.metadata()["certiprune"])
    ours["spec"][field] = value
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"]["certiprune"] = json.dumps(ours)
    text = json.dumps(header).encode()
    other = tmp_path / "other.safetensors"
    other.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])
    said = certiprune("verify", other, "--images", images, "--eps", 0.1)
    assert said.status == 2 and said.err.startswith("certiprune: error: ")
