"""What the memory holds: vectors of pixels, and where and whose they are."""

import hashlib
import json
import os
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..geometry import angle, energy, image_moment, pooled_vector

FORMAT_VERSION = 1
_DTYPES = dict(float32=torch.float32, float16=torch.float16, uint8=torch.uint8)
_LEVELS = 255  # of uint8


class Pixels(NamedTuple):
    """Bottleneck pixels, or whole images in pooled mode.

    Attributes:
        vectors (Tensor): ``I(x, y)``, ``(N, C)``, float32.
        labels (Tensor): Class of the pixel's image, ``(N,)``, int64.
        images (Tensor): Number of the pixel's image, ``(N,)``, int64.
        positions (Tensor): ``(N, 2)``: x to the right and y up from the
            optical axis, in units of the map's half diagonal. Its angle is
            ``vartheta``. In pooled mode, the image-plane moment ``z_xy``.
        hues (Tensor): Feature angle ``theta_f``, ``(N,)``, radians.
    """

    vectors: Tensor
    labels: Tensor
    images: Tensor
    positions: Tensor
    hues: Tensor

    def select(self, index: Tensor) -> 'Pixels':
        """The pixels of an index or a mask ``(N,)``."""
        return Pixels(*(field[index] for field in self))


def _pixel_positions(height: int, width: int) -> Tensor:
    """``(H * W, 2)``, see :class:`Pixels`."""
    x = torch.arange(width) - (width - 1) / 2
    y = (height - 1) / 2 - torch.arange(height)
    grid = torch.stack(
        [x.expand(height, width), y[:, None].expand(height, width)], dim=-1
    )
    half_diagonal = max(grid[0, 0].norm().item(), 0.5)
    return grid.flatten(0, 1) / half_diagonal


@torch.no_grad()
def bottleneck_pixels(
    intensity: Tensor,
    labels: Tensor,
    images: Tensor,
    feature_plane: torch.nn.Module,
    mode: str = 'pixel',
    keep: Optional[int] = None,
) -> Pixels:
    """Cut maps into pixels.

    Args:
        intensity (Tensor): ``I``, ``(B, C, H, W)``.
        labels (Tensor): ``(B,)``.
        images (Tensor): Numbers of the images, ``(B,)``.
        feature_plane (nn.Module): ``(N, C) -> (N, 2)``, for ``theta_f``.
        mode (str): ``'pixel'`` or ``'pooled'`` (one vector an image).
        keep (int, optional): Keep the so many most energetic pixels of each
            image. None keeps all.

    Returns:
        Pixels: In the order of images, then rows, then columns.

    Raises:
        ValueError: If ``mode`` or ``keep`` is out of its range.
    """
    if mode not in ('pixel', 'pooled'):
        raise ValueError(f"mode={mode!r} must be 'pixel' or 'pooled'")
    if keep is not None and keep < 1:
        raise ValueError(f'keep={keep} must be >= 1, or None for all pixels')
    labels, images = labels.to(intensity.device), images.to(intensity.device)
    if mode == 'pooled':
        vectors = pooled_vector(intensity)
        positions = image_moment(energy(intensity))
        hues = angle(feature_plane(vectors))
        return Pixels(vectors, labels, images, positions, hues)
    _, _, height, width = intensity.shape
    count = height * width
    vectors = intensity.float().flatten(2).transpose(1, 2)  # (B, HW, C)
    positions = _pixel_positions(height, width).to(vectors)
    index = torch.arange(count, device=vectors.device)
    index = index.expand(len(vectors), count)
    if keep is not None and keep < count:
        strongest = energy(intensity).flatten(1).topk(keep, dim=1).indices
        index = strongest.sort(dim=1).values
    chosen = index.size(1)
    vectors = vectors.gather(
        1, index[..., None].expand(-1, -1, vectors.size(2))
    )
    vectors = vectors.flatten(0, 1)
    return Pixels(
        vectors,
        labels.repeat_interleave(chosen),
        images.repeat_interleave(chosen),
        positions[index.flatten()],
        angle(feature_plane(vectors)),
    )


class MemoryBank:
    """Pixels in blocks, appended without copying what is there.

    Args:
        dtype (str): Of the stored vectors: ``'float32'``, ``'float16'`` or
            ``'uint8'`` (255 levels between 0 and a vector's largest entry).
        fingerprint (str): Names what filled the bank (backbone, weights,
            layer, orthant map); :meth:`load` refuses another one's file.

    Raises:
        ValueError: If ``dtype`` is none of these.
    """

    def __init__(self, dtype: str = 'float32', fingerprint: str = '') -> None:
        if dtype not in _DTYPES:
            raise ValueError(f'dtype={dtype!r} must be one of {list(_DTYPES)}')
        self.dtype = dtype
        self.fingerprint = fingerprint
        self._blocks: List[dict] = []

    def __len__(self) -> int:
        return sum(len(block['labels']) for block in self._blocks)

    @property
    def channels(self) -> Optional[int]:
        """C, or None while the bank is empty."""
        return self._blocks[0]['vectors'].size(1) if self._blocks else None

    @property
    def nbytes(self) -> int:
        """Bytes of everything stored."""
        return sum(
            t.numel() * t.element_size()
            for block in self._blocks
            for t in block.values()
        )

    def append(self, pixels: Pixels) -> None:
        """Add pixels; their order of arrival is their index.

        Raises:
            ValueError: If C differs, or a vector is not finite or, under
                uint8, negative.
        """
        vectors = pixels.vectors.detach()
        if self.channels not in (None, vectors.size(1)):
            raise ValueError(
                f'the vectors have {vectors.size(1)} channels, the bank has '
                f'{self.channels}; fill a new bank for another layer'
            )
        # Sums of rows: no temporary of the vectors' size.
        if not vectors.sum(1, dtype=torch.float64).isfinite().all():
            raise ValueError('the vectors hold NaN or inf; check the backbone')
        block = dict(pixels._asdict(), vectors=self._encode(vectors))
        if self.dtype == 'uint8':
            block['scales'] = vectors.amax(1).clamp_min(1e-12) / _LEVELS
        self._blocks.append({k: v.detach().cpu() for k, v in block.items()})

    def _encode(self, vectors: Tensor) -> Tensor:
        if self.dtype != 'uint8':
            return vectors.to(_DTYPES[self.dtype])
        if vectors.numel() and vectors.min() < 0:
            raise ValueError(
                "dtype='uint8' stores values >= 0; map them into the positive "
                "orthant or choose 'float16'"
            )
        scales = vectors.amax(1, keepdim=True).clamp_min(1e-12) / _LEVELS
        return (vectors / scales).round().to(torch.uint8)

    def blocks(self) -> Iterator[Tensor]:
        """The vectors, float32, a block ``(n, C)`` at a time."""
        for block in self._blocks:
            vectors = block['vectors'].float()
            if self.dtype == 'uint8':
                vectors = vectors * block['scales'][:, None]
            yield vectors

    def field(self, name: str) -> Tensor:
        """One of ``labels, images, positions, hues`` of all pixels."""
        parts = [block[name] for block in self._blocks]
        if not parts:
            raise ValueError('the bank is empty; fill it before asking it')
        return torch.cat(parts)

    def remove(
        self,
        labels: Optional[Sequence[int]] = None,
        images: Optional[Sequence[int]] = None,
    ) -> int:
        """Forget classes or images, without refilling the bank.

        Returns:
            int: How many pixels went.
        """
        before = len(self)
        blocks = []
        for block in self._blocks:
            gone = torch.zeros(len(block['labels']), dtype=torch.bool)
            for name, values in (('labels', labels), ('images', images)):
                if values is not None:
                    gone |= torch.isin(block[name], torch.tensor(list(values)))
            if not gone.all():
                blocks.append({k: v[~gone] for k, v in block.items()})
        self._blocks = blocks
        return before - len(self)

    def keep(self, index: Tensor) -> None:
        """Forget all pixels but those of an ascending index ``(n,)``."""
        mask = torch.zeros(len(self), dtype=torch.bool)
        mask[index] = True
        parts = mask.split([len(block['labels']) for block in self._blocks])
        self._blocks = [
            {name: value[part] for name, value in block.items()}
            for block, part in zip(self._blocks, parts)
            if part.any()
        ]

    def tensors(self) -> Dict[str, Tensor]:
        """Everything stored, as ``'{block}.{field}'``."""
        return {
            f'{i}.{name}': value.contiguous()
            for i, block in enumerate(self._blocks)
            for name, value in block.items()
        }

    def set_tensors(self, tensors: Dict[str, Tensor]) -> None:
        """Replace the content by what :meth:`tensors` gave."""
        blocks: Dict[int, dict] = {}
        for key, value in tensors.items():
            number, name = key.split('.', 1)
            blocks.setdefault(int(number), {})[name] = value
        self._blocks = [blocks[number] for number in sorted(blocks)]

    def save(self, file: Path) -> None:
        """Write ``file`` (safetensors) and ``file.json``, whole or not at all.

        The JSON holds version, fingerprint, dtype, sizes and the checksum of
        the tensors. It is written last, so that a file without it is refused.
        """
        file = Path(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        tensors = self.tensors()
        part = file.with_name(f'.{file.name}.{os.getpid()}')
        note, part_note = _note_of(file), _note_of(part)
        try:
            save_file(tensors, str(part))
            content = dict(
                version=FORMAT_VERSION,
                fingerprint=self.fingerprint,
                dtype=self.dtype,
                pixels=len(self),
                channels=self.channels,
                blocks=len(self._blocks),
                sha256=_checksum(part),
            )
            part_note.write_text(json.dumps(content, indent=2))
            note.unlink(missing_ok=True)
            os.replace(part, file)
            os.replace(part_note, note)
        finally:
            part.unlink(missing_ok=True)
            part_note.unlink(missing_ok=True)

    @classmethod
    def load(
        cls,
        file: Path,
        fingerprint: Optional[str] = None,
        channels: Optional[int] = None,
    ) -> 'MemoryBank':
        """Read what :meth:`save` wrote.

        Args:
            file (Path): The safetensors file.
            fingerprint (str, optional): What must have filled it.
            channels (int, optional): C that it must have.

        Raises:
            ValueError: If the file is truncated, foreign, of another version,
                backbone or dimension; the message names which.
        """
        file, note = Path(file), _note_of(Path(file))
        if not file.is_file() or not note.is_file():
            raise ValueError(
                f'{file}: no memory bank (a bank is this file and {note.name})'
            )
        content = _read_note(note)
        if content['version'] != FORMAT_VERSION:
            raise ValueError(
                f'{file}: format version {content["version"]}, this plugin '
                f'reads {FORMAT_VERSION}; fill the bank again'
            )
        if _checksum(file) != content['sha256']:
            raise ValueError(
                f'{file}: the checksum differs, so the file is truncated or '
                'changed; fill the bank again'
            )
        for name, wanted in dict(
            fingerprint=fingerprint, channels=channels
        ).items():
            if wanted is not None and content[name] != wanted:
                raise ValueError(
                    f'{file}: {name} is {content[name]!r}, expected {wanted!r};'
                    ' a bank serves the backbone and layer that filled it'
                )
        bank = cls(content['dtype'], content['fingerprint'])
        try:
            with safe_open(str(file), framework='pt') as tensors:
                names = list(tensors.keys())
                bank.set_tensors({n: tensors.get_tensor(n) for n in names})
        except SafetensorError as error:
            raise ValueError(
                f'{file}: no safetensors file ({error})'
            ) from error
        return bank


def _note_of(file: Path) -> Path:
    return file.with_name(file.name + '.json')


def _read_note(note: Path) -> dict:
    try:
        content = json.loads(note.read_text())
        missing = {'version', 'sha256', 'dtype', 'blocks'} - set(content)
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f'{note}: no JSON of a memory bank') from error
    if missing:
        raise ValueError(f'{note}: lacks {sorted(missing)}, no memory bank')
    return content


def _checksum(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, 'rb') as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
