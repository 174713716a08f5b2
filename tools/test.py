"""MMPretrain's ``tools/test.py`` with u1_plugin imported; same options."""

import u1_plugin.lab  # noqa: F401  (whose parts a config may name)
from u1_plugin.mm.launch import run_mmpretrain_tool

if __name__ == '__main__':
    run_mmpretrain_tool('test.py')
