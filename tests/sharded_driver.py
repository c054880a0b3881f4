"""One process of two that hold a model in shards (FSDP2): the first writes the loss and the whole gradients.

Run by tests/adapters/test_layer.py: python sharded_driver.py PRESETS RANK PORT OUT.
"""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from routed import adapted, batch, sample


def gradients(preset: str, rank: int | None = None) -> dict[str, torch.Tensor]:
    """Gradients by name of one step on two samples; in shards over two processes, a sample each, if there is a rank."""
    model, samples = adapted(preset).train(), [sample(0, 6), sample(1, 8)]
    given = batch(samples if rank is None else [samples[rank]])
    if rank is not None:
        mesh = init_device_mesh("cpu", (2,))
        for layer in model.get_base_model().model.language_model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    loss = model(**given).loss
    loss.backward()
    mean = loss.detach().clone()
    if rank is not None:
        dist.all_reduce(mean)
        mean /= 2
    found = {"loss": mean}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            grad = parameter.grad.full_tensor() if isinstance(parameter.grad, DTensor) else parameter.grad
            found[name] = grad.detach().clone().contiguous()
    return found


if __name__ == "__main__":
    presets, rank, port, out = sys.argv[1:]
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "WORLD_SIZE": "2"})
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    results = {each: gradients(each, int(rank)) for each in presets.split(",")}
    if rank == "0":
        save_file({f"{each}/{name}": value for each, found in results.items() for name, value in found.items()}, out)
    dist.destroy_process_group()
