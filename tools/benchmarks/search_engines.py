"""The engines that ``memory_search.py`` compares, and what they search."""

import argparse
import math
import time
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import torch
from torch import Tensor

from u1_plugin.memory import ExactSearch, MemoryBank, Pixels, build_search

ENGINES = dict(
    cpu='product exact faiss:Flat sklearn cdist',
    # Exact ones early: their copies take a share of what is free.
    cuda='product exact exact:float16 cdist product:tf32 product:float16 '
    'IndexFlatIP',
)
#: Vectors that are multiplied at a time, and drawn at a time.
_BLOCK, _DRAWN = dict(cpu=2**14, cuda=2**17), 2**16
_NOISE = 0.7  # norm of the noise about a centre of norm 1
_CLEAR = Path('/proc/self/clear_refs')
#: Modules of engines that need a library beside torch. Each is imported by
#: its name where it is used: none of them has to be there.
_LIBRARIES = dict(
    faiss='faiss',
    IndexFlatIP='faiss',
    hnswlib='hnswlib',
    sklearn='sklearn.neighbors',
    usearch='usearch.index',
)
Searcher = Callable[[Tensor], Optional[Tensor]]


def drawn(
    count: int, channels: int, memory: int, seed: int, device: str
) -> Iterator[Tensor]:
    """Unit vectors about the sqrt(N) centres of a memory, in blocks.

    Args:
        count (int): How many vectors.
        channels (int): C.
        memory (int): N, by which the centres are the same for its queries.
        seed (int): Of these vectors.
        device (str): Where they are drawn: each kind draws others.

    Yields:
        Tensor: ``(n, C)``, float32.
    """
    fixed = torch.Generator().manual_seed(12345)
    centres = torch.randn(math.isqrt(memory), channels, generator=fixed)
    centres = (centres / centres.norm(dim=1, keepdim=True)).to(device)
    generator = torch.Generator(device).manual_seed(seed)
    opts: Dict[str, Any] = dict(generator=generator, device=device)
    for start in range(0, count, _DRAWN):
        size = min(_DRAWN, count - start)
        which = torch.randint(len(centres), (size,), **opts)
        block = torch.randn(size, channels, **opts).mul_(_NOISE / channels**0.5)
        block += centres[which]
        yield block.div_(block.norm(dim=1, keepdim=True))


def fill(vectors: Tensor, device: str) -> Tensor:
    """Draw a memory's vectors into ``(N, C)``."""
    blocks = drawn(*vectors.shape, len(vectors), 0, device)
    for part, block in zip(vectors.split(_DRAWN), blocks):
        part.copy_(block)
    return vectors


class Data:
    """The vectors of a memory ``(N, C)``, and queries ``(Q, C)``."""

    def __init__(self, vectors: Tensor, options: argparse.Namespace) -> None:
        self.vectors, self.device = vectors, options.device
        size = (options.queries, options.channels, len(vectors))
        self.queries = torch.cat(list(drawn(*size, 1, options.device)))

    @cached_property
    def bank(self) -> MemoryBank:
        """A copy of the vectors in the host's memory, made when first read."""
        bank = MemoryBank()
        for part in self.vectors.split(_DRAWN):
            zeros = torch.zeros(len(part), dtype=torch.long)
            places = torch.zeros(len(part), 2)
            bank.append(Pixels(part, zeros, zeros, places, places[:, 0]))
        return bank


def library_of(engine: str) -> str:
    """The module that an engine needs, or nothing."""
    return _LIBRARIES.get(engine.partition(':')[0], '')


def lacks(engine: str, device: str) -> Optional[str]:
    """Why an engine cannot run here, or None."""
    kind, _, suffix = engine.partition(':')
    if kind not in (*_LIBRARIES, 'product', 'exact', 'cdist'):
        there = ', '.join(('product', 'exact', 'cdist', *_LIBRARIES))
        raise ValueError(f'--engines {engine}: no {kind!r}; take {there}')
    if kind == 'product' and suffix not in ('', 'tf32', 'float16', 'bfloat16'):
        raise ValueError(f'--engines {engine}: give tf32, float16 or bfloat16')
    library = library_of(engine).partition('.')[0]
    if library and not find_spec(library):
        return f'{library} is not installed'
    if device == 'cpu':
        return 'TF32 is of GPUs' if suffix == 'tf32' else None
    if library == 'faiss':
        has = hasattr(import_module('faiss'), 'StandardGpuResources')
        return None if has else 'this faiss has no StandardGpuResources'
    return f'{kind} does not run on {device}' if library else None


def product(data: Data, kind: str) -> Searcher:
    """Multiplies, into the same scores again and again, and selects nothing."""
    tf32 = kind == 'tf32'
    dtype = getattr(torch, 'float32' if tf32 else kind or 'float32')
    vectors, block = data.vectors.to(dtype), _BLOCK[data.device]
    size = (len(data.queries), min(block, len(vectors)))
    scores = torch.empty(size, dtype=dtype, device=data.device)

    def search(queries: Tensor) -> None:
        queries = queries.to(dtype)
        if tf32:
            torch.set_float32_matmul_precision('high')
        for part in vectors.split(block):
            torch.mm(queries, part.T, out=scores[: len(queries), : len(part)])
        torch.set_float32_matmul_precision('highest')

    return search


def cdist(data: Data, k: int) -> Searcher:
    """Whole on a CPU; on a GPU in blocks, as scores of all would not fit."""
    block = len(data.vectors) if data.device == 'cpu' else _BLOCK[data.device]

    def search(queries: Tensor) -> Tensor:
        best: List[Tuple[Tensor, Tensor]] = []
        for number, part in enumerate(data.vectors.split(block)):
            far = torch.cdist(queries, part)
            far, index = far.topk(min(k, len(part)), largest=False)
            best.append((far, index + number * block))
        far, index = (torch.cat(parts, 1) for parts in zip(*best))
        return index.gather(1, far.topk(k, largest=False).indices)

    return search


def _sklearn(module: Any, data: Data, k: int, threads: int) -> Callable:
    model = module.NearestNeighbors(n_neighbors=k, algorithm='brute')
    model.fit(data.vectors.numpy())
    return lambda queries: model.kneighbors(queries)[1]


def _flat(module: Any, data: Data, k: int, threads: int) -> Callable:
    index = module.IndexFlatIP(data.vectors.size(1))
    if data.device != 'cpu':
        resources = module.StandardGpuResources()
        index = module.index_cpu_to_gpu(resources, 0, index)
    for part in data.vectors.split(_DRAWN):
        index.add(part.cpu().numpy())
    return lambda queries: index.search(queries, k)[1]


def _usearch(module: Any, data: Data, k: int, threads: int) -> Callable:
    count, channels = data.vectors.shape
    index = module.Index(ndim=channels, metric='ip', dtype='f32')
    keys = torch.arange(count).numpy()
    index.add(keys, data.vectors.numpy(), threads=threads)
    return lambda queries: index.search(queries, k, threads=threads).keys


def _hnswlib(module: Any, data: Data, k: int, threads: int) -> Callable:
    count, channels = data.vectors.shape
    index = module.Index('ip', channels)
    index.init_index(count, M=32)
    index.set_ef(max(64, k))
    index.add_items(data.vectors.numpy(), num_threads=threads)
    return lambda queries: index.knn_query(queries, k, num_threads=threads)[0]


_RIVALS = dict(
    sklearn=_sklearn, IndexFlatIP=_flat, usearch=_usearch, hnswlib=_hnswlib
)


def searcher(engine: str, data: Data, options: argparse.Namespace) -> Searcher:
    """The engine of a name: of queries the indices ``(Q, k)``, or None."""
    kind, _, suffix = engine.partition(':')
    if kind == 'product':
        return product(data, suffix)
    if kind == 'cdist':
        return cdist(data, options.k)
    if kind in _RIVALS:
        module = import_module(library_of(engine))
        ask = _RIVALS[kind](module, data, options.k, options.threads)
        return lambda queries: torch.from_numpy(
            ask(queries.cpu().numpy()).astype('int64')
        )
    if kind == 'exact':
        place = None if data.device == 'cpu' else data.device
        search = ExactSearch(data.bank, dtype=suffix or 'float32', device=place)
    else:
        factory, _, recall = suffix.partition('@')
        cells = 2 ** round(math.log2(4 * math.sqrt(len(data.vectors))))
        config = dict(type='faiss', recall=float(recall) if recall else None)
        config['factory'] = factory.replace('{cells}', str(cells))
        search = build_search(data.bank, config, k=options.k)
    return lambda queries: search.search(queries, options.k).indices


class Contestant:
    """An engine that is ready, and what it has found and taken."""

    def __init__(
        self, engine: str, data: Data, options: argparse.Namespace
    ) -> None:
        self.data, self.device = data, options.device
        ours = engine.partition(':')[0] in ('exact', 'faiss')
        if ours:
            len(data.bank)  # filled now: it is the vectors
        # Of what torch does not allocate nothing is known.
        self._blind = self.device == 'cuda' and bool(library_of(engine))
        self._before = self._held()
        start = self._now()
        self._search = searcher(engine, data, options)
        self._search(data.queries[:2])  # what is loaded or prepared once
        self._build = self._now() - start
        # The copy on a GPU is there in the place of the vectors.
        on_gpu = self.device == 'cuda' and ours
        self._before += data.vectors.nbytes if on_gpu else 0
        self._extra = self._peak() - self._before
        self._own = self._held() - self._before
        self._found: Optional[Tensor] = None

    def run(self) -> Tuple[float, float]:
        """Start and seconds of a repetition."""
        before = self._held()
        start = self._now()
        self._found = self._search(self.data.queries)
        seconds = self._now() - start
        # Others may have been built in the meantime.
        taken = self._own + self._peak() - before
        self._extra = max(self._extra, taken)
        return start, seconds

    def report(self) -> Dict[str, Any]:
        """Indices, seconds of the build, and the peak in copies."""
        indices, extra = self._found, self._extra / self.data.vectors.nbytes
        return dict(
            found=None if indices is None else indices.cpu().numpy(),
            build=self._build,
            extra=None if self._blind else extra,
        )

    def _now(self) -> float:
        if self.device == 'cuda':
            torch.cuda.synchronize()
        return time.monotonic()

    def _held(self) -> int:
        """Bytes that are taken now, from which a peak is then counted."""
        if self.device == 'cuda':
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        _CLEAR.write_text('5')  # Linux' way to reset the peak
        return _resident('VmRSS')

    def _peak(self) -> int:
        if self.device == 'cuda':
            return torch.cuda.max_memory_allocated()
        return _resident('VmHWM')


def _resident(name: str) -> int:
    """Bytes of this process that the system has in memory."""
    lines = Path('/proc/self/status').read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f'{name}:'))
    return int(line.split()[1]) * 1024


def on_its_own(
    engine: str, file: str, count: int, options: argparse.Namespace
) -> Contestant:
    """In a process without others; maps a file of vectors and reads it all."""
    torch.set_num_threads(options.threads)
    # Before memory is measured: a library is no part of an engine's share.
    if library_of(engine):
        library = import_module(library_of(engine))
        if library.__name__ == 'faiss':
            library.omp_set_num_threads(options.threads)
    size = count * options.channels
    vectors = torch.from_file(file, shared=True, size=size)
    vectors.sum()
    data = Data(vectors.view(count, options.channels), options)
    return Contestant(engine, data, options)
