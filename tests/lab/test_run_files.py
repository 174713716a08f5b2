"""A finished run counts while the files that its config names are the same."""

import json

import numpy as np
from own_pictures import colours, save

from u1_plugin.lab.run_files import changed, file_digests


def test_files_count_by_content_and_images_by_name_and_size(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'angles.json').write_text(json.dumps([0, 1]))
    save(colours(), tmp_path / 'data/a/1.png')
    (tmp_path / 'data/list.txt').write_text('a/1.png 0')
    values = dict(
        model=dict(u1=dict(class_angles=dict(file='angles.json'))),
        hooks=[dict(type='LICENSE'), dict(path='s3://none', null='a\0b')],
        loader=dict(
            dataset=dict(
                type='CustomDataset', data_root='data', ann_file='list.txt'
            )
        ),
        absent=dict(type='CIFAR10', data_root='nowhere', ann_file=''),
        data_root='data',
    )
    first = file_digests(values)
    assert list(first) == ['angles.json', 'data', 'data/list.txt']
    assert file_digests(values) == first
    (tmp_path / 'angles.json').write_text(json.dumps([0, 2]))
    (tmp_path / 'data/list.txt').write_text('a/1.png 1')
    second = file_digests(values)
    assert second['data'] == first['data']  # a list is no image
    for name in ('angles.json', 'data/list.txt'):
        assert second[name] != first[name]


def test_other_images_are_other_data(tmp_path):
    """Each folder is listed once a process: two folders in its place."""
    (tmp_path / 'd').mkdir()
    (tmp_path / 'd/x').symlink_to(tmp_path / 'a/x')
    roots = [str(tmp_path / name) for name in 'abcd']
    for root, size in zip(roots[:3], (16, 16, 24)):
        pixels = np.random.default_rng(size).integers(0, 255, (size, size, 3))
        save(pixels.astype(np.uint8), tmp_path / root / 'x/1.png')
    found = [
        file_digests(dict(type='ImageNet', data_root=root))[root]
        for root in roots
    ]
    assert found[0] == found[1] == found[3] != found[2]


def test_links_that_lead_nowhere_or_back(tmp_path):
    save(colours(), tmp_path / 'data/train/a/1.png')
    (tmp_path / 'data/train/a/2.png').symlink_to('/nowhere.png')
    (tmp_path / 'data/train/a/up').symlink_to(tmp_path / 'data/train')
    prefix = str(tmp_path / 'data/train')
    found = file_digests(dict(type='CustomDataset', data_prefix=prefix))
    assert list(found) == [prefix]
    # Of a folder of several data sets, the one that is meant.
    dataset = dict(type='CustomDataset', data_root=str(tmp_path / 'data'))
    dataset['data_prefix'] = dict(img_path='train')
    assert file_digests(dataset) == found


def test_only_what_both_name_is_compared():
    now = dict(a='1', b='2')
    for before in (None, {}, dict(a='1'), dict(a='1', c='3')):
        assert changed(before, now) == ''
    assert changed(dict(b='3'), now) == 'b'
