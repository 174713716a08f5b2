"""Run by torchrun: accumulators of seeded data, of all ranks together.

Usage: ``torchrun analysis_ranks.py OUT``. Rank 0 writes the sums to OUT.
"""

import sys

import torch

from u1_plugin.measure.accumulators import AngleAccumulator, EnergyAccumulator
from u1_plugin.measure.collapse import CollapseAccumulator
from u1_plugin.measure.sums import Accumulator
from u1_plugin.measure.vectors import VectorAccumulator

IMAGES, CLASSES = 101, 5


def accumulators(part: slice) -> dict:
    """Of the images of ``part``, in batches of 16."""
    generator = torch.Generator().manual_seed(0)
    energy = torch.rand(IMAGES, 7, 7, generator=generator)
    energy[3] = 0
    moments = torch.randn(IMAGES, 2, generator=generator)
    vectors = torch.rand(IMAGES, 12, generator=generator)
    labels = torch.arange(IMAGES) % CLASSES
    totals = dict(
        energy=EnergyAccumulator(),
        angle=AngleAccumulator(CLASSES),
        vector=VectorAccumulator(),
        collapse=CollapseAccumulator(CLASSES),
    )
    own = torch.arange(IMAGES)[part]
    for index in own.split(16) if len(own) else []:
        totals['energy'].update(energy[index], index)
        totals['angle'].update(moments[index], labels[index])
        totals['vector'].update(vectors[index])
        totals['collapse'].update(vectors[index], labels[index])
    return totals


def reduced(totals: dict) -> dict:
    return {name: own.reduce().state() for name, own in totals.items()}


def is_refused(total: Accumulator) -> bool:
    try:
        total.reduce()
    except ValueError as error:
        return 'the ranks saw' in str(error)
    return False


def main() -> None:
    # Before MMEngine, whose own start binds each process to a GPU.
    torch.distributed.init_process_group('gloo')
    from mmengine.dist import all_gather_object, get_dist_info

    rank, world = get_dist_info()
    assert world == 2
    own = accumulators(slice(rank, None, world))
    before = own['energy'].state()['maps']
    found = {'halves': reduced(own)}
    found['untouched'] = bool((own['energy'].state()['maps'] == before).all())
    none = slice(None) if rank == 1 else slice(0, 0)
    found['one rank has none'] = reduced(accumulators(none))
    other = VectorAccumulator()
    other.update(torch.ones(1, 3 + rank))
    found['refused'] = all_gather_object(is_refused(other))
    if rank == 0:
        torch.save(found, sys.argv[1])
    # A rank that ends while another still talks to it may abort.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    main()
