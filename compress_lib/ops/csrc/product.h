// Every binary product is one loop: count bits of (row AND/XOR column), over tiles of rows and columns.
#pragma once
#include <cstdint>
#include <vector>

#include "threads.h"

using u64 = std::uint64_t;
using i64 = std::int64_t;
using i32 = std::int32_t;

// Where the packed rows of a factor begin: item i is (a, b, c) of a grid in which c runs fastest. A matrix has one
// axis, the pixels of a batch of images have three.
struct Grid {
    const u64* base;
    i64 size_b, size_c;
    i64 stride_a, stride_b, stride_c;  // words

    void fill(i64 first, i64 count, const u64** items) const {
        i64 c = first % size_c, b = first / size_c % size_b, a = first / size_c / size_b;
        for (i64 i = 0; i < count; ++i) {
            items[i] = base + a * stride_a + b * stride_b + c * stride_c;
            if (++c == size_c) {
                c = 0;
                if (++b == size_b) b = 0, ++a;
            }
        }
    }
};

// A run of words that meet: of a kernel's tap, or of a bit plane. Its bits count `weight` times.
struct Segment {
    i64 row, column, words;  // from the beginning of a row, of a column
    i32 weight;
};

// Of a processor: a tile of up to `height` rows and `width` columns, the columns interleaved in a panel
// (panel[k][column], whole vectors of `lanes` columns). The counts go to counts[row][width], added to what is there or
// not.
struct Kernel {
    i64 height, width, lanes;
    void (*tile)(bool both, i64 rows, i64 columns, const u64* const* row, const Segment*, i64 segments,
                 const u64* panel, bool add, i32* counts);
    void (*interleave)(const u64* const* column, i64 columns, i64 from, i64 words, u64* panel);
    // Counts of one row and many columns, words apart, without a panel: quicker where a panel meets few rows. Or null.
    void (*few)(const u64* row, const u64* columns, i64 count, i64 words, i32* counts);
    void (*finish)(const i32* counts, i64 n, i32 offset, i32 factor, float row_scale, const float* scales, float* out);
    void (*transpose)(u64* words);  // a square of 64 × 64 bits
    void (*pack[4])(const void* x, i64 n, u64* words);  // float32, float16, bfloat16, float64
    u64 (*plane)(const std::uint8_t* codes, i64 n, int bit);        // of up to 64 codes
};

// floats[row, column] = (offset + factor · count) · scale, or integers[row, column] = count.
struct Product {
    Grid rows, columns;
    i64 row_count, column_count;
    std::vector<Segment> segments;
    bool both;  // AND, else XOR
    i32 offset, factor;
    float* floats;  // one of the two
    i32* integers;
    i64 row_stride;                 // of the output
    i64 image_columns, image_stride;  // after so many columns, which are neighbours, the output goes on elsewhere
    const float *row_scale, *column_scale;  // or null
};

constexpr i64 PANEL_WORDS = 1024;      // of a column, at most: 256 KB of panel stay in the second-level cache
constexpr i64 ROW_BYTES = 256 << 10;   // of the rows that meet a panel, for the same reason
constexpr i64 MOST_ROWS = 504;
constexpr i64 WORK_PER_THREAD = 1 << 19;  // words that meet: 27 µs at 1.25 T bits/s, of which waking one is a part

// panel[k][c] = word `from + k` of column c.
inline void interleave(const u64* const* column, i64 columns, i64 from, i64 words, u64* panel) {
    for (i64 c = 0; c < columns; ++c)
        for (i64 k = 0; k < words; ++k) panel[k * columns + c] = column[c][from + k];
}

inline void build_panel(const Kernel& kernel, const u64* const* column, i64 columns, const Segment* segment,
                        i64 segments, u64* panel) {
    for (i64 s = 0; s < segments;) {
        const i64 from = segment[s].column;
        i64 words = segment[s].words;
        for (++s; s < segments && segment[s].column == from + words; ++s) words += segment[s].words;
        kernel.interleave(column, columns, from, words, panel);
        panel += words * columns;
    }
}

// Runs of segments that fit a panel.
struct Block {
    i64 first, count, words;
};

inline std::vector<Block> cut(std::vector<Segment>& segments) {
    std::vector<Segment> pieces;
    for (Segment s : segments) {
        for (; s.words > PANEL_WORDS; s.words -= PANEL_WORDS, s.row += PANEL_WORDS, s.column += PANEL_WORDS)
            pieces.push_back({s.row, s.column, PANEL_WORDS, s.weight});
        pieces.push_back(s);
    }
    segments = pieces;
    std::vector<Block> blocks;
    for (i64 i = 0; i < (i64)segments.size(); ++i) {
        const Segment& s = segments[i];
        if (blocks.empty() || blocks.back().words + s.words > PANEL_WORDS || segments[i - 1].weight != s.weight)
            blocks.push_back({i, 0, 0});
        ++blocks.back().count;
        blocks.back().words += s.words;
    }
    return blocks;
}

inline i64 divide_up(i64 a, i64 b) { return (a + b - 1) / b; }

// Counts of a tile to numbers in their places.
inline void finish(const Kernel& kernel, const Product& p, const i32* counts, i64 r0, i64 rows, i64 c0, i64 columns) {
    for (i64 c = 0; c < columns;) {  // the columns that are neighbours in the output
        const i64 at = (c0 + c) % p.image_columns, run = std::min(columns - c, p.image_columns - at);
        const i64 start = (c0 + c) / p.image_columns * p.image_stride + at;
        for (i64 r = 0; r < rows; ++r) {
            const i32* row = counts + r * kernel.width + c;
            const i64 place = (r0 + r) * p.row_stride + start;
            if (p.integers)
                std::copy(row, row + run, p.integers + place);
            else
                kernel.finish(row, run, p.offset, p.factor, p.row_scale ? p.row_scale[r0 + r] : 1,
                              p.column_scale ? p.column_scale + c0 + c : nullptr, p.floats + place);
        }
        c += run;
    }
}

inline void multiply(const Kernel& kernel, Product& p, i64 threads) {
    if (!p.row_count || !p.column_count) return;
    const std::vector<Block> blocks = cut(p.segments);
    i64 total = 0, longest = 1;
    for (const Block& b : blocks) total += b.words, longest = std::max(longest, b.words);
    threads = std::min(threads, static_cast<i64>(1 + 1.0 * p.row_count * p.column_count * total / WORK_PER_THREAD));

    const i64 panels = divide_up(p.column_count, kernel.width);
    i64 most = std::min(MOST_ROWS, std::max(ROW_BYTES / 8 / longest, 4 * kernel.height));
    i64 cuts = divide_up(p.row_count, most);
    if (threads > 1) cuts = std::max(cuts, std::min(divide_up(4 * threads, panels), p.row_count / (4 * kernel.height)));
    const i64 rows_each = divide_up(divide_up(p.row_count, cuts), kernel.height) * kernel.height;
    cuts = divide_up(p.row_count, rows_each);

    const bool once = blocks.size() == 1;  // then counts are finished at once, and those of one tile take little room
    // Everything a thread needs, before there are threads: memory that is not to be had is an error here.
    struct Workspace {
        std::vector<u64> panel;
        std::vector<i32> counts;
        std::vector<const u64*> row, column;
    };
    std::vector<Workspace> workspaces(threads);
    for (Workspace& w : workspaces) {
        w.panel.resize(longest * kernel.width + 8);
        w.counts.resize((once ? kernel.height : rows_each) * kernel.width);
        w.row.resize(rows_each + 1);
        w.column.resize(kernel.width);
    }
    parallel(cuts * panels, threads, [&](i64 task, i64 thread) {
        Workspace& w = workspaces[thread];
        const auto address = reinterpret_cast<std::uintptr_t>(w.panel.data());
        u64* panel = reinterpret_cast<u64*>((address + 63) & ~std::uintptr_t(63));
        const i64 r0 = task / panels * rows_each, rows = std::min(rows_each, p.row_count - r0);
        const i64 c0 = task % panels * kernel.width, columns = std::min(kernel.width, p.column_count - c0);
        // The AND of planes has tiles of one width only, to be compiled sooner.
        const i64 lanes = p.both ? kernel.width : divide_up(columns, kernel.lanes) * kernel.lanes;
        p.rows.fill(r0, rows, w.row.data());
        p.columns.fill(c0, columns, w.column.data());
        std::fill(w.column.begin() + columns, w.column.end(), w.column[columns - 1]);  // lanes that nobody reads
        w.row[rows] = w.row[rows - 1];                                                 // beside an odd one, in its tile
        for (const Block& b : blocks) {
            const Segment* segments = p.segments.data() + b.first;
            build_panel(kernel, w.column.data(), lanes, segments, b.count, panel);
            for (i64 r = 0; r < rows; r += kernel.height) {
                const i64 height = std::min(kernel.height, rows - r);
                i32* counts = w.counts.data() + (once ? 0 : r * kernel.width);
                kernel.tile(p.both, height, lanes, w.row.data() + r, segments, b.count, panel, b.first, counts);
                if (&b == &blocks.back()) finish(kernel, p, counts, r0 + r, height, c0, columns);
            }
        }
    });
}
