"""The network that an analysis is held against: its options and its pass."""

import argparse
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Tuple

from ...measure.probe_options import written_as
from .analysis_run import Runner, describe, images_for, layers_for, ready
from .images import check_same_images
from .survey import Survey


class SecondNetwork(NamedTuple):
    """The network of `--against`, as `load_network` takes it."""

    source: str
    checkpoint: Optional[str]
    seed: Optional[int]
    options: Optional[dict]


def second_network(args: argparse.Namespace) -> Optional[SecondNetwork]:
    """What the options of a second network ask for; None if nothing."""
    against = {
        name: getattr(args, f'against_{name}')
        for name in ('checkpoint', 'untrained', 'layers', 'cfg_options')
    }
    given = {name: v for name, v in against.items() if v is not None}
    source, *rest = args.against or [args.source]
    if args.against is None and not given:
        return None
    if len(rest) > 1:
        raise ValueError(
            f'--against {" ".join(args.against)}: give a config and at most '
            'one checkpoint'
        )
    checkpoint = against['checkpoint']
    if rest and checkpoint:
        raise ValueError(
            f'--against {source} {rest[0]} and --against-checkpoint '
            f'{checkpoint} both name a checkpoint; give one'
        )
    checkpoint = rest[0] if rest else checkpoint
    seed = against['untrained']
    if checkpoint and seed is not None:
        raise ValueError(
            f'--against-untrained {seed} loads no weights; leave out the '
            f'checkpoint {checkpoint}'
        )
    options = dict(against['cfg_options'] or {})
    if _same_source(source, args.source):
        options = {**(args.cfg_options or {}), **options}
    if args.against is None:
        if not checkpoint and seed is None:
            checkpoint, seed = args.checkpoint, args.untrained
    return SecondNetwork(source, checkpoint, seed, options or None)


def _same_source(one: str, other: str) -> bool:
    """Whether two names are of one config, or of one network of timm's."""
    if one == other:
        return True
    files = Path(one), Path(other)
    return all(map(Path.is_file, files)) and files[0].samefile(files[1])


def tell_apart(
    first: Dict[str, str],
    second: Dict[str, str],
    checkpoints: Tuple[Optional[str], Optional[str]],
) -> None:
    """Name weights by their folders, where all other names are alike.

    Runs of one experiment have configs and checkpoints of the same names.

    Args:
        first, second (dict): Of :func:`describe`; changed in place.
        checkpoints (tuple): Files of both, as the user named them.
    """
    alike = all(first[name] == second[name] for name in ('network', 'weights'))
    if not alike or None in checkpoints:
        return
    one, other = (Path(str(file)).absolute().parts for file in checkpoints)
    for count in range(2, 1 + min(len(one), len(other))):
        if one[-count] != other[-count]:
            first['weights'] = '/'.join(one[-count:])
            second['weights'] = '/'.join(other[-count:])
            return


def second_survey(
    args: argparse.Namespace, data: str, scratch: Path, first: Runner
) -> Tuple[Dict[str, str], Survey]:
    """The second network's facts and its pass over the same images."""
    second = args.second
    network = ready(
        second.source,
        args,
        checkpoint=second.checkpoint,
        seed=second.seed,
        options=second.options,
    )
    dataset, classes, batch = images_for(network, args, data)
    check_same_images(first.dataset, dataset)
    layer_names = args.against_layers or first.layers
    if not args.against_layers and args.layers is None:
        modules = dict(network.model.named_modules())
        # Of one architecture, the very same layers.
        layer_names = layer_names if set(layer_names) <= set(modules) else None
    layers = layers_for(network, batch, args, layer_names)
    scratch.mkdir()
    runner = Runner(
        args, dataset, layers, first.classes, scratch, args.resamples
    )
    facts = describe(args, network, dataset, first.classes, batch['inputs'][0])
    names = {'--layers': '--against-layers'} if args.against_layers else {}
    with written_as(names):
        return facts, runner.run(network, 'second network')
