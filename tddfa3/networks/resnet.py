"""ResNet-50's trunk from torchvision, whose module names match the published weights.

torchvision is imported only when a trunk is constructed: the import takes 1.5 s and 90 MB (0.29
with PyTorch 2.15), which processes that run cached ONNX exports avoid.
"""

from __future__ import annotations

from torch import Tensor, nn

FEATURES = 2048
"""Channels of the last stage."""


class ResNet50Trunk(nn.Module):
    """ResNet-50 without pooling and classifier, returning the last three stages."""

    def __init__(self) -> None:
        from torchvision.models import resnet50

        super().__init__()
        whole = resnet50()  # its pooling and classifier are not used
        self.conv1, self.bn1 = whole.conv1, whole.bn1
        self.relu, self.maxpool = whole.relu, whole.maxpool
        self.layer1, self.layer2 = whole.layer1, whole.layer2
        self.layer3, self.layer4 = whole.layer3, whole.layer4

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(B, 3, H, W)`` -> 512, 1024 and 2048 channels at strides 8, 16 and 32."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))  # (B, 64, H / 4, W / 4)
        fine = self.layer2(self.layer1(x))
        middle = self.layer3(fine)
        return fine, middle, self.layer4(middle)
