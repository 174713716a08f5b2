"""Checkpoints that a kill at any moment leaves whole."""

import os
import re
import zipfile
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, Iterator, List, Mapping, Optional, Set, Tuple, Union

import numpy as np
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.fileio.backends import register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner, find_latest_checkpoint

from ...files import replaced_file


class WholeFileBackend(LocalBackend):
    """Local files that are there whole, or as they were before."""

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Write bytes to a file, and only then give it its name."""
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(filepath) as part:
            part.write_bytes(obj)


_BACKEND = 'u1_whole'
register_backend(_BACKEND, WholeFileBackend, force=True)


class _RemovesLater:
    """A file backend that notes what is to be removed."""

    def __init__(self, backend: LocalBackend) -> None:
        self.backend = backend
        self.removals: List[Tuple[str, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.removals.append(('remove', path))

    def rmtree(self, path: str) -> None:
        self.removals.append(('rmtree', path))


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint is complete and every byte of it is as written.

    The archives of ``torch.save`` hold check sums; a folder, as DeepSpeed
    writes them, is taken for whole.
    """
    if checkpoint.is_dir():
        return True
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return archive.testzip() is None
    except Exception:  # zipfile raises whatever damaged bytes lead it to
        return False


def plain(value: Any) -> Any:
    """A data set's metainfo in the types that every reader of checkpoints has.

    Mappings become dicts, arrays of texts or objects, sets and ranges become
    lists, and paths become texts.
    """
    if isinstance(value, Mapping):
        return {plain(key): plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray) and value.dtype.kind not in 'biufc':
        return plain(value.tolist())
    if isinstance(value, (np.str_, PurePath)):
        return str(value)
    if isinstance(value, (list, set, frozenset, range)):
        return [plain(part) for part in value]
    if type(value) is tuple:
        return tuple(plain(part) for part in value)
    return value


def _is_local(path: str) -> bool:
    return type(get_file_backend(path)) is LocalBackend


class WholeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook``, safe against kills.

    A checkpoint gets its name when it is complete, and what it replaces
    (``max_keep_ckpts``, ``save_best``) is removed after that, so that a kill in
    between leaves one more; MMEngine removes first and writes in place.
    ``resume`` without a checkpoint's name goes on from the last one, from the
    newest whole one before it if that is missing or damaged, and begins anew,
    with ``load_from``, if there is none.
    What a data set says of itself (``metainfo``) is stored in plain types,
    which a reader that trusts no file admits.
    ``tools/train.py`` uses this hook wherever a config has ``CheckpointHook``.

    Args:
        load_from (str, optional): Weights to begin with where there is
            nothing to go on from.
        **kwargs: Options of ``CheckpointHook``.
    """

    def __init__(self, load_from: Optional[str] = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.load_from = load_from

    def before_run(self, runner: Runner) -> None:
        """Choose the checkpoint to go on from, alike on all ranks."""
        # A FlexibleRunner has loaded its checkpoint by now.
        if runner._has_loaded or not runner._resume or runner._load_from:
            return
        paths = [self._newest(runner) if is_main_process() else None]
        broadcast_object_list(paths)
        if paths[0] is None:
            self.begin_anew(runner, 'there is no whole checkpoint')
        else:
            runner._load_from = paths[0]

    def begin_anew(self, runner: Runner, reason: str) -> None:
        """Have a runner that was to resume begin from the start.

        Raises:
            RuntimeError: If it has resumed already, as a FlexibleRunner has.
        """
        if runner._has_loaded:
            raise RuntimeError(
                f'{runner.work_dir} must be trained from the start: {reason}; '
                'leave out --resume'
            )
        runner.logger.info(f'Training begins anew: {reason}.')
        runner._resume, runner._load_from = False, self.load_from

    def _folder(self, runner: Runner) -> str:
        """Where ``before_train`` will have the checkpoints written."""
        work_dir = runner.work_dir
        if self.out_dir is None or str(self.out_dir) == work_dir:
            return work_dir
        return os.path.join(str(self.out_dir), os.path.basename(work_dir))

    def _newest(self, runner: Runner) -> Optional[str]:
        folder = self._folder(runner)
        try:
            last = find_latest_checkpoint(runner.work_dir) or ''
        except ValueError:  # not even text
            last = ''
        if not _is_local(last or folder):
            return last or None
        name = os.path.basename(last)
        # A work dir that was moved holds what the old path says.
        paths = [Path(last), Path(folder, name)] if name else []
        for path in [*paths, *self._before(Path(folder), name)]:
            if is_whole(path):
                return str(path)
            if path.exists():
                runner.logger.warning(f'{path} is damaged, and left aside.')
        return None

    def _before(self, folder: Path, last: str) -> List[Path]:
        """Checkpoints from before the last one, the newest first.

        Later ones are of another training in the same folder.
        """
        head, _, tail = self.filename_tmpl.partition('{}')
        pattern = re.compile(f'{re.escape(head)}(\\d+){re.escape(tail)}')
        steps = {
            path: int(match[1])
            for path in (folder.iterdir() if folder.is_dir() else ())
            if (match := pattern.fullmatch(path.name))
        }
        limit = pattern.fullmatch(last)
        return sorted(
            (p for p, s in steps.items() if not limit or s < int(limit[1])),
            key=lambda path: (path.stat().st_mtime_ns, steps[path]),
            reverse=True,
        )

    def before_train(self, runner: Runner) -> None:
        """As in MMEngine, with files that appear whole."""
        options = self.backend_args or self.file_client_args
        if not options and _is_local(self._folder(runner)):
            self.backend_args = dict(backend=_BACKEND)
        super().before_train(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Bring the data set's metainfo to plain types."""
        info = (checkpoint.get('message_hub') or {}).get('runtime_info', {})
        for holder in (checkpoint.get('meta') or {}, info):
            if 'dataset_meta' in holder:
                holder['dataset_meta'] = plain(holder['dataset_meta'])

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict
    ) -> None:
        with self._removing_last():
            super()._save_checkpoint_with_step(runner, step, meta)

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self._removing_last():
            super()._save_best_checkpoint(runner, metrics)

    @contextmanager
    def _removing_last(self) -> Iterator[None]:
        """Remove what the block removes after it, if it ends well."""
        backend = self.file_backend
        if isinstance(backend, _RemovesLater):  # the best one saves the last
            yield
            return
        self.file_backend = later = _RemovesLater(backend)
        try:
            yield
        finally:
            self.file_backend = backend
        for removal, path in later.removals:
            if path not in self._kept():
                getattr(backend, removal)(path)

    def _kept(self) -> Set[Optional[str]]:
        best = getattr(self, 'best_ckpt_path_dict', {}).values()
        single_best = getattr(self, 'best_ckpt_path', None)
        return {self.last_ckpt, single_best, *best}


def use_whole_checkpoints(config: Config, load_from: Optional[str]) -> None:
    """Put :class:`WholeCheckpointHook` in the place of ``CheckpointHook``.

    Other hooks that save are left alone.
    """
    if config.get('default_hooks') is None:
        config.default_hooks = {}
    standard = dict(type='CheckpointHook', interval=1)  # as in MMEngine
    config.default_hooks.setdefault('checkpoint', standard)
    hooks = [config.default_hooks.checkpoint]
    for hook in [*hooks, *(config.get('custom_hooks') or ())]:
        kind = hook.get('type') if isinstance(hook, dict) else None
        name = kind.rpartition('.')[2] if isinstance(kind, str) else ''
        if kind is CheckpointHook or name == CheckpointHook.__name__:
            hook['type'] = WholeCheckpointHook.__name__
            hook['load_from'] = load_from
