"""Numbers of a command line, and errors that its user can mend."""

import argparse

import pytest

from u1_plugin.lab.command import at_least, check_read, number, told
from u1_plugin.options import Share


@pytest.mark.parametrize('text', ['-1', '1.5', '', 'two', 'nan'])
def test_numbers_out_of_range_are_named(text):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        at_least(0)(text)
    assert str(caught.value) == f'{text!r} must be an integer >= 0'
    assert at_least(0)('0') == 0 and at_least(-2)('-1') == -1


@pytest.mark.parametrize('text', ['0', '1.5', '', 'half', 'nan', 'inf'])
def test_shares_out_of_range_are_named(text):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        number(Share)(text)
    words = f'{text!r} must be a finite number > 0 and <= 1'
    assert str(caught.value) == words
    assert number(Share)('1') == 1.0 and number(Share)('1e-3') == 0.001


@pytest.mark.parametrize('kind', [ValueError, FileNotFoundError, ImportError])
def test_what_a_user_can_mend_is_told_in_a_line(kind):
    with pytest.raises(SystemExit, match='^error: the sentence$'):
        with told():
            raise kind('the sentence')


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), told():
        1 / 0  # noqa: B018


def test_options_that_nothing_reads_are_named():
    check_read(True, '--images 3', ['--ood'])
    with pytest.raises(ValueError, match='^--images 3 .* --ood, --also as'):
        check_read(False, '--images 3', ['--ood', '--also'])


@pytest.mark.parametrize(
    'args, words',
    [
        (['none.py'], 'none.py'),
        (['CONFIG', 'none.pth'], "'none.pth' does not exist"),
        (['CONFIG', '--untrained', '--data', 'none'], 'is no folder'),
    ],
)
def test_an_analysis_says_what_is_wrong_in_a_line(
    args, words, run_tool, config_file, tmp_path
):
    names = [str(config_file) if a == 'CONFIG' else a for a in args]
    with pytest.raises(SystemExit, match=f'^error: .*{words}'):
        run_tool('tools/analyze_bottleneck.py', *names, '--out', 'out')
    assert not (tmp_path / 'out').exists()


def test_layers_of_the_second_network_are_named_as_its_option(
    run_tool, config_file, pictures
):
    layers = ('--layers', 'backbone.layer4', '--against-layers', 'nolayer')
    with pytest.raises(SystemExit, match='^error: --against-layers.*nolayer'):
        run_tool(
            *('tools/analyze_bottleneck.py', str(config_file), '--untrained'),
            *('--data', str(pictures), '--against-untrained', '1', *layers),
            *('--permutations', '99', '--control-images', '0', '--out', 'out'),
        )
