"""Write every diagram and cover of the book: ``make diagrams``."""

from pathlib import Path

import convolution_cost
import covers
import fake_quantization
import filter_surgery
import fire_module
import huffman_coding
import mobilenet_blocks
import shufflenet_units
import xception_modules
import xnor_popcount

HERE = Path(__file__).parent
DIAGRAMS = (
    convolution_cost.draw,
    filter_surgery.draw,
    fake_quantization.draw,
    huffman_coding.relative_index,
    huffman_coding.huffman_tree,
    xnor_popcount.draw,
    fire_module.draw,
    mobilenet_blocks.separable,
    mobilenet_blocks.inverted,
    shufflenet_units.shuffle,
    shufflenet_units.first_unit,
    shufflenet_units.second_units,
    xception_modules.towers,
    xception_modules.module,
    *covers.COVERS,
)


def main() -> None:
    """Draw all, in place of what was there."""
    for draw in DIAGRAMS:
        picture = draw()
        (HERE / f"{picture.name}.svg").write_text(picture.svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
