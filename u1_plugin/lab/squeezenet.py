"""SqueezeNet 1.1 with Keras' padding, for pre-trained weights of Keras."""

from typing import Optional, Tuple, Union

from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.models.heads import ClsHead
from torch import Tensor, nn
from torchvision.models import squeezenet1_1

from ..options import Count, checked

#: As torchvision initialises every convolution but the classifier's.
_INITIAL = dict(
    type='Kaiming', layer='Conv2d', mode='fan_in', distribution='uniform'
)


class SqueezeNet(BaseBackbone):
    """The convolutions of torchvision's ``squeezenet1_1``, padded as in Keras.

    Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer
    parameters and < 0.5MB model size", 2016: ReLU throughout, no batch norm.
    The first convolution has padding ``'same'``, which at stride 2 and an even
    size adds zeros below and on the right alone, and poolings leave out
    windows that are not full. So 227×227 pixels give maps of 114, 56, 27 and
    13 pixels; torchvision's own, which pads nothing and rounds up, gives 113,
    56, 28 and 14. Weights have torchvision's names.

    Args:
        init_cfg (dict or List[dict], optional): Of the weights; torchvision's
            initialisation by default.
    """

    def __init__(self, init_cfg: Union[dict, list, None] = _INITIAL) -> None:
        super().__init__(init_cfg)
        self.features = squeezenet1_1(weights=None).features
        self.features[0] = Conv2dAdaptivePadding(3, 64, 3, stride=2)
        for module in self.features.modules():
            if isinstance(module, nn.MaxPool2d):
                module.ceil_mode = False
            elif isinstance(module, nn.ReLU):
                # Analyses read the maps before it too.
                module.inplace = False

    def forward(self, x: Tensor) -> Tuple[Tensor]:
        """The last map.

        Args:
            x (Tensor): Images, ``(B, 3, H, W)``, at least 29 pixels a side.

        Returns:
            Tuple[Tensor]: ``(B, 512, h, w)`` alone, not negative.
        """
        return (self.features(x),)


class SqueezeNetHead(ClsHead):
    """SqueezeNet's classifier: a convolution, ReLU, and the mean of the map.

    A logit is the mean of a map that is not negative, and so is the logit;
    because of the ReLU it is no linear function of the pooled input.

    Args:
        num_classes (int): K.
        in_channels (int): C. Defaults to 512.
        init_cfg (dict, optional): Of the weights; torchvision's initialisation
            by default.
        **kwargs: Of ``ClsHead``.

    Raises:
        ValueError: If an option is out of its range.
    """

    @checked('model.head')
    def __init__(
        self,
        num_classes: Count,
        in_channels: Count = 512,
        init_cfg: Optional[dict] = dict(
            type='Normal', layer='Conv2d', std=0.01
        ),
        **kwargs,
    ) -> None:
        super().__init__(init_cfg=init_cfg, **kwargs)
        self.dropout = nn.Dropout(0.5)
        self.conv = nn.Conv2d(in_channels, num_classes, 1)

    def forward(self, feats: Tuple[Tensor]) -> Tensor:
        """Logits.

        Args:
            feats (Tuple[Tensor]): Maps ``(B, C, H, W)``, of which the last is
                read; the classifier has no neck that pools.

        Returns:
            Tensor: ``(B, K)``.
        """
        maps = self.conv(self.dropout(self.pre_logits(feats)))
        return maps.relu().mean((2, 3))
