"""Checkpoints under kills: what MMEngine's hook does, but whole."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, Hook
from recorded_runs import Killed, check_equal, train, without_cost

from u1_plugin.mm.hooks.whole_checkpoint_hook import (
    WholeCheckpointHook,
    is_whole,
    use_whole_checkpoints,
)

BEST = dict(save_best='accuracy/top1', rule='greater', interval=2)


class KillAtSave(Hook):
    """Ends the run when it is about to write its n-th checkpoint."""

    def __init__(self, number: int) -> None:
        self.left = number

    def before_save_checkpoint(self, runner, checkpoint) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


def names(folder: Path) -> set:
    return {file.name for file in folder.glob('*.pth')}


def test_the_old_ones_stay_until_the_new_ones_are_whole(tmp_path):
    """The best one, which MMEngine removes first, too."""
    whole = train(tmp_path / 'whole', checkpoint=BEST)
    folder, had_best = tmp_path / 'killed', False
    for number in (2, 3, 2, 3, 2):
        try:
            train(folder, KillAtSave(number), resume=True, checkpoint=BEST)
        except Killed:
            pass
        found = names(folder)
        assert all(is_whole(folder / name) for name in found)
        has_best = any(name.startswith('best') for name in found)
        assert has_best >= had_best
        had_best = has_best
        assert not list(folder.glob('.u1-*'))
    runner, record = train(folder, resume=True, checkpoint=BEST)
    assert had_best and names(folder) == names(tmp_path / 'whole')
    assert without_cost(record) == without_cost(whole[1])
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, whole[0].model.state_dict()[name])


def test_what_a_damaged_checkpoint_looks_like(tmp_path):
    file = tmp_path / 'epoch_1.pth'
    torch.save(dict(weights=torch.arange(10000.0)), file)
    content = file.read_bytes()
    assert is_whole(file) and is_whole(tmp_path)  # as DeepSpeed's folders
    for length in range(0, len(content), 997):
        file.write_bytes(content[:length])
        assert not is_whole(file)
    for place in range(1000, 40000, 1999):
        file.write_bytes(content[:place] + b'\xaa\x55' + content[place + 2 :])
        assert not is_whole(file)
    assert not is_whole(tmp_path / 'missing.pth')


def test_a_later_checkpoint_of_another_training_is_left_alone(tmp_path):
    with pytest.raises(Killed):
        train(tmp_path, KillAtSave(3), checkpoint=dict(max_keep_ckpts=2))
    (tmp_path / 'epoch_9.pth').write_bytes(
        (tmp_path / 'epoch_1.pth').read_bytes()
    )
    (tmp_path / 'epoch_2.pth').write_bytes(b'')
    _, record = train(tmp_path, resume=True)
    assert record['resumed'] == [1]
    assert (tmp_path / 'epoch_9.pth').exists()


def test_without_a_checkpoint_training_begins_with_the_given_weights(tmp_path):
    """`--resume` alone would drop the config's `load_from`."""
    runner, first = train(tmp_path / 'first')
    given = str(tmp_path / 'first/epoch_4.pth')
    _, record = train(
        tmp_path / 'second', resume=True, checkpoint=dict(load_from=given)
    )
    assert record['resumed'] == []
    assert record['initial'] != first['initial']
    _, again = train(tmp_path / 'third', load_from=given)
    assert record['initial'] == again['initial']
    assert record['val'] == again['val']


def test_a_folder_that_cannot_be_written_costs_the_new_one_alone(tmp_path):
    """The last checkpoint stays, and training goes on from it."""
    whole = train(tmp_path / 'whole', test=True)
    state = whole[0].model.state_dict(), whole[1], None
    folder = tmp_path / 'full'

    class Full(Hook):
        def before_save_checkpoint(self, runner, checkpoint) -> None:
            if runner.epoch == 2:
                (folder / 'epoch_3.pth').mkdir()

    with pytest.raises(OSError):
        train(folder, Full(), test=True)
    (folder / 'epoch_3.pth').rmdir()
    assert names(folder) == {'epoch_2.pth', 'epoch_3-1.pth'}
    (folder / 'epoch_3-1.pth').unlink()  # finished work that found no place
    check_equal(state, *train(folder, resume=True, test=True))


@pytest.mark.parametrize(
    'hooks, kinds',
    [
        (None, ['WholeCheckpointHook']),
        (dict(logger=dict(interval=3)), ['WholeCheckpointHook']),
        (
            dict(checkpoint=dict(type='mmengine.CheckpointHook', interval=3)),
            ['WholeCheckpointHook'],
        ),
        (
            dict(checkpoint=dict(type=CheckpointHook)),
            ['WholeCheckpointHook'],
        ),
        (dict(checkpoint=dict(type='MyHook')), ['MyHook']),
        (dict(checkpoint=None), [None]),
    ],
)
def test_configs_get_the_hook_wherever_they_had_mmengines(hooks, kinds):
    config = Config(dict(custom_hooks=[dict(type='CheckpointHook')]))
    if hooks is not None:
        config.default_hooks = hooks
    use_whole_checkpoints(config, 'weights.pth')
    found = config.default_hooks.checkpoint
    assert [found and found.type] == kinds
    if kinds == ['WholeCheckpointHook']:
        assert found.load_from == 'weights.pth'
    assert config.custom_hooks[0].type == 'WholeCheckpointHook'
    WholeCheckpointHook(
        **{k: v for k, v in config.custom_hooks[0].items() if k != 'type'}
    )
