"""What a bank cannot take is refused by name, and changes nothing."""

import numpy as np
import pytest
import torch
from banks import DTYPES, assert_same, changed, filled, some_pixels, vectors_of

from u1_plugin.memory import MemoryBank, bottleneck_pixels
from u1_plugin.nn.feature_plane import FeaturePlane

NAN, INF = float('nan'), float('inf')


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="dtype='int4'"):
        MemoryBank('int4')
    bank = filled()
    with pytest.raises(ValueError, match='7 channels.*has 6'):
        bank.append(some_pixels(channels=7))
    with pytest.raises(ValueError, match='empty'):
        MemoryBank().field('labels')
    with pytest.raises(ValueError, match="field 'vectors'"):
        bank.field('vectors')
    maps, ids = torch.rand(1, 3, 2, 2), torch.zeros(1).long()
    plane = FeaturePlane(in_channels=3).eval()
    with pytest.raises(ValueError, match="mode='pixels'"):
        bottleneck_pixels(maps, ids, ids, plane, mode='pixels')
    for keep in (0, -1, 1.5, True, NAN, '2'):
        with pytest.raises(ValueError, match='keep='):
            bottleneck_pixels(maps, ids, ids, plane, keep=keep)
    with pytest.raises(ValueError, match=r'labels \(2,\)'):
        bottleneck_pixels(maps, torch.zeros(2).long(), ids, plane)
    with pytest.raises(ValueError, match=r'intensity \(3, 2, 2\)'):
        bottleneck_pixels(maps[0], ids, ids, plane)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize(
    'field, change, words',
    [
        ('vectors', lambda t: changed(t, NAN), 'NaN'),
        ('vectors', lambda t: changed(t, INF), 'NaN or inf'),
        ('vectors', lambda t: changed(t, -INF), 'NaN or inf'),
        ('vectors', lambda t: t[0], r'7 channels|\(6,\)|6 channels'),
        ('vectors', lambda t: t[:, :0], r'vectors \(40, 0\) must be'),
        ('vectors', lambda t: t.long(), 'vectors of dtype torch.int64'),
        ('labels', lambda t: changed(t, -1), 'labels -1'),
        ('labels', lambda t: t.float(), 'labels of dtype torch.float32'),
        ('labels', lambda t: t.bool(), 'labels of dtype torch.bool'),
        ('labels', lambda t: t[1:], r'labels \(39,\)'),
        ('labels', lambda t: t.tolist(), 'labels must be a tensor'),
        ('images', lambda t: changed(t, -1), 'images -1'),
        ('images', lambda t: t[:, None], r'images \(40, 1\)'),
        ('positions', lambda t: changed(t, NAN), 'positions nan'),
        ('positions', lambda t: changed(t, 1.5), 'positions 1.5'),
        ('positions', lambda t: t.long(), 'positions of dtype'),
        ('positions', lambda t: t[:, 0], r'positions \(40,\)'),
        ('hues', lambda t: changed(t, 4.0), 'hues 4'),
        ('hues', lambda t: changed(t, -INF), 'hues -inf'),
        ('hues', lambda t: t + 0j, 'hues of dtype torch.complex64'),
    ],
)
def test_pixels_are_checked(field, change, words, dtype):
    bank = filled(dtype)
    pixels = some_pixels()
    pixels = pixels._replace(**{field: change(getattr(pixels, field))})
    with pytest.raises(ValueError, match=words):
        bank.append(pixels)
    assert_same(bank, filled(dtype))


@pytest.mark.parametrize(
    'numbers',
    [3, '3', b'3', [True], [1.0], ['1'], [-1], [None], [2**63], [[1]]]
    + [torch.tensor([0.5]), torch.tensor([True]), torch.tensor(1), {0.5}],
)
@pytest.mark.parametrize('name', ['labels', 'images', 'index'])
def test_what_is_no_number_is_refused(name, numbers):
    bank = filled()
    with pytest.raises(ValueError, match=f'{name} must be a list of integers'):
        bank.keep(numbers) if name == 'index' else bank.remove(
            **{name: numbers}
        )
    assert_same(bank, filled())


def test_labels_fit_the_classes():
    bank = filled()
    bank.check_labels(4)
    with pytest.raises(ValueError, match='the head holds the label 3, but'):
        bank.check_labels(3, 'the head')
    MemoryBank().check_labels(1)


@pytest.mark.parametrize(
    'index, words',
    [
        ([1], r'index=\[1\] must be a Tensor'),
        (torch.tensor(1), r'index of shape \(\) and type torch.int64'),
        (torch.tensor([1.0]), 'index of shape .* torch.float32'),
        (torch.tensor([3, -1]), 'index holds -1..3, .* within 0..119'),
        (torch.tensor([120]), 'index holds 120..120, .* within 0..119'),
    ],
    ids=str,
)
def test_what_is_no_index_is_refused(index, words):
    with pytest.raises(ValueError, match=words):
        filled().vectors(index)


def test_numbers_at_the_ends_of_their_ranges():
    """A place or a hue may be off by rounding, and by no more."""
    pi = torch.tensor(np.pi).float()
    for field, ends, beyond in (
        ('positions', (-1.00005, 1.00005), (-1.0002, 1.0002)),
        ('hues', (-pi, pi), (-3.1416, 3.1416)),
        ('labels', (0, 2**63 - 1), (-1,)),
        ('images', (0, 2**63 - 1), (-1,)),
    ):
        bank, whole = MemoryBank(), some_pixels()
        values = getattr(whole, field)
        for end in ends:
            bank.append(whole._replace(**{field: changed(values, end)}))
        assert len(bank) == 80
        for wrong in beyond:
            with pytest.raises(ValueError, match=f'the pixels: {field} '):
                bank.append(whole._replace(**{field: changed(values, wrong)}))
    bank = filled()
    bank.check_labels(4), bank.check_labels(2**31 - 1)
    assert bank.remove(images=[2**63 - 1]) == 0
    assert torch.equal(
        bank.vectors(torch.tensor([119]))[0], vectors_of(bank)[-1]
    )
