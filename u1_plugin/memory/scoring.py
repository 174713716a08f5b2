"""The one way from neighbours to classes, of the head and of the tools."""

from typing import NamedTuple, Optional

from torch import Tensor

from ..options import Count, Index, checked
from .kernels import Kernel
from .pixels import Pixels
from .sharding import Matches
from .vote import PlaneCoordinates, PriorPlane, log_prior, vote_shares


class Rule(NamedTuple):
    """How neighbours vote: ``[label = c] w(d) exp(kappa (cos - 1))``.

    Attributes:
        plane (str): Whose angle, or which control; see :func:`~.vote.prior`.
        kappa (float): >= 0; 0 is the plain vote.
        sigma (float): > 0, of the controls ``'position'`` and ``'radius'``.
        kernel (Kernel): ``w(d)``.
    """

    plane: PriorPlane = 'image'
    kappa: float = 0.0
    sigma: float = 0.5
    kernel: Kernel = Kernel()

    def __str__(self) -> str:
        place = f'kappa {self.kappa:g}'
        if self.plane in ('position', 'radius'):
            place = f'sigma {self.sigma:g}'
        return f'{self.kernel}, plane {self.plane}, {place}'


@checked()
def class_shares(
    matches: Matches,
    query: Pixels,
    num_classes: Count,
    num_images: Index,
    rule: Rule = Rule(),
    k: Optional[Count] = None,
) -> Tensor:
    """Shares of the classes in the votes for each image.

    Args:
        matches (Matches): Of :meth:`~.sharding.Memory.search`, ``(Q, n)``.
        query (Pixels): Whose they are, ``(Q,)``: their images, in
            ``0..num_images-1``, and where they lie.
        num_classes (int): K.
        num_images (int): B.
        rule (Rule): Of the vote.
        k (int, optional): Only the first k neighbours vote; None is all.

    Returns:
        Tensor: ``(B, K)``, float64; see :func:`~.vote.vote_shares`.

    Raises:
        ValueError: If shapes, labels or options do not fit.
    """
    near = Matches(*(field[:, :k] for field in matches))
    query_coordinates = PlaneCoordinates(
        query.positions[:, None], query.hues[:, None]
    )
    return vote_shares(
        near.distances,
        near.labels,
        query.images,
        num_classes,
        num_images,
        log_prior(
            query_coordinates,
            near.coordinates,
            rule.plane,
            rule.kappa,
            rule.sigma,
        ),
        kernel=rule.kernel,
    )
