"""Images decided in this process or by several worker processes, each outcome as soon as it is there.

A worker reads model and images itself, then asks for a few images whenever it has none; rows come back one by one.
It ends when this process does, however that ends.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from certiprune.cli.images import Images, read
from certiprune.cli.machine import Share, importing, use_threads
from certiprune.cli.rows import Row
from certiprune.core import processes
from certiprune.core.errors import CertipruneError, InputError
from certiprune.core.memory import keep_freed

Rows = Generator[Row, None, None]

# As many images as the verifier bounds together; near the end workers get fewer, so that all end at about one time.
_MOST = 16


@dataclass(frozen=True)
class Work:
    """What is asked, in a form that another process can read.

    Attributes:
        model: an ONNX file or a checkpoint.
        images: the .npz file.
        start, end: the images in question.
        eps: the radius of all; None where the file has their own.
        timeout, nodes: what one image may take.
        device: where to search.
        share: what one process may use.
    """

    model: Path
    images: Path
    start: int
    end: int
    eps: float | None
    timeout: float
    nodes: int | None
    device: str
    share: Share


class WorkerError(CertipruneError):
    """A worker process has ended before its work was done, or met an error that is not the user's."""


@dataclass(frozen=True)
class _Failed:
    """What a worker says when it cannot go on; ``expected``: the user can mend it."""

    text: str
    expected: bool


@dataclass
class _Worker:
    """A worker process, this end of the pipe to it, and the images that it has and has not decided."""

    process: BaseProcess
    pipe: Connection
    busy: set[int] = field(default_factory=set)


def alone(work: Work, images: Images, numbers: Sequence[int]) -> Rows:
    """Decide the images ``numbers`` in this process; ``images`` are those from ``work.start`` on.

    Everything is checked before the rows are returned.
    """
    return _ready(work, images)(numbers)


def shared(work: Work, numbers: Sequence[int], jobs: int) -> Rows:
    """Decide the images ``numbers`` in ``jobs`` worker processes.

    Raises:
        CertipruneError: what a worker found wrong with the question.
        WorkerError: a worker has crashed or failed; the text says on which images.
    """
    left = list(numbers)
    with _workers(work, jobs) as workers:
        while workers:
            for pipe in wait([worker.pipe for worker in workers]):
                worker = next(worker for worker in workers if worker.pipe is pipe)
                message = _answer(worker)
                if isinstance(message, Row):
                    worker.busy.remove(message.index)
                    yield message
                elif worker.busy:
                    raise WorkerError(f"a worker left out {_named(worker.busy)}")
                else:
                    size = max(1, min(_MOST, -(-len(left) // (2 * jobs))))
                    part, left = left[:size], left[size:]
                    worker.busy.update(part)
                    _send(worker, part)
                    if not part:
                        workers.remove(worker)


@contextmanager
def _workers(work: Work, jobs: int) -> Iterator[list[_Worker]]:
    """Worker processes, which are gone when the block is left."""
    workers: list[_Worker] = []
    try:
        for _ in range(jobs):
            workers.append(_Worker(*processes.start(_serve, work)))
        yield list(workers)
    finally:
        processes.stop([(worker.process, worker.pipe) for worker in workers])


def _answer(worker: _Worker) -> Row | None:
    """What the worker says next: a row, or None where it wants images."""
    try:
        message = worker.pipe.recv()
    except (EOFError, OSError) as error:
        raise _crash(worker) from error
    if isinstance(message, _Failed):
        raise (
            InputError(message.text)
            if message.expected
            else WorkerError(
                f"a worker failed on {_named(worker.busy)}: {message.text} (with --jobs 1 the error shows where)"
            )
        )
    assert message is None or isinstance(message, Row)
    return message


def _send(worker: _Worker, part: list[int]) -> None:
    try:
        worker.pipe.send(part)
    except OSError as error:
        raise _crash(worker) from error


def _crash(worker: _Worker) -> WorkerError:
    how = processes.ending(worker.process, "take fewer --jobs or less --memory")
    return WorkerError(f"a worker crashed on {_named(worker.busy)}: it {how}")


def _named(busy: set[int]) -> str:
    if not busy:
        return "its way to the first images"
    return f"image{'s' if len(busy) > 1 else ''} {', '.join(map(str, sorted(busy)))}"


def _serve(pipe: Connection, work: Work) -> None:
    """A worker's life; runs in a process of its own."""
    processes.end_with_parent()
    try:
        decide = _ready(work, read(work.images).cut(work.start, work.end))
        while True:
            pipe.send(None)
            part = pipe.recv()
            if not part:
                return
            for row in decide(part):
                pipe.send(row)
    except CertipruneError as error:
        pipe.send(_Failed(str(error), True))
    except (EOFError, BrokenPipeError):
        # The parent has gone.
        return
    except Exception as error:
        pipe.send(_Failed(f"{type(error).__name__}: {error}", False))


def _ready(work: Work, images: Images) -> Callable[[Sequence[int]], Rows]:
    """From numbers of images to their rows, with everything checked and the model loaded."""
    with importing():
        from certiprune import api
        from certiprune.verify import api as _  # noqa: F401 (loaded now, in the block)
    use_threads(work.share.threads)
    keep_freed()
    asked = api.questions(
        work.model,
        images.x,
        images.y,
        eps=images.eps if work.eps is None else work.eps,  # type: ignore[arg-type]
        timeout=work.timeout,
        nodes=work.nodes,
        memory=work.share.memory,
        device=work.device,
        indices=range(work.start, work.end),
    )
    return lambda numbers: (Row.of(outcome) for outcome in asked.decide([n - work.start for n in numbers]))
