"""Training over two hosts: two network namespaces and a cable between."""

import os
import shutil
import subprocess
import sys
from typing import Iterator, List

import pytest
import tiny
from chains import reference

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def _ip(*words: str) -> None:
    subprocess.run(['ip', *words], check=True, stderr=subprocess.PIPE)


@pytest.fixture
def hosts() -> Iterator[List[str]]:
    """Names of two namespaces, 10.77.0.1 and 10.77.0.2 on `cable`."""
    if not shutil.which('ip'):
        pytest.skip('no `ip`: install iproute2')
    names = [f'u1-{os.getpid()}-{i}' for i in (1, 2)]
    try:
        try:
            for name in names:
                _ip('netns', 'add', name)
            cable = ('cable', 'netns', names[0], 'type', 'veth')
            _ip('link', 'add', *cable, 'peer', 'cable', 'netns', names[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f'no namespaces here: {error.stderr.decode().strip()}')
        for i, name in enumerate(names, 1):
            _ip('-n', name, 'addr', 'add', f'10.77.0.{i}/24', 'dev', 'cable')
            for device in ('lo', 'cable'):
                _ip('-n', name, 'link', 'set', device, 'up')
        yield names
    finally:
        for name in names:
            subprocess.run(
                ['ip', 'netns', 'del', name], stderr=subprocess.DEVNULL
            )


def test_two_hosts_train_what_two_ranks_of_one_do(hosts, data, tmp_path):
    command = tiny.training(data, 'hosts', 2, {})
    expected, _ = reference(command, tmp_path / 'expected')
    folder = tmp_path / 'hosts'
    folder.mkdir()
    processes = []
    for rank, name in enumerate(hosts):
        environment = dict(
            os.environ,
            NNODES='2',
            NODE_RANK=str(rank),
            MASTER_ADDR='10.77.0.1',
            PORT='29555',
            GLOO_SOCKET_IFNAME='cable',
            OMP_NUM_THREADS='1',
            PYTHON=sys.executable,
            PYTHONPATH=str(tiny.ROOT),
        )
        tool = str(tiny.ROOT / 'tools/dist_train.sh')
        words = ['bash', tool, str(data / 'hosts.py'), '1']
        processes.append(
            subprocess.Popen(
                ['ip', 'netns', 'exec', name, *words, '--work-dir', 'run'],
                env=environment,
                cwd=folder,
            )
        )
    try:
        assert [process.wait(400) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    assert command.state(folder) == expected
