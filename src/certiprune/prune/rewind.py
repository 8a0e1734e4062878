"""What the weights are set to before a pruned network is trained again.

Frankle and Carbin, "The lottery ticket hypothesis", ICLR 2019 (rewinding to the initial weights); Frankle et
al., "Linear mode connectivity and the lottery ticket hypothesis", ICML 2020 (to those of an early epoch).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.prune.scores.base import masked_parameters


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and persistent buffers of ``model``, on the CPU.

    Nothing is shared with the model, so that training on does not change what was kept.
    """
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


@torch.no_grad()
def rewind_(model: nn.Module, tensors: Mapping[str, Tensor], mask: Mask) -> None:
    """Give ``model`` the stored weights and buffers bit for bit, in place; the pruned ones become zero.

    Args:
        model: any network; nothing of it stays that ``tensors`` does not say, batch-norm statistics included.
        tensors: all parameters and persistent buffers by name, as ``snapshot`` gives them; they are copied.
        mask: what is kept.

    Raises:
        InputError: a tensor is missing, unknown or of another shape or type, or the mask does not fit; the
            model is then unchanged.
    """
    masked_parameters(model, mask)  # raises where the mask does not fit, before anything is changed
    state = model.state_dict()
    for name in sorted(state.keys() ^ tensors.keys()):
        raise InputError(
            f"cannot rewind: {name} is in the {'model' if name in state else 'stored weights'} alone"
        )
    for name, tensor in tensors.items():
        if tensor.shape != state[name].shape or tensor.dtype != state[name].dtype:
            stored, wanted = (f"{t.dtype} {tuple(t.shape)}" for t in (tensor, state[name]))
            raise InputError(f"cannot rewind: {name} was stored as {stored}, the model has {wanted}")
    for name, tensor in tensors.items():
        state[name].copy_(tensor)
    mask.apply_(model)
