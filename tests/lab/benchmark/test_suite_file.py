"""A bad suite is refused by the name of what is wrong with it."""

import pytest
import yaml
from helpers import copied_suites
from small_suites import CONFIG, GOOD

from u1_plugin.lab.benchmark.suite import load_suite


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(seeds=0), 'suite.seeds=0 must be an integer >= 1'),
        (dict(first_seed=-1), 'suite.first_seed=-1 must be an integer >= 0'),
        (dict(seeds='ten'), "suite.seeds='ten' must be an integer >= 1"),
        (dict(arms=['u1-feature']), 'exactly one arm with role: baseline'),
        (dict(arms=['one-hot', 'u1']), 'must be different names among'),
        (dict(arms=['one-hot', 'one-hot']), 'different names'),
        (dict(seed=3), r"unknown field\(s\) \['seed'\]"),
        (dict(configs=[]), 'one or several different configs'),
        (dict(configs=[dict(config='no.py')]), "config='no.py' is no file"),
        (
            dict(configs=[dict(config=CONFIG), dict(config=CONFIG)]),
            'give a config that occurs twice a `name`',
        ),
        (
            dict(configs=[dict(config=CONFIG, name='a/b')]),
            'the name .a/b. becomes a folder',
        ),
        (
            dict(ablations=dict(seeds=1, of={'arcfac': {'x': {}}})),
            'suite.ablations.of=.*arcfac.* must be different names among',
        ),
        (
            dict(ablations=dict(seeds=1, of={'arcface': {'a/b': {}}})),
            'the name .a/b. becomes a folder',
        ),
        (
            dict(arms=['one-hot'], define={'x': dict(role='u1', wrap='u1')}),
            r"unknown field\(s\) \['wrap'\]",
        ),
        (
            dict(configs=[dict(config=CONFIG, fragment='_base_/u1.py')]),
            r"unknown field\(s\) \['fragment'\]",
        ),
        (
            dict(define={'x': dict(role='hero')}),
            "suite.define.x.role='hero'",
        ),
        (
            dict(define={'a/b': dict(role='rival')}),
            'the name .a/b. becomes a folder',
        ),
        (dict(name='../up'), "suite.name: the name '../up' becomes a folder"),
        (dict(name='.hidden'), "suite.name: the name '.hidden'"),
        (dict(name='<b>'), "suite.name: the name '<b>'"),
        (dict(name='a' * 101), 'suite.name: the name'),
        (dict(name=3), 'suite.name=3 must be a string'),
        (dict(seeds=True), 'suite.seeds=True must be an integer'),
        (dict(seeds=2.0), 'suite.seeds=2.0 must be an integer'),
        (dict(seeds=10**9), 'suite.seeds=1000000000 must be an integer'),
        (dict(first_seed=2**32 - 1), 'suite.first_seed=.*no room'),
        (dict(processes=0), 'suite.processes=0 must be an integer'),
        (dict(arms=[1]), r'suite.arms=\[1\] must be different names'),
        (dict(arms=[['one-hot']]), 'suite.arms=.*must be different names'),
        (dict(configs=[CONFIG]), r'suite.configs\[0\]=.*must be a mapping'),
        (
            dict(configs=[dict(config=CONFIG, set=[1])]),
            r'suite.configs\[0\].set=\[1\] must be a dict',
        ),
        (
            dict(configs=[dict(config=CONFIG, set={1: 2})]),
            r'suite.configs\[0\].set: the option 1 must be a name',
        ),
        (
            dict(configs=[dict(config=CONFIG, set={'a..b': 2})]),
            r"suite.configs\[0\].set: the option 'a..b'",
        ),
        (
            dict(configs=[dict(config=CONFIG, set={'a': float('nan')})]),
            r'suite.configs\[0\].set.a=nan must be a string, a finite',
        ),
        (
            dict(
                configs=[
                    dict(config=CONFIG, name=name) for name in ('one', 'One')
                ]
            ),
            "suite.configs: the names 'one' and 'One' are one folder",
        ),
        (
            dict(ablations=dict(seeds=1, set={'one-hot': {}})),
            "suite: the name 'one-hot' occurs twice",
        ),
        (
            dict(configs=[dict(config=CONFIG, set={'a.lr': '-1E3'})]),
            r"suite.configs\[0\].set.a.lr='-1E3' is text.*write -1000.0",
        ),
        (
            dict(
                arms=['one-hot', 'U1-zero'],
                define={'U1-zero': dict(role='rival')},
                ablations=dict(seeds=1, set={'u1-ZERO': {}}),
            ),
            'are one folder',
        ),
        (dict(define=['x']), 'suite.define=.*must be a dict'),
        (dict(define={7: dict(role='u1')}), 'suite.define: the name 7'),
        (
            dict(define={'x': dict(role='u1', measured=3)}),
            'suite.define.x.measured=3 must be a string or None',
        ),
        (dict(ablations=[]), r'suite.ablations=\[\] must be a dict'),
        (dict(ablations=dict(set={})), 'suite.ablations.seeds=None must be'),
        (
            dict(ablations=dict(seeds=1, set={'x': [3]})),
            r'suite.ablations.set.u1-feature.x=\[3\] must be a mapping',
        ),
        (
            dict(ablations=dict(seeds=1, of={'arcface': 'x'})),
            "suite.ablations.of.arcface='x' must be a mapping",
        ),
        (
            dict(exploratory=dict(seeds=9, arms=['center-loss'])),
            'suite.exploratory.seeds=9 must be an integer >= 1 and <= 2',
        ),
        (
            dict(exploratory=dict(seeds=1, arms=['center-loss', 'u1-zero'])),
            r"suite.exploratory.arms=.*remove \['u1-zero'\]",
        ),
        (
            dict(
                exploratory=dict(seeds=1, arms=['other']),
                define={'other': dict(role='baseline')},
            ),
            'suite.exploratory.arms=.*remove the baseline',
        ),
        (
            dict(exploratory=dict(seeds=1, arms=['center-loss'], gain=1)),
            'suite.exploratory has the unknown',
        ),
        (
            dict(configs=[dict(config=CONFIG, without=['arcfac'])]),
            r"without=\['arcfac'\] must be arms of the suite, each once",
        ),
        (
            dict(configs=[dict(config=CONFIG, without=['one-hot'])]),
            r"without=\['one-hot'\] must be arms of the suite, each once",
        ),
        (
            dict(configs=[dict(config=CONFIG, without=['u1-zero'] * 2)]),
            r"without=\['u1-zero'\] must be arms of the suite, each once",
        ),
        (
            dict(
                configs=[dict(config=CONFIG, without=['u1-zero'])],
                primary=dict(gain=1, comparisons=[['u1-zero', 'one-hot']]),
            ),
            r"without=\['u1-zero'\] .* but its baseline and those of primary",
        ),
        (
            dict(
                tuned={'other': {'model': {'u1': {'neck': {}}}}},
                define={
                    'other': dict(
                        role='u1', set={'model.u1.loss.loss_weight': 0.0}
                    )
                },
            ),
            r"arm other: the option 'model' hides 'model\.u1\.loss",
        ),
        (
            dict(
                define={
                    'a': dict(role='u1', set={'a.b': 2, 'a': {'b': 1}}),
                }
            ),
            r"define\.a\.set: the option 'a' hides 'a\.b'",
        ),
        (
            dict(
                define={
                    'a': dict(role='u1', set={'lr': '1.0e5'}),
                }
            ),
            r"set\.lr='1\.0e5' is text in YAML",
        ),
        (dict(tuned={'u2-*': {}}), r'suite.tuned.u2-\* matches none'),
        (dict(tuned={'u1-*': [1]}), r'suite.tuned.u1-\*=\[1\] must be'),
        (dict(prepare=['digits.py']), r"suite.prepare\[0\]='digits.py' must"),
        (dict(prepare=[[]]), r'suite.prepare\[0\]=\[\] must'),
        (dict(prepare=[['a', {}]]), r'suite.prepare\[0\]=.*must'),
    ],
)
def test_a_bad_suite_is_refused_by_name(change, words, root, tmp_path):
    suites = copied_suites(root, tmp_path)
    file = suites / 'mini.yml'
    file.write_text(yaml.safe_dump(dict(GOOD, **change), sort_keys=False))
    with pytest.raises(ValueError, match=words):
        load_suite(file)


def test_no_file_and_no_yaml(tmp_path):
    with pytest.raises(FileNotFoundError, match='does not exist'):
        load_suite(tmp_path / 'no.yml')
    broken = [b'name: [', b'\xff\xfe\x00', b'[' * 5000, b'!!python/x']
    for content in (*broken, b'? [a, b]\n: 1\n'):
        (tmp_path / 'bad.yml').write_bytes(content)
        with pytest.raises(ValueError, match='suite=.*is not YAML'):
            load_suite(tmp_path / 'bad.yml')
    (tmp_path / 'bad.yml').write_text('name: a\nseeds: 3\nseeds: 4\n')
    twice = "(?s)the key 'seeds' is there twice.*line 3"
    with pytest.raises(ValueError, match=twice):
        load_suite(tmp_path / 'bad.yml')
    with pytest.raises(ValueError, match='cannot be read'):
        load_suite(tmp_path)


@pytest.mark.parametrize('number', ['010', '1:30', '-1:30.5', '0_10'])
def test_numbers_that_are_no_decimals_are_refused(tmp_path, number):
    (tmp_path / 'bad.yml').write_text(f'name: a\nseeds: {number}\n')
    with pytest.raises(ValueError, match='not be read as a decimal number'):
        load_suite(tmp_path / 'bad.yml')


def test_hooks_of_variants_and_tuned_ones_come_beside_the_arms(root, tmp_path):
    """A permuted twin without its hook would have the true angles."""
    file = copied_suites(root, tmp_path) / 'mini.yml'
    more = {'custom_hooks': [dict(type='EMAHook')]}
    content = dict(
        GOOD,
        arms=['one-hot', 'u1-feature', 'u1-permuted'],
        tuned={'u1-*': more},
        ablations=dict(seeds=1, of={'u1-permuted': {'twice': more}}),
    )
    file.write_text(yaml.safe_dump(content))
    suite = load_suite(file)
    kinds = {
        arm.name: [hook['type'] for hook in arm.set.get('custom_hooks', [])]
        for arm in (*suite.arms, *suite.ablations)
    }
    assert kinds['u1-feature'] == ['EMAHook']
    assert kinds['u1-permuted'] == ['PermuteAnglesHook', 'EMAHook']
    assert kinds['u1-permuted+twice'] == [*kinds['u1-permuted'], 'EMAHook']


def test_yaml_that_merges_mappings_is_no_double_key(root, tmp_path):
    file = copied_suites(root, tmp_path) / 'mini.yml'
    text = yaml.safe_dump(GOOD) + (
        'define:\n'
        '  a: &a {role: rival, set: {model.head.topk: [1]}}\n'
        '  b: {<<: *a, role: control}\n'
    )
    file.write_text(text.replace('- u1-zero', '- u1-zero\n- a\n- b'))
    arms = {arm.name: arm for arm in load_suite(file).arms}
    a, b = arms['a'], arms['b']
    assert (a.role, b.role) == ('rival', 'control') and a.set == b.set
