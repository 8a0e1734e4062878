"""``certiprune vnnlib``: one property of one ONNX model, in the form of VNN-COMP."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from certiprune.cli.words import same_file
from certiprune.core.errors import InputError


def vnnlib(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX file.")],
    property_file: Annotated[
        Path, typer.Argument(metavar="PROPERTY", help="A VNN-LIB file, .vnnlib or .vnnlib.gz.")
    ],
    timeout: Annotated[
        float, typer.Option(help="Seconds for everything, counted from the start of the process.")
    ] = 300.0,
    result: Annotated[Path | None, typer.Option(help="Write what is printed to this file too.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    memory: Annotated[
        str | None, typer.Option(help="Memory for the search: 4G, 800M, or 60% of what is free.")
    ] = None,
) -> None:
    """Decide whether some input has the property that a VNN-LIB file describes (a counterexample).

    The first line is "unsat" (proved: there is none), "sat" (followed by one, that was run through the model in
    onnxruntime), "timeout", "unknown", or "error" (standard error says why, and the status is 2). A box
    whose bounds contradict each other holds no input: "unsat".

    \b
    Example:
      certiprune vnnlib model.onnx property.vnnlib.gz --timeout 60 --result answer.txt
    """
    started = time.monotonic() - age()
    try:
        if result is not None and any(same_file(result, given) for given in (model, property_file)):
            asked, result = result, None  # it is not to be written to, not even that this is an error
            raise InputError(f"--result {asked} is what is asked about; name another file")
        if result is not None and (result.is_dir() or not result.parent.is_dir()):
            raise InputError(f"--result {result} must be a file in a folder that is there")
        if result is not None and result.is_file():
            # Were this process killed, an older answer would be taken for its own.
            result.write_text("", encoding="utf-8")
        text = _decided(model, property_file, started, timeout, threads, device, memory)
        if result is not None:
            result.write_text(text, encoding="utf-8")
    except Exception:
        # Whoever started us reads the answer only, so it must be there whatever went wrong.
        if result is not None:
            with contextlib.suppress(OSError):
                result.write_text("error\n", encoding="utf-8")
        _print("error\n")
        raise
    _print(text)


def _decided(
    model: Path,
    property_file: Path,
    started: float,
    timeout: float,
    threads: int | None,
    device: str,
    memory: str | None,
) -> str:
    if not timeout > 0:
        raise InputError(f"--timeout {timeout:g} must be a number of seconds above 0")
    for what, path in (("model", model), ("property", property_file)):
        if not path.is_file():
            raise InputError(f"{path}: no such {what} file")

    from certiprune.cli.machine import importing, shares, use_threads

    share = shares(1, threads, memory)
    with importing():
        from certiprune.core.device import find_device
        from certiprune.net import onnx_in, onnx_run
        from certiprune.verify import vnnlib as files
        from certiprune.verify.vnnlib_answer import answer
    use_threads(threads)
    where = find_device(device)
    network = onnx_in.read(model, check=False)
    shape = network.input_shape
    problems = files.read(property_file, inputs=math.prod(shape), outputs=network.outputs, shape=shape)
    found = answer(
        network,
        problems,
        session=lambda: onnx_run.session(model, threads or 1),
        deadline=started + timeout - reserve(timeout),
        device=where,
        memory=share.memory,
    )
    if found.word == "unsat" and problems:
        # A proof is about the network that was bounded: make sure that it is the model, there where the property is.
        onnx_run.compare_with_runtime(network, model, problems[0].centre)
    if found.x is not None and found.y is not None:
        return files.write_witness(found.x, found.y)
    return f"{found.word}\n"


def reserve(timeout: float) -> float:
    """Seconds kept back for the last step of the search, the replay and writing the answer."""
    return min(1.0, 0.1 * timeout)


def age() -> float:
    """Seconds since this process was started, which includes starting Python."""
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        # Field 22 of the line, counted from after the name (which may hold spaces): the start, in ticks since boot.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        # Some sandboxes give every process the start 0.
        if ticks > 0 and seconds >= 0.0:
            return seconds
    return time.process_time()


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
