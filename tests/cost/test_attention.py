"""Every attention operator of the installed PyTorch is counted or named, whichever of them a network ends up with."""

import re

import pytest
import torch
from torch import nn
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention

from compress_lib.cost import compare, count
from compress_lib.cost.attention import FORMULAS
from compress_lib.cost.macs import is_uncounted, macs_of

# No two alike: samples, heads, queries, keys, length of queries and keys, length of values.
B, H, L, S, E, V = 2, 3, 5, 7, 8, 16
SCORES, PRODUCTS_WITH_VALUES = B * H * L * S * E, B * H * L * S * V
# The tensor with the lengths of sequences has another name in each.
LENGTHS = ("cum_seq_q", "cu_seqlens_q", "seqused_k", "seqlen_k", "block_table")


def attention_operators() -> dict:
    """Those of the installed version by name, of ATen and of higher order."""
    names = {name.removeprefix("aten::").partition(".")[0] for name in torch._C._dispatch_get_all_op_names()}
    aten = {f"aten.{name}": getattr(torch.ops.aten, name) for name in names if "::" not in name}
    found = {**aten, **torch._ops._higher_order_ops}
    return {name: found[name] for name in sorted(found) if re.search("att(entio)?n|multi_?head|transformer|sdp", name)}


OPERATORS = attention_operators()
KNOWN = [name for name in OPERATORS if name in FORMULAS and name.startswith("aten.")]


def is_taken_apart(operator) -> bool:
    """Whether it arrives in the smaller operators that it is made of."""
    return isinstance(operator, torch._ops.OpOverloadPacket) and torch._C._dispatch_has_kernel_for_dispatch_key(
        operator.default.name(), "CompositeImplicitAutograd"
    )


def test_those_of_today_are_among_them():
    assert {
        "aten._scaled_dot_product_flash_attention_for_cpu",
        "aten._scaled_dot_product_cudnn_attention",
        "aten._efficient_attention_forward",
        "aten._transformer_encoder_layer_fwd",
        "aten.scaled_dot_product_attention",
        "flex_attention",
    } <= OPERATORS.keys()


@pytest.mark.parametrize("name", OPERATORS)
def test_each_is_counted_or_named(name):
    operator = OPERATORS[name]
    assert str(operator) == name
    if name == "aten._fused_sdp_choice":  # says which of the others to take, and computes nothing
        return
    assert name in FORMULAS or is_taken_apart(operator) or is_uncounted(operator)


def called(name: str, **values) -> tuple[tuple, dict]:
    """Arguments for an operator by the names in its schema: tensors of attention, and ``values`` for others."""
    # What takes (positions, heads), says the meta kernel: see the test of layouts.
    swapped = re.fullmatch(r"aten\._(flash|efficient)_attention_\w+", name)
    sizes = {"q": (L, E), "k": (S, E), "v": (S, V), "g": (L, V)}
    shapes = {key: (B, x, H, y) if swapped else (B, H, x, y) for key, (x, y) in sizes.items()}
    parts = {"query": "q", "key": "k", "value": "v", "q": "q", "k": "k", "v": "v", "grad_out": "g", "grad_out_": "g"}
    args, kwargs = [], {}
    for argument in getattr(torch.ops.aten, name.removeprefix("aten.")).default._schema.arguments:
        key = argument.name
        value = torch.empty(shapes[parts[key]], device="meta") if key in parts else values.get(key)
        if argument.kwarg_only:
            kwargs[key] = value
        else:
            args.append(value)
    return tuple(args), kwargs


def macs(name: str, **values) -> int | None:
    return macs_of(OPERATORS[name], *called(name, **values), None)


FORWARD = [name for name in KNOWN if not re.search("backward|multi_head|transformer", name)]


@pytest.mark.parametrize("name", FORWARD)
def test_two_products_forward(name):
    assert macs(name) == SCORES + PRODUCTS_WITH_VALUES


@pytest.mark.parametrize("name", [name for name in KNOWN if name.endswith("backward")])
def test_five_products_backward(name):
    assert macs(name) == 3 * SCORES + 2 * PRODUCTS_WITH_VALUES


@pytest.mark.parametrize("name", ["aten._flash_attention_forward", "aten._efficient_attention_forward"])
def test_the_kernels_below_have_heads_after_positions(name):
    query, key, value = (torch.empty(B, n, H, E, device="meta", dtype=torch.half) for n in (L, S, S))
    rest = (None, None, L, S, 0.0, False, False) if "flash" in name else (None, None, None, None, None, 0.0, 0, True)
    out, logsumexp, *_ = OPERATORS[name](query, key, value, *rest)
    assert out.shape == (B, L, H, E)
    assert logsumexp.shape[:2] == (B, H) and L <= logsumexp.shape[2] < 64  # rounded up to 32 by one of them


WITH_LENGTHS = [
    (name, argument.name)
    for name in KNOWN
    if "scaled_dot_product" not in name  # these give the lengths of all sequences, which are alike
    for argument in getattr(torch.ops.aten, name.removeprefix("aten.")).default._schema.arguments
    if argument.name in LENGTHS
]


@pytest.mark.parametrize(("name", "argument"), WITH_LENGTHS)
def test_work_that_depends_on_data_is_unknown(name, argument):
    assert macs(name, **{argument: torch.zeros(3, dtype=torch.int32)}) is None
    assert is_uncounted(OPERATORS[name])


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def split(x):
    """Of an input (1, L, H E) queries, keys and values: (1, H, L, E)."""
    heads = x.unflatten(-1, (H, E)).transpose(1, 2)
    return heads, heads, heads


def grouped(x):
    query, key, value = split(x)
    return scaled_dot_product_attention(query, key[:, :1], value[:, :1], enable_gqa=True)


def gradients(attend):
    def function(x):
        with torch.enable_grad():
            inputs = [part.clone().requires_grad_() for part in split(x)]
            return torch.autograd.grad(attend(*inputs).sum(), inputs)

    return Function(function)


def math(*inputs):
    return torch.ops.aten._scaled_dot_product_attention_math(*inputs)[0]


@pytest.mark.parametrize(
    "attend",
    [
        lambda x: scaled_dot_product_attention(*split(x)),
        lambda x: scaled_dot_product_attention(*split(x), is_causal=True),
        lambda x: scaled_dot_product_attention(*split(x), attn_mask=torch.ones(L, L)),
        grouped,
        lambda x: flex_attention(*split(x)),
        lambda x: flex_attention(*split(x), score_mod=lambda score, b, h, i, j: score + i - j),
        lambda x: math(*split(x)),
    ],
)
def test_attention_of_a_network_on_the_cpu(attend):
    cost = count(Function(attend), (L, H * E))
    assert cost.macs == H * (L * E * L + L * L * E)
    assert cost.uncounted == ()


def test_gradients_within_a_forward_pass():
    """Fused attention goes back by what separate products take, and computes the scores once more."""
    fused, separate = (count(gradients(f), (L, H * E)) for f in (scaled_dot_product_attention, math))
    assert separate.macs == 6 * H * L * L * E
    assert fused.macs == separate.macs + H * L * L * E
    assert fused.uncounted == separate.uncounted == ()


def test_the_fast_path_called_by_hand_costs_what_the_layer_does():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    attention, norms = layer.self_attn, (layer.norm1, layer.norm2)
    qkv = attention.in_proj_weight, attention.in_proj_bias, attention.out_proj.weight, attention.out_proj.bias
    of_norms = [tensor for norm in norms for tensor in (norm.weight, norm.bias)]
    of_linears = [tensor for linear in (layer.linear1, layer.linear2) for tensor in (linear.weight, linear.bias)]

    def encoder(x):
        return torch._transformer_encoder_layer_fwd(x, 8, 2, *qkv, False, False, 1e-5, *of_norms, *of_linears)

    def multi_head(x):
        return torch._native_multi_head_attention(x, x, x, 8, 2, *qkv)

    assert count(Function(encoder), (5, 8)).macs == count(layer, (5, 8)).macs == 5 * (4 * 64 + 2 * 5 * 8 + 2 * 8 * 16)
    assert count(Function(multi_head), (5, 8)).macs == 5 * (4 * 64 + 2 * 5 * 8)


def test_what_is_not_counted_is_named_in_every_output():
    def packed(x):
        query, ends = x[0].unflatten(-1, (H, E)).half(), torch.tensor([0, 2, L], dtype=torch.int32)
        return torch.ops.aten._flash_attention_forward(query, query, query, ends, ends, L, L, 0.0, False, False)[0]

    model, name = Function(packed), "aten._flash_attention_forward"
    cost = count(model, (L, H * E))
    assert (cost.macs, cost.uncounted) == (0, (name,))
    comparison = compare({"plain": Function(lambda x: x @ x.mT), "packed": model}, (L, H * E))
    assert [each.uncounted for each in comparison.costs.values()] == [(), (name,)]
    for text in (str(comparison), repr(comparison), comparison._repr_html_()):
        assert f"MACs unknown and left out of packed: {name}" in text
    for text in (str(cost), repr(cost), cost._repr_html_()):
        assert f"MACs unknown and left out: {name}" in text
