"""Write every diagram and cover of the book: ``make diagrams``."""

import importlib
from pathlib import Path

HERE = Path(__file__).parent
MODULES = ("convolution", "surgery", "fake_quantization")


def pictures():
    """Every drawing of the book."""
    return [importlib.import_module(name).draw() for name in MODULES]


if __name__ == "__main__":
    for picture in pictures():
        (HERE / f"{picture.name}.svg").write_text(picture.svg(), encoding="utf-8")
        print(f"{picture.name}.svg")
