"""Make the book's fonts (``book/assets/fonts``) from their sources; the results are committed, so this is rarely run.

    python book/tools/fonts.py math STIXTwoMath-Regular.ttf
    python book/tools/fonts.py text source-serif-4-roman.woff2 source-serif-4-italic.woff2

STIX Two Math is from https://github.com/stipub/stixfonts (the package ziamath on PyPI contains it), Source Serif 4 from
https://github.com/adobe-fonts/source-serif (@fontsource-variable/source-serif-4 on npm). Both are under the SIL Open
Font License. Needs ``fonttools`` and ``brotli``.
"""

import sys
from copy import copy
from pathlib import Path

from fontTools import subset
from fontTools.pens.transformPen import TransformPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont
from fontTools.varLib import instancer

FONTS = Path(__file__).parents[1] / "assets" / "fonts"
MATH = [  # what a formula may contain; the alphabets are italic, bold, bold italic, calligraphic and double-struck
    *[(0x20, 0x7E), (0xA0, 0xFF), (0x2C6, 0x2DC), (0x300, 0x30C), (0x338, 0x338), (0x391, 0x3F6)],
    *[(0x2010, 0x2044), (0x2061, 0x2064), (0x2102, 0x2138), (0x2190, 0x21FF), (0x2200, 0x22FF), (0x2308, 0x230B)],
    *[(0x23DC, 0x23DF), (0x27E6, 0x27EF), (0x27F5, 0x27FA), (0x2A00, 0x2A06), (0x2A7D, 0x2A7E), (0xFE00, 0xFE00)],
    *[(0x1D400, 0x1D4CF), (0x1D538, 0x1D551), (0x1D6A4, 0x1D755), (0x1D7CE, 0x1D7D7)],
]
WEIGHTS = (400, 400, 700)  # the least, the usual and the most that the style sheets ask for
LOW_ROOT = 0.78  # of the smallest root sign of the font
WIDEST = 1.15  # of a delimiter or root in a large size, compared with the smallest size


def math(source: str) -> None:
    """The characters of MATH with all their large sizes, changed in four ways for the browsers."""
    font = TTFont(source)
    plain_primes(font)
    add_low_root(font)
    characters = [code for first, last in MATH for code in range(first, last + 1)]
    options = subset.Options(layout_features=[], hinting=False, name_IDs=[0, 1, 2, 3, 4, 5, 6, 13, 14])
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=characters)
    subsetter.subset(font)
    narrow(font)
    level_scripts(font)
    write(font, "stix-two-math.woff2")


def plain_primes(font: TTFont) -> None:
    """Let a prime be the one that is drawn for superscripts: only Firefox asks for it, by the feature ssty."""
    substitutes = {}
    for record in font["GSUB"].table.FeatureList.FeatureRecord:
        if record.FeatureTag == "ssty":
            for index in record.Feature.LookupListIndex:
                for table in font["GSUB"].table.LookupList.Lookup[index].SubTable:
                    substitutes |= getattr(table, "alternates", {})
    for table in font["cmap"].tables:
        for code in range(0x2032, 0x2035):
            if (glyph := getattr(table, "cmap", {}).get(code)) in substitutes:
                table.cmap[code] = substitutes[glyph][0]


def add_low_root(font: TTFont) -> None:
    """Give the root sign a size for one small letter: the smallest of the font hangs below the line of text."""
    sign, tall = font.getBestCmap()[0x221A], "radical.tall"
    glyphs, widths = font["glyf"], font["hmtx"]
    font.setGlyphOrder([*font.getGlyphOrder(), tall])
    glyphs.glyphOrder = font.getGlyphOrder()
    font.getReverseGlyphMap(rebuild=True)
    glyphs[tall], widths[tall] = glyphs[sign], widths[sign]
    pen = TTGlyphPen(font.getGlyphSet())
    font.getGlyphSet()[tall].draw(TransformPen(pen, (LOW_ROOT, 0, 0, LOW_ROOT, 0, 0)))
    glyphs[sign] = pen.glyph()
    glyphs[sign].recalcBounds(glyphs)
    widths[sign] = (round(LOW_ROOT * widths[tall][0]), glyphs[sign].xMin)
    variants = font["MATH"].table.MathVariants
    sizes = variants.VertGlyphConstruction[variants.VertGlyphCoverage.glyphs.index(sign)].MathGlyphVariantRecord
    tallest = copy(sizes[0])
    tallest.VariantGlyph = tall
    sizes[0].AdvanceMeasurement = round(LOW_ROOT * tallest.AdvanceMeasurement)
    sizes.insert(1, tallest)


def narrow(font: TTFont) -> None:
    """Make the large sizes of delimiters and roots hardly wider than the small ones.

    Chromium reserves the width of the widest of them around each, so √2 and (a/b) would stand in gaps of half an em.
    """
    glyphs, widths = font["glyf"], font["hmtx"]
    variants = font["MATH"].table.MathVariants
    drawn = font.getGlyphSet()
    operators = {font.getBestCmap()[code] for code in range(0x220F, 0x2230) if code in font.getBestCmap()} - {
        font.getBestCmap()[0x221A]
    }
    done = set()
    for glyph, construction in zip(variants.VertGlyphCoverage.glyphs, variants.VertGlyphConstruction, strict=True):
        if glyph in operators:
            continue
        sizes = [record.VariantGlyph for record in construction.MathGlyphVariantRecord]
        if construction.GlyphAssembly:
            sizes += [part.glyph for part in construction.GlyphAssembly.PartRecords]
        for size in set(sizes) - {glyph} - done:
            done.add(size)
            limit = WIDEST * widths[glyph][0]
            if (factor := limit / max(1, widths[size][0])) < 1:
                pen = TTGlyphPen(drawn)
                drawn[size].draw(TransformPen(pen, (factor, 0, 0, 1, 0, 0)))
                glyphs[size] = pen.glyph()
                glyphs[size].recalcBounds(glyphs)
                widths[size] = (round(limit), glyphs[size].xMin if glyphs[size].numberOfContours else 0)


def level_scripts(font: TTFont) -> None:
    """Let the index of q stand no lower than that of x, and the exponent of d no higher.

    TeX heeds the depth and height of what an index belongs to only if that is more than a letter; browsers always do.
    """
    constants = font["MATH"].table.MathConstants
    constants.SubscriptBaselineDropMin.Value = -20
    constants.SuperscriptBaselineDropMax.Value = 350
    constants.AccentBaseHeight.Value -= 70  # or a hat touches its letter


def text(source: str) -> None:
    """All characters of the file, in the weights that the book uses."""
    font = instancer.instantiateVariableFont(TTFont(source), {"wght": WEIGHTS})
    rename(font)
    write(font, Path(source).name)


def rename(font: TTFont) -> None:
    """Take the name "Source" out of the font: its license reserves it for the unchanged font."""
    for record in font["name"].names:
        if record.nameID in (1, 3, 4, 6, 16, 25):
            record.string = str(record).replace("Source Serif", "Book Serif").replace("SourceSerif", "BookSerif")


def write(font: TTFont, name: str) -> None:
    font.flavor = "woff2"
    font.save(FONTS / name)
    print(f"{name}: {(FONTS / name).stat().st_size:,} bytes")


if __name__ == "__main__":
    command, *sources = sys.argv[1:]
    for source in sources:
        {"math": math, "text": text}[command](source)
