"""Runs have slots, launchers and a folder of their own."""

import os
import time
from types import SimpleNamespace

import pytest

from u1_plugin.lab.benchmark import pool
from u1_plugin.lab.benchmark.folder import check_folder, locked
from u1_plugin.lab.benchmark.pool import make_slots


def test_a_folder_with_files_of_others_is_refused(tmp_path):
    check_folder(tmp_path / 'new')
    check_folder(tmp_path)
    (tmp_path / '.lock').touch()
    check_folder(tmp_path)  # left by a kill before the first mark
    with locked(tmp_path):
        pass
    (tmp_path / 'anything').touch()
    check_folder(tmp_path)
    (tmp_path / '.lock').write_text('')  # as earlier versions left it
    with pytest.raises(FileExistsError, match='--out=.*holds files'):
        check_folder(tmp_path)
    for name, head in (
        ('planned.csv', 'config,arm,role,seed\na,b,c,1\n'),
        ('results.csv', 'suite,config,arm,role,seed,epochs\n'),
    ):
        (tmp_path / name).write_text('mine\n')
        with pytest.raises(FileExistsError, match='--out=.*not written by'):
            check_folder(tmp_path)
        (tmp_path / name).write_text(head)
        check_folder(tmp_path)
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match='--out=.*is a file'):
        check_folder(tmp_path / 'anything')


def test_runs_fork_on_gpus_that_were_counted_without_cuda(monkeypatch):
    slots = make_slots(1, '0,0', 1, None)
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    monkeypatch.delenv('PYTORCH_NVML_BASED_CUDA_CHECK', raising=False)
    assert not any(slot.forks for slot in slots)
    monkeypatch.setenv('PYTORCH_NVML_BASED_CUDA_CHECK', '1')
    assert all(slot.forks for slot in slots)
    monkeypatch.setattr('torch.cuda.is_initialized', lambda: True)
    assert not any(slot.forks for slot in slots)


def test_a_forked_run_leaves_threads_alone_that_nobody_set(
    monkeypatch, tmp_path
):
    """On a GPU: there OMP_NUM_THREADS is the user's to set."""
    done = []
    monkeypatch.setattr(pool, 'run_mmpretrain_tool', done.append)
    monkeypatch.setattr(pool, 'die_with', lambda parent, by: None)
    monkeypatch.setattr('os.dup2', lambda *ends: None)
    monkeypatch.setattr('torch.set_num_threads', done.append)
    monkeypatch.setattr('sys.argv', [])
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    for (slot,) in make_slots(1, '0', 1, None), make_slots(1, None, 1, None):
        pool._train([], [], slot.environment(), 0, 0, 0)
    assert done == ['train.py', 1, 'train.py']


def test_a_launcher_is_asked_to_end_before_it_is_killed(tmp_path):
    """And holds the folder's lock until it has."""
    script = (
        'sleep 60 & trap "kill $!; echo bye; exit 7" TERM; echo hello; wait'
    )
    run = SimpleNamespace(
        name='run', folder=tmp_path, write_config=lambda: 'c.py'
    )
    with locked(tmp_path) as lock:
        slot = SimpleNamespace(
            forks=False,
            options=lambda *place: [],
            command=lambda *place: ['bash', '-c', f'{script} 3<&{lock}'],
            environment=lambda: dict(os.environ),
        )
        job = pool.Job(run, slot, tmp_path, lock)
        while 'hello' not in job.log.read_text():
            time.sleep(0.1)
        assert job.process.exitcode is None
        job.stop()
        assert job.process.exitcode == 7
        assert job.error().endswith('hello\nbye')
        slot.command = lambda *place: [str(tmp_path / 'nothing')]
        job = pool.Job(run, slot, tmp_path, lock)
        job.process.join()
        assert 'exit status 1' in job.error()


def test_slots():
    assert [s.gpus for s in make_slots(2, '0,1,2', 1, None)] == ['0', '1', '2']
    assert [s.gpus for s in make_slots(1, '0,1,2,3', 2, None)] == ['0,1', '2,3']
    assert len(make_slots(3, None, 1, None)) == 3
    with pytest.raises(ValueError, match='names 1 GPU'):
        make_slots(1, '0', 8, None)
    with pytest.raises(ValueError, match='leave out one'):
        make_slots(1, '0', 1, 'gpu')
