"""The second network is the one asked for, on the same images."""

from types import SimpleNamespace

import pytest

from u1_plugin.lab.analysis.images import check_same_images
from u1_plugin.lab.analysis.second_network import second_network, tell_apart


def asked(**options) -> SimpleNamespace:
    names = ('checkpoint', 'untrained', 'layers', 'cfg_options')
    empty = {f'against_{name}': None for name in names}
    own = dict(source='a.py', checkpoint='a.pth', untrained=None)
    return SimpleNamespace(
        **{**empty, **own, 'cfg_options': None, 'against': None, **options}
    )


@pytest.mark.parametrize(
    'options, found',
    [
        ({}, None),
        (dict(against=['b.py', 'b.pth']), ('b.py', 'b.pth', None, None)),
        (
            dict(against=['b.py'], against_checkpoint='c.pth'),
            ('b.py', 'c.pth', None, None),
        ),
        (dict(against=['timm:b']), ('timm:b', None, None, None)),
        (dict(against_checkpoint='c.pth'), ('a.py', 'c.pth', None, None)),
        (dict(against_untrained=3), ('a.py', None, 3, None)),
        (
            dict(cfg_options=dict(x=1), against_untrained=0),
            ('a.py', None, 0, dict(x=1)),
        ),
        (
            dict(against=['b.py', 'b.pth'], cfg_options=dict(x=1)),
            ('b.py', 'b.pth', None, None),
        ),
        (
            dict(against=['a.py', 'b.pth'], cfg_options=dict(x=1)),
            ('a.py', 'b.pth', None, dict(x=1)),
        ),
        (
            dict(
                against=['a.py'],
                against_untrained=0,
                cfg_options=dict(x=1, y=1),
                against_cfg_options=dict(y=2),
            ),
            ('a.py', None, 0, dict(x=1, y=2)),
        ),
        (
            dict(cfg_options=dict(x=1), against_cfg_options=dict(y=2)),
            ('a.py', 'a.pth', None, dict(x=1, y=2)),
        ),
    ],
)
def test_the_second_network_that_is_asked_for(options, found):
    assert second_network(asked(**options)) == found


def test_one_config_under_two_names_has_one_set_of_options(tmp_path):
    file = tmp_path / 'a.py'
    file.write_text('')
    (tmp_path / 'other').mkdir()
    again = f'{tmp_path}/other/../a.py'
    options = dict(cfg_options=dict(x=1), against=[again, 'b.pth'])
    found = second_network(asked(source=str(file), **options))
    assert found == (again, 'b.pth', None, dict(x=1))


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(against=['b', 'c', 'd']), 'at most one checkpoint'),
        (
            dict(against=['b', 'c'], against_checkpoint='d'),
            'both name a checkpoint',
        ),
        (
            dict(against=['b', 'c'], against_untrained=0),
            '--against-untrained 0 loads no weights',
        ),
    ],
)
def test_options_of_the_second_network_that_contradict(options, message):
    with pytest.raises(ValueError, match=message):
        second_network(asked(**options))


class Files:
    def __init__(self, *names):
        self.names = names

    def __len__(self):
        return len(self.names)

    def get_data_info(self, number):
        return dict(img_path=self.names[number])


@pytest.mark.parametrize(
    'files, expected',
    [
        (('runs/a/s0/last.pth', 'runs/b/s0/last.pth'), 'a/s0/last.pth'),
        (('/x/last.pth', 'last.pth'), 'x/last.pth'),
        (('last.pth', 'last.pth'), 'last.pth'),
        ((None, 'last.pth'), 'last.pth'),
    ],
)
def test_weights_of_one_name_are_told_apart_by_their_folders(files, expected):
    first = dict(network='config', weights='last.pth')
    second = dict(first)
    tell_apart(first, second, files)
    assert first['weights'] == expected
    apart = expected != 'last.pth'
    assert (first != second) == apart
    other = dict(network='other', weights='last.pth')
    tell_apart(first, other, files)
    assert first['weights'] == expected and other['weights'] == 'last.pth'


def test_images_must_be_the_same():
    check_same_images(Files('a', 'b'), Files('a', 'b'))
    for other in (Files('a'), Files('b', 'a')):
        with pytest.raises(ValueError, match='--data FOLDER'):
            check_same_images(Files('a', 'b'), other)
