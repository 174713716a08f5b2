"""Banks in files: filled and searched where they lie, under a limit."""

import copy
import functools
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import images, memory_classifier
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from u1_plugin.memory import (
    Bias,
    ExactSearch,
    Memory,
    MemoryBank,
    Pixels,
    Queries,
    Sites,
    bank_on_disk,
    coreset,
    parse_engine,
)
from u1_plugin.memory.device_copy import DeviceCopy
from u1_plugin.memory.mapped import Mapped

FIELDS = ('labels', 'images', 'positions', 'hues')
DTYPES = ('float32', 'float16', 'uint8')


def some_pixels(n=40, channels=6, seed=0) -> Pixels:
    generator = torch.Generator().manual_seed(seed)
    return Pixels(
        torch.rand(n, channels, generator=generator),
        torch.arange(n) % 4,
        torch.arange(n) // 5 + 100 * seed,
        torch.rand(n, 2, generator=generator) * 2 - 1,
        torch.rand(n, generator=generator),
    )


def fill(bank: MemoryBank, sizes=(40, 1, 23), channels=6) -> MemoryBank:
    for seed, size in enumerate(sizes):
        bank.append(some_pixels(size, channels, seed))
    return bank


def both(folder: Path, dtype='float32', sizes=(40, 1, 23), channels=6):
    """The same bank in memory and in a file."""
    file = folder / 'bank.safetensors'
    with bank_on_disk(file, dtype) as filled:
        fill(filled, sizes, channels)
    mapped = MemoryBank.load(file, mmap=True)
    return fill(MemoryBank(dtype), sizes, channels), mapped


def assert_same(one: MemoryBank, two: MemoryBank) -> None:
    assert (len(one), one.dtype) == (len(two), two.dtype)
    vectors = (torch.cat(list(bank.blocks())) for bank in (one, two))
    assert torch.equal(*vectors)
    for name in FIELDS:
        assert torch.equal(one.field(name), two.field(name))


@pytest.mark.parametrize('dtype', DTYPES)
def test_a_bank_filled_on_disk_is_the_bank_filled_in_memory(dtype, tmp_path):
    file, plain = tmp_path / 'new' / 'bank.safetensors', tmp_path / 'plain'
    with bank_on_disk(file, dtype, dict(weights='x')) as bank:
        assert bank.filling and not file.exists()
        fill(bank)
        # It answers while it is filled, too.
        assert_same(bank, fill(MemoryBank(dtype)))
    assert not bank.filling and bank.mapped
    assert [f.name for f in file.parent.iterdir()] == [file.name]
    expected = fill(MemoryBank(dtype, dict(weights='x')))
    expected.save(plain)
    for found in (bank, MemoryBank.load(file), MemoryBank.load(plain)):
        assert_same(found, expected)
    mapped = MemoryBank.load(file, dict(weights='x'), 6, 4, mmap=True)
    assert mapped.mapped and mapped.nbytes == expected.nbytes
    assert_same(mapped, expected)
    # The library that defines the format reads it, and no pickle is in it.
    assert torch.equal(load_file(file)['0.labels'], expected.field('labels'))


def test_files_of_other_writers_are_mapped(tmp_path):
    """Several blocks in one file, as banks in memory are saved."""
    file = tmp_path / 'bank.safetensors'
    bank = fill(MemoryBank('uint8'))
    bank.save(file)
    mapped = MemoryBank.load(file, mmap=True)
    assert_same(mapped, bank)
    mapped.save(tmp_path / 'again')
    assert file.read_bytes() == (tmp_path / 'again').read_bytes()
    state = mapped.state()
    assert_same(MemoryBank.from_state(state), bank)


@settings(max_examples=30)
@given(
    dtype=st.sampled_from(DTYPES),
    metric=st.sampled_from(['cosine', 'l2']),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    channels=st.integers(1, 9),
    block=st.integers(1, 50),
    offset=st.sampled_from([0.0, 100.0]),
    gone=st.sets(st.integers(0, 3), max_size=2),
    data=st.data(),
)
def test_a_mapped_bank_answers_as_one_in_memory(
    dtype, metric, sizes, channels, block, offset, gone, data
):
    with tempfile.TemporaryDirectory() as folder:
        banks = both(Path(folder), dtype, sizes, channels)
        for bank in banks:
            bank.remove(labels=gone)
        if not len(banks[0]):
            return
        k = data.draw(st.integers(1, len(banks[0])))
        queries = some_pixels(7, channels, 9).vectors + offset
        first, second = (
            ExactSearch(bank, metric, chunk=3, block=block).search(queries, k)
            for bank in banks
        )
        for one, two in zip(first, second):
            assert torch.equal(one, two)
        share = data.draw(st.floats(0.05, 0.5))
        first, second = (coreset(bank, share, 3, sample=0.6) for bank in banks)
        assert torch.equal(first, second)


@pytest.mark.parametrize('shuffle', [None, 3])
@pytest.mark.parametrize('biased', [False, True])
def test_matches_have_their_places(tmp_path, shuffle, biased):
    asked = some_pixels(9, 6, 7)
    queries = Queries(asked.vectors, asked.positions, asked.hues)
    here = Sites(asked.positions, asked.hues)
    bias = Bias(here, here, 'both', 2.0, 0.5, width=0.3) if biased else None
    first, second = (
        Memory(bank, shuffle=shuffle).search(queries, 5, bias)
        for bank in both(tmp_path)
    )
    for one, two in zip(first, second):
        assert torch.equal(one, two)


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


@pytest.mark.parametrize('at', [0, 9, 3000, 4096, -100, -1])
def test_a_changed_file_is_not_mapped(tmp_path, at):
    both(tmp_path)
    file = tmp_path / 'bank.safetensors'
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match='bank.safetensors'):
        MemoryBank.load(file, mmap=True)


@pytest.mark.parametrize('size', [0, 7, 100, 4096, -1])
def test_a_truncated_file_is_not_mapped(tmp_path, size):
    both(tmp_path)
    file = tmp_path / 'bank.safetensors'
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ValueError, match='bank.safetensors'):
        MemoryBank.load(file, mmap=True)


def test_what_is_wrong_is_named(tmp_path):
    both(tmp_path)
    file = tmp_path / 'bank.safetensors'
    for wrong, words in (
        (dict(identity=dict(weights='y')), 'weights'),
        (dict(channels=7), 'channels'),
        (dict(num_classes=3), 'labels 3'),
        (dict(mmap='yes'), 'mmap='),
    ):
        with pytest.raises(ValueError, match=words):
            MemoryBank.load(file, **{'mmap': True, **wrong})


def test_a_replaced_file_is_still_read(tmp_path):
    bank, mapped = both(tmp_path)
    file = tmp_path / 'bank.safetensors'
    other = MemoryBank()
    other.append(some_pixels(5, 6, 8))
    other.save(file)
    assert_same(mapped, bank)
    file.unlink()
    assert_same(mapped, bank)


@given(data=st.data(), row=st.integers(1, 7), rows=st.integers(1, 3000))
@settings(max_examples=20)
def test_rows_of_a_file_are_those_of_an_array(data, row, rows):
    array = np.arange(rows * row, dtype=np.float32).reshape(rows, row)
    with tempfile.TemporaryFile() as stream:
        stream.write(b'abc' + array.tobytes())
        stream.flush()
        mapped = Mapped(stream, torch.float32, array.shape, 3)
        chosen = st.lists(st.integers(0, rows - 1), max_size=50)
        for _ in range(3):
            assert mapped.shape == array.shape
            assert mapped.nbytes == array.nbytes
            start, stop = (data.draw(st.integers(0, rows)) for _ in range(2))
            part = mapped[start:stop]
            assert np.array_equal(part.numpy(), array[start:stop])
            some = [n % max(1, len(array)) for n in data.draw(chosen)]
            some = np.array(some if len(array) else [], dtype=np.int64)
            found = mapped[torch.from_numpy(some)]
            assert np.array_equal(found.numpy(), array[some])
            mapped, array = mapped.selected(some), array[some]


DEVICES = ['cpu'] + ['cuda'] * torch.cuda.is_available()


@settings(max_examples=30)
@given(
    device=st.sampled_from(DEVICES),
    dtype=st.sampled_from(DTYPES),
    in_file=st.booleans(),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    room=st.integers(0, 3000),
    rows=st.integers(1, 50),
    data=st.data(),
)
def test_what_does_not_fit_a_device_is_streamed(
    device, dtype, in_file, sizes, room, rows, data
):
    with tempfile.TemporaryDirectory() as folder:
        bank = both(Path(folder), dtype, sizes)[in_file]
        copied = DeviceCopy(bank, device, room)
        expected = torch.cat(list(bank.blocks()))
        blocks = [block.cpu() for block in copied.lent_blocks(rows)]
        assert max(map(len, blocks)) <= rows
        assert torch.equal(torch.cat(blocks), expected)
        index = st.lists(st.integers(0, len(bank) - 1), max_size=30)
        index = torch.tensor(data.draw(index), dtype=torch.long)
        assert torch.equal(copied.vectors(index).cpu(), expected[index])


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('room', [0, 600, None])
def test_a_search_may_run_elsewhere(tmp_path, monkeypatch, device, room):
    asked = some_pixels(9, 6, 7)
    queries = Queries(asked.vectors, asked.positions, asked.hues)
    bank, mapped = both(tmp_path)
    expected = Memory(bank).search(queries, 5)
    place = 'u1_plugin.memory.exact_search.DeviceCopy'
    monkeypatch.setattr(place, functools.partial(DeviceCopy, room=room))
    engine = dict(type='exact', device=device)
    memory = Memory(mapped, engine)
    assert str(memory) == f'exact on {device}'
    for one, two in zip(memory.search(queries, 5), expected):
        assert one.device == two.device and torch.equal(one, two)


@pytest.mark.parametrize('device', ['gpu', 'cuda:99', 3])
def test_a_device_that_is_not_here_is_named(device):
    with pytest.raises(ValueError, match=f'engine.device=.?{device}'):
        parse_engine(dict(type='exact', device=device))


def test_a_sample_of_all_is_no_sample():
    bank = fill(MemoryBank())
    for seed in range(3):
        every = coreset(bank, 0.3, seed=seed)
        assert torch.equal(coreset(bank, 0.3, seed=seed, sample=1.0), every)
        few = coreset(bank, 0.3, seed=seed, sample=0.4)
        assert len(few) == len(every) and not torch.equal(few, every)
        # As many are left as are drawn: the draw itself.
        drawn = coreset(bank, 0.4, seed=seed, sample=0.4)
        assert set(few.tolist()) < set(drawn.tolist())
    with pytest.raises(ValueError, match='sample=0.1'):
        coreset(bank, 0.3, sample=0.1)


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


def tool_of(root: Path, name: str):
    file = root / f'tools/benchmarks/{name}.py'
    spec = importlib.util.spec_from_file_location(name, file)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def test_the_filling_is_timed_beside_the_forward_pass(
    root, tmp_path, monkeypatch, capsys
):
    """Three turns of all arms, which do not always begin with the same."""
    tool, begun = tool_of(root, 'memory_fill'), []
    run = tool.epoch

    def noted(model, batches, arm, folder):
        begun.append((arm, len(batches)))
        return run(model, batches, arm, folder)

    monkeypatch.setattr(tool, 'epoch', noted)
    options = [*('--images', '5'), *('--batch', '2'), *('--size', '32')]
    options += [*('--turns', '3'), *('--folder', str(tmp_path))]
    out = tmp_path / 'out.json'
    monkeypatch.setattr(sys, 'argv', ['fill', *options, '--out', str(out)])
    tool.main()
    records = json.loads(out.read_text())
    assert [set(record) for record in records] == [set(tool.ARMS)] * 3
    assert all(min(record.values()) > 0 for record in records)
    warm, turns = begun[:3], [begun[n : n + 3] for n in (3, 6, 9)]
    assert warm == [(arm, 1) for arm in tool.ARMS]
    for turn in turns:
        assert sorted(turn) == sorted((arm, 3) for arm in tool.ARMS)
    assert len({turn[0] for turn in turns}) > 1
    assert [file.name for file in tmp_path.iterdir()] == ['out.json']
    assert 'of the forward rate' in capsys.readouterr().out


LIMIT = 'tools/benchmarks/memory_limit.py'
SIZES = ['--pixels', '200000', '--channels', '256', '--queries', '32']


@pytest.mark.skipif(sys.platform != 'linux', reason='a limit of Linux')
def test_a_bank_of_twice_the_memory_is_filled_searched_and_reduced(
    root, environment, tmp_path, monkeypatch
):
    room = 96  # MiB; some 60 are needed
    sizes = [*SIZES, '--dtype', 'float32', '--folder', str(tmp_path)]

    # Or the C library keeps what is freed, as much as it happens to.
    environment = dict(environment, MALLOC_MMAP_THRESHOLD_='65536')

    def run(*options: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(root / LIMIT), *sizes, *options]
        command += ['--room', str(room), '--out', str(tmp_path / 'out.json')]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True
        )

    # What is in memory does not fit.
    done = run('--in-memory')
    full = "can't allocate memory|Unable to allocate|MemoryError"
    assert done.returncode and re.search(full, done.stderr), done.stderr
    assert not list(tmp_path.iterdir())
    done = run()
    assert not done.returncode, done.stderr[-3000:]
    found = json.loads((tmp_path / 'out.json').read_text())
    assert found['bytes'] >= 2 * room * 2**20
    steps = ['fill', 'open', 'search', 'coreset']
    assert [step['step'] for step in found['steps']] == steps
    # Without a limit, the same in memory.
    tool = tool_of(root, 'memory_limit')
    monkeypatch.setattr(sys, 'argv', [LIMIT, *sizes, '--in-memory'])
    expected = tool.measure(tool.parse_args(), tmp_path)
    for name in ('pixels', 'indices', 'distances', 'classes', 'coreset'):
        assert found[name] == expected[name]


LOADED = """
import resource, sys
from u1_plugin.memory import MemoryBank
with open('/proc/self/status') as lines:
    taken = next(int(x.split()[1]) for x in lines if x.startswith('VmData'))
bound = taken * 1024 + 4 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))
MemoryBank.load(sys.argv[1])
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='a limit of Linux')
def test_a_bank_that_does_not_fit_names_the_remedy(tmp_path, root, environment):
    file = tmp_path / 'bank.safetensors'
    with bank_on_disk(file) as bank:
        for seed in range(8):
            bank.append(some_pixels(10_000, 64, seed))
    done = subprocess.run(
        [sys.executable, '-c', LOADED, str(file)],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert 'MemoryError' in done.stderr and 'mmap=True' in done.stderr


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
