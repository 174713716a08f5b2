"""A bank filled on disk is that filled in memory, or leaves nothing."""

import copy
import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from bank_files import assert_same, both, fill, some_pixels
from banks import DTYPES
from helpers import images, memory_classifier
from safetensors.torch import load_file

from u1_plugin.memory import MemoryBank, bank_on_disk, coreset


@pytest.mark.parametrize('dtype', DTYPES)
def test_a_bank_filled_on_disk_is_the_bank_filled_in_memory(dtype, tmp_path):
    file, plain = tmp_path / 'new' / 'bank.safetensors', tmp_path / 'plain'
    with bank_on_disk(file, dtype, dict(weights='x')) as bank:
        assert not file.exists()
        fill(bank)
        # It answers while it is filled, too.
        assert_same(bank, fill(MemoryBank(dtype)))
    assert bank.mapped
    assert [f.name for f in file.parent.iterdir()] == [file.name]
    expected = fill(MemoryBank(dtype, dict(weights='x')))
    expected.save(plain)
    for found in (bank, MemoryBank.load(file), MemoryBank.load(plain)):
        assert_same(found, expected)
    mapped = MemoryBank.load(file, dict(weights='x'), mmap=True)
    assert mapped.mapped and mapped.nbytes == expected.nbytes
    assert_same(mapped, expected)
    # The library that defines the format reads it, and no pickle is in it.
    assert torch.equal(load_file(file)['0.labels'], expected.field('labels'))


@pytest.mark.parametrize('dtype', DTYPES)
def test_what_is_removed_or_added_later_is_not_in_the_file(dtype, tmp_path):
    bank, mapped = both(tmp_path, dtype)
    before = (tmp_path / 'bank.safetensors').read_bytes()
    twin = copy.deepcopy(mapped)
    for one in (bank, mapped):
        one.keep(range(3, 60, 2))
        one.append(some_pixels(11, 6, 5))
        one.remove(images=[1, 501])
    assert_same(mapped, bank)
    assert len(twin) == 64  # a copy of its own
    assert (tmp_path / 'bank.safetensors').read_bytes() == before
    mapped.save(tmp_path / 'bank.safetensors')  # over what it reads from
    assert_same(mapped, bank)
    assert_same(MemoryBank.load(tmp_path / 'bank.safetensors', mmap=True), bank)


def test_a_filling_may_be_reduced(tmp_path):
    """As a coreset does at its end, or a removal in between."""
    file = tmp_path / 'bank.safetensors'
    expected = MemoryBank('uint8')
    with bank_on_disk(file, 'uint8') as bank:
        for one in (bank, expected):
            fill(one)
            one.remove(labels=[2])
            one.append(some_pixels(8, 6, 6))
            one.append(some_pixels(9, 6, 7))
        assert_same(bank, expected)
        for one in (bank, expected):
            one.keep(coreset(one, 0.3, sample=0.5))
    for found in (bank, MemoryBank.load(file, mmap=True)):
        assert_same(found, expected)
    assert [f.name for f in tmp_path.iterdir()] == [file.name]


def test_nothing_is_memorised(tmp_path):
    with bank_on_disk(tmp_path / 'bank', 'uint8') as bank:
        pass
    assert len(bank) == len(MemoryBank.load(tmp_path / 'bank', mmap=True)) == 0


def test_an_interrupted_filling_leaves_nothing(tmp_path):
    file = tmp_path / 'bank.safetensors'
    fill(MemoryBank()).save(file)
    old = file.read_bytes()
    with pytest.raises(KeyboardInterrupt), bank_on_disk(file) as bank:
        bank.append(some_pixels())
        raise KeyboardInterrupt
    assert len(bank) == 0
    assert file.read_bytes() == old
    assert [f.name for f in tmp_path.iterdir()] == [file.name]


KILLED = """
import os, signal, sys, torch
from u1_plugin.memory import Pixels, bank_on_disk
rows = torch.zeros(9).long()
places = torch.zeros(9, 2), torch.zeros(9)
with bank_on_disk(sys.argv[1]) as bank:
    bank.append(Pixels(torch.ones(9, 6), rows, rows, *places))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_filling_is_swept_by_the_next(tmp_path, root, environment):
    file = tmp_path / 'bank.safetensors'
    command = [sys.executable, '-c', KILLED, str(file)]
    done = subprocess.run(command, cwd=root, env=environment)
    assert done.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) and not file.exists()
    with bank_on_disk(file) as bank:
        fill(bank)
    assert [f.name for f in tmp_path.iterdir()] == [file.name]


def test_another_file_is_not_replaced(tmp_path):
    file = tmp_path / 'notes'
    file.write_text('mine')
    with pytest.raises(FileExistsError, match='notes'):
        with bank_on_disk(file):
            pytest.fail('the block is not entered')
    assert file.read_text() == 'mine'
    with pytest.raises(ValueError, match="dtype='int4'"):
        bank_on_disk(tmp_path / 'bank', 'int4').__enter__()


def test_one_file_has_one_number_of_channels(tmp_path):
    with pytest.raises(ValueError, match='5 channels'):
        with bank_on_disk(tmp_path / 'bank') as bank:
            fill(bank).remove(labels=range(4))
            bank.append(some_pixels(3, channels=5))
    assert not list(tmp_path.iterdir())


def test_a_head_fills_a_file(tmp_path):
    queries, answers = images(5, seed=2), []
    for file in (None, tmp_path / 'bank.safetensors'):
        model = memory_classifier(dtype='uint8')
        feats = model.extract_feat(images(20))
        numbers = torch.arange(20)
        if file is None:
            model.head.fill(feats, numbers % 10, numbers)
        else:
            with bank_on_disk(file, 'uint8') as bank:
                model.head.set_bank(bank)
                model.head.fill(feats, numbers % 10, numbers)
                assert model.head.bank is bank
                identity = dict(bank.identity)
            MemoryBank.load(file, identity)
        answers.append(model(queries))
    assert torch.equal(*answers)


@pytest.mark.parametrize('seed', range(12))
def test_fillings_that_remove_end_as_in_memory(tmp_path, seed):
    """Appended, removed and kept in any order, all of it at times."""
    rng = np.random.default_rng(seed)
    file, whole = tmp_path / 'bank.safetensors', MemoryBank()
    with bank_on_disk(file) as bank:
        for step in range(6):
            pixels = some_pixels(int(rng.integers(1, 6)), seed=step)
            for one in (bank, whole):
                one.append(pixels)
            if rng.random() < 0.5:
                kept = np.flatnonzero(rng.random(len(whole)) < 0.4).tolist()
                kept *= seed % 3 > 0  # none at all, in a third of the cases
                for one in (bank, whole):
                    one.keep(kept)
        for one in (bank, whole):
            one.append(some_pixels(3, seed=99))
    for found in (bank, MemoryBank.load(file), copy.deepcopy(bank)):
        assert_same(found, whole)


def test_a_bank_on_disk_is_not_pickled(tmp_path):
    bank = MemoryBank()
    bank.append(some_pixels())
    bank.save(tmp_path / 'bank.safetensors')
    mapped = MemoryBank.load(tmp_path / 'bank.safetensors', mmap=True)
    with pytest.raises(TypeError, match='mmap=True.*bank.save'):
        pickle.dumps(mapped)
    assert len(copy.deepcopy(mapped)) == len(bank) > 0
