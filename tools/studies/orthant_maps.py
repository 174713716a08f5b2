"""Which map into the positive orthant keeps class information?

For each checkpoint and each ``rho`` of `I = rho(A)`, the pooled vector
of a layer and the angle that the U(1) loss sees are asked for the class:

- ``vector``: accuracy of a logistic regression on the normalised vector;
- ``hue``: the same on (cos, sin) of the feature angle alone, with the plane
  fixed beforehand (Fourier), so that nothing but rho differs;
- ``image``: the same on the image-plane moment.

Accuracies are 5-fold cross-validated on the data set named by ``--split``,
which the network has not been trained on. With several checkpoints (seeds),
paired differences to ``relu`` come with intervals.
"""

import argparse
import json
from hashlib import sha256
from pathlib import Path
from typing import Dict, List

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

from u1_plugin.extras import needs
from u1_plugin.files import new_file, new_path
from u1_plugin.geometry import (
    ORTHANT_MAPS,
    energy,
    image_moment,
    pooled_vector,
    to_positive_orthant,
)
from u1_plugin.lab.command import told
from u1_plugin.lab.markup import terminal
from u1_plugin.lab.statistics import interval_text, paired_difference
from u1_plugin.lab.weights import classifier_of
from u1_plugin.measure.estimate import jsonable
from u1_plugin.measure.probe_options import written_as
from u1_plugin.nn import MapCollector
from u1_plugin.nn.feature_plane import FeaturePlane

with needs('lab'):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

OPTIONS = {'u1.neck.layers': '--layer'}
QUANTITIES = ('vector', 'hue', 'image')


@torch.no_grad()
def features(
    model: torch.nn.Module, loader, layer: str
) -> Dict[str, Dict[str, np.ndarray]]:
    """What each ``rho`` makes of a layer, by quantity, and the labels.

    Returns:
        dict: ``{rho: {quantity: (N, D)}}``, and ``{'labels': (N,)}`` under
        ``'labels'``.
    """
    collected = {rho: {q: [] for q in QUANTITIES} for rho in ORTHANT_MAPS}
    labels: List[int] = []
    plane = None
    # Errors name the layer as the user wrote it.
    with written_as(OPTIONS), MapCollector(model, [layer]) as collector:
        for batch in loader:
            samples = model.val_step(batch)
            labels += [int(sample.gt_label) for sample in samples]
            activation = collector.maps()[layer].float()
            if plane is None:
                plane = FeaturePlane(in_channels=activation.size(1)).eval()
            for rho, values in collected.items():
                intensity = to_positive_orthant(activation, rho)
                vector = pooled_vector(intensity)
                hue = torch.nn.functional.normalize(plane(vector), dim=-1)
                values['vector'].append(
                    torch.nn.functional.normalize(vector, dim=-1)
                )
                values['hue'].append(hue)
                values['image'].append(image_moment(energy(intensity)))
    arrays = {
        rho: {q: torch.cat(v).numpy() for q, v in values.items()}
        for rho, values in collected.items()
    }
    arrays['labels'] = dict(labels=np.array(labels))
    return arrays


def accuracy(inputs: np.ndarray, labels: np.ndarray) -> float:
    """Cross-validated accuracy of a logistic regression, in percent."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return 100 * float(cross_val_score(probe, inputs, labels, cv=5).mean())


def study(
    config: Config, checkpoints: List[str], layer: str, split: str
) -> Dict[str, Dict[str, List[float]]]:
    """Accuracies ``{quantity: {rho: [a checkpoint]}}``."""
    if config.get(f'{split}_dataloader') is None:
        raise SystemExit(
            f'--split {split}: the config has no {split}_dataloader; take '
            'another split'
        )
    loader = Runner.build_dataloader(config[f'{split}_dataloader'])
    scores = {q: {rho: [] for rho in ORTHANT_MAPS} for q in QUANTITIES}
    for checkpoint in checkpoints:
        model = classifier_of(config, checkpoint)
        arrays = features(model, loader, layer)
        labels = arrays.pop('labels')['labels']
        for rho, values in arrays.items():
            for quantity, inputs in values.items():
                scores[quantity][rho].append(accuracy(inputs, labels))
    return scores


def check_seeds(checkpoints: List[str]) -> None:
    """Refuse one checkpoint under two names, which would be two seeds.

    Raises:
        FileNotFoundError: If one is no file.
        ValueError: If two hold the same.
    """
    seen: Dict[str, str] = {}
    for name in checkpoints:
        content = name
        if '://' not in name:
            if not Path(name).is_file():
                raise FileNotFoundError(
                    f'{name} does not exist, or is no file; give a checkpoint '
                    'of this config'
                )
            content = sha256(Path(name).read_bytes()).hexdigest()
        if content in seen:
            raise ValueError(
                f'checkpoints {seen[content]} and {name} hold the same, and '
                'are no two seeds; give each once'
            )
        seen[content] = name


def show(scores: dict, console: Console) -> None:
    """Print a table for each quantity of the scores of :func:`study`."""
    for quantity, by_rho in scores.items():
        table = Table('rho', 'accuracy %', 'difference to relu, 95 % interval')
        for rho, values in by_rho.items():
            text = ''
            if rho != 'relu' and len(values) > 1:
                result = paired_difference(values, by_rho['relu'])
                interval = (result.mean, result.low, result.high)
                text = terminal(interval_text(*interval))
            table.add_row(rho, f'{np.mean(values):.2f}', text)
        console.print(quantity, table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description='Which map into the positive orthant keeps class '
        'information?'
    )
    parser.add_argument('config')
    parser.add_argument('checkpoints', nargs='+', help='one a seed')
    parser.add_argument('--layer', required=True, help="'backbone.stages.3'")
    parser.add_argument('--split', default='val', choices=('val', 'test'))
    parser.add_argument('--out', type=new_path, help='a new JSON file')
    args = parser.parse_args()
    init_default_scope('mmpretrain')
    with told():
        check_seeds(args.checkpoints)
        config = Config.fromfile(args.config)
        scores = study(config, args.checkpoints, args.layer, args.split)
    show(scores, Console())
    if args.out:
        text = json.dumps(jsonable(scores), indent=2, allow_nan=False)
        with new_file(args.out, '--out') as part:
            part.write_text(text)


if __name__ == '__main__':
    main()
