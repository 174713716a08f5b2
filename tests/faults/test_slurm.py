"""A real Slurm of one node on this machine (Debian: slurm-wlm and munge)."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import Dict, Iterator

import pytest
import tiny
from chains import reference
from test_world import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.faults]

PROGRAMS = ('munged', 'slurmctld', 'slurmd', 'srun', 'squeue', 'scontrol')
CONF = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def _start(program: str, *options: object) -> subprocess.Popen:
    path = shutil.which(program, path=os.environ['PATH'] + ':/usr/sbin')
    return subprocess.Popen([path, *map(str, options)])


@pytest.fixture(scope='module')
def slurm(tmp_path_factory) -> Iterator[Dict[str, str]]:
    """The environment of a shell on a cluster of one node."""
    path = os.environ['PATH'] + ':/usr/sbin'
    missing = [p for p in PROGRAMS if not shutil.which(p, path=path)]
    if missing:
        pytest.skip(f'{", ".join(missing)} not installed: slurm-wlm, munge')
    if os.geteuid():
        pytest.skip('the daemons run as root here')
    folder = tmp_path_factory.mktemp('slurm')
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)  # munge wants its socket to be reached by all
    for name in ('state', 'spool'):
        (folder / name).mkdir()
    key = folder / 'key'
    key.write_bytes(os.urandom(64))
    key.chmod(0o600)
    host = socket.gethostname().split('.')[0]
    conf = folder / 'slurm.conf'
    ports = dict(controller=tiny.free_port(), daemon=tiny.free_port())
    conf.write_text(CONF.format(host=host, folder=folder, **ports))
    environment = dict(
        os.environ,
        SLURM_CONF=str(conf),
        GRES='',
        CPUS_PER_TASK='1',
        GPUS='2',
        GPUS_PER_NODE='2',
        MASTER_ADDR='127.0.0.1',
        OMP_NUM_THREADS='1',
        PYTHON=sys.executable,
        PYTHONPATH=str(tiny.ROOT),
    )
    munge = [f'--{k}-file={folder}/{k}' for k in ('key', 'pid', 'log', 'seed')]
    os.environ['SLURM_CONF'] = str(conf)
    daemons = []
    try:
        daemons.append(
            _start(
                'munged', '-F', '--force', f'--socket={folder}/socket', *munge
            )
        )
        wait_for((folder / 'socket').exists, 30, 'no munge')
        daemons.append(_start('slurmctld', '-D', '-c'))
        daemons.append(_start('slurmd', '-D', '-c', '-N', host))
        wait_for(
            lambda: 'idle' in _ask(environment, 'sinfo', '-h', '-o', '%T'),
            60,
            f'no idle node, see {folder}/slurmctld.log',
        )
        yield environment
    finally:
        _ask(environment, 'scancel', '--state=RUNNING', '--user=root')
        time.sleep(1)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            daemon.wait(30)
        del os.environ['SLURM_CONF']


def _ask(environment: Dict[str, str], *command: str) -> str:
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def test_two_tasks_train_through_srun(slurm, data, tmp_path):
    command = tiny.training(data, 'slurm', 2, {})
    file = data / 'slurm.py'
    subprocess.run(
        [
            *('bash', str(tiny.ROOT / 'tools/slurm_train.sh'), 'cpu', 'job'),
            *(str(file), str(tmp_path / 'run'), '--resume'),
        ],
        env=slurm,
        check=True,
        timeout=300,
    )
    expected, _ = reference(command, tmp_path / 'expected')
    shutil.rmtree(tmp_path / 'expected')
    assert tiny.run_state(tmp_path) == expected


def test_a_suite_is_killed_and_goes_on(slurm, data, tmp_path):
    """A killed benchmark's job ends, and the same command finishes."""
    file = tiny.suite_file(data / 'slurm', data, processes=2, seeds=1)

    def start(out: str) -> subprocess.Popen:
        return subprocess.Popen(
            [
                *(sys.executable, str(tiny.ROOT / 'tools/benchmark.py')),
                *(str(file), '--out', out, '--slurm', 'cpu', '--workers', '1'),
            ],
            env=slurm,
            cwd=tmp_path,
        )

    assert start('whole').wait(400) == 0
    state = tiny.run_state(tmp_path / 'whole')
    process = start('killed')
    part = tmp_path / 'killed/tiny/one-hot/seed0/run_record.part.json'
    wait_for(part.exists, 200, 'no training')
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(
        lambda: not _ask(slurm, 'squeue', '-h').strip(), 60, 'the job lives on'
    )
    assert not (part.parent / 'run_record.json').exists()
    assert start('killed').wait(400) == 0
    assert tiny.run_state(tmp_path / 'killed') == state
