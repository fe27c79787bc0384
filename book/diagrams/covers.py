"""A picture without words for each chapter: for its first screen and its card on the landing page."""

import torch
from huffman_coding import words
from kit import BLUE, GREEN, HAIR, ORANGE, PURPLE, SOFT, TINT, Drawing
from shufflenet_units import COLORS, mixed, order
from wiring import Tensor, each_alone, grouped, moved

from compress_lib.models import zoo
from compress_lib.quantization.codebooks import optimal
from compress_lib.quantization.integer import affine

WIDTH, HEIGHT = 480, 300
MIDDLE = WIDTH / 2


def _cover(chapter: int, description: str) -> Drawing:
    return Drawing(f"cover-{chapter:02}", WIDTH, HEIGHT, f"Picture of chapter {chapter}", description)


def what_a_network_costs() -> Drawing:
    """A window on a stack of maps, and the one number that it becomes."""
    picture = _cover(1, "A window on a stack of feature maps becomes one pixel of another stack.")
    cell, step, depths = 25, 21, 4
    x, y, size, kernel = 40, 108, 6, 3
    for depth in reversed(range(depths)):
        at = x + depth * step, y - depth * step
        picture.grid(*at, size, size, cell)
        picture.grid(at[0] + (size - kernel) * cell, at[1], kernel, kernel, cell, ORANGE, fill=TINT)
    right, top = 318, 140
    for depth in reversed(range(depths)):
        picture.grid(right + depth * step, top - depth * step, 3, 3, cell)
    window, pixel = x + size * cell, right + 2 * cell
    picture.line((window, y), (pixel, top), color=ORANGE, width=1)
    picture.line((window, y + kernel * cell), (pixel, top + cell), color=ORANGE, width=1)
    picture.rect(pixel, top, cell, cell, ORANGE, fill=0.8)
    return picture


def pruning_weights() -> Drawing:
    """The histogram of a real layer's weights, with the middle cut out."""
    picture = _cover(2, "The bell-shaped histogram of a layer's weights. Its middle, the small weights, is cut out.")
    weights = zoo.load("lenet-300-100").fc2.weight.detach().flatten()
    threshold = float(weights.abs().quantile(0.8))
    edge, bins = 4 * float(weights.std()), 41
    counts = torch.histc(weights, bins, -edge, edge)
    base, high, left, width = 264, 220, 34, (WIDTH - 68) / bins
    kept, gone = [], []
    for i, count in enumerate(counts.tolist()):
        center = edge * ((2 * i + 1) / bins - 1)
        tall = high * count / float(counts.max())
        (kept if abs(center) > threshold else gone).append((left + i * width + 1, base - tall, width - 2, tall))
    picture.polygons([_corners(*bar) for bar in gone], ORANGE, fill=0.15, width=0)
    picture.polygons([_corners(*bar) for bar in kept], BLUE, fill=0.75, width=0)
    for side in (-1, 1):
        x = MIDDLE + side * threshold / edge * (WIDTH - 68) / 2
        picture.line((x, 20), (x, base), color=ORANGE, width=2)
    picture.line((20, base), (WIDTH - 20, base), color=SOFT)
    return picture


def pruning_filters() -> Drawing:
    """One of a row of feature maps is lifted out."""
    picture = _cover(3, "A row of feature maps, standing like plates. One of them is lifted out.")
    wide, high, lean, pitch, gone = 46, 128, 40, 52, 3
    for i in range(7):
        x, y = 50 + i * pitch, 150
        plate = lambda x, y: [(x, y), (x + wide, y - lean), (x + wide, y - lean + high), (x, y + high)]
        if i == gone:
            picture.polygons([plate(x, y)], ORANGE, dash="5 4")
            picture.polygons([plate(x, y - 92)], ORANGE, fill=0.55)
            picture.arrow((x + wide / 2, y + 8), (x + wide / 2, y - 40), color=ORANGE, width=2)
        else:
            picture.polygons([plate(x, y)], BLUE, fill=0.35)
    return picture


def choosing_what_to_prune() -> Drawing:
    """Real filters in the order of two criteria, joined; those on which the halves disagree are orange."""
    picture = _cover(
        4, "The filters of one layer, ranked by two criteria. Lines join each filter's two ranks, and many cross."
    )
    network = zoo.load("vgg-small")
    norms = network.get_submodule("features.3").weight.detach().flatten(1).abs().sum(1)
    scales = network.get_submodule("features.4").weight.detach().abs()
    ranks = [values.argsort(descending=True).argsort().tolist() for values in (norms, scales)]
    count = len(norms)
    top, pitch, left, right = 22, (HEIGHT - 44) / (count - 1), 130, 350
    for first, second in sorted(zip(*ranks, strict=True), key=lambda pair: _disagree(*pair, count)):
        color = ORANGE if _disagree(first, second, count) else BLUE
        y0, y1 = top + first * pitch, top + second * pitch
        bend = (right - left) / 2
        curve = f"M{left} {y0:.1f}C{left + bend} {y0:.1f} {right - bend} {y1:.1f} {right} {y1:.1f}"
        picture.path(curve, color, width=2)
        for x, y in ((left, y0), (right, y1)):
            picture.circle(x, y, 6, color, fill=0.8, width=1)
    cut = top + (count / 2 - 0.5) * pitch
    picture.line((90, cut), (390, cut), color=SOFT, dash="4 4")
    return picture


def _disagree(first: int, second: int, count: int) -> bool:
    return (first < count / 2) != (second < count / 2)


def _corners(x: float, y: float, w: float, h: float) -> list[tuple[float, float]]:
    return [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]


def quantization() -> Drawing:
    """A smooth curve, and the library's rounding of it to three bits."""
    picture = _cover(5, "A smooth curve and the staircase that it becomes on a grid of a few levels.")
    x = torch.linspace(-3.1, 3.1, 621)
    y = 1.45 * torch.sin(1.1 * x) + 0.25 * torch.cos(2.3 * x)
    rounded = affine.fake_quantize(y, 0.5, 0, 3, narrow=True)
    at = lambda a, b: (MIDDLE + 70 * float(a), HEIGHT / 2 - 70 * float(b))
    for level in rounded.unique().tolist():
        picture.line(at(-3.1, level), at(3.1, level), color=SOFT, width=HAIR, dash="2 4")
    picture.line(*[at(*pair) for pair in zip(x[::10], y[::10], strict=True)], color=BLUE, width=3)
    steps = [at(x[0], rounded[0])]
    for i in (rounded.diff() != 0).nonzero().flatten().tolist():
        middle = (x[i] + x[i + 1]) / 2
        steps += [at(middle, rounded[i]), at(middle, rounded[i + 1])]
    picture.line(*steps, at(x[-1], rounded[-1]), color=ORANGE, width=2.5)
    return picture


def codebooks() -> Drawing:
    """Real weights and the few values that they will share."""
    picture = _cover(6, "Many weights on a line above, joined to the five values below that they will share.")
    weights = zoo.load("lenet-300-100").fc3.weight.detach().flatten()[:: 1000 // 90]
    centroids, nearest = optimal.codebook(weights, 5)
    reach = float(weights.abs().max())
    at = lambda value: MIDDLE + 0.46 * WIDTH * float(value) / reach
    palette = (BLUE, ORANGE, GREEN, PURPLE, BLUE)
    top, bottom = 54, 240
    for i, (centroid, color) in enumerate(zip(centroids, palette, strict=True)):
        mine = weights[nearest == i].tolist()
        lines = "".join(f"M{at(w):.1f} {top}L{at(centroid):.1f} {bottom}" for w in mine)
        picture.path(lines, color, width=1, opacity=0.55)
        picture.dots([(at(w), top) for w in mine], 4, color)
        picture.circle(at(centroid), bottom, 8 + 14 * (len(mine) / len(weights)) ** 0.5, color, fill=0.85, width=0)
    return picture


def deep_compression() -> Drawing:
    """Huffman's tree."""
    picture = _cover(7, "A Huffman tree: frequent symbols are leaves near its root and get short words.")
    code = list(words().values())
    places = {word: (70 + 85 * i, 30 + 60 * len(word)) for i, word in enumerate(code)}
    for node in sorted({word[:n] for word in code for n in range(len(word))}, key=len, reverse=True):
        places[node] = (places[node + "0"][0] + places[node + "1"][0]) / 2, 30 + 60 * len(node)
    for node, (x, y) in places.items():
        if node:
            picture.line(places[node[:-1]], (x, y), color=ORANGE if code[-3].startswith(node) else SOFT, width=3)
    for node, (x, y) in places.items():
        if node not in code:
            picture.circle(x, y, 9, SOFT, fill=0.3)
    for i, word in enumerate(code):
        x, y = places[word]
        size = 34 - 4 * i
        color = ORANGE if word == code[-3] else BLUE
        picture.rect(x - size / 2, y - size / 2, size, size, color, fill=0.7, r=5)
    return picture


def binary_networks() -> Drawing:
    """A real kernel matrix in shades, and in signs."""
    picture = _cover(8, "A matrix of weights in shades of two colors, and beside it the same weights as signs.")
    weights = zoo.load("vgg-small").get_submodule("features.10").weight.detach()[:6, :6, 1, 1]
    strongest, cell, top = float(weights.abs().max()), 30, 60
    for left, binary in ((34, False), (266, True)):
        squares: dict[tuple[str, float], list] = {}  # by color and shade
        for row, values in enumerate(weights.tolist()):
            for column, value in enumerate(values):
                shade = 0.72 if binary else round(0.04 + 0.9 * abs(value) / strongest, 1)
                corners = _corners(left + column * cell + 1, top + row * cell + 1, cell - 2, cell - 2)
                squares.setdefault((BLUE if value >= 0 else ORANGE, shade), []).append(corners)
        for (color, shade), shapes in squares.items():
            picture.wash(shapes, color, max(shade, 0.05))
    picture.arrow((222, HEIGHT / 2), (260, HEIGHT / 2), width=2)
    return picture


def squeezenet() -> Drawing:
    """A fire module."""
    picture = _cover(13, "A wide tensor, squeezed to a narrow one, which is read by two wide ones side by side.")
    above = Tensor(MIDDLE, 30, 128, 3)
    narrow = Tensor(MIDDLE, 140, 16, 3, (ORANGE,))
    left, right = Tensor(MIDDLE - 102, 250, 64, 3), Tensor(MIDDLE + 102, 250, 64, 3, (GREEN,))
    grouped(picture, above, narrow)
    grouped(picture, narrow, left)
    grouped(picture, narrow, right, (GREEN,))
    _slabs(picture, above, narrow, left, right)
    return picture


def mobilenet() -> Drawing:
    """Space, then channels."""
    picture = _cover(14, "A tensor whose channels are filtered each on its own, and then mixed.")
    tensors = [Tensor(MIDDLE, y, 16, 22, (color,)) for y, color in ((36, BLUE), (142, BLUE), (248, ORANGE))]
    each_alone(picture, *tensors[:2])
    grouped(picture, *tensors[1:])
    _slabs(picture, *tensors)
    return picture


def shufflenet() -> Drawing:
    """The shuffle."""
    picture = _cover(15, "Channels of three colors, in three blocks above, cross over and are mixed below.")
    above = Tensor(MIDDLE, 44, 12, 31, COLORS)
    below = Tensor(MIDDLE, 236, 12, 31, mixed(COLORS, 12))
    moved(picture, above, below, order(12, len(COLORS)), width=3)
    _slabs(picture, above, below)
    return picture


def xception() -> Drawing:
    """Towers, as many as channels."""
    picture = _cover(16, "One tensor, read by as many towers as it has channels.")
    colors = (BLUE, ORANGE, GREEN, PURPLE) * 3
    tensors = [Tensor(MIDDLE, y, 12, 31, part) for y, part in ((30, (SOFT,)), (106, colors), (254, colors))]
    grouped(picture, *tensors[:2], (SOFT,))
    each_alone(picture, *tensors[1:])
    _slabs(picture, *tensors)
    return picture


def _slabs(picture: Drawing, *tensors: Tensor) -> None:
    for tensor in tensors:
        picture.slab(tensor.left, tensor.top, tensor.width, tensor.bottom - tensor.top, tensor.colors)


COVERS = (
    what_a_network_costs,
    pruning_weights,
    pruning_filters,
    choosing_what_to_prune,
    quantization,
    codebooks,
    deep_compression,
    binary_networks,
    squeezenet,
    mobilenet,
    shufflenet,
    xception,
)
