"""A module in training as a network: traced once, read anew for each batch, with gradients.

BatchNorm. In training mode it normalises by the statistics of the clean batch, and so does the network that is read:
    y = gamma (x - mean) invstd + beta,    mean and invstd = 1 / sqrt(var + eps) over the clean batch,
folded into the affine map before it like the running statistics are in evaluation (``lower``). Everything that a loss
asks the network, at other points or about whole boxes, is asked of this one function.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from certiprune.core.errors import ModelError
from certiprune.net.lower import Statistics, read
from certiprune.net.network import Network
from certiprune.net.ops import Shape
from certiprune.net.trace import Trace, trace


class Live:
    """``module``, whose network can be had for any batch; its weights may change in between, its structure may not.

    Args:
        module: as for ``lower``.
        shape: the input's shape [c, h, w] without the batch.

    The module is traced when the network is first asked for.
    """

    def __init__(self, module: nn.Module, shape: Shape) -> None:
        self.module, self.shape = module, tuple(shape)

    @cached_property
    def _trace(self) -> Trace:
        return trace(self.module)

    @cached_property
    def norms(self) -> dict[str, tuple[_BatchNorm | None, ...]]:
        """The name of each ReLU -> for each place that it is used in, in order: the BatchNorm right before it."""
        return _norms(self._trace)

    def __call__(self, images: Tensor) -> tuple[Network, Tensor]:
        """The network at this moment, and the outputs [n, classes] at ``images`` [n, *shape].

        The module's steps run once, in the mode that it is in; in training mode that moves BatchNorm's running
        statistics on, as any forward pass does. Tensors of the network carry gradients to the module's parameters,
        also through the statistics.

        Raises:
            ModelError: the module cannot be traced, has an unsupported layer, named, or, outside of training mode,
                weights that are not finite.
        """
        run = _Run(self._trace.module, graph=self._trace.graph)
        outputs = run.run(images)
        return self._read(images.dtype, run.seen), outputs

    def fixed(self, images: Tensor) -> Network:
        """The same network with the statistics as constants: no gradients through them, and no pass to have those.

        Raises:
            ModelError: as above.
        """
        run = _Run(self._trace.module, graph=self._trace.graph)
        if any(isinstance(layer, _BatchNorm) and layer.training for layer in self.module.modules()):
            with torch.no_grad():
                run.run(images)
        return self._read(images.dtype, run.seen)

    def _read(self, dtype: torch.dtype, seen: dict[nn.Module, Statistics]) -> Network:
        # In training the loss is looked at instead: here the checks would take as long as a small network's bounds.
        return read(self._trace, self.shape, dtype, seen, checked=not self.module.training)


def _norms(steps: Trace) -> dict[str, tuple[_BatchNorm | None, ...]]:
    found: dict[str, tuple[_BatchNorm | None, ...]] = {}
    for node, (name, _) in steps.relus().items():
        before = steps.layer(node.args[0]) if node.args and isinstance(node.args[0], fx.Node) else None
        found[name] = (*found.get(name, ()), before if isinstance(before, _BatchNorm) else None)
    return found


class _Run(fx.Interpreter):
    """Runs a module's steps and collects what each BatchNorm in training mode normalises by."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, graph=graph, garbage_collect_values=True)
        self.seen: dict[nn.Module, Statistics] = {}

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer = self.fetch_attr(target)
        if not (isinstance(layer, _BatchNorm) and layer.training):
            return layer(*args, **kwargs)
        if layer in self.seen:
            raise ModelError(
                f"{target}: a BatchNorm layer that is used twice has no one batch to normalise by"
            )
        if args[0].numel() == args[0].shape[1]:
            raise ModelError(f"{target}: BatchNorm in training needs more than 1 value per channel")
        y, mean, invstd = _BatchNormalise.apply(
            args[0], layer.weight, layer.bias, *_running(layer), layer.eps
        )
        self.seen[layer] = (mean, invstd)
        return y


def _running(layer: _BatchNorm) -> tuple[Tensor | None, Tensor | None, float]:
    """What a forward pass of ``layer`` updates, and by how much (torch's own bookkeeping)."""
    if not layer.track_running_stats or layer.running_mean is None:
        return None, None, 0.0
    count = layer.num_batches_tracked
    if count is not None:
        count.add_(1)
    factor = layer.momentum
    if factor is None:
        factor = 1.0 if count is None else 1.0 / float(count)
    return layer.running_mean, layer.running_var, factor


class _BatchNormalise(torch.autograd.Function):
    """BatchNorm by the batch, with the statistics as outputs that have gradients of their own.

    Torch's kernel computes them anyway, but lets no gradient in there; computing them a second time takes longer than
    the convolution before.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        factor: float,
        eps: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        y, mean, invstd = torch.native_batch_norm(
            x, weight, bias, running_mean, running_var, True, factor, eps
        )
        ctx.save_for_backward(x, weight, mean, invstd)
        ctx.eps = eps
        ctx.set_materialize_grads(False)
        return y, mean, invstd

    @staticmethod
    def backward(
        ctx: Any, grad_y: Tensor | None, grad_mean: Tensor | None, grad_invstd: Tensor | None
    ) -> Any:
        x, weight, mean, invstd = ctx.saved_tensors
        grad_x = grad_weight = grad_bias = None
        if grad_y is not None:
            needed = [ctx.needs_input_grad[0], weight is not None, weight is not None]
            grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
                grad_y, x, weight, None, None, mean, invstd, True, ctx.eps, needed
            )
        if grad_mean is not None or grad_invstd is not None:
            # d mean / dx = 1 / n;  d invstd / dx = -invstd^3 (x - mean) / n.
            n = x.numel() // x.shape[1]
            slope = torch.zeros_like(mean) if grad_invstd is None else -grad_invstd * invstd**3 / n
            level = -slope * mean if grad_mean is None else grad_mean / n - slope * mean
            slope, level = (t.reshape(-1, *[1] * (x.dim() - 2)) for t in (slope, level))
            grad_x = (
                torch.addcmul(level, x, slope) if grad_x is None else grad_x.add_(level).addcmul_(x, slope)
            )
        return grad_x, grad_weight, grad_bias, None, None, None, None
