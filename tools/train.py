"""MMPretrain's ``tools/train.py`` with u1_plugin imported; same options."""

from u1_plugin.mm.launch import run_mmpretrain_tool

if __name__ == '__main__':
    run_mmpretrain_tool('train.py')
