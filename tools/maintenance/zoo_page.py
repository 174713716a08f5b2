"""The page of all configs: data, parameters, layer, and what was trained.

    python tools/maintenance/zoo_page.py                 # writes docs/zoo.md

Configs, data and parameters are those of the metafiles (parameters that a
metafile leaves out are counted), layers those of ``docs/layers.md``, trainings
those of ``docs/results/*/runs.csv``. Nothing is trained and no layer searched.
"""

import argparse
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from mmengine.config import Config
from mmengine.fileio import load
from mmpretrain.registry import MODELS

import u1_plugin.lab  # noqa: F401  (backbones that configs name)
from u1_plugin.files import check_writable, replaced_file
from u1_plugin.lab.benchmark.table import read_csv

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / 'docs/results'
TITLE = """# Model zoo

Every config of the repository. `NAME_u1.py` is `NAME.py` with the U(1) branch:
as many parameters, and equal logits for equal weights. *Map* is what the branch
reads by itself, of a blank image of the size that is [tried](layers.md): on the
images of `digits` (16x16; its ResNet alone), `mnist10k` (14x14) and of the
`64px` configs it is 4x4. *Runs* counts the trainings whose log is
kept, of the plain config the one-hot baselines and of its twin the arms with
U(1) labels. No weights are published.

`python tools/maintenance/zoo_page.py` writes this page from the metafiles,
`layers.md` and the logs.
"""
TRAINED = """## What has been trained

One line for each arm, baselines and arms with U(1) labels; rivals, controls and
ablations are on the pages of the suites. Top-1 is the mean over the runs after
the last epoch, of the test images, or of the validation images in suites that
leave the test images alone. A difference between two lines is no result: pages
and [results](results/README.md) give paired differences with intervals.
"""
#: By which an earlier page is known.
_MARK = TITLE.splitlines()[0].encode()


class Model(NamedTuple):
    """A model of a metafile."""

    config: str  # relative to `configs`
    data: str
    parameters: Optional[int]  # None: the metafile does not say


class Arm(NamedTuple):
    """The runs of one arm of one entry of a suite."""

    config: str  # relative to `configs`, the plain one
    entry: str  # its name in the suite
    suite: str
    arm: str
    role: str
    parameters: int  # of the plain network that was trained
    test: Tuple[float, ...]  # top-1 of each run, per cent; may be empty
    val: Tuple[float, ...]

    @property
    def accuracy(self) -> str:
        """Mean top-1 over the runs, per cent, and its split."""
        if self.test:
            return f'{fmean(self.test):.2f} test'
        return f'{fmean(self.val):.2f} val'


def models() -> Iterator[Model]:
    """The models of all metafiles, in the index's order."""
    for metafile in load(ROOT / 'model-index.yml')['Import']:
        content = load(ROOT / metafile)
        collections = {c['Name']: c for c in content['Collections']}
        for model in content['Models']:
            both = {
                **collections[model['In Collection']].get('Metadata', {}),
                **model.get('Metadata', {}),
            }
            config = model['Config'][len('configs/') :]
            data = both.get('Training Data', 'your own')
            yield Model(config, data, both.get('Parameters'))


@cache
def parameters_of(config: str) -> int:
    """The parameters of a config's model, built without weights."""
    model = Config.fromfile(ROOT / 'configs' / config).model
    if model.type.endswith('U1ImageClassifier'):
        model.type = 'ImageClassifier'  # the twin has as many
        model.pop('u1', None)
    return sum(p.numel() for p in MODELS.build(model).parameters())


def layers() -> Dict[str, str]:
    """Module and map of every config with a U(1) branch, by config."""
    by_config = {}
    for line in (ROOT / 'docs/layers.md').read_text('utf-8').splitlines():
        cells = line.strip('| ').split(' | ')
        if len(cells) == 4 and cells[0].endswith('_u1.py`'):
            by_config[cells[0].strip('`')] = f'{cells[1]} {cells[2]}'
    return by_config


def entries(suite: str) -> Dict[str, str]:
    """Config by its name in a suite's runs.

    Raises:
        FileNotFoundError: If there are runs of a suite without its file.
    """
    listed = load(ROOT / f'configs/suites/{suite}.yml')['configs']
    return {
        entry.get('name', Path(entry['config']).stem): entry['config']
        for entry in listed
    }


def trained() -> List[Arm]:
    """Baselines and U(1) arms of all kept logs."""
    arms = []
    for file in sorted(RESULTS.glob('*/runs.csv')):
        runs, suite = read_csv(file), file.parent.name
        runs = runs[runs.role.isin(('baseline', 'u1'))]
        configs = entries(suite) if len(runs) else {}
        plain = runs[runs.role == 'baseline'].groupby('config').parameters.max()
        for (entry, *arm), group in runs.groupby(['config', 'arm', 'role']):
            top1 = [
                tuple(group[f'{split}_top1'].dropna())
                for split in ('test', 'val')
            ]
            arms.append(
                Arm(configs[entry], entry, suite, *arm, plain[entry], *top1)
            )
    return arms


def _plain(config: str) -> str:
    """The config that a twin is made of, where it lies beside it."""
    plain = config.replace('_u1.py', '.py')
    return plain if (ROOT / 'configs' / plain).is_file() else config


def _link(suite: str) -> str:
    return f'[{suite}](results/{suite}/README.md)'


def _runs(config: str, parameters: int, arms: List[Arm]) -> str:
    """The cell of a model: how many runs, of which suites and networks."""
    plain = config.replace('_u1.py', '.py')
    role = 'baseline' if plain == config else 'u1'
    matching = [arm for arm in arms if arm.config == plain and arm.role == role]
    cells = []
    for size in sorted({arm.parameters for arm in matching}, reverse=True):
        trained_arms = [arm for arm in matching if arm.parameters == size]
        suites = dict.fromkeys(arm.suite for arm in trained_arms)
        count = str(sum(len(arm.val) for arm in trained_arms))
        if size != parameters:
            count += f' of a network of {size:,} parameters'
        cells.append(f'{count}: {", ".join(map(_link, suites))}')
    return '; '.join(cells) or '–'


def page() -> str:
    """The whole page."""
    arms, maps = trained(), layers()
    lines = [TITLE, '| config | data | parameters | map | runs |']
    lines.append('|---|---|---:|---|---|')
    for model in sorted(models()):
        count = model.parameters or parameters_of(_plain(model.config))
        cells = [
            f'`{model.config}`',
            model.data,
            f'{count:,}',
            maps.get(model.config, ''),
            _runs(model.config, count, arms),
        ]
        lines.append(f'| {" | ".join(cells)} |')
    lines += ['', TRAINED]
    head = 'config | in the suite | parameters | arm | runs | top-1, % | log'
    lines += [f'| {head} |', '|---|---|---:|---|---:|---:|---|']
    for arm in sorted(arms):
        entry = '' if arm.entry == Path(arm.config).stem else arm.entry
        cells = [
            f'`{arm.config}`',
            f'{_link(arm.suite)} {entry}'.strip(),
            f'{arm.parameters:,}',
            arm.arm,
            str(len(arm.val)),
            arm.accuracy,
            f'[runs.csv](results/{arm.suite}/runs.csv)',
        ]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', default=str(ROOT / 'docs/zoo.md'))
    args = parser.parse_args()
    try:
        check_writable(args.out, '--out', mark=_MARK)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    text = page()
    with replaced_file(args.out, _MARK) as part:
        part.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
