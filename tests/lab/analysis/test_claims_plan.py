"""Plans of the table of claims, and the images that they choose."""

from pathlib import Path

import pytest
import yaml
from PIL import Image

from u1_plugin.lab.analysis.claims_images import (
    check_classes,
    choose_images,
    images_of,
)
from u1_plugin.lab.analysis.claims_plan import (
    Cell,
    ImageSource,
    Plan,
    Settings,
    load_plan,
)

CONTENT = dict(
    settings=dict(classes=3, images=9, permutations=99, splits=2),
    networks=dict(
        small=dict(config='small.py', checkpoint='small.pth', size=32),
        other=dict(config='timm:resnet18'),
    ),
    data=dict(
        photos=dict(built_in='photos'),
        digits=dict(folders=['digits']),
        turned=dict(folders=['turned'], pattern='*a.png', of='digits'),
    ),
    tables=dict(
        first=[dict(networks=['small'], data=['photos', 'digits'])],
        more=[
            dict(
                networks=['small', 'other'],
                data=['digits'],
                weights='untrained',
                memory=False,
            ),
            dict(networks=['small'], data=['turned'], padding=['reflect']),
        ],
    ),
)


def written(tmp_path: Path, content: dict) -> Path:
    file = tmp_path / 'plan.yml'
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.mark.parametrize('numbers', ['1', "'1'"])
def test_two_things_have_two_names(tmp_path, numbers):
    file = written(tmp_path, CONTENT)
    text = file.read_text().replace('  other:', '  1:')
    text = text.replace('  small:', f'  {numbers}:', 1)
    file.write_text(text)
    with pytest.raises(ValueError, match="'?1'?.* twice"):
        load_plan(file)


def test_cells_of_one_title_are_refused(tmp_path):
    """Both would be read from one file, and judged by one key."""
    content = dict(
        CONTENT,
        networks={
            name: CONTENT['networks']['small'] for name in ('r18', 'r18-cifar')
        },
        data={
            name: CONTENT['data']['digits']
            for name in ('photos', 'cifar-photos')
        },
        tables=dict(
            first=[
                dict(networks=['r18'], data=['cifar-photos']),
                dict(networks=['r18-cifar'], data=['photos']),
            ]
        ),
    )
    with pytest.raises(ValueError, match='both called .*rename a network'):
        load_plan(written(tmp_path, content))


@pytest.fixture
def plan(tmp_path) -> Plan:
    return load_plan(written(tmp_path, CONTENT))


def test_a_plan_is_all_cells_of_its_blocks(plan):
    assert plan.tables['first'] == [
        Cell('small', 'photos'),
        Cell('small', 'digits'),
    ]
    assert plan.tables['more'] == [
        Cell('small', 'digits', 'untrained'),
        Cell('other', 'digits', 'untrained'),
        Cell('small', 'turned', 'trained', 'reflect'),
    ]
    assert plan.without_memory == set(plan.tables['more'][:2])
    assert plan.settings == Settings(3, 9, 2, 99)
    assert plan.twin(plan.cells[-1]) == Cell('small', 'digits')


def changed(path: str, value) -> dict:
    """CONTENT with one field set, or left out where the value is None."""
    content = yaml.safe_load(yaml.safe_dump(CONTENT))
    *parents, last = path.split('.')
    place = content
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return content


@pytest.mark.parametrize(
    'path, value, words',
    [
        ('more', 3, r"unknown field\(s\) \['more'\]"),
        ('settings', 3, 'settings=3 must be a mapping'),
        ('settings.splits', 1, 'settings.splits=1 must be an integer >= 2'),
        ('settings.splits', 7, 'settings.splits=7 must be below 5 or a mult'),
        ('settings.images', '9', "settings.images='9' must be"),
        ('settings.fold', 1, 'fold'),
        ('networks', [], r'networks=\[\] must be'),
        ('networks.small', 'x.py', "networks.small='x.py' must be a mapping"),
        ('networks.small.size', 0, 'networks.small.size=0 must be'),
        ('networks.small.config', None, 'networks.small.*config'),
        ('networks.small.checkpoint', None, 'networks.small needs a checkp'),
        ('data.digits.folders', None, 'data.digits must have folders or'),
        ('data.digits.built_in', 'faces', 'data.digits must have folders or'),
        ('data.photos.built_in', 'cats', "built_in='cats' must be one of"),
        ('data.turned.of', 'cats', "data.turned.of='cats' must be one of"),
        ('tables', {}, r'tables=\{\} must be'),
        ('tables.first', {}, r'tables.first=\{\} must be a list'),
        ('tables.first.0.networks', ['big'], "tables.first.networks has 'big'"),
        ('tables.first.0.data', 3, 'tables.first.data=3 must be a list'),
        ('tables.first.0.weights', 'none', "tables.first.weights has 'none'"),
        ('tables.first.0.memory', 'no', "tables.first.memory='no'"),
        ('tables.more.0.weights', 'trained', 'is in tables.first already'),
    ],
)
def test_what_is_wrong_with_a_plan_is_named(tmp_path, path, value, words):
    with pytest.raises((ValueError, TypeError), match=words):
        load_plan(written(tmp_path, changed(path, value)))


def test_a_file_that_is_no_plan_is_named(tmp_path):
    file = tmp_path / 'plan.yml'
    with pytest.raises(FileNotFoundError, match='plan=.*plan.yml'):
        load_plan(file)
    file.write_text('{')
    with pytest.raises(ValueError, match='plan=.*is not YAML'):
        load_plan(file)
    file.write_text('3')
    with pytest.raises(ValueError, match='plan.yml=3 must be a mapping'):
        load_plan(file)


def test_the_plan_of_the_results_is_one(root):
    found = load_plan(root / 'docs/results/claims/claims.yml')
    assert all((root / net.config).is_file() for net in found.networks.values())
    assert found.cells


@pytest.fixture
def folders(tmp_path):
    """Two folders with five classes; both hold files of one name."""
    for part in ('train', 'test'):
        for name in 'edcba':
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for number in range(4):
                for hand in 'xy':
                    color = sum(map(ord, part + name)) % 256
                    picture = Image.new('L', (4, 4), color)
                    picture.save(folder / f'{number}-{hand}.png')
    return [str(tmp_path / 'train'), str(tmp_path / 'test')]


def test_images_are_spaced_evenly_and_equally_many_a_class(folders):
    source = ImageSource(folders, '*-x.png')
    chosen = choose_images(source, Settings(3, 14))
    assert {name: len(files) for name, files in chosen.items()} == dict(
        a=4, c=4, e=4
    )
    for name, files in chosen.items():
        assert all(f.parent.name == name for f in files)
        assert all(f.name.endswith('-x.png') for f in files)
        assert len(set(files)) == 4
        # From the first number to the last, of both folders.
        assert {f.name[0] for f in files} >= {'0', '3'}
    assert choose_images(source, Settings(3, 14)) == chosen
    few = choose_images(ImageSource(folders), Settings(9, 2))
    assert [len(files) for files in few.values()] == [1] * 5
    with images_of(source, Settings(3, 14)) as folder:
        pictures = sorted(folder.rglob('*.png'))
        assert len(pictures) == 12
        assert sorted(p.read_bytes() for p in pictures) == sorted(
            f.read_bytes() for files in chosen.values() for f in files
        )
    assert not folder.exists()


@pytest.mark.parametrize('again', ['{}', '{}/', 'link'])
def test_one_image_is_not_two(again, folders, tmp_path):
    (tmp_path / 'link').symlink_to(folders[0])
    again = str(tmp_path / again) if again == 'link' else again.format(*folders)
    with pytest.raises(ValueError, match=r"^folders=.*\.png' are one file"):
        choose_images(ImageSource([*folders, again]), Settings())


def test_folders_without_such_images_are_named(folders, tmp_path):
    with pytest.raises(ValueError, match=r"pattern='\*.gif': no picture"):
        choose_images(ImageSource(folders, '*.gif'), Settings())
    loose = tmp_path / 'loose'
    loose.mkdir()
    Image.new('L', (4, 4)).save(loose / 'x.png')
    with pytest.raises(ValueError, match='no folder of a class'):
        choose_images(ImageSource([str(loose)]), Settings())


def test_fewer_images_than_classes_are_refused(tmp_path):
    content = dict(CONTENT, settings=dict(classes=6, images=3))
    with pytest.raises(ValueError, match='images=3 in all.*classes=6'):
        load_plan(written(tmp_path, content))


def test_classes_too_small_for_c4_are_named(folders, tmp_path):
    source = ImageSource(folders)
    check_classes(source, 'letters', Settings(3, 15))
    words = (
        "data.letters: class 'a' has 4 images, and C4 takes 5 of every class; "
        'raise settings.images=12, or lower settings.classes=3, or give'
    )
    with pytest.raises(ValueError, match=words):
        check_classes(source, 'letters', Settings(3, 12))
    # More would not help, for there are none.
    few = ImageSource([str(tmp_path / 'train')], '*-x.png')
    with pytest.raises(ValueError, match='has 4 images.*; add pictures, or'):
        check_classes(few, 'letters', Settings(3, 90))
    check_classes(ImageSource(built_in='photos'), 'photos', Settings(3, 90))
