"""Where a run is trained, and with what."""

import hashlib
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Dict, Optional

import torch
from torch import nn

from ..networks import update_digest

try:
    import resource
except ImportError:  # Windows has none
    resource = None

#: Whose versions are recorded: a fork has another name, the same import.
_PACKAGES = (
    'u1_plugin',
    'torch',
    'torchvision',
    'numpy',
    'mmengine',
    'mmpretrain',
    'mmcv-lite',
    'mmcv',
    'onedl-mmengine',
    'onedl-mmpretrain',
    'onedl-mmcv',
    'timm',
)


def weights_hash(module: nn.Module) -> str:
    """Names the parameters and buffers of a module by their bytes."""
    digest = hashlib.sha256()
    update_digest(digest, module.state_dict())
    return digest.hexdigest()[:16]


def package_versions() -> Dict[str, str]:
    """Versions of the installed packages that decide a result."""
    versions = dict(python=platform.python_version())
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def hardware() -> str:
    """The GPU's name, or the processor's and the threads in use."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f'{processor()}, {torch.get_num_threads()} thread(s), no GPU'


def processor() -> str:
    """The processor's name, as far as the system knows it."""
    cpuinfo = Path('/proc/cpuinfo')
    names = [
        line.split(':', 1)[1].strip()
        for line in (
            cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
        )
        if line.startswith('model name')
    ]
    return names[0] if names else platform.processor() or platform.machine()


def peak_rss_mib() -> Optional[float]:
    """Peak memory of this process; None where the system does not say."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kibibytes on Linux, bytes on macOS.
    return peak / (2**20 if sys.platform == 'darwin' else 2**10)
