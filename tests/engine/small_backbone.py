"""A backbone of three layers: where training is tested, but not what a network can learn."""

from fastreid.modeling.backbones import BACKBONE_REGISTRY
from torch import nn


class SmallBackbone(nn.Module):
    """(B, 3, H, W) -> (B, 64, H / 8, W / 8)."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = layer(3, 16), layer(16, 32), layer(32, 64)

    def forward(self, images):
        return self.conv3(self.conv2(self.conv1(images)))


def layer(channels, more):
    convolution = nn.Conv2d(channels, more, 3, stride=2, padding=1, bias=False)
    # So small that a few steps change the features, and with them the labels of the next round.
    nn.init.normal_(convolution.weight, std=0.002)
    return nn.Sequential(convolution, nn.BatchNorm2d(more), nn.ReLU())


@BACKBONE_REGISTRY.register()
def build_small_backbone(cfg):
    return SmallBackbone()


SMALL = ["MODEL.BACKBONE.NAME", "build_small_backbone", "MODEL.BACKBONE.FEAT_DIM", "64"]
