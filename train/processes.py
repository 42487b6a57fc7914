"""Several processes that train one network, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun started, if it did."""
    if "WORLD_SIZE" in os.environ:
        distributed.init_process_group("gloo")
    try:
        yield
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def rank() -> int:
    """Return the number of this process among those that train together; 0 where it is alone."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace gradients by their mean over all processes."""
    if not distributed.is_initialized():
        return
    gradients = [each.grad for each in parameters if each.grad is not None]
    flat = torch.cat([each.flatten() for each in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for gradient, mean in zip(gradients, flat.split([each.numel() for each in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
