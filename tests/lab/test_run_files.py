"""A finished run counts while the files that its config names are the same."""

import json

import numpy as np
from own_pictures import colours, save

from u1_plugin.lab.benchmark.run_files import file_digests


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
        loader=dict(dataset=dict(data_root='data', ann_file='list.txt')),
        absent=dict(data_root='nowhere', ann_file=''),
    )
    first = file_digests(values)
    assert list(first) == ['angles.json', 'data', 'data/list.txt']
    assert file_digests(values) == first
    (tmp_path / 'angles.json').write_text(json.dumps([0, 2]))
    (tmp_path / 'data/list.txt').write_text('a/1.png 1')
    second = file_digests(values)
    assert second['data'] == first['data']  # a list is no image
    assert not {*first.values()} - {first['data']} & {*second.values()}


def test_other_images_are_other_data(tmp_path):
    """Each folder is listed once a process: two folders in its place."""
    roots = [str(tmp_path / name) for name in 'abc']
    for root, size in zip(roots, (16, 16, 24)):
        pixels = np.random.default_rng(size).integers(0, 255, (size, size, 3))
        save(pixels.astype(np.uint8), tmp_path / root / 'x/1.png')
    found = [file_digests(dict(data_root=root))[root] for root in roots]
    assert found[0] == found[1] != found[2]
