"""A broken image, place or rank leaves no memory behind."""

import os
import subprocess
import sys

import pytest
from memory_runs import Quick, config_of
from mmengine.registry import TRANSFORMS


@TRANSFORMS.register_module(force=True)
class FailsAt:
    """Reads so many images, then raises or gives none."""

    seen = 0

    def __init__(self, count: int, silent: bool = False) -> None:
        self.count, self.silent = count, silent

    def __call__(self, results: dict):
        FailsAt.seen += 1
        if FailsAt.seen > self.count:
            if self.silent:
                return None
            raise OSError('truncated image')
        return results


@pytest.mark.parametrize('silent', [True, False])
def test_a_broken_image_leaves_no_memory(folder, tmp_path, silent):
    """Also where the data set would show another image in its place."""
    FailsAt.seen = 0
    file = tmp_path / 'bank.safetensors'
    config = config_of(folder, **{'custom_hooks.0.file': str(file)})
    step = dict(type='FailsAt', count=5, silent=silent)
    config.test_dataloader.dataset.pipeline.insert(1, step)
    runner = Quick(config)
    with pytest.raises(ValueError, match=r'image .*b/\d.png cannot be read'):
        runner.call_hook('before_test')
    assert FailsAt.seen > 5
    assert not len(runner.model.head.bank)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['data']
    FailsAt.seen = -100
    runner.call_hook('before_test')
    assert len(runner.model.head.bank) == 36 and file.exists()


def test_a_place_that_cannot_be_written_is_named_before_the_work(
    folder, tmp_path
):
    FailsAt.seen = 0
    (tmp_path / 'taken').write_text('a file where a folder must be')
    file = tmp_path / 'taken' / 'bank.safetensors'
    config = config_of(folder, **{'custom_hooks.0.file': str(file)})
    config.test_dataloader.dataset.pipeline.insert(
        1, dict(type='FailsAt', count=0)
    )
    with pytest.raises((ValueError, OSError), match='MemoryBankHook.file'):
        Quick(config).call_hook('before_test')
    assert FailsAt.seen == 0


def test_a_filling_on_disk_that_fails_leaves_nothing(folder, tmp_path):
    (folder / 'c/2.png').write_bytes(b'no picture')
    own = {
        'custom_hooks.0.file': str(tmp_path / 'bank'),
        'custom_hooks.0.mmap': True,
    }
    runner = Quick(config_of(folder, **own))
    with pytest.raises(ValueError, match='c/2.png'):
        runner.call_hook('before_test')
    assert not len(runner.model.head.bank)
    assert [f.name for f in tmp_path.iterdir()] == [folder.name]


@pytest.mark.slow
@pytest.mark.parametrize('mmap', [False, True])
def test_what_stops_one_rank_stops_all(root, environment, folder, mmap):
    """The images of the second rank alone are changed, then broken."""
    command = [
        *(sys.executable, '-m', 'torch.distributed.run'),
        *('--nproc_per_node=2', '--standalone'),
        *(str(root / 'tests/mm/memory_hook_ranks.py'), str(folder.parent)),
        *(['mmap'] if mmap else []),
    ]
    paths = os.pathsep.join(map(str, (root, root / 'tests')))
    done = subprocess.run(
        command,
        env=dict(environment, PYTHONPATH=paths),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    names = ('filled', 'read', 'half', 'unequal', 'changed', 'broken')
    lines = done.stdout.splitlines()
    steps = [[s for s in lines if s.startswith(f'{n}: ')] for n in names]
    # Four of nine images, of four pixels each; a lone part is made again.
    for name, said in zip(names[:3], steps):
        assert said == [f'{name}: rank 0: 16 vectors', f'{name}: 20 vectors']
    unequal, changed, broken = steps[3:]
    for line in unequal:
        assert 'test_dataloader gives the ranks [2, 1] batches' in line
    assert 'round_up=True' in unequal[0]
    assert 'another rank failed with ValueError' in changed[0]
    assert 'images' in changed[0] and 'images' in changed[1]
    assert 'c/2.png cannot be read' in broken[0] and 'c/2.png' in broken[1]
    assert not list(folder.parent.glob('bank*'))
