"""Multiply-adds of fused attention, from the shapes of its tensors.

In each head ``L`` queries of length ``E`` meet ``S`` keys: the scores take ``L S E`` multiply-adds, and their products
with values of length ``V`` take ``L S V``. Masked positions count like any other, as padding does in a convolution.

Which kernel PyTorch takes depends on its version, the device, the shapes and the data type; the table at the end has
them all, so that the count does not. Where lengths of sequences are data in a tensor, shapes do not tell how much work
there is: there the formulas give ``None``, and the operation is named as uncounted.
"""

from collections.abc import Callable
from math import prod
from typing import Any

from torch import Tensor


def _forward(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """Tensors (…, heads, positions, length); a head of keys may serve several heads of queries."""
    return prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _backward(_grad_out: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """The scores once more; then the gradients of weights and values, of length V, and of queries and keys, "
    "of length E."""
    return prod(query.shape[:-1]) * key.shape[-2] * (3 * query.shape[-1] + 2 * value.shape[-1])


# The kernels below `scaled_dot_product_attention` take (…, positions, heads, length), except for cuDNN's.


def _kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Tensor | None = None,
    *_: Any,
    seqused_k: Tensor | None = None,
    block_table: Tensor | None = None,
    **__: Any,
) -> int | None:
    if any(data is not None for data in (lengths, seqused_k, block_table)):
        return None
    return prod(query.shape[:-1]) * key.shape[-3] * (query.shape[-1] + value.shape[-1])


def _kernel_backward(
    _grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _out: Tensor,
    _logsumexp: Tensor | None,
    lengths: Tensor | None = None,
    *_: Any,
    **__: Any,
) -> int | None:
    if lengths is not None:
        return None
    return prod(query.shape[:-1]) * key.shape[-3] * (3 * query.shape[-1] + 2 * value.shape[-1])


def _kernel_in_place(_out: Tensor, *args: Any, **kwargs: Any) -> int | None:
    return _kernel(*args, **kwargs)


def _efficient(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _bias: Tensor | None = None,
    lengths: Tensor | None = None,
    *_: Any,
    seqlen_k: Tensor | None = None,
    **__: Any,
) -> int | None:
    return _kernel(query, key, value, lengths, seqused_k=seqlen_k)


def _efficient_backward(
    grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _bias: Tensor | None,
    out: Tensor,
    lengths: Tensor | None = None,
    *_: Any,
    **__: Any,
) -> int | None:
    return _kernel_backward(grad_out, query, key, value, out, None, lengths)


def _cudnn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _bias: Tensor | None = None,
    lengths: Tensor | None = None,
    *_: Any,
    seqused_k: Tensor | None = None,
    block_table: Tensor | None = None,
    **__: Any,
) -> int | None:
    if any(data is not None for data in (lengths, seqused_k, block_table)):
        return None
    return _forward(query, key, value)


def _cudnn_backward(grad_out, query, key, value, _out, _logsumexp, _seed, _offset, _bias, lengths=None, *_, **__):
    return None if lengths is not None else _backward(grad_out, query, key, value)


# The fast path of `nn.MultiheadAttention` and `nn.TransformerEncoderLayer`, which `count` turns off, called by hand.


def _multi_head(query: Tensor, key: Tensor, value: Tensor, width: int, *_: Any, **__: Any) -> int:
    """Tensors (…, positions, width): they and the output are multiplied by (width, width) each, then the heads."""
    projections = width * (2 * query.numel() + key.numel() + value.numel())
    return projections + 2 * query.numel() * key.shape[-2]


def _encoder_layer(
    x: Tensor,
    width: int,
    _heads: Any,
    _qkv: Any,
    _qkv_bias: Any,
    _proj: Any,
    _proj_bias: Any,
    _gelu: Any,
    _norm_first: Any,
    _eps: Any,
    *weights: Any,
    **__: Any,
) -> int:
    expand, contract = weights[4], weights[6]
    return _multi_head(x, x, x, width) + x.numel() // width * (expand.numel() + contract.numel())


# By name, for no version of PyTorch has all of them.
FORMULAS: dict[str, Callable[..., int | None]] = {
    "aten._scaled_dot_product_flash_attention": _forward,
    "aten._scaled_dot_product_flash_attention_backward": _backward,
    "aten._scaled_dot_product_flash_attention_for_cpu": _forward,
    "aten._scaled_dot_product_flash_attention_for_cpu_backward": _backward,
    "aten._scaled_dot_product_efficient_attention": _forward,
    "aten._scaled_dot_product_efficient_attention_backward": _backward,
    "aten._scaled_dot_product_cudnn_attention": _forward,
    "aten._scaled_dot_product_cudnn_attention_backward": _backward,
    "aten._scaled_dot_product_fused_attention_overrideable": _forward,
    "aten._scaled_dot_product_fused_attention_overrideable_backward": _backward,
    "aten._scaled_dot_product_attention_math_for_mps": _forward,
    "aten._triton_scaled_dot_attention": _forward,
    "flex_attention": _forward,
    "aten._flash_attention_forward": _kernel,
    "aten._flash_attention_forward_no_dropout_inplace": _kernel_in_place,
    "aten._flash_attention_backward": _kernel_backward,
    "aten._efficient_attention_forward": _efficient,
    "aten._efficient_attention_backward": _efficient_backward,
    "aten._cudnn_attention_forward": _cudnn,
    "aten._cudnn_attention_backward": _cudnn_backward,
    "aten._native_multi_head_attention": _multi_head,
    "aten._triton_multi_head_attention": _multi_head,
    "aten._transformer_encoder_layer_fwd": _encoder_layer,
}
