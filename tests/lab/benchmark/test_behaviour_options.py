"""Options of the tool are read by something, or are refused."""

import re

import pytest


@pytest.mark.parametrize(
    'args, words',
    [
        (['--severities', '1', '2'], '--severities 1 2 .* --corruptions as'),
        (['--images', '3'], '--images 3 .* --corruptions, --ood'),
        (
            ['--layer', 'backbone', '--corruptions', 'fog'],
            '--layer backbone .* --ood, --collapse, --transfer as',
        ),
    ],
)
def test_options_that_nothing_reads(run_tool, args, words, capsys):
    with pytest.raises(SystemExit):
        run_tool('tools/behaviour.py', 'results', 'out', *args)
    assert re.search(words, ' '.join(capsys.readouterr().err.split()))
