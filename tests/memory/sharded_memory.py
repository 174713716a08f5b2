"""Run by torchrun, and alone: answers of a memory to seeded queries.

Usage: ``python sharded_memory.py OUT``. Every rank holds its contiguous part
of the pixels and asks its part of the queries; rank 0 writes the answers of
all to OUT.
"""

import os
import sys

import torch
from mmengine.dist import get_dist_info

from u1_plugin.dist import all_gather_rows
from u1_plugin.memory import (
    Memory,
    MemoryBank,
    Pixels,
    PlaneCoordinates,
    PriorBias,
    Queries,
    coreset,
)

PIXELS, QUERIES, CHANNELS = 301, 23, 12
CASES = {
    'cosine': dict(),
    'l2': dict(metric='l2'),
    'shuffled': dict(shuffle=3),
    'faiss': dict(engine='faiss:Flat'),
    'biased': dict(),
}


def part(count: int) -> slice:
    rank, world = get_dist_info()
    return slice(count * rank // world, count * (rank + 1) // world)


def pixels() -> Pixels:
    generator = torch.Generator().manual_seed(0)
    hues = torch.rand(PIXELS, generator=generator) * 6 - 3
    return Pixels(
        torch.rand(PIXELS, CHANNELS, generator=generator),
        torch.arange(PIXELS) % 7,
        torch.arange(PIXELS) // 4,
        torch.rand(PIXELS, 2, generator=generator) * 2 - 1,
        hues,
    )


def queries() -> Queries:
    generator = torch.Generator().manual_seed(1)
    return Queries(
        torch.rand(QUERIES, CHANNELS, generator=generator),
        torch.rand(QUERIES, 2, generator=generator) * 2 - 1,
        torch.rand(QUERIES, generator=generator) * 6 - 3,
    )


def doubles() -> Pixels:
    """A few different pixels, each many times and in every part."""
    some = pixels()
    numbers = torch.arange(PIXELS)
    return some._replace(
        vectors=some.vectors[numbers * 7 % 11].round(),
        positions=some.positions[numbers % 3],
        hues=some.hues[numbers % 3],
    )


def bank_of(own: Pixels) -> MemoryBank:
    bank = MemoryBank()
    for size in (1, 4, len(own.labels)):  # blocks of several sizes
        bank.append(own.select(slice(0, size)))
        own = own.select(slice(size, None))
    return bank


def gathered(matches) -> list:
    return [torch.cat(all_gather_rows(field)) for field in matches]


def answers(own: Pixels, asked: Queries, k: int) -> dict:
    bank = bank_of(own)
    found = {}
    for name, options in CASES.items():
        bias = None
        if name == 'biased':
            here = PlaneCoordinates(*asked[1:])
            bias = PriorBias(here, here, 'image', 3.0, 0.5, 0.3)
        memory = Memory(bank, sharded=True, **options)
        found[name] = gathered(memory.search(asked, k, bias))
    return found


def answers_after_changes(own: Pixels, asked: Queries) -> dict:
    """Of one memory whose bank changes on one rank, then on all."""
    bank, found = bank_of(own), {}
    memory = Memory(bank, sharded=True, shuffle=5)
    memory.search(asked, 4)
    bank.remove(images=[1, 2])  # the first rank's
    found['one rank changed'] = gathered(memory.search(asked, 4))
    bank.remove(labels=[0, 3])
    found['all changed'] = gathered(memory.search(asked, 4))
    bank.remove(labels=range(7))
    found['emptied'] = refused(lambda: memory.search(asked, 4), 'empty')
    return found


def refused(call, words: str) -> list:
    """Whether every rank refuses by these words; none waits for another."""
    try:
        call()
        right = False
    except ValueError as error:
        right = words in str(error)
    every = torch.cat(all_gather_rows(torch.tensor([right])))
    return [every.all()[None]]


def refused_queries(own: Pixels, asked: Queries) -> list:
    """A query of the last rank alone is no number."""
    memory = Memory(bank_of(own), sharded=True)
    rank, world = get_dist_info()
    vectors = asked.vectors.clone()
    if rank == world - 1:
        vectors[2, 3] = float('nan')
    return refused(
        lambda: memory.search(asked._replace(vectors=vectors), 3), 'NaN'
    )


def refused_index(own: Pixels) -> list:
    """Too many cells for the first rank's pixels, not for the last one's."""
    if get_dist_info()[0] == 0:
        own = own.select(slice(0, 20))
    engine = dict(type='faiss', factory='IVF50,Flat', nprobe=9)
    return refused(
        lambda: Memory(bank_of(own), engine, sharded=True), 'engine.factory='
    )


def main() -> None:
    if 'RANK' in os.environ:
        # MMEngine's own start would bind each process to a GPU.
        torch.distributed.init_process_group('gloo')
    everything, asked = pixels(), queries()
    asked = Queries(*(f[part(QUERIES)] for f in asked))
    own = everything.select(part(PIXELS))
    found = answers(own, asked, 5)
    # A rank without a single pixel, and fewer pixels than neighbours.
    for name, count in (('one', 1), ('three', 3)):
        some = everything.select(slice(0, count))
        found[name] = answers(some.select(part(count)), asked, 5)['cosine']
    repeated = doubles().select(part(PIXELS))
    for name, matches in answers(repeated, asked, 40).items():
        found[f'{name} of doubles'] = matches
    found.update(answers_after_changes(own, asked))
    for name, pixels_ in (('coreset', own), ('coreset of doubles', repeated)):
        for width in (8, 128):
            index = coreset(bank_of(pixels_), 0.1, width=width, sharded=True)
            index = torch.cat(all_gather_rows(index + part(PIXELS).start))
            found[f'{name} {width}'] = [index]
    found['refused'] = refused_queries(own, asked)
    found['refused index'] = refused_index(own)
    if get_dist_info()[0] == 0:
        torch.save(found, sys.argv[1])
    if 'RANK' in os.environ:
        # A rank that ends while another still talks to it may abort.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == '__main__':
    main()
