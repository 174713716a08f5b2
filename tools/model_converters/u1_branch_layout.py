"""Convert a U(1) checkpoint from when the method wrapped neck and head.

    python tools/model_converters/u1_branch_layout.py OLD.pth NEW.pth

writes the weights and the class angles under the names of U1ImageClassifier.
The optimiser's state is left out, so NEW.pth serves to test, to classify and to
fine-tune (``load_from``), not to resume.
"""

import argparse
from pathlib import Path
from typing import Any, Dict, Mapping

import torch
from mmengine.runner import CheckpointLoader

from u1_plugin.files import new_file, new_path
from u1_plugin.lab.weights import weights_of

#: What a name began with, and begins with now.
RENAMED = {
    'head.class_angles.': 'u1.class_angles.',
    'neck.feature_planes.': 'u1.neck.feature_planes.',
    'neck.neck.': 'neck.',
}


def to_branch_layout(state_dict: Mapping[str, Any]) -> Dict[str, Any]:
    """The state of a wrapped model under the names of its U(1) twin."""
    renamed = {}
    for name, value in state_dict.items():
        for old, new in RENAMED.items():
            if name.startswith(old):
                name = new + name[len(old) :]
                break
        renamed[name] = value
    return renamed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('old', type=Path)
    parser.add_argument('new', type=new_path, help='must not exist yet')
    options = parser.parse_args()
    try:
        content = CheckpointLoader.load_checkpoint(
            str(options.old), map_location='cpu'
        )
        state = weights_of(content)
    except Exception as error:  # unpickling raises many kinds
        parser.error(f'old={str(options.old)!r}: {error}')
    renamed = to_branch_layout(state)
    if list(renamed) == list(state):
        parser.error(
            f'old={str(options.old)!r} is not of that layout; it loads as it is'
        )
    with new_file(options.new, 'new') as part:
        torch.save(dict(state_dict=renamed, meta=content.get('meta', {})), part)
    print(f'Wrote {options.new}')


if __name__ == '__main__':
    main()
