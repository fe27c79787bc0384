import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compress_lib.models import zoo
from compress_lib.network import patches
from compress_lib.quantization.codebooks import pq_response, product, subspaces


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def correlated(count, n, seed=0):
    return normal(count, n, seed=seed) @ normal(n, n, seed=seed + 1)


def integers(high, *shape, seed=0):
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(48, 40), nn.ReLU(), nn.Linear(40, 20),
    )  # fmt: skip


def outputs(model, name, images):
    found = []
    hook = model.get_submodule(name).register_forward_hook(lambda _, inputs, output: found.append(output))
    with torch.no_grad():
        model(images)
    hook.remove()
    return found[0].double()


def relative(mine, theirs):
    return ((mine - theirs).square().sum() / theirs.square().sum()).item()


# --- the two steps ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", [1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_codewords_are_those_of_direct_least_squares(positions, seed):
    count, d, out, k = 200, 3, 6, 4
    x = correlated(count * positions, d, seed).view(count, positions, d)  # the pieces of one sub-space
    target = normal(count, out, seed=seed + 5)
    codes, words = integers(k, out, positions, seed=seed), normal(k, d, seed=seed + 7)
    codes.view(-1)[:k] = torch.arange(k)  # all are in use, so that there is one solution
    design = x.new_zeros(count, out, k, d)  # the outputs as a linear function of all codewords
    for o in range(out):
        for p in range(positions):
            design[:, o, codes[o, p]] += x[:, p]
    design = design.reshape(count * out, k * d)
    expected = torch.linalg.lstsq(design, target.flatten()).solution.view(k, d)
    left = target - (design @ words.flatten()).view(count, out)
    gram = torch.einsum("npi,nqj->piqj", x, x)
    step = pq_response.codeword_steps(gram, torch.einsum("npi,no->pio", x, left), codes, k)
    torch.testing.assert_close(words + step, expected)


def test_codewords_stay_where_no_code_or_no_image_says_anything():
    x = correlated(50, 3)
    x[:, 2] = 0  # a pixel that is always black
    codes = torch.tensor([[0], [0], [2]])
    for positions in (1, 2):
        together = torch.stack([x] * positions, 1)
        gram = torch.einsum("npi,nqj->piqj", together, together)
        residual = torch.einsum("npi,no->pio", together, normal(50, 3))
        step = pq_response.codeword_steps(gram, residual, codes.expand(3, positions), 4)
        assert step.isfinite().all()
        assert step[[1, 3]].abs().max() < 1e-12
        assert step[:, 2].abs().max() < 1e-12
        assert step[[0, 2], :2].abs().min() > 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_codes_are_the_best_of_all(seed):
    x, words = correlated(100, 3, seed), normal(8, 3, seed=seed)
    target = normal(100, 5, seed=seed + 3)
    found = pq_response.best_codes(x.T @ x, x.T @ target, words, integers(8, 5, seed=seed))
    errors = (target[:, :, None] - (x @ words.T)[:, None]).square().sum(0)  # (out, k)
    assert torch.equal(found, errors.argmin(1))


def test_codes_stay_in_a_tie():
    codes = torch.tensor([3, 0, 2])
    gram, alone, words = torch.zeros(2, 2).double(), torch.zeros(2, 3).double(), normal(4, 2)
    assert torch.equal(pq_response.best_codes(gram, alone, words, codes), codes)


# --- one layer --------------------------------------------------------------------------------------------------------


def case(kind, seed=0, count=400):
    """A layer, inputs, targets that are not quite its own outputs, and its moments with them."""
    torch.manual_seed(seed)
    if kind == "linear":
        layer, x = nn.Linear(12, 20), correlated(count, 12, seed).float()
    else:
        layer, x = nn.Conv2d(6, 9, (2, 3), stride=2, bias=False), normal(count // 10, 6, 5, 7, seed=seed).float()
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.weight.add_(0.05 * torch.randn(layer.weight.shape))
    holder, reference = nn.Sequential(layer), nn.Sequential(other)
    sums = patches.moments(holder, "0", x, reference=reference, samples=10_000)
    return layer, x, other(x).detach().double(), sums


@pytest.mark.parametrize("kind", ["linear", "convolution"])
@pytest.mark.parametrize("ridge", [0.0, 1e-2])
def test_errors_are_true_and_the_objective_never_rises(kind, ridge):
    layer, x, target, sums = case(kind)
    start = product.fit(layer, 3, 5)
    weight = layer.weight.detach().double()
    rho = ridge * sums.gram.diagonal()[:-1].mean().item()
    objectives = []
    for sweeps in range(6):
        codebooks, codes = start
        errors = []
        if sweeps:
            codebooks, codes, errors = pq_response.fit(sums, layer, *start, sweeps=sweeps, ridge=ridge)
        found = subspaces.join(subspaces.reconstruct(codebooks.double(), codes), weight.shape)
        bias = None if layer.bias is None else layer.bias.detach().double()
        mine = F.linear(x.double(), found, bias) if kind == "linear" else F.conv2d(x.double(), found, stride=2)
        if sweeps:
            assert errors[-1] == pytest.approx(relative(mine, target), rel=1e-4)
            assert len(errors) == sweeps + 1
        objectives.append(((mine - target).square().sum() + rho * (found - weight).square().sum()).item())
    assert objectives == sorted(objectives, reverse=True)
    assert objectives[-1] < 0.8 * objectives[0]
    if not ridge:
        assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_no_single_step_raises_the_error(kind, monkeypatch):
    layer, _, _, sums = case(kind, seed=1)
    start = product.fit(layer, 2, 4)
    falls = []
    step, choose = pq_response.codeword_steps, pq_response.best_codes

    def watched_step(gram, residual, codes, k):
        delta = step(gram, residual, codes, k)
        change = delta[codes].permute(1, 2, 0)  # (P, d, out), of the weights
        falls.append((2 * (change * residual).sum() - torch.einsum("pio,piqj,qjo->", change, gram, change)).item())
        return delta

    def watched_choice(gram, alone, words, codes):
        chosen = choose(gram, alone, words, codes)
        before, after = words[codes].T, words[chosen].T
        cost = [(w * (gram @ w) - 2 * w * alone).sum().item() for w in (before, after)]
        falls.append(cost[0] - cost[1])
        return chosen

    monkeypatch.setattr(pq_response, "codeword_steps", watched_step)
    monkeypatch.setattr(pq_response, "best_codes", watched_choice)
    *_, errors = pq_response.fit(sums, layer, *start, sweeps=4, ridge=0)
    assert min(falls) >= -1e-9 * sums.energy
    assert sum(falls) / sums.energy == pytest.approx(errors[0] - errors[-1], abs=1e-6)  # and the steps are all there is


def test_codewords_that_fit_stay():
    layer, x, _, _ = case("linear")
    codebooks, codes = product.fit(layer, 3, 20)  # a codeword for each row
    sums = patches.moments(nn.Sequential(layer), "0", x)
    *found, errors = pq_response.fit(sums, layer, codebooks, codes, sweeps=2, ridge=0.01)
    assert errors[-1] < 1e-10
    torch.testing.assert_close(subspaces.reconstruct(*found), subspaces.reconstruct(codebooks, codes))


def test_a_large_ridge_leaves_product_quantization():
    layer, _, _, sums = case("linear")
    start = product.fit(layer, 3, 5)
    codebooks, codes, _ = pq_response.fit(sums, layer, *start, sweeps=3, ridge=1e9)
    assert torch.equal(codes, start[1])
    torch.testing.assert_close(codebooks, start[0], atol=1e-5, rtol=1e-4)


# --- networks ---------------------------------------------------------------------------------------------------------


def test_each_layer_is_fitted_to_the_original_on_quantized_inputs():
    model, images = network().train(), normal(200, 2, 6, 6).float()
    before = copy.deepcopy(model.state_dict())
    quantized, report = pq_response.quantize(model, (2, 8), images, samples=100)
    assert [row.layer for row in report.rows] == ["0", "2", "5", "7"]
    for row in report.rows:
        target = outputs(model, row.layer, images)
        assert row.error == pytest.approx(relative(outputs(quantized, row.layer, images), target), rel=1e-3)
        assert row.error < row.error_plain
        assert row.nbytes == sum(t.nbytes for t in quantized.get_submodule(row.layer).state_dict().values())
    alone, single = pq_response.quantize(model, {"5": (2, 8)}, images)
    assert type(alone[2]) is nn.Conv2d
    assert single.rows[0].error_plain < report.rows[2].error_plain  # its inputs are exact
    assert not quantized.training
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_same_bytes_with_a_lower_error_than_product_quantization():
    model, images = network(), normal(300, 2, 6, 6).float()
    fitted, _ = pq_response.quantize(model, (4, 8), images[:200], samples=100)
    plain, _ = product.quantize(model, (4, 8))
    sizes = [sum(tensor.nbytes for tensor in found.state_dict().values()) for found in (fitted, plain)]
    assert sizes[0] == sizes[1]
    with torch.no_grad():
        errors = [relative(found(images[200:]), model(images[200:])) for found in (fitted, plain)]  # unseen images
    assert errors[0] < 0.8 * errors[1]


def test_real_images(fashion):
    images, _ = fashion
    model = zoo.load("lenet-300-100")
    _, report = pq_response.quantize(model, {"fc1": (8, 16)}, images, sweeps=2)
    assert report.rows[0].samples == len(images)
    assert report.rows[0].error < 0.4 * report.rows[0].error_plain


def test_what_is_skipped():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
            self.c = nn.Conv1d(8, 8, 1, groups=2)

        def forward(self, x):
            return self.c(self.a(x)[..., None])

    quantized, report = pq_response.quantize(Unused(), (2, 4), normal(30, 8).float())
    assert [row.layer for row in report.rows] == ["a"]
    assert report.skipped["b"] == "it does not run"
    assert "in 2 groups" in report.skipped["c"]
    assert type(quantized.b) is nn.Linear
    assert type(quantized.c) is nn.Conv1d


def test_a_layer_can_be_the_whole_model():
    quantized, report = pq_response.quantize(nn.Linear(8, 30), (2, 4), normal(50, 8).float())
    assert isinstance(quantized, product.ProductQuantizedLinear)
    assert report.rows[0].error < report.rows[0].error_plain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sweeps": 0}, "sweeps must be at least 1, got 0"),
        ({"ridge": -1.0}, "ridge must be at least 0, got -1.0"),
        ({"ridge": float("nan")}, "ridge must be at least 0, got nan"),
        ({"images": torch.zeros(0, 8)}, "images is empty"),
        ({"sizes": {"": (3, 2)}}, "d must be a divisor"),
    ],
)
def test_what_is_refused(options, message):
    arguments = {"sizes": (2, 4), "images": torch.ones(3, 8)} | options
    with pytest.raises(ValueError, match=message):
        pq_response.quantize(nn.Linear(8, 30), **arguments)
