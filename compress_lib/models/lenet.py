"""The two LeNets that the pruning literature is measured on.

LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", Proc. IEEE 1998, in the
widths of Caffe's example networks, which Han et al. (arXiv 1506.02626) prune. Chapters 01 and 02.
"""

from torch import Tensor, nn

__all__ = ["LeNet5", "LeNet300100", "lenet_5", "lenet_300_100"]


class LeNet300100(nn.Module):
    """Two hidden layers, fully connected: 784 → 300 → 100 → 10, 266,610 parameters."""

    def __init__(self, in_features: int = 784, num_classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of images ``(N, …)`` whose flattened size is ``in_features``."""
        x = x.flatten(1)
        x = self.fc1(x).relu()
        x = self.fc2(x).relu()
        return self.fc3(x)


class LeNet5(nn.Module):
    """Caffe's LeNet-5: 20 and 50 filters of 5×5, then 500 and 10 units; 431,080 parameters at 28×28."""

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 20, 5)  # 28 → 24
        self.conv2 = nn.Conv2d(20, 50, 5)  # 12 → 8
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(50 * 4 * 4, 500)
        self.fc2 = nn.Linear(500, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of images ``(N, in_channels, 28, 28)``."""
        x = self.pool(self.conv1(x))  # Caffe's network has no ReLU after its convolutions
        x = self.pool(self.conv2(x))
        x = self.fc1(x.flatten(1)).relu()
        return self.fc2(x)


def lenet_300_100(num_classes: int = 10, in_features: int = 784) -> LeNet300100:
    """LeNet-300-100 with fresh weights."""
    return LeNet300100(in_features, num_classes)


def lenet_5(num_classes: int = 10, in_channels: int = 1) -> LeNet5:
    """LeNet-5 (20-50-500-10) with fresh weights."""
    return LeNet5(num_classes, in_channels)
