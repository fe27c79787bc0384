"""The fast operators of binary networks: products of signs, of few-bit integers and of ternary numbers. Chapter 08.

Weights are packed once, 64 signs to a word, and stay packed: 1/32 of float32. Activations come as floats or codes, and
are packed inside. On the CPU run C++ kernels that are compiled on first use (`build`, `native`), on CUDA Triton's;
where neither is to be had, a reference in plain PyTorch. All give the same numbers, and `backend` says which it is on
the CPU. The operators are registered (`library`), so that ``torch.compile`` takes them. They are for inference: none
has a gradient.

With more than one thread the CPU kernels run on the threads of PyTorch's OpenMP, and what holds for PyTorch's own
operators holds for them: a process that was forked after one of them ran with several threads has none of these
threads, and hangs if it uses several; let it call ``torch.set_num_threads(1)`` first, or be spawned.
"""

from compress_lib.ops.binary import binary_conv2d, binary_linear, pack_conv_weight, pack_signs, unpack_signs
from compress_lib.ops.multibit import multibit_linear, pack_codes
from compress_lib.ops.native import backend
from compress_lib.ops.ternary import pack_ternary, ternary_linear

__all__ = [
    "backend",
    "binary_conv2d",
    "binary_linear",
    "multibit_linear",
    "pack_codes",
    "pack_conv_weight",
    "pack_signs",
    "pack_ternary",
    "ternary_linear",
    "unpack_signs",
]
