"""A file gives its bank back, and a foreign or damaged one is refused."""

import json

import pytest
from banks import DTYPES, IDENTITY, assert_same, filled, some_pixels
from safetensors.torch import load_file, save_file

from u1_plugin.memory import MemoryBank


@pytest.mark.parametrize('dtype', DTYPES)
def test_a_file_gives_the_bank_back(dtype, tmp_path):
    bank = filled(dtype)
    file = tmp_path / 'new/folder/bank.safetensors'
    bank.save(file)
    bank.save(str(file))  # again: replaced as a whole
    assert [f.name for f in file.parent.iterdir()] == [file.name]
    again = MemoryBank.load(file, IDENTITY)
    assert_same(again, bank)
    again.append(some_pixels())
    assert len(again) == 160


@pytest.mark.parametrize('dtype', DTYPES)
def test_a_state_gives_the_bank_back(dtype):
    bank = filled(dtype)
    state = bank.state()
    # Nothing is shared, either way.
    again = MemoryBank.from_state(state)
    for value in state.values():
        value.zero_()
    assert_same(again, bank)
    assert_same(MemoryBank.from_state(bank.state()), bank)
    empty = MemoryBank.from_state(MemoryBank(dtype, IDENTITY).state())
    assert len(empty) == 0 and empty.identity == IDENTITY
    assert empty.channels is None and empty.dtype == dtype


def test_a_read_bank_does_not_change_with_its_file(tmp_path):
    file = tmp_path / 'bank.safetensors'
    filled().save(file)
    bank = MemoryBank.load(file)
    with open(file, 'r+b') as stream:
        stream.seek(file.stat().st_size // 2)
        stream.write(bytes(file.stat().st_size // 2))
    assert_same(bank, filled())


@pytest.mark.parametrize('cut', [0, 3, 100, 2000, -1])
def test_a_truncated_file_is_refused(cut, tmp_path):
    file = tmp_path / 'bank.safetensors'
    filled().save(file)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ValueError, match='bank.safetensors: no whole'):
        MemoryBank.load(file)


def test_what_is_no_bank_is_refused(tmp_path):
    file = tmp_path / 'bank.safetensors'
    with pytest.raises(ValueError, match='no memory bank is there'):
        MemoryBank.load(file)
    with pytest.raises(ValueError, match='no memory bank is there'):
        MemoryBank.load(tmp_path)
    file.write_bytes(b'not a bank')
    with pytest.raises(ValueError, match='no whole safetensors file'):
        MemoryBank.load(file)
    # Format 1 kept its notes in a second file.
    old = filled().state()
    old.pop('metadata')
    save_file(old, str(file))
    with pytest.raises(ValueError, match='no metadata.*fill the bank again'):
        MemoryBank.load(file)
    with pytest.raises(ValueError, match='head.bank: no metadata'):
        MemoryBank.from_state(old, name='head.bank')


def test_foreign_files_are_not_overwritten(tmp_path):
    file = tmp_path / 'notes.txt'
    file.write_text('mine')
    with pytest.raises(FileExistsError, match='notes.txt'):
        filled().save(file)
    assert file.read_text() == 'mine'


def test_an_interrupted_save_leaves_the_old_bank(tmp_path, monkeypatch):
    file = tmp_path / 'bank.safetensors'
    filled().save(file)

    def half(stream, field):
        stream.write(b'half')
        raise KeyboardInterrupt

    monkeypatch.setattr('u1_plugin.memory.bank_file.write_field', half)
    other = filled()
    other.remove(labels=[1])
    with pytest.raises(KeyboardInterrupt):
        other.save(file)
    assert_same(MemoryBank.load(file), filled())
    assert [f.name for f in tmp_path.iterdir()] == [file.name]


def test_another_makers_bank_is_refused(tmp_path):
    file = tmp_path / 'bank.safetensors'
    filled().save(file)
    wanted = dict(weights='swin', layer='layer4', images='abc')
    with pytest.raises(ValueError) as caught:
        MemoryBank.load(file, wanted)
    message = str(caught.value)
    assert file.name in message and 'layer4' not in message
    assert "weights ('resnet', now 'swin')" in message
    assert "images (None, now 'abc')" in message
    with pytest.raises(ValueError, match="layer \\('layer4', now None\\)"):
        MemoryBank.load(file, dict(weights='resnet'))


@pytest.mark.parametrize(
    'identity', [{'a': 1}, {1: 'a'}, {'': 'a'}, {'a': 'x' * 1025}, 'a', None]
)
def test_an_identity_is_short_strings(identity):
    with pytest.raises(ValueError, match='MemoryBank.identity'):
        MemoryBank(identity=identity)


def test_a_file_is_one_safetensors_file(tmp_path):
    file = tmp_path / 'bank.safetensors'
    filled('uint8').save(file)
    tensors = load_file(str(file))
    assert tensors.keys() == filled('uint8').state().keys()
    note = json.loads(tensors['metadata'].numpy().tobytes())
    assert note['identity'] == IDENTITY and note['version'] == 2
    assert (note['blocks'], note['pixels'], note['channels']) == (3, 120, 6)


def test_a_file_is_a_path():
    with pytest.raises(ValueError, match='file=3 must be a string or a Path'):
        filled().save(3)


def test_names_and_pieces_of_an_identity_have_their_lengths(tmp_path):
    file = tmp_path / 'bank.safetensors'
    for identity in ({'n': ''}, {'n' * 64: 'p' * 1024}):
        MemoryBank(identity=identity).save(file)
        assert MemoryBank.load(file, identity).identity == identity
    for identity in ({'n' * 65: ''}, {'n': 'p' * 1025}):
        with pytest.raises(ValueError, match='MemoryBank.identity'):
            MemoryBank(identity=identity)
