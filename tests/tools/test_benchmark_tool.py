"""The benchmark's data come first: models are built of files among them."""

import shutil
import subprocess
import sys

import yaml
from helpers import copied_suites
from small_suites import GOOD


def test_data_are_prepared_before_models_are_built(root, environment, tmp_path):
    file = copied_suites(root, tmp_path) / 'mini.yml'
    angles = dict(mode='ordered', file='data/digits/order.json')
    define = {
        'u1-ordered': dict(
            role='u1',
            set={
                'model.type': 'U1ImageClassifier',
                'model.u1.class_angles': angles,
            },
        )
    }
    arms = ['one-hot', 'u1-ordered']
    suite = dict(GOOD, define=define, arms=arms, ablations={})
    file.write_text(yaml.safe_dump(suite))
    command = [
        *(sys.executable, str(root / 'tools/benchmark.py'), str(file)),
        *('--out', str(tmp_path / 'out')),
    ]

    def call(*options: str) -> str:
        done = subprocess.run(
            [*command, *options],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        return done.stderr

    # Nothing is written to see what would be done.
    expected = "file='data/digits/order.json' does not exist"
    assert expected in call('--dry-run')
    assert not (tmp_path / 'data').exists()
    # These data have no such file, and nothing is trained.
    assert expected in call()
    assert (tmp_path / 'data/digits/train').is_dir()
    assert [file.name for file in (tmp_path / 'out').iterdir()] == ['.lock']
    # What needs no data is refused before there are any.
    shutil.rmtree(tmp_path / 'data')
    alone = dict(suite, seeds=1, arms=['one-hot', 'u1-measured'], define={})
    file.write_text(yaml.safe_dump(alone))
    assert 'suite.seeds=1' in call()
    assert not (tmp_path / 'data').exists()
    file.write_text(yaml.safe_dump(suite))
    call()
    # Nor on data that are there, but of other options.
    record = tmp_path / 'data/digits/options.json'
    record.write_text(record.read_text().replace('"seed": 0', '"seed": 1'))
    assert 'was made with seed=1, and not 0' in call()
