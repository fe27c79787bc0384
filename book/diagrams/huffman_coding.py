"""Deep compression's codes on examples that the library codes: gaps with a filler, and Huffman's tree. Chapter 7."""

import numpy as np
from kit import BLUE, INK, ORANGE, SMALL, SOFT, TINT, TINY, Drawing, ranges

from compress_lib.coding import huffman, prefix_code, sparse_index

POSITIONS, SIZE, GAP_BITS = (0, 3, 14), 16, 3  # those of the chapter's example
COUNTS = (45, 26, 13, 9, 7)  # those of the chapter's text
SYMBOLS = "abcde"
MESSAGE = "abacaadae"
FOLLOWED = "c"  # its way through the tree is drawn in orange


def relative_index() -> Drawing:
    """Three weights among sixteen places, the gaps between them, and what the file stores."""
    gaps, is_filler = sparse_index.encode(np.array(POSITIONS), SIZE, GAP_BITS)
    ends = sparse_index.decode(gaps, SIZE, GAP_BITS).tolist()
    steps = [int(gap) + 1 for gap in gaps]
    picture = Drawing(
        "relative-index",
        480,
        296,
        "Positions as gaps, with a filler",
        f"""
        A row of {SIZE} places, of which {len(POSITIONS)} hold a weight. Arcs lead from each entry to the next and
        carry the gaps {", ".join(map(str, steps))}. The last weight is farther away than {GAP_BITS} bits reach, so a
        filler, a zero, comes first. Below, each entry is stored as a value and a gap less one, in {GAP_BITS} bits.
        """,
    )
    cell, left, top, bottom = 27, 34, 96, 202
    weights = [end for end, filler in zip(ends, is_filler, strict=True) if not filler]
    fillers = [end for end in ends if end not in weights]
    corner = lambda position: (left + position * cell, top)
    middle = lambda position: left + (position + 0.5) * cell
    picture.grids([corner(i) for i in range(SIZE) if i not in ends], 1, 1, cell, SOFT, fill=0.03)
    picture.grids([corner(i) for i in weights], 1, 1, cell, BLUE, fill=TINT)
    picture.grids([corner(i) for i in fillers], 1, 1, cell, ORANGE, fill=TINT)
    for i in range(SIZE):
        picture.text(middle(i), top + cell + 15, str(i), size=TINY, color=INK if i in ends else SOFT)

    boxes = ranges(*[84] * len(ends), gap=8, start=112)
    start = -1
    for end, step, filler, gap, (x0, x1) in zip(ends, steps, is_filler, gaps, boxes, strict=True):
        color, middle_x = ORANGE if filler else BLUE, (x0 + x1) / 2
        a, b, high = middle(start), middle(end), 16 + 4.5 * step
        picture.path(f"M{a:.1f} {top - 6}C{a:.1f} {top - high:.1f} {b:.1f} {top - high:.1f} {b:.1f} {top - 10}", color)
        picture.arrow((b, top - 11), (b, top - 2), color=color)
        picture.label((a + b) / 2, top - 0.75 * high - 14, f"+{step}", color=color, weight=600)
        picture.line((middle(end), top + cell + 22), (middle_x, bottom - 4), color=color, width=1)
        picture.rect(x0, bottom, x1 - x0, 60, color, fill=0.1, r=6, width=1.2)
        picture.label(
            middle_x, bottom + 17, "0, a filler" if filler else f"$w_{{{end}}}$", color=ORANGE if filler else INK
        )
        picture.label(middle_x, bottom + 43, f"{gap:0{GAP_BITS}b}", mono=True)
        start = end
    picture.circle(middle(-1), top - 6, 2.5, BLUE, fill=1, width=0)
    picture.label(10, bottom + 17, "value", anchor="start", color=SOFT)
    picture.label(10, bottom + 43, "gap − 1", anchor="start", color=SOFT)
    last, before = weights[-1], weights[-2]
    reach = f"{GAP_BITS} bits reach {1 << GAP_BITS} places; $w_{{{last}}}$ is {last - before} away"
    picture.text(112, bottom + 82, reach, anchor="start", size=TINY, color=SOFT)
    return picture


def words() -> dict[str, str]:
    """The library's word for each symbol."""
    lengths = huffman.code_lengths(np.array(COUNTS))
    canonical = prefix_code.canonical(lengths)
    return {
        symbol: f"{int(word):064b}"[:length] for symbol, word, length in zip(SYMBOLS, canonical, lengths, strict=True)
    }


def huffman_tree() -> Drawing:
    """The tree of the library's code, and a message in its words."""
    code, share = words(), dict(zip(SYMBOLS, COUNTS, strict=True))
    bits = sum(len(code[symbol]) for symbol in MESSAGE)
    fixed = len(MESSAGE) * (len(SYMBOLS) - 1).bit_length()
    spoken = ", ".join(f"{symbol} {word}" for symbol, word in code.items())
    picture = Drawing(
        "huffman-tree",
        480,
        424,
        "A Huffman tree and its words",
        f"""
        A binary tree whose leaves are {len(SYMBOLS)} symbols with their frequencies, the most frequent nearest to the
        root. Left is 0 and right is 1; the way to a leaf is its word: {spoken}. Below, a message of {len(MESSAGE)}
        symbols is a stream of {bits} bits.
        """,
    )
    depth = 58
    places: dict[str, tuple[float, float]] = {}  # of every node, by the bits that lead to it
    for i, word in enumerate(code.values()):
        places[word] = 66 + 84 * i, 34 + depth * len(word)
    inner = sorted({word[:n] for word in code.values() for n in range(len(word))}, key=len, reverse=True)
    for node in inner:
        (left, _), (right, _) = places[node + "0"], places[node + "1"]
        places[node] = (left + right) / 2, 34 + depth * len(node)

    followed = code[FOLLOWED]
    for node, (x, y) in places.items():
        if node:
            (px, py), on_way = places[node[:-1]], followed.startswith(node)
            color = ORANGE if on_way else SOFT
            picture.line((px, py), (x, y), color=color, width=2.4 if on_way else 1.2)
            aside = -10 if node[-1] == "0" else 10
            picture.label((px + x) / 2 + aside, (py + y) / 2 - 8, node[-1], color=color, weight=600 if on_way else None)
    for node in inner:
        x, y = places[node]
        total = sum(share[symbol] for symbol, word in code.items() if word.startswith(node))
        picture.circle(x, y, 17, SOFT, fill=0.08, width=1.2)
        picture.label(x, y, str(total), size=TINY, color=SOFT)
    for symbol, word in code.items():
        x, y = places[word]
        color = ORANGE if symbol == FOLLOWED else BLUE
        picture.rect(x - 19, y - 17, 38, 34, color, fill=0.22, r=6)
        picture.label(x, y, symbol, weight=600)
        picture.text(x, y + 34, f"{share[symbol]}%", size=TINY, color=SOFT)
        picture.text(x, y + 52, word, mono=True, color=ORANGE if symbol == FOLLOWED else INK)

    cell, top = 24, 358
    spans = ranges(*[cell * len(code[symbol]) for symbol in MESSAGE], start=(480 - cell * bits) / 2)
    for symbol, (x0, x1) in zip(MESSAGE, spans, strict=True):
        color = ORANGE if symbol == FOLLOWED else BLUE
        picture.rect(x0 + 1.5, top, x1 - x0 - 3, 26, color, fill=0.16, r=4, width=1.2)
        picture.text((x0 + x1) / 2, top - 7, symbol, size=SMALL, weight=600)
        for i, bit in enumerate(code[symbol]):
            picture.label(x0 + (i + 0.5) * cell, top + 13, bit, mono=True)
    picture.text(
        240,
        top + 48,
        f"{len(MESSAGE)} symbols in {bits} bits; in words of equal length, {fixed}",
        size=SMALL,
        color=SOFT,
    )
    return picture
