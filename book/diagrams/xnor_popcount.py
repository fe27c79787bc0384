"""A product of signs by XNOR and popcount, eight of them by hand. Chapter 8."""

from kit import BLUE, INK, ORANGE, SOFT, TINT, Drawing

A = (1, -1, -1, 1, 1, 1, -1, 1)
B = (1, 1, -1, 1, -1, 1, 1, 1)


def draw() -> Drawing:
    """The same sum twice: products of signs, and equal bits counted."""
    n = len(A)
    products = [a * b for a, b in zip(A, B, strict=True)]
    bits = {"$a$": [a > 0 for a in A], "$b$": [b > 0 for b in B]}
    equal = [a == b for a, b in zip(*bits.values(), strict=True)]
    count, total = sum(equal), sum(products)
    picture = Drawing(
        "xnor-popcount",
        480,
        424,
        "XNOR and popcount",
        f"""
        Above, {n} signs of a and of b, their products, and the sum {total}. Below, the same signs as bits, 1 for plus
        and 0 for minus. XNOR gives 1 where two bits are equal, which is where the product is plus 1. Popcount counts
        {count} ones, and twice {count} minus {n} is {total}.
        """,
    )
    cell, left = 40, 132
    signs, words = 46, 232  # where the two halves begin
    columns = [
        [(x, signs - 6), (x + cell, signs - 6), (x + cell, words + 122), (x, words + 122)]
        for x, same in zip((left + i * cell for i in range(n)), equal, strict=True)
        if same
    ]
    picture.wash(columns, ORANGE, 0.1)
    sign = lambda value: "+1" if value > 0 else "−1"
    bit = lambda value: str(int(value))
    for top, kind, rows, show in (
        (signs, "as signs", {"$a$": A, "$b$": B, "$a · b$": products}, sign),
        (words, "as bits", {**bits, "XNOR": equal}, bit),
    ):
        picture.text(12, top - 14, kind, anchor="start", weight=600)
        for row, (name, values) in enumerate(rows.items()):
            result = row == 2
            y = top + 38 * row + 10 * result
            picture.label(left - 16, y + 15, name, anchor="end", color=ORANGE if result else INK)
            for i, value in enumerate(values):
                color = ORANGE if result and equal[i] else BLUE if not result else SOFT
                filled = equal[i] if result else value > 0
                picture.rect(left + i * cell + 4, y, cell - 8, 30, color, fill=TINT if filled else 0.03, r=4, width=1.2)
                picture.label(left + (i + 0.5) * cell, y + 15, show(value), color=INK if filled else SOFT)
        picture.line((left, top + 81), (left + n * cell, top + 81), color=SOFT, width=1)
    right = left + n * cell - 4
    picture.text(right, signs + 142, f"sum  {sign(1)[0] if total > 0 else ''}{total}", anchor="end", weight=600)
    picture.text(right, words + 148, f"popcount: {count} ones", anchor="end", weight=600, color=ORANGE)
    picture.text(right, words + 174, f"sum = 2 · {count} − {n} = +{total}", anchor="end", weight=600)
    return picture
