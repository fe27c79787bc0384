"""Moonshine: a student that is its teacher with cheaper convolutions. Chapter 12.

Crowley, Gray, Storkey, "Moonshine: distilling with cheap convolutions", NeurIPS 2018, arXiv 1711.02613.

No architecture is designed: each k × k convolution becomes a block of the same shape with fewer weights, and the
student learns from the teacher by attention transfer at layers that both have. From i to o channels the blocks have,
besides two numbers per channel of each batch normalization (BN),

    G     k × k in g groups → BN → ReLU → 1 × 1                         i² k² / g + i o
    B     1 × 1 to o/b → BN → ReLU → k × k → BN → ReLU → 1 × 1          (o/b) i + (o/b)² k² + (o/b) o
    G, B  the same with the k × k convolution in g groups               (o/b) i + (o/b)² k² / g + (o/b) o

weights. Names are those of the authors' code: G8 has groups *of* 8 channels, A8 has 8 groups, B2 narrows to half of the
output channels; G8B2 and A8B2 do both. The paper writes G(g), B(b) and BG(b, g) with the *number* of groups g.
"""

import copy
import re
from dataclasses import dataclass

from torch import nn

from compress_lib.network.replacing import replace_
from compress_lib.report import LayerRow, Report

_NAME = re.compile(r"(?:([GA])([1-9]\d*))?(?:B([1-9]\d*))?")


@dataclass(frozen=True)
class _Block:
    """What a name like "G8B2" says: groups of 8 channels ("A": 8 groups), narrowed by 2; 0 where it says nothing."""

    kind: str
    number: int
    narrowing: int

    @classmethod
    def parse(cls, name: str) -> "_Block":
        found = _NAME.fullmatch(name) if isinstance(name, str) else None
        if not name or not found:
            raise ValueError(f"block must be like 'G8' (groups of 8), 'A8' (8 groups), 'B2' or 'G8B2', got {name!r}")
        kind, number, narrowing = found.groups()
        return cls(kind or "", int(number or 0), int(narrowing or 0))

    def channels(self, layer: nn.Conv2d) -> int:
        """Of the k × k convolution."""
        return layer.out_channels // self.narrowing if self.narrowing else layer.in_channels

    def groups(self, layer: nn.Conv2d) -> int:
        """Of the k × k convolution."""
        return {"": 1, "A": self.number, "G": self.channels(layer) // (self.number or 1)}[self.kind]

    def refusal(self, layer: nn.Conv2d) -> str:
        """Why a convolution cannot be replaced; empty if it can."""
        if type(layer) is not nn.Conv2d:  # a subclass may read its weight in another way
            return f"{type(layer).__name__} is no ordinary convolution"
        if layer.groups > 1:
            return "in groups already"
        if max(layer.kernel_size) == 1:
            return "1 × 1 already"
        if self.narrowing and layer.out_channels % self.narrowing:
            return f"{layer.out_channels} output channels do not divide by {self.narrowing}"
        if self.kind and self.channels(layer) % self.number:
            return f"{self.channels(layer)} channels do not divide by {self.number}"
        return ""

    def build(self, layer: nn.Conv2d) -> nn.Sequential:
        """The block in the place of a convolution, with fresh weights."""
        channels = self.channels(layer)
        kept = {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding", "dilation", "padding_mode")}
        spatial = nn.Conv2d(channels, channels, groups=self.groups(layer), bias=False, **kept)
        last = nn.Conv2d(channels, layer.out_channels, 1, bias=layer.bias is not None)
        layers: list[nn.Module] = [spatial, nn.BatchNorm2d(channels), nn.ReLU(), last]
        if self.narrowing:
            first = nn.Conv2d(layer.in_channels, channels, 1, bias=False)
            layers = [first, nn.BatchNorm2d(channels), nn.ReLU(), *layers]
        for each in layers:
            if isinstance(each, nn.Conv2d):
                nn.init.kaiming_normal_(each.weight, mode="fan_out", nonlinearity="relu")
        return nn.Sequential(*layers).to(layer.weight.device, layer.weight.dtype).train(layer.training)


@dataclass
class CheapBlock(LayerRow):
    """One convolution and its block. ``weights`` and ``kept`` count all parameters before and after."""

    inside: str


def convert(model: nn.Module, block: str) -> tuple[nn.Module, Report]:
    """Replace the k × k convolutions of a network, k > 1, by cheap blocks with fresh weights.

    The first convolution, which reads the image, stays, and so do those in groups already. Stride, padding and dilation
    go to the k × k convolution of the block; a bias, where there was one, to its last. All that is not replaced keeps
    its weights.

    Parameters
    ----------
    model : nn.Module
        Any network; left as it is.
    block : str
        "G8", "A8", "B2", "G8B2", "A8B2", … "G1" is a depthwise convolution.

    Returns
    -------
    (nn.Module, Report)
        The student, and what was replaced and what not, with reasons.

    Raises
    ------
    TypeError
        If ``model`` is no module.
    ValueError
        If the block has no such name, or no convolution can be replaced.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    wanted = _Block.parse(block)
    student = copy.deepcopy(model)
    report = Report([], title=f"{block} blocks")
    convolutions = {name: layer for name, layer in student.named_modules() if isinstance(layer, nn.Conv2d)}
    for number, (name, layer) in enumerate(convolutions.items()):
        reason = wanted.refusal(layer) if number else "the first convolution, which reads the image"
        if reason:
            report.skipped[name] = reason
            continue
        made = wanted.build(layer)
        inside = f"{wanted.channels(layer)} channels in {wanted.groups(layer)} groups"
        report.rows.append(CheapBlock(name, "Conv2d", _count(layer), _count(made), inside))
        student = replace_(student, layer, made)
    if not report.rows:
        raise ValueError(f"no convolution of this {type(model).__name__} can become {block!r}: {report.skipped}")
    if larger := [row.layer for row in report.rows if row.kept >= row.weights]:
        report.warnings.append(f"{block} is no smaller than the convolution it replaces in {', '.join(larger)}")
    return student, report


def _count(layer: nn.Module) -> int:
    return sum(parameter.numel() for parameter in layer.parameters())
