"""ResNet-50's trunk, which is torchvision's: its module names are those of published weights.

torchvision is imported when a trunk is made and no sooner: that takes 1.5 s and 90 MB (0.29 with
PyTorch 2.15), which processes that run kept ONNX exports do without.
"""

from __future__ import annotations

from torch import Tensor, nn

FEATURES = 2048
"""Channels of the last stage."""


class ResNet50Trunk(nn.Module):
    """Images to the features of the last three stages."""

    def __init__(self) -> None:
        from torchvision.models import resnet50

        super().__init__()
        whole = resnet50()  # with pooling and classifier, which are left behind
        self.conv1, self.bn1 = whole.conv1, whole.bn1
        self.relu, self.maxpool = whole.relu, whole.maxpool
        self.layer1, self.layer2 = whole.layer1, whole.layer2
        self.layer3, self.layer4 = whole.layer3, whole.layer4

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(B, 3, H, W)`` -> 512, 1024 and 2048 channels at strides 8, 16 and 32."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        fine = self.layer2(self.layer1(x))
        middle = self.layer3(fine)
        return fine, middle, self.layer4(middle)
