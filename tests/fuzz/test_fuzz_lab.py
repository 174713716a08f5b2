"""The laboratory's components, suites and records."""

import json
import re

import numpy as np
import pytest
import torch
import yaml
from hypothesis import strategies as st
from mmpretrain.registry import DATASETS
from oracle import REFUSED, attempt, fuzz
from strategies import (
    COUNT,
    NON_NEGATIVE,
    SEED,
    SHARE,
    SWITCH,
    Kind,
    choice,
    close,
    number,
    optional,
    options,
    smooth,
    whole,
)

import u1_plugin.lab  # noqa: F401  (registers its components)
from u1_plugin.lab import auxiliary_losses
from u1_plugin.lab.benchmark import suite as suites
from u1_plugin.lab.benchmark import table as tables
from u1_plugin.lab.benchmark.results import read_results
from u1_plugin.lab.benchmark.runs import Run
from u1_plugin.lab.corrupt import CORRUPTIONS, Corrupt
from u1_plugin.lab.paired_start_hook import PairedStartHook
from u1_plugin.lab.permute_angles_hook import PermuteAnglesHook
from u1_plugin.lab.run_record_hook import RunRecordHook

SIZES = dict(num_classes=COUNT, in_channels=COUNT, loss_weight=NON_NEGATIVE)
LOSSES = dict(
    CenterLoss=dict(SIZES, rate=SHARE),
    HypersphericalPrototypeLoss=dict(SIZES, seed=SEED),
    RandomPlaneLoss=dict(SIZES, seed=SEED),
)


@st.composite
def losses(draw: st.DrawFn):
    name = draw(st.sampled_from(sorted(LOSSES)))
    given = draw(options(LOSSES[name], ('num_classes', 'in_channels')))
    return (name, *given)


@fuzz(
    'lab: CenterLoss, HypersphericalPrototypeLoss, RandomPlaneLoss',
    case=losses(),
    vectors=smooth(3, st.integers(1, 4)),
    labels=st.lists(st.integers(-1, 4), min_size=3, max_size=3),
)
def test_losses(case, vectors, labels):
    name, given, wrong = case
    loss = attempt(lambda: getattr(auxiliary_losses, name)(**given), wrong)
    if loss is REFUSED:
        return
    classes, channels = given['num_classes'], given['in_channels']
    right = channels == vectors.size(1)
    right = right and all(0 <= label < classes for label in labels)
    target = torch.tensor(labels)
    loss.eval()
    found = attempt(
        lambda: loss(vectors, target),
        {} if right else dict(in_channels=vectors, num_classes=labels),
    )
    if found is not REFUSED:
        shares = torch.nn.functional.one_hot(target, classes).float()
        assert close(found, loss(vectors, shares), 1e-4)
        assert found.isfinite()


CORRUPT = dict(
    name=choice(*CORRUPTIONS),
    severity=whole(1, 5, 5),
    seed=SEED,
    min_size=whole(32, 40),
    after=optional(choice('Resize')),
)


@fuzz(
    'lab.Corrupt',
    share=0.5,
    case=options(CORRUPT, ('name', 'severity')),
    number=st.integers(0, 99),
)
def test_corrupt(case, number):
    given, wrong = case
    if given.get('after') == 'Resize':
        given['scale'] = 16
    step = attempt(lambda: Corrupt(**given), wrong)
    if step is REFUSED:
        return
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)

    def run() -> np.ndarray:
        return step(dict(img=image.copy(), sample_idx=number))['img']

    found = attempt(run, kinds=(RuntimeError,), either=True)
    if found is not REFUSED:
        assert found.shape == image.shape and found.dtype == np.uint8
        assert (found == run()).all()


HOOKS = {
    PairedStartHook: dict(
        model=Kind(lambda v: isinstance(v, dict), st.just(dict(type='X'))),
        seed=SEED,
    ),
    PermuteAnglesHook: dict(seed=SEED),
    RunRecordHook: dict(
        identity=Kind(lambda v: isinstance(v, dict), st.just(dict(a=1))),
        test=SWITCH,
    ),
}


@st.composite
def hooks(draw: st.DrawFn):
    kind = draw(st.sampled_from(list(HOOKS)))
    return (kind, *draw(options(HOOKS[kind], tuple(HOOKS[kind]))))


@fuzz('lab: hooks', case=hooks())
def test_hooks(case):
    kind, given, wrong = case
    attempt(lambda: kind(**given), wrong)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    configs = tmp_path_factory.mktemp('configs')
    (configs / 'suites').mkdir()
    (configs / 'a.py').write_text('')
    arms = {'one-hot': dict(role='baseline'), 'u1': dict(role='u1')}
    (configs / 'suites/arms.yml').write_text(yaml.dump(arms))
    return configs / 'suites'


SUITE = dict(
    name='mine',
    prepare=[['tool.py', 'data']],
    processes=1,
    configs=[dict(config='a.py', set={'train_cfg.max_epochs': 2})],
    seeds=2,
    first_seed=0,
    arms=['one-hot', 'u1', 'own'],
    define=dict(own=dict(role='control', set={}, measured='one-hot')),
    ablations=dict(seeds=2, of=dict(u1=dict(weak={'a.b': 1}))),
)
PLACES = [
    *((key,) for key in SUITE),
    *(('configs', 0), ('configs', 0, 'config'), ('configs', 0, 'set')),
    *(('arms', 0), ('define', 'own'), ('define', 'own', 'measured')),
    *(('define', 'own', 'role'), ('ablations', 'of'), ('prepare', 0)),
    *(('ablations', 'seeds'), ('ablations', 'of', 'u1'), ('x',)),
]
SPOILT = st.sampled_from(
    [
        *(None, True, 0, -1, 1.5, '1', 'u1', 'one-hot', '', '../up', 'a/b'),
        *('$x', 'ä', 'con.', [], ['u1'], [1], {}, {'a': 1}, {1: 2}, 10**12),
        *(float('nan'), [['a']], {'role': 'u1'}, {'seeds': 1}, 'x' * 300),
    ]
)


@fuzz(
    'lab.benchmark: suites',
    place=st.sampled_from(PLACES),
    value=SPOILT,
    text=st.sampled_from([''] * 6 + ['!!python/name:os.system', '{', '\0']),
)
def test_suites(folder, place, value, text):
    content = json.loads(json.dumps(SUITE))
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    file = folder / 'mine.yml'
    file.write_text(text + yaml.dump(content))
    found = attempt(
        lambda: suites.load_suite(file),
        dict.fromkeys([*map(str, place), 'suite', 'arms'], ()),
        either=True,
    )
    if found is REFUSED:
        same = repr(value) == repr(SUITE.get(place[0], ...))
        assert not same or text
        return
    names = [arm.name for arm in (*found.arms, *found.ablations)]
    assert len(set(map(str.lower, names))) == len(names)
    for name in (found.name, *names, *(e.name for e in found.entries)):
        assert re.fullmatch(r'[A-Za-z0-9][\w.+-]*', name)
    assert [arm.role for arm in found.arms].count('baseline') == 1
    assert found.seeds >= 1 and found.processes >= 1 <= len(found.entries)


RECORD = dict(
    identity=dict(run_hash='x', processes=1, measured_from=None),
    initial=dict(backbone='a', head_fc='b'),
    order=['c'],
    val=[{'epoch': 1, 'accuracy/top1': 50.0}],
    test={},
    wall_s=1.0,
    cpu_s=1.0,
    peak_rss_mib=10.0,
    parameters=3,
    versions={},
    hardware='h',
)


@fuzz(
    'lab.benchmark: run records',
    field=st.sampled_from(sorted(RECORD)),
    value=st.sampled_from([None, [], {}, 'a', 1, [1], {'a': 1}, [{}], True])
    | st.just('as it is'),
    cut=st.none() | st.integers(0, 300),
    other=st.booleans(),
)
def test_records(folder, field, value, cut, other):
    values = dict(train_cfg=dict(max_epochs=1), val_cfg={}, randomness={})
    run = Run(
        *('mine', 'a', 'u1', 'u1', 0, 1, values, False, 1, False, None),
        folder / 'a/u1/seed0',
    )
    run.folder.mkdir(parents=True, exist_ok=True)
    record = json.loads(json.dumps(RECORD))
    record['identity']['run_hash'] = 'other' if other else run.run_hash
    if value != 'as it is':
        record[field] = value
    text = json.dumps(record)
    run.record_file.write_text(text[:cut])
    found = attempt(run.record, {'--out': run.folder}, either=True)
    if found is not REFUSED and found is not None:
        table = attempt(lambda: tables.collect([run], folder))
        assert not other or field == 'identity'
        assert len(table) == 1
    elif value == 'as it is' and cut is None and not other:
        raise AssertionError(f'refused a whole record: {found}')


@fuzz('lab.benchmark.read_results', text=st.binary(max_size=40) | st.text())
def test_results(folder, text):
    data = text if isinstance(text, bytes) else text.encode(errors='replace')
    (folder / 'results.csv').write_bytes(data)
    attempt(lambda: read_results(folder), {str(folder): data}, either=True)


@pytest.fixture(scope='module')
def annotations(tmp_path_factory):
    file = tmp_path_factory.mktemp('data') / 'list.json'
    rows = [
        dict(gt_label=i % 3, number=i, img_path=f'{i}.png') for i in range(12)
    ]
    classes = ['a', 'b', 'c']
    content = dict(metainfo=dict(classes=classes), data_list=rows)
    file.write_text(json.dumps(content))
    return str(file)


SUBSET = dict(
    shots=optional(whole(1, 4)),
    imbalance=optional(number(1, 50)),
    label_noise=number(0, 1, limit=1),
    seed=SEED,
)


@fuzz('lab.SubsetDataset', case=options(SUBSET))
def test_subset(annotations, case):
    given, wrong = case
    make = DATASETS.get('SubsetDataset')
    found = attempt(
        lambda: make(of='BaseDataset', ann_file=annotations, **given),
        wrong,
        # A tail may leave too few of a class.
        also=['shots'] if 'imbalance' in given else [],
        either=not wrong and 'imbalance' in given,
    )
    if found is REFUSED:
        return
    numbers = [found.get_data_info(i)['number'] for i in range(len(found))]
    assert len(set(numbers)) == len(numbers)
    labels = [found.get_data_info(i)['gt_label'] for i in range(len(found))]
    if given.get('shots') is not None:
        assert len(numbers) == 3 * given['shots']
    wrong_labels = sum(n % 3 != label for n, label in zip(numbers, labels))
    rate = float(given.get('label_noise', 0))
    assert wrong_labels == round(rate * len(numbers))
