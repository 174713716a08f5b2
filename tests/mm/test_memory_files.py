"""A file of a memory serves what made it and nothing else."""

import subprocess
import sys

import pytest
import torch
from memory_runs import Quick, config_of, filled, rows
from mmengine.dataset import default_collate
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch.utils.data import DataLoader

from u1_plugin.memory import MemoryBank

STALE = {
    'mean': (
        {'data_preprocessor.mean': [0.0] * 3},
        'data_preprocessor',
    ),
    'rgb': ({'data_preprocessor.to_rgb': True}, 'data_preprocessor'),
    'strides': ({'model.backbone.strides': (1, 2, 1, 2)}, 'backbone_config'),
    'dilations': (
        {'model.backbone.dilations': (1, 1, 2, 1)},
        'backbone_config',
    ),
    'norm': (
        {'model.backbone.norm_cfg': dict(type='BN', eps=0.1)},
        'backbone_config',
    ),
    'pipeline': (
        {'test_dataloader.dataset.pipeline.1.scale': 12},
        'pipeline',
    ),
    'shots': ({'custom_hooks.0.shots': 2}, 'shots'),
    'mode': ({'model.head.mode': 'pooled'}, 'mode'),
    'orthant': ({'model.head.orthant': 'abs'}, 'orthant'),
    'keep': ({'model.head.keep': 2}, 'keep'),
    'coreset': ({'model.head.coreset': 0.5}, 'coreset'),
    'coreset sample': (
        {'model.head.coreset': 0.5, 'model.head.coreset_sample': 0.8},
        'coreset',
    ),
    'dtype': ({'model.head.dtype': 'float16'}, 'dtype'),
    'classes': ({'model.head.num_classes': 4}, 'num_classes'),
    'plane': (
        {'model.head.feature_plane': dict(basis='random')},
        'feature_plane',
    ),
    'plane seed': (
        {'model.head.feature_plane': dict(basis='learned', seed=3)},
        'feature_plane',
    ),
}


def test_a_file_serves_what_made_it_and_nothing_else(folder, tmp_path):
    file = tmp_path / 'bank.safetensors'
    own = {'custom_hooks.0.file': str(file)}
    first = filled(folder, own)
    before = file.read_bytes()
    again = filled(folder, own)
    assert again.identity == first.identity
    assert torch.equal(rows(again), rows(first))
    for name, (change, piece) in STALE.items():
        with pytest.raises(ValueError, match=piece) as caught:
            filled(folder, {**own, **change})
        assert 'bank.safetensors' in str(caught.value), name
    # Options of the vote do not decide what is stored.
    asked = {'model.head.k': 3, 'model.head.kappa': 2.0}
    filled(folder, {**own, **asked, 'model.head.plane': 'both'})
    assert file.read_bytes() == before


def test_other_images_under_the_same_names_are_noticed(folder, tmp_path):
    own = {'custom_hooks.0.file': str(tmp_path / 'bank.safetensors')}
    filled(folder, own)
    # The same files elsewhere are the same images.
    moved = tmp_path / 'moved'
    folder.rename(moved)
    filled(moved, own)
    one, two = moved / 'a/0.png', moved / 'a/1.png'
    (one_bytes, two_bytes) = one.read_bytes(), two.read_bytes()
    one.write_bytes(two_bytes)
    with pytest.raises(ValueError, match='images'):
        filled(moved, own)
    two.write_bytes(one_bytes)  # both there, in the other order
    with pytest.raises(ValueError, match='images'):
        filled(moved, own)
    one.write_bytes(one_bytes)
    two.write_bytes(two_bytes)
    filled(moved, own)
    (moved / 'c/0.png').rename(moved / 'b/9.png')
    with pytest.raises(ValueError, match='labels'):
        filled(moved, own)


def test_other_weights_are_noticed(folder, tmp_path):
    changes = {'custom_hooks.0.file': str(tmp_path / 'bank.safetensors')}
    filled(folder, changes)
    runner = Quick(config_of(folder, **changes))
    with torch.no_grad():
        runner.model.backbone.layer1[0].conv1.weight[0, 0, 0, 0] += 1e-3
    with pytest.raises(ValueError, match='backbone_weights'):
        runner.call_hook('before_test')


@MODELS.register_module(force=True)
class MixedChannels(torch.nn.Conv2d):
    """A neck whose output is a map of the same shape."""

    def __init__(self) -> None:
        super().__init__(64, 64, 1)

    def forward(self, feats: tuple) -> tuple:
        return (super().forward(feats[-1]),)


def test_a_neck_makes_the_maps_of_memory_and_queries_alike(folder, tmp_path):
    """What the head is asked is what it is filled with."""
    file = tmp_path / 'bank.safetensors'
    neck = dict(type='MixedChannels')
    changes = {'model.neck': neck, 'custom_hooks.0.file': str(file)}
    runner = Quick(config_of(folder, **changes))
    runner.call_hook('before_test')
    model = runner.model
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = runner.hooks[0]._images(runner).build().dataset
    (batch,) = DataLoader(dataset, batch_size=9, collate_fn=default_collate)
    inputs = model.eval().data_preprocessor(batch, False)['inputs']
    (maps,) = model.extract_feat(inputs)
    expected = maps.relu().flatten(2).transpose(1, 2).flatten(0, 1).detach()
    torch.testing.assert_close(rows(model.head.bank), expected)
    changes.pop('model.neck')
    with pytest.raises(ValueError, match='neck'):
        filled(folder, changes)


@pytest.mark.parametrize('mmap', [False, True])
def test_a_file_of_the_same_run_is_written_anew(folder, tmp_path, mmap):
    file = tmp_path / 'bank.safetensors'
    own = {'custom_hooks.0.file': str(file), 'custom_hooks.0.mmap': mmap}
    runner = Quick(config_of(folder, **own))
    runner.call_hook('before_test')
    first = rows(runner.model.head.bank).clone()
    with torch.no_grad():
        runner.model.backbone.conv1.weight *= -1
    runner.call_hook('before_test')
    second = rows(runner.model.head.bank)
    assert not torch.equal(first, second)
    assert torch.equal(rows(MemoryBank.load(file)), second)
    # A file from before the run is not this run's to replace.
    other = Quick(config_of(folder, **own))
    with pytest.raises(ValueError, match='into another file'):
        other.call_hook('before_test')
    assert torch.equal(rows(MemoryBank.load(file)), second)


def test_a_file_that_is_no_bank_is_left_alone(folder, tmp_path):
    file = tmp_path / 'notes.txt'
    file.write_text('mine')
    with pytest.raises(ValueError, match=r'notes\.txt'):
        filled(folder, {'custom_hooks.0.file': str(file)})
    assert file.read_text() == 'mine'


@pytest.mark.parametrize(
    'options',
    [{}, {'coreset': 0.5, 'coreset_sample': 0.8, 'dtype': 'uint8'}],
    ids=str,
)
def test_a_bank_may_stay_in_its_file(folder, tmp_path, options):
    """Filled there, read again, and answering as one in memory."""
    head = {f'model.head.{name}': value for name, value in options.items()}
    file = tmp_path / 'new' / 'bank.safetensors'
    own = {'custom_hooks.0.file': str(file), 'custom_hooks.0.mmap': True}
    inputs, answers, banks = torch.rand(3, 3, 16, 16), [], []
    for change in (head, {**head, **own}, {**head, **own}):
        runner = Quick(config_of(folder, **change))
        runner.call_hook('before_test')
        banks.append(runner.model.head.bank)
        answers.append(runner.model.eval()(inputs))
    plain, first, again = banks
    assert not plain.mapped and first.mapped and again.mapped
    assert [f.name for f in file.parent.iterdir()] == [file.name]
    for bank, answer in zip(banks, answers):
        assert bank.identity == plain.identity
        assert torch.equal(rows(bank), rows(plain))
        assert torch.equal(answer, answers[0])
    # With or without the option, it is the same file.
    own.pop('custom_hooks.0.mmap')
    assert torch.equal(rows(filled(folder, {**head, **own})), rows(plain))


def test_what_leaves_no_bank_in_a_file_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match='MemoryBankHook.file=None'):
        Quick(config_of(folder, **{'custom_hooks.0.mmap': True}))
    own = {
        'custom_hooks.0.file': str(tmp_path / 'bank'),
        'custom_hooks.0.mmap': True,
        'model.head.in_checkpoint': True,
    }
    with pytest.raises(ValueError, match='in_checkpoint=True.*mmap=True'):
        filled(folder, own)


@pytest.mark.parametrize('way', ['remove', 'keep', 'append'])
def test_a_changed_bank_is_not_taken_for_the_whole(folder, tmp_path, way):
    file = tmp_path / 'bank.safetensors'
    own = {'custom_hooks.0.file': str(file), 'model.head.coreset': 0.5}
    bank = filled(folder, own)
    assert torch.equal(rows(filled(folder, own)), rows(bank))
    if way == 'append':
        head = MODELS.build(config_of(folder, **own).model.head)
        head.set_bank(bank)
        maps = (torch.rand(1, 64, 2, 2),)
        head.fill(maps, torch.tensor([1]), torch.tensor([9]))
    else:
        getattr(bank, way)(dict(remove=[2], keep=range(5))[way])
    bank.save(file)
    with pytest.raises(ValueError, match=f"other changes .'{way}'"):
        filled(folder, own)
    # Whoever wants it gives it to a head.
    head = MODELS.build(config_of(folder, **own).model.head)
    head.set_bank(MemoryBank.load(file))
    assert head((torch.rand(2, 64, 2, 2),)).isfinite().all()


@pytest.mark.parametrize('mmap', [False, True])
def test_a_bank_that_another_run_wrote_meanwhile_stays(folder, tmp_path, mmap):
    """It was not there when this run began to fill."""
    file = tmp_path / 'bank.safetensors'
    own = {'custom_hooks.0.file': str(file), 'custom_hooks.0.mmap': mmap}
    first = Quick(config_of(folder, **own, **{'custom_hooks.0.shots': 1}))
    (hook,) = first.hooks
    run = hook._run

    def while_another_fills(*args) -> None:
        run(*args)
        filled(folder, own)

    hook._run = while_another_fills
    with pytest.raises(ValueError, match='MemoryBankHook.file: .*other images'):
        first.call_hook('before_test')
    assert len(MemoryBank.load(file)) == len(filled(folder, own))


def test_a_pickled_head_sees_what_changes_in_another_process(tmp_path):
    """Numbers of changes would begin anew there, and be taken for the old."""
    code = """
import sys, torch
import u1_plugin
from mmpretrain.registry import MODELS
rows = lambda *numbers: (torch.eye(8)[list(numbers), :, None, None],)
every = lambda *numbers: torch.tensor(numbers)
if sys.argv[1] == 'fill':
    options = dict(num_classes=8, in_channels=8, k=1)
    head = MODELS.build(dict(type='mmpretrain.MemoryBankHead', **options))
    head.fill(rows(0, 1), every(0, 1), every(0, 1))
    head(rows(0, 1))
    torch.save(head, 'head.pth')
else:
    head = torch.load('head.pth', weights_only=False)
    head.fill(rows(2, 3), every(2, 3), every(2, 3))
    for _ in range(int(sys.argv[1])):
        head.bank.remove(labels=[7])
    head.bank.remove(labels=[0, 1])
    print(head(rows(2, 3)).argmax(1).tolist())
"""
    for step in ('fill', '0', '1', '2'):
        done = subprocess.run(
            [sys.executable, '-c', code, step],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert step == 'fill' or done.stdout.split('\n')[-2] == '[2, 3]'
