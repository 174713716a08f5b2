"""Run by torchrun on two ranks: what the hook does where they differ.

Usage: ``python memory_hook_ranks.py FOLDER [mmap]``, with ``FOLDER/data`` of
pictures as ``memory_runs.py`` makes them. Every rank prints a line a step.
"""

import sys
from pathlib import Path

import torch
from memory_runs import Quick, config_of, rows

from u1_plugin.dist import all_gather_object, get_rank


def step(name: str, folder: Path, **changes) -> None:
    file = str(folder / 'bank.safetensors')
    own = {'custom_hooks.0.file': file}
    own['custom_hooks.0.mmap'] = sys.argv[2:] == ['mmap']
    config = config_of(folder / 'data', **own, **changes)
    runner = Quick(config)
    try:
        runner.call_hook('before_test')
        found = f'{len(runner.model.head.bank)} vectors'
        assert rows(runner.model.head.bank).isfinite().all()
    except (ValueError, RuntimeError) as error:
        found = str(error)
    if get_rank() == 0:
        found = 'rank 0: ' + found.replace('\n', ' ')
    for line in all_gather_object(found):
        if get_rank() == 0:
            print(f'{name}: {line}', flush=True)


def main() -> None:
    torch.distributed.init_process_group('gloo')
    folder = Path(sys.argv[1])
    step('filled', folder)
    step('read', folder)
    # Five images and four are two batches of four and one.
    unequal = {'test_dataloader.sampler.round_up': False}
    step('unequal', folder, **unequal)
    if get_rank() == 0:
        (folder / 'bank.0-of-2.safetensors').unlink()
    torch.distributed.barrier()
    step('half', folder)
    last, first = (folder / f'data/{name}.png' for name in ('c/2', 'a/0'))
    if get_rank() == 0:
        last.write_bytes(first.read_bytes())
    torch.distributed.barrier()
    step('changed', folder)
    if get_rank() == 0:
        last.write_bytes(b'no picture')
        for part in folder.glob('bank*'):
            part.unlink()
    torch.distributed.barrier()
    step('broken', folder)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    main()
