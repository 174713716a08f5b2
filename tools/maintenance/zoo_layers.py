"""Which layer ``layers='auto'`` chooses, for every family of MMPretrain's zoo.

    TOOL=tools/maintenance/zoo_layers.py
    python $TOOL                       # writes docs/layers.md
    python $TOOL CONFIG [CONFIG ...]   # prints their rows

A config may be a file or ``mmpretrain::NAME``. Its classifier is built
without weights.
"""

import argparse
from pathlib import Path
from typing import Dict, List, NamedTuple

from mmengine.config import Config
from mmpretrain.registry import MODELS

import u1_plugin  # noqa: F401  (lets configs inherit from u1_plugin::)
from u1_plugin.files import check_writable, replaced_file
from u1_plugin.lab.cost import read_config
from u1_plugin.lab.markup import code
from u1_plugin.mm.data import type_name
from u1_plugin.nn import MapSource

ROOT = Path(__file__).resolve().parents[2]
#: MMPretrain's configs, one or two of a family, under their headings.
STOCK = {
    'Convolutions': (
        'convmixer/convmixer-768-32_10xb64_in1k.py',
        'cspnet/cspdarknet50_8xb32_in1k.py',
        'cspnet/cspresnet50_8xb32_in1k.py',
        'efficientnet_v2/efficientnetv2-b0_8xb32_in1k.py',
        'hrnet/hrnet-w18_4xb32_in1k.py',
        'inception_v3/inception-v3_8xb32_in1k.py',
        'lenet/lenet5_mnist.py',
        'mobilenet_v3/mobilenet-v3-small_8xb128_in1k.py',
        'mobileone/mobileone-s0_8xb32_in1k.py',
        'regnet/regnetx-400mf_8xb128_in1k.py',
        'repvgg/repvgg-A0_8xb32_in1k.py',
        'res2net/res2net50-w14-s8_8xb32_in1k.py',
        'resnest/resnest50_32xb64_in1k.py',
        'resnet/resnetv1d50_8xb32_in1k.py',
        'resnext/resnext50-32x4d_8xb32_in1k.py',
        'seresnet/seresnet50_8xb32_in1k.py',
        'shufflenet_v1/shufflenet-v1-1x_16xb64_in1k.py',
        'shufflenet_v2/shufflenet-v2-1x_16xb64_in1k.py',
        'wrn/wide-resnet50_8xb32_in1k.py',
    ),
    'Newer convolutions, pooling, graphs and MLPs': (
        'convnext_v2/convnext-v2-atto_32xb32_in1k.py',
        'hornet/hornet-tiny_8xb128_in1k.py',
        'hornet/hornet-tiny-gf_8xb128_in1k.py',
        'mlp_mixer/mlp-mixer-base-p16_64xb64_in1k.py',
        'poolformer/poolformer-s12_32xb128_in1k.py',
        'repmlp/repmlp-base_8xb64_in1k.py',
        'riformer/riformer-s12_8xb128_in1k.py',
        'van/van-tiny_8xb128_in1k.py',
        'vig/pvig-tiny_8xb128_in1k.py',
        'vig/vig-tiny_8xb128_in1k.py',
    ),
    'Transformers in stages': (
        'conformer/conformer-tiny-p16_8xb128_in1k.py',
        'davit/davit-tiny_4xb256_in1k.py',
        'edgenext/edgenext-xxsmall_8xb256_in1k.py',
        'efficientformer/efficientformer-l1_8xb128_in1k.py',
        'hivit/hivit-tiny-p16_16xb64_in1k.py',
        'levit/levit-128s_8xb256_in1k.py',
        'mixmim/benchmarks/mixmim-base_8xb128-coslr-100e_in1k.py',
        'mobilevit/mobilevit-xxsmall_8xb128_in1k.py',
        'mvit/mvitv2-tiny_8xb256_in1k.py',
        'swin_transformer_v2/swinv2-tiny-w8_16xb64_in1k-256px.py',
        'tinyvit/tinyvit-5m_8xb256_in1k.py',
        'twins/twins-pcpvt-small_8xb128_in1k.py',
        'twins/twins-svt-small_8xb128_in1k.py',
    ),
    'Transformers of one grid': (
        'beit/benchmarks/beit-base-p16_8xb128-coslr-100e_in1k.py',
        'deit/deit-tiny-distilled_4xb256_in1k.py',
        'deit3/deit3-small-p16_64xb64_in1k.py',
        'eva02/eva02-tiny-p14_in1k.py',
        'revvit/revvit-small_8xb256_in1k.py',
        't2t_vit/t2t-vit-t-14_8xb64_in1k.py',
        'tnt/tnt-s-p16_16xb64_in1k.py',
        'vision_transformer/vit-base-p16_32xb128-mae_in1k.py',
        'xcit/xcit-nano-12-p16_8xb128_in1k.py',
    ),
    'Heads of several labels': ('csra/resnet101-csra_1xb16_voc07-448px.py',),
}
TITLE = """# The layer that is chosen by itself

With `layers='auto'`, the default, the branch reads the last map before
pooling. The table says which that is: the module whose output is read, the map
(channels, height and width, for images of the size that the network names, or
else of 224x224, or else of the first usual size that it takes), the order of
its dimensions, and, of tokens, how many others precede those of the patches
and whose output tells their grid.

`python tools/maintenance/zoo_layers.py` writes this page;
`python tools/maintenance/zoo_layers.py CONFIG` prints a row of your own config,
without training. For another layer, name it:
`model.u1.neck.layers=backbone.layer3`.

Worth knowing:

- ConvNeXt, HorNet, EdgeNeXt, TinyViT, BEiT and EVA-02 normalise after they
  pool, so their map is read before that last norm.
- XCiT's map is that before class attention, which is its pooling.
- The networks of `digits`, `mnist10k` and `64px` take any size and name none:
  their 8x8 and 14x14 are of blank images of 32 or 224 pixels, on the 16, 14 and
  64 of their data it is 4x4.
- VGG, LeNet and Inception-v3 hold their classifier in the backbone, and their
  map is the last before it.
- HRNet's four maps become one in its neck, and are read there.
- Conformer has two branches; the tokens of its transformer are read, which
  are the last to be made.
"""
#: By which an earlier page is known.
_MARK = TITLE.splitlines()[0].encode()


class Row(NamedTuple):
    """One line of a table."""

    config: str
    layer: str
    shape: str
    layout: str

    @classmethod
    def of(cls, config: str, source: MapSource) -> 'Row':
        """The line of a config whose branch reads ``source``."""
        layout = str(source.layout)
        if source.grid_module is not None:
            layout += f', grid of {_code(source.grid_module)}'
        shape = 'x'.join(map(str, source.shape))
        return cls(_code(config), _code(source.module), shape, layout)

    def __str__(self) -> str:
        return f'| {" | ".join(self)} |'


def _code(name: str) -> str:
    return code(name).replace('|', r'\|')


def zoo() -> List[str]:
    """This repository's U(1) configs, relative to ``configs``."""
    folder = ROOT / 'configs'
    files = folder.glob('*/*_u1.py')
    return sorted(file.relative_to(folder).as_posix() for file in files)


def source_of(config: Config) -> MapSource:
    """What the branch of a config's classifier reads, built on the spot."""
    model = config.model
    if not type_name(model).startswith('U1'):
        model.type = f'u1_plugin.U1{type_name(model)}'
    return MODELS.build(model).u1.sources[0]


def table(rows: List[Row]) -> str:
    """Rows in Markdown."""
    head = Row('config', 'layer', 'map', 'layout')
    return '\n'.join(map(str, [head, '|---|---|---|---|', *rows]))


def configs() -> Dict[str, List[str]]:
    """All configs of the page by heading."""
    return {
        'This repository': zoo(),
        **{
            heading: [f'mmpretrain::{name}' for name in names]
            for heading, names in STOCK.items()
        },
    }


def row_of(config: str) -> Row:
    """The row of a config that :func:`configs` lists; builds it."""
    path = config if '::' in config else str(ROOT / 'configs' / config)
    row = Row.of(config, source_of(read_config(path)))
    print(row, flush=True)
    return row


def page(rows: Dict[str, Row]) -> str:
    """The whole page.

    Args:
        rows (Dict[str, Row]): Of every config that :func:`configs` lists.
    """
    parts = [TITLE]
    for heading, names in configs().items():
        lines = table([rows[name] for name in names])
        parts.append(f'## {heading}\n\n{lines}\n')
    return '\n'.join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='*', help='print rows of these alone')
    parser.add_argument('--out', default=str(ROOT / 'docs/layers.md'))
    args = parser.parse_args()
    if args.configs:
        rows = [
            Row.of(name, source_of(read_config(name))) for name in args.configs
        ]
        print(table(rows))
        return
    try:
        check_writable(args.out, '--out', mark=_MARK)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    names = [name for group in configs().values() for name in group]
    text = page({name: row_of(name) for name in names})
    with replaced_file(args.out, _MARK) as part:
        part.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
