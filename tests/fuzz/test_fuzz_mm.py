"""What is registered in MMPretrain and handed to timm."""

import numpy as np
import torch
from hypothesis import strategies as st
from mmpretrain.registry import OPTIM_WRAPPERS
from mmpretrain.structures import DataSample
from oracle import REFUSED, attempt, fuzz
from strategies import (
    COUNT,
    JUNK,
    NON_NEGATIVE,
    POSITIVE,
    SEED,
    SHARE,
    SWITCH,
    Kind,
    choice,
    close,
    optional,
    options,
    smooth,
    whole,
)

import u1_plugin.lab  # noqa: F401  (registers its components)
from u1_plugin.geometry import ORTHANT_MAPS
from u1_plugin.memory import PRIORS
from u1_plugin.mm.hooks.angle_stats_hook import AngleStatsHook
from u1_plugin.mm.hooks.energy_map_hook import EnergyMapHook
from u1_plugin.mm.hooks.measure_class_angles_hook import MeasureClassAnglesHook
from u1_plugin.mm.hooks.memory_bank_hook import MemoryBankHook
from u1_plugin.mm.hooks.visualization_hook import U1VisualizationHook
from u1_plugin.mm.memory_bank_head import MemoryBankHead
from u1_plugin.mm.memory_loader import MemorySampler
from u1_plugin.mm.symmetry_breaking import SymmetryBreaking

ORTHANT = choice(*ORTHANT_MAPS)
ENGINES = (
    *('exact', 'faiss:Flat', dict(type='exact', dtype='bfloat16')),
    dict(type='faiss', factory='IVF1,Flat', nprobe=1),
)
HEAD = dict(
    num_classes=whole(3, 5),
    in_channels=whole(4, 4),
    k=COUNT,
    mode=choice('pixel', 'pooled'),
    metric=choice('cosine', 'l2'),
    engine=Kind(
        lambda value: (
            any(value is one or value == one for one in ENGINES)
            if isinstance(value, (str, dict))
            else False
        ),
        st.sampled_from(ENGINES),
    ),
    plane=choice(*PRIORS),
    kappa=NON_NEGATIVE,
    sigma=POSITIVE,
    kernel=optional(choice('uniform', 'gaussian', 'softmax')),
    width=optional(POSITIVE),
    temperature=optional(POSITIVE),
    protocol=optional(choice('dino')),
    prior_in=choice('vote', 'search'),
    orthant=ORTHANT,
    keep=optional(COUNT),
    coreset=optional(SHARE),
    coreset_sample=optional(SHARE),
    dtype=choice('float32'),
    seed=SEED,
    in_checkpoint=SWITCH,
)


@fuzz(
    'mm.MemoryBankHead',
    case=options(HEAD, ('num_classes', 'in_channels')),
    maps=smooth(5, 4, 2, 3),
)
def test_memory_bank_head(case, maps):
    given, wrong = case
    given['in_channels'] = wrong.get('in_channels', 4)
    others = [] if wrong else _misfits(given)
    head = attempt(
        lambda: MemoryBankHead(**given),
        wrong or dict.fromkeys(others, None),
        also=others or [n for n in _TOGETHER if n in given],
    )
    if head is REFUSED:
        return
    assert not others
    maps = maps.abs() + 0.1
    bank, asked = maps[:3], maps[3:]
    labels = torch.arange(3)
    attempt(lambda: head.fill([bank], labels, labels))
    head.condense()
    found = attempt(lambda: head([asked]))
    assert found.shape == (2, given['num_classes'])
    # Logs of shares; where nobody votes, all are equal.
    shares = found.softmax(1)
    assert close(shares.log().diff(dim=1), found.diff(dim=1), 1e-3)
    plain = given.get('kappa', 0) == 0 and head.prior_in == 'vote'
    plain = plain and head.kernel.name == 'uniform'
    plain = plain and not given.get('coreset')
    plane = given.get('plane', 'image')
    if plain and plane not in ('position', 'radius'):
        wanted = _vote(bank, asked, given)
        assert close(shares, wanted, 1e-3)


#: What may be refused for another option instead of the wrong one.
_TOGETHER = ('protocol', 'prior_in', 'width', 'temperature', 'metric')
_DINO = dict(
    *[dict(mode='pooled', k=20, metric='cosine', kernel='softmax')],
    **dict(temperature=0.07, kappa=0, plane='image', prior_in='vote'),
)


def _misfits(given) -> list:
    """Options of a head that do not fit each other, if any."""
    dino = given.get('protocol') == 'dino'
    if dino and any(given.get(k, v) != v for k, v in _DINO.items()):
        return ['head.protocol']
    given = {**given, **_DINO} if dino else given
    temperature = given.get('temperature')
    there = [n for n in ('width', 'temperature') if given.get(n) is not None]
    reads = dict(gaussian='width', softmax='temperature')
    kernel = given.get('kernel')
    wanted = [reads[kernel]] if kernel in reads else []
    if (there != wanted) if kernel else len(there) > 1:
        return ['width', 'temperature']
    if temperature is not None and given.get('metric') == 'l2':
        return ['metric']
    exact = given.get('engine', 'exact') in ('exact', ENGINES[2])
    if given.get('prior_in') == 'search' and not (exact and there):
        return ['prior_in']
    if given.get('mode') == 'pooled' and given.get('keep') is not None:
        return ['head.keep']
    share, sample = given.get('coreset'), given.get('coreset_sample')
    if sample is not None and (share is None or sample < share):
        return ['head.coreset_sample']
    return []


def _vote(bank, asked, given) -> np.ndarray:
    """The plain vote by all distances, for maps without ties."""
    if given.get('orthant') == 'softplus':
        bank, asked = (torch.nn.functional.softplus(m) for m in (bank, asked))
    parts = []
    for maps, keep in ((bank, given.get('keep')), (asked, None)):
        if given.get('mode') == 'pooled':
            parts.append(maps.double().mean((2, 3))[:, None])
            continue
        vectors = maps.double().flatten(2).transpose(1, 2)
        order = vectors.square().sum(2).argsort(1, descending=True)
        kept = vectors.size(1) if keep is None else int(keep)
        parts.append(vectors.gather(1, order[:, :kept, None].expand(-1, -1, 4)))
    stored, queries = parts
    labels = torch.arange(3).repeat_interleave(stored.size(1))
    first, second = queries.flatten(0, 1), stored.flatten(0, 1)
    if given.get('metric', 'cosine') == 'cosine':
        first = torch.nn.functional.normalize(first, dim=1)
        second = torch.nn.functional.normalize(second, dim=1)
    far = (first[:, None] - second).norm(dim=2)
    k = min(int(given.get('k', 10)), len(second))
    nearest = labels[far.argsort(1)[:, :k]].reshape(2, -1)
    classes = given['num_classes']
    return np.stack([np.bincount(n, minlength=classes) for n in nearest]) / (
        nearest.size(1)
    )


NAMES = Kind(
    lambda v: (
        v is None
        or (isinstance(v, str))
        or (
            isinstance(v, (list, tuple))
            and len(v) > 0
            and all(isinstance(n, str) for n in v)
        )
    ),
    st.sampled_from([None, 'backbone', ['backbone']]),
)
HOOKS = {
    AngleStatsHook: dict(
        layers=NAMES,
        plane=choice('feature', 'image', 'joint'),
        orthant=optional(ORTHANT),
        bins=COUNT,
        permutations=COUNT,
    ),
    EnergyMapHook: dict(
        layers=NAMES,
        orthant=optional(ORTHANT),
        radial_bins=whole(2, 9, 10**300),
    ),
    U1VisualizationHook: dict(
        layers=NAMES,
        orthant=optional(ORTHANT),
        interval=COUNT,
        palette=choice('hsv', 'twilight'),
    ),
    MeasureClassAnglesHook: dict(orthant=optional(ORTHANT)),
    MemoryBankHook: dict(shots=optional(COUNT), seed=SEED),
    SymmetryBreaking: dict(
        layers=NAMES,
        plane=choice('feature', 'image', 'joint'),
        orthant=optional(ORTHANT),
        bins=COUNT,
        permutations=COUNT,
        collect_device=choice('cpu', 'gpu'),
    ),
}


@st.composite
def hooks(draw: st.DrawFn):
    kind = draw(st.sampled_from(list(HOOKS)))
    return (kind, *draw(options(HOOKS[kind])))


@fuzz('mm: hooks and SymmetryBreaking', case=hooks())
def test_hooks(case):
    kind, given, wrong = case
    if kind is MemoryBankHook and not wrong and given.get('shots') is None:
        # Of no shots there is nothing to draw.
        wrong = dict(seed=given['seed']) if given.get('seed') else {}
    attempt(lambda: kind(**given), wrong)


class _Labels:
    def __init__(self, labels) -> None:
        self.labels = labels

    def get_cat_ids(self, index: int) -> list:
        return [self.labels[index]]

    def get_data_info(self, index: int) -> dict:
        return dict(gt_label=self.labels[index])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        return dict(data_samples=DataSample().set_gt_label(self.labels[index]))


@fuzz(
    'mm.MemorySampler',
    labels=st.lists(st.integers(0, 3), max_size=9),
    case=options(dict(shots=optional(whole(1, 3)), shots_seed=SEED)),
)
def test_sampler(labels, case):
    given, wrong = case
    counts = np.unique(labels, return_counts=True)[1] if labels else [0]
    shots = given.get('shots')
    drawn = shots is not None
    names = {k: v for k, v in wrong.items() if drawn or k == 'shots'}
    if drawn and not names and shots > min(counts):
        names = dict(shots=shots, labels=labels)
    found = attempt(
        lambda: MemorySampler(_Labels(labels), **given),
        names,
        either=not drawn,
    )
    if found is not REFUSED:
        wanted = len(labels) if not drawn else len(counts) * int(shots)
        assert len(list(found)) == wanted
        assert list(found) == sorted(set(found))


@fuzz('mm.CPUAmpOptimWrapper', dtype=st.sampled_from(['bfloat16']) | JUNK)
def test_optim_wrapper(dtype):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 0.1)
    config = dict(type='CPUAmpOptimWrapper', dtype=dtype, optimizer=optimizer)
    kind = OPTIM_WRAPPERS.get(config.pop('type'))
    right = isinstance(dtype, str) and dtype == 'bfloat16'
    attempt(lambda: kind(**config), {} if right else dict(dtype=dtype))
