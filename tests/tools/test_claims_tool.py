"""The table of claims as a command, on digits and a small network."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits
from twins import load_tool

from u1_plugin.geometry import to_positive_orthant
from u1_plugin.lab.analysis.claims_cell import (
    from_json,
)
from u1_plugin.lab.analysis.claims_measure import centre, vote
from u1_plugin.lab.analysis.images import make_dataset, make_loader
from u1_plugin.lab.analysis.sources import load_network
from u1_plugin.lab.analysis.verdicts import concentration_tests
from u1_plugin.lab.benchmark.table import read_csv
from u1_plugin.measure.accumulators import EnergyAccumulator


@pytest.fixture(scope='module')
def tool():
    return load_tool('studies/claims.py')


@pytest.fixture(scope='module')
def world(root, tmp_path_factory):
    """Digits, a checkpoint, and a plan of them."""
    folder = tmp_path_factory.mktemp('world')
    digits = load_digits(n_class=3)
    for i in range(45):
        place = folder / 'digits' / str(digits.target[i])
        place.mkdir(parents=True, exist_ok=True)
        grey = np.round(digits.images[i] * (255 / 16)).astype(np.uint8)
        Image.fromarray(grey).save(place / f'{i:02d}.png')
    config = root / 'configs/digits/resnet18-narrow_1xb64_digits.py'
    weights = load_network(str(config), seed=5).model.state_dict()
    torch.save(dict(state_dict=weights), folder / 'small.pth')
    plan = dict(
        settings=dict(classes=3, images=30, splits=2, permutations=99),
        networks=dict(
            small=dict(config=str(config), checkpoint=str(folder / 'small.pth'))
        ),
        data=dict(digits=dict(folders=[str(folder / 'digits')])),
        tables={
            'trained': [dict(networks=['small'], data=['digits'])],
            'untrained': [
                dict(
                    networks=['small'],
                    data=['digits'],
                    weights='untrained',
                    memory=False,
                )
            ],
        },
    )
    (folder / 'plan.yml').write_text(yaml.safe_dump(plan))
    return folder


def call(tool, *args) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', ['claims.py', *map(str, args)])
        tool.main()


@pytest.fixture(scope='module')
def made(tool, world):
    """Interrupted in the second cell, and called again."""
    out, real, cells = world / 'out', tool.measure, []

    def interrupted(plan, cell, *rest):
        if cells:
            raise KeyboardInterrupt
        cells.append(cell)
        return real(plan, cell, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tool, 'measure', interrupted)
        with pytest.raises(KeyboardInterrupt):
            call(tool, world / 'plan.yml', out)
        assert len(list((out / 'cells').iterdir())) == 1
        call(tool, world / 'plan.yml', out, '--only')
        assert 'Incomplete: 1 of 2' in (out / 'README.md').read_text()
        cells.clear()
        call(tool, world / 'plan.yml', out)
        assert [cell.weights for cell in cells] == ['untrained']
        call(tool, world / 'plan.yml', out)  # nothing is left to measure
    return out


def stored(out, weights='trained'):
    file = out / 'cells' / f'small-digits-{weights}-zeros.json'
    return from_json(json.loads(file.read_text()))


def test_the_folder_holds_page_tables_figure_and_question(made, world):
    page = (made / 'README.md').read_text()
    assert 'Incomplete' not in page and '30 images of 3 classes' in page
    assert '--only' not in page
    assert Image.open(made / 'claims.png').width > 1000
    asked = (made / 'claims.yml').read_text().split('\n', 1)[1]
    assert asked == (world / 'plan.yml').read_text()
    table = read_csv(made / 'claims.csv')
    assert set(table.table) == {'trained', 'untrained'}
    assert set(table[table.claim.str.startswith('C4')].weights) == {'trained'}
    accuracy = read_csv(made / 'accuracy.csv')
    columns = accuracy.columns[accuracy.columns.str.startswith('split')]
    assert list(columns) == ['split_0', 'split_1']
    assert (accuracy[columns] >= 0).all().all()
    assert (accuracy[columns] <= 100).all().all()


def test_c1_is_that_of_the_chosen_images(made, world):
    """Against a pass by hand over the same files."""
    plan = yaml.safe_load((world / 'plan.yml').read_text())
    net = plan['networks']['small']
    network = load_network(net['config'], net['checkpoint'])
    folder = world / 'chosen'
    for place in sorted((world / 'digits').iterdir()):
        files = sorted(place.iterdir())
        index = np.linspace(0, len(files) - 1, 10).round().astype(int)
        (folder / place.name).mkdir(parents=True)
        for k in index:
            shutil.copy(files[k], folder / place.name)
    accumulator = EnergyAccumulator()
    for batch in make_loader(make_dataset(network.config, str(folder)), 30):
        inputs = network.model.data_preprocessor(batch, False)['inputs']
        with torch.no_grad():
            maps = to_positive_orthant(network.model.backbone(inputs)[-1])
        accumulator.update(maps.square().sum(1))
    expected = concentration_tests(accumulator.summary())[0].estimate
    cell = stored(made)
    assert cell.shape == tuple(maps.shape[1:]) and cell.images == 30
    found = next(t for t in cell.tests if t.aspect == 'concentrated').estimate
    assert found == pytest.approx(expected, rel=1e-4)
    other = stored(made, 'untrained')
    assert not other.accuracy and other.tests[0].estimate != found


def test_the_vote_is_that_of_the_study(made):
    """The central pixels know what they hold, and nothing of the border."""
    generator = torch.Generator().manual_seed(0)
    labels = np.arange(60) % 3
    maps = torch.rand(60, 8, 4, 4, generator=generator)
    border = maps.clone()
    border[torch.arange(60), labels, :, 0] += 5
    found, _ = vote(border, labels, 2)
    assert np.mean(found['centre']) < 70 < np.mean(found['pixel'])
    inside = maps.clone()
    inside[torch.arange(60), labels, 1:3, 1:3] += 5
    found, scores = vote(inside, labels, 2)
    assert len(scores['centre']) == 24  # two of five folds of 60
    assert found['centre'] == [100.0, 100.0]
    assert centre(maps).shape == (60, 8, 2, 2)
    assert set(stored(made).accuracy) == {*found}


def test_what_changed_is_measured_again(tool, world, made, tmp_path):
    out = tmp_path / 'out'
    shutil.copytree(made, out)
    seen = []

    def note(plan, cell, *rest):
        seen.append(cell.weights)
        return stored(made, cell.weights)

    plan = yaml.safe_load((world / 'plan.yml').read_text())
    changed = tmp_path / 'plan.yml'

    def again() -> list:
        seen.clear()
        changed.write_text(yaml.safe_dump(plan))
        call(tool, changed, out)
        return list(seen)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tool, 'measure', note)
        assert again() == []
        # The same weights elsewhere, and then others.
        moved = tmp_path / 'small.pth'
        shutil.copy(world / 'small.pth', moved)
        plan['networks']['small']['checkpoint'] = str(moved)
        assert again() == []
        torch.save(dict(state_dict={}), moved)
        assert again() == ['trained']
        # The same config elsewhere, and then another.
        config = tmp_path / 'small.py'
        config.write_text(f'_base_ = {plan["networks"]["small"]["config"]!r}')
        plan['networks']['small']['config'] = str(config)
        assert again() == []
        config.write_text(f'{config.read_text()}\nmodel = dict(neck=None)')
        assert again() == ['trained', 'untrained']
        plan['settings']['permutations'] = 100
        assert again() == ['trained', 'untrained']
        # One image more.
        digits = tmp_path / 'digits'
        shutil.copytree(world / 'digits', digits)
        plan['data']['digits']['folders'] = [str(digits)]
        assert again() == []
        file = sorted((digits / '0').iterdir())[0]
        Image.new('L', (8, 8)).save(file)
        assert again() == ['trained', 'untrained']


def test_misuse_is_named(tool, world, tmp_path, capsys):
    other = tmp_path / 'other'
    other.mkdir()
    (other / 'README.md').write_text('mine')
    with pytest.raises(SystemExit):
        call(tool, world / 'plan.yml', other)
    assert 'no ' in capsys.readouterr().err
    assert (other / 'README.md').read_text() == 'mine'
    with pytest.raises(SystemExit):
        call(tool, tmp_path / 'none.yml', tmp_path / 'new')
    assert 'none.yml' in capsys.readouterr().err
    with pytest.raises(SystemExit, match='no cell of this plan'):
        call(tool, world / 'plan.yml', tmp_path / 'new', '--only')


@pytest.mark.parametrize(
    'part, field',
    [('networks', 'checkpoint'), ('networks', 'config'), ('data', 'folders')],
)
def test_missing_files_are_named_before_the_work(
    part, field, tool, world, tmp_path, capsys
):
    plan = yaml.safe_load((world / 'plan.yml').read_text())
    ((name, options),) = plan[part].items()
    options[field] = ['missing'] if field == 'folders' else 'missing'
    (tmp_path / 'plan.yml').write_text(yaml.safe_dump(plan))
    with pytest.raises(SystemExit):
        call(tool, tmp_path / 'plan.yml', tmp_path / 'out')
    words = capsys.readouterr().err
    assert f'{part}.{name}.{field}' in words and "'missing'" in words
    assert not (tmp_path / 'out').exists()


def test_a_plan_stays_beside_its_page(tool, made, world, tmp_path):
    """Until there is a page of another plan, all of which is there."""
    out = tmp_path / 'out'
    shutil.copytree(made, out)
    before = {
        file.name: file.read_bytes() for file in out.iterdir() if file.is_file()
    }
    plan = yaml.safe_load((world / 'plan.yml').read_text())
    plan['settings']['permutations'] = 100
    other = tmp_path / 'other.yml'
    other.write_text(yaml.safe_dump(plan))
    with pytest.raises(SystemExit, match='no cell of this plan'):
        call(tool, other, out, '--only')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tool, 'measure', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            call(tool, other, out)
    after = {
        file.name: file.read_bytes() for file in out.iterdir() if file.is_file()
    }
    assert after == before


def test_a_new_folder_is_marked_until_it_has_a_page(
    tool, world, made, tmp_path
):
    out = tmp_path / 'out'
    with pytest.raises(SystemExit, match='no cell of this plan'):
        call(tool, world / 'plan.yml', out, '--only')
    assert not out.exists()
    tool.begin(out, only=False)
    assert [file.name for file in out.iterdir()] == [tool.BEGUN]
    tool.begin(out, only=False)  # it is ours
    shutil.copytree(made / 'cells', out / 'cells')
    call(tool, world / 'plan.yml', out, '--only')
    assert {file.name for file in out.iterdir()} == {
        file.name for file in made.iterdir()
    }
    (out / tool.PLAN).unlink()
    with pytest.raises(FileExistsError, match='out='):
        tool.begin(out, only=True)


def test_a_damaged_cell_is_named(tool, made, world, tmp_path):
    out = shutil.copytree(made, tmp_path / 'out')
    file = out / 'cells/small-digits-trained-zeros.json'
    file.write_text('{"basis": {')
    with pytest.raises(SystemExit, match='zeros.json is damaged.*remove it'):
        call(tool, world / 'plan.yml', out)
    file.unlink()
    call(tool, world / 'plan.yml', out, '--only')  # of the second table alone
    assert 'Incomplete: 1 of 2' in (out / 'README.md').read_text()
