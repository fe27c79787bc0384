"""Quantization-aware training: the weights learn to live with the rounding. Chapter 05.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018,
arXiv 1712.05877, section 3. The network is trained in its train form (`fake_quant`): rounded in the forward pass, with
gradients that go straight through the rounding, to weights in float32.

Three things differ from Jacob. He trains from the start and rounds activations only later, after 50,000 steps or more;
here a trained network is fine-tuned, its ranges are found first, and everything is rounded from the first step. He
keeps the batch normalizations while training, and rounds in each step weights that are folded with moving averages of
the statistics; here they are folded once, before, and the folded weights are trained, which is simpler and the same
network, but has no statistics that follow the weights. And his ranges are moving averages to the end; here they are for
the first half of the steps, and stay then, so that the weights settle on the grids that will be deployed. Below 8 bits
a moving average of the ends, which clips next to nothing, is worse than a range with the least squared error that
stays.
"""

import os
from collections.abc import Callable

from torch import Tensor, fx, nn

from compress_lib.quantization.integer import conversion, dsq, fake_quant, ptq
from compress_lib.quantization.integer.conversion import Bits
from compress_lib.quantization.integer.ptq import QuantizationReport
from compress_lib.training import Objective, cross_entropy, fit

METHODS = ("ste", "dsq")


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor | tuple[Tensor, ...],
    *,
    epochs: int,
    seed: int,
    weight_bits: Bits = 8,
    activation_bits: Bits = 8,
    per_channel: bool = True,
    range: str = "moving_average",
    weight_range: str = "min_max",
    method: str = "ste",
    calibration: int = 500,
    batch_size: int = 128,
    lr: float = 0.01,
    weight_decay: float = 5e-4,
    augment: bool = False,
    objective: Objective = cross_entropy,
    after_epoch: Callable[[int, nn.Module], dict] | None = None,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = True,
) -> tuple[fx.GraphModule, QuantizationReport]:
    """Fine-tune a trained network in its train form, and deploy it.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    images, labels, epochs, seed, batch_size, lr, weight_decay, augment, objective, after_epoch, progress
        As for `training.fit`; ``after_epoch`` gets the train form, whose accuracy is that of the network to be
        deployed.
    weight_bits, activation_bits, per_channel, range, weight_range : as for `conversion.convert`.
        These are the ranges at the start. A range of activations follows the training if it is a moving average; others
        stay. A range of weights is a fixed fraction of the largest of them.
    method : {"ste", "dsq"}
        Straight-through gradients, or those of `dsq`, which learns all ranges from where they start.
    calibration : int
        The ranges at the start are found on so many of the images, the first.
    checkpoint : path, optional
        As for `training.fit`, which does not know of bits and ranges: a file for each setting of them. Not with ranges
        that follow the training, whose moving averages are no part of it.

    Returns
    -------
    (fx.GraphModule, QuantizationReport)
        As from `ptq.quantize`.

    Raises
    ------
    TypeError, ValueError
        As for `ptq.quantize` and `training.fit`, and if ``method`` is unknown, ``calibration`` not positive, or there
        is a ``checkpoint`` and the ranges follow the training.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    if calibration < 1:
        raise ValueError(f"calibration must be positive, got {calibration}")
    follows = method == "ste" and range == "moving_average"
    if follows and checkpoint is not None:
        raise ValueError(
            f"checkpoint must be None with range='moving_average', which it does not hold, got {checkpoint}"
        )
    train_form = conversion.convert(
        model,
        ptq.example(images),
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        per_channel=per_channel,
        range=range,
        weight_range=weight_range,
    )
    fake_quant.calibrate(train_form, images[:calibration], batch_size=batch_size)
    following = []
    if method == "dsq":
        dsq.replace_quantizers_(train_form)
    elif follows:
        following = [module for module in train_form.modules() if isinstance(module, fake_quant.ActivationQuantizer)]
    for quantizer in following:
        quantizer.state = "update"
    steps, half = 0, epochs * (len(images) // batch_size) // 2

    def freeze(_model: nn.Module, _lr: float) -> None:
        nonlocal steps
        steps += 1
        if steps == half:
            for quantizer in following:
                quantizer.state = "frozen"

    fit(
        train_form,
        images,
        labels,
        epochs=epochs,
        seed=seed,
        batch_size=batch_size,
        lr=lr,
        weight_decay=weight_decay,
        augment=augment,
        objective=objective,
        after_step=freeze,
        after_epoch=after_epoch,
        checkpoint=checkpoint,
        progress=progress,
    )
    deployed = conversion.deploy(train_form)
    return deployed, ptq.report_layers(deployed, "Quantization-aware training")
