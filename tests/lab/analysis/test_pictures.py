"""Folders of one's own pictures are read as classes, whatever lies about."""

import pytest
from own_pictures import LOAD, PACK, colours, config_of, save

from u1_plugin.lab.analysis.images import (
    class_names,
    make_dataset,
    make_loader,
    prepare_image,
    remarks,
    subset,
)
from u1_plugin.lab.analysis.pictures import find_pictures


def test_one_folder_a_class_with_all_that_lies_about(tmp_path):
    picture = colours()
    save(picture, tmp_path / 'b/1.JPG', tmp_path / 'b/deep/er/2.Png')
    save(picture, tmp_path / 'a/0.webp', tmp_path / '.hidden/3.png')
    save(picture, tmp_path / 'a/.4.png', tmp_path / 'stray.tiff')
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'b/notes.txt').write_text('no picture')
    (tmp_path / 'b/loop').symlink_to(tmp_path)
    (tmp_path / 'b/deep/self').symlink_to(tmp_path / 'b/deep')
    found = find_pictures(tmp_path)
    names = [str(file.relative_to(tmp_path)) for file in found.files]
    assert names == ['a/0.webp', 'b/1.JPG', 'b/deep/er/2.Png']
    assert found.classes == ('a', 'b', 'empty')
    assert found.labels == [0, 1, 1]
    assert [file.name for file in found.stray] == ['stray.tiff']


def test_pictures_without_classes(tmp_path):
    save(colours(), tmp_path / '2.png', tmp_path / '1.bmp')
    (tmp_path / 'sketches').mkdir()
    (tmp_path / 'sketches/read.me').write_text('')
    found = find_pictures(tmp_path)
    assert [file.name for file in found.files] == ['1.bmp', '2.png']
    assert found.labels is None and found.classes is None


def test_folders_that_say_too_little(tmp_path):
    with pytest.raises(ValueError, match=r'--data=.*nothing.* is no folder'):
        find_pictures(tmp_path / 'nothing')
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a/b.txt').write_text('')
    with pytest.raises(ValueError, match='holds no picture'):
        find_pictures(tmp_path)
    save(colours(), tmp_path / 'a/1.png', tmp_path / '2.png')
    with pytest.raises(ValueError, match='2.png.*beside a single folder'):
        find_pictures(tmp_path)


def test_what_is_left_out_is_told(root, tmp_path):
    save(colours(), tmp_path / 'a/1.png', tmp_path / 'b/1.png')
    save(colours(), tmp_path / 'stray.png')
    (tmp_path / 'c').mkdir()
    images = make_dataset(config_of(root), str(tmp_path))
    assert remarks(images) == [
        '1 picture(s) beside the class folders left out, such as stray.png',
        'class folders without a picture: c',
    ]
    assert class_names(images) == ['a', 'b', 'c']
    assert [int(images[k]['data_samples'].gt_label) for k in (0, 1)] == [0, 1]
    assert len(subset(images, 1)) == 1


def test_an_unreadable_image_is_named(root, tmp_path):
    save(colours(), tmp_path / 'a/1.png', tmp_path / 'b/1.png')
    (tmp_path / 'b/2.png').write_bytes(b'no picture')
    images = make_dataset(config_of(root), str(tmp_path))
    for workers in (0, 1):
        with pytest.raises(ValueError, match='b/2.png cannot be prepared'):
            list(make_loader(images, 2, workers))
    with pytest.raises(ValueError, match='2.png cannot be prepared'):
        prepare_image(config_of(root), tmp_path / 'b/2.png')


def test_images_of_several_sizes_are_refused(root, tmp_path):
    save(colours(size=16), tmp_path / '1.png')
    save(colours(size=20), tmp_path / '2.png')
    config = config_of(root, pipeline=[LOAD, PACK])
    with pytest.raises(ValueError, match='give --size'):
        next(iter(make_loader(make_dataset(config, str(tmp_path)), 2)))
    batch = next(iter(make_loader(make_dataset(config, str(tmp_path), 8), 2)))
    assert batch['inputs'].shape == (2, 3, 8, 8)
