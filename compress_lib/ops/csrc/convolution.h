// A convolution of signs: the image is packed once, with its padding; then every tap is a run of words.
#pragma once
#include <initializer_list>
#include <new>

#include "product.h"

// As in native.py.
struct Convolution {
    i64 batch, channels, height, width, channels_last;  // of x, dense
    i64 outputs, kernel_height, kernel_width;
    i64 stride_height, stride_width, padding_height, padding_width, dilation_height, dilation_width, groups;
    i64 output_height, output_width;

    i64 group_channels() const { return channels / groups; }
    i64 words() const { return divide_up(group_channels(), 64); }  // of a pixel's group
    i64 padded_height() const { return height + 2 * padding_height; }
    i64 padded_width() const { return width + 2 * padding_width; }
    i64 pixel() const { return groups * words(); }
    i64 image() const { return padded_height() * padded_width() * pixel(); }
};

// Memory that is not written before it is used, as a vector's would be. More than can be counted is not to be had.
struct Words {
    u64* const first;
    explicit Words(std::initializer_list<i64> sizes) : first(new u64[product(sizes)]) {}
    Words(const Words&) = delete;
    ~Words() { delete[] first; }

    static i64 product(std::initializer_list<i64> sizes) {
        i64 all = 1;
        for (i64 size : sizes)
            if (__builtin_mul_overflow(all, size, &all)) throw std::bad_alloc();
        return all;
    }
};

// The padding around one image: +1, as of a zero.
inline void pack_padding(const Convolution& c, u64* image) {
    const i64 last = c.group_channels() % 64;
    auto ones = [&](u64* from, u64* to) {
        std::fill(from, to, ~u64(0));
        if (last)
            for (u64* word = from + c.words() - 1; word < to; word += c.words()) *word = (u64(1) << last) - 1;
    };
    const i64 row = c.padded_width() * c.pixel(), side = c.padding_width * c.pixel();
    u64* inside = image + c.padding_height * row;
    u64* below = inside + c.height * row;
    ones(image, inside);
    ones(below, below + c.padding_height * row);
    for (u64* line = inside; line < below; line += row) {
        ones(line, line + side);
        ones(line + row - side, line + row);
    }
}

// x as [image][padded row][padded column][group][word].
inline void pack_image(const Kernel& kernel, const Convolution& c, int dtype, const void* x, u64* packed, i64 threads) {
    static const i64 SIZES[] = {4, 2, 2, 8};
    const char* bytes = static_cast<const char*>(x);
    const i64 size = SIZES[dtype], pixels = c.height * c.width, pixel = c.pixel(), members = c.group_channels();
    const auto pack = kernel.pack[dtype];
    u64* inside = packed + (c.padding_height * c.padded_width() + c.padding_width) * pixel;
    threads = std::min(threads, 1 + c.batch * c.channels * pixels / (1 << 17));
    parallel(c.batch, threads, [&](i64 i, i64) { pack_padding(c, packed + i * c.image()); });
    if (c.channels_last)
        return parallel(c.batch * c.height, threads, [&](i64 line, i64) {
            const char* from = bytes + line * c.width * c.channels * size;
            u64* to = inside + line / c.height * c.image() + line % c.height * c.padded_width() * pixel;
            for (i64 i = 0; i < c.width * c.groups; ++i, from += members * size, to += c.words())
                pack(from, members, to);
        });
    // 64 pixels of 64 channels are a square of bits; it is packed along the pixels, which are neighbours, then turned.
    const i64 squares = divide_up(pixels, 64);
    parallel(c.batch * pixel * squares, threads, [&](i64 task, i64) {
        const i64 first = task % squares * 64, word = task / squares % pixel, image = task / squares / pixel;
        const i64 group = word / c.words(), channel = word % c.words() * 64;
        const i64 channels = std::min<i64>(64, members - channel), count = std::min<i64>(64, pixels - first);
        const char* from = bytes + ((image * c.channels + group * members + channel) * pixels + first) * size;
        alignas(64) u64 square[64] = {};
        for (i64 i = 0; i < channels; ++i) pack(from + i * pixels * size, count, square + i);
        kernel.transpose(square);
        u64* to = inside + image * c.image() + word;
        i64 y = first / c.width, z = first % c.width;
        for (i64 i = 0; i < count; ++i) {
            to[(y * c.padded_width() + z) * pixel] = square[i];
            if (++z == c.width) z = 0, ++y;
        }
    });
}

inline void convolve(const Kernel& kernel, const Convolution& c, int dtype, const void* x, const u64* weight,
                     const float* scale, float* out, i64 threads) {
    const i64 outputs = c.outputs / c.groups, taps = c.kernel_height * c.kernel_width;
    if (!c.batch || !c.output_height || !c.output_width || !outputs) return;
    const Words packed({c.batch, c.padded_height(), c.padded_width(), c.pixel()});
    const i64 pixels = c.output_height * c.output_width, pixel = c.pixel(), row = c.padded_width() * pixel;
    pack_image(kernel, c, dtype, x, packed.first, threads);

    std::vector<Segment> segments;  // pixels as rows
    for (i64 tap = 0; tap < taps; ++tap) {
        const i64 y = tap / c.kernel_width * c.dilation_height, z = tap % c.kernel_width * c.dilation_width;
        const i64 from = y * row + z * pixel;
        if (!segments.empty() && segments.back().row + segments.back().words == from)
            segments.back().words += c.words();  // taps side by side are one run
        else
            segments.push_back({from, tap * c.words(), c.words(), 1});
    }
    if (!c.channels_last)
        for (Segment& s : segments) std::swap(s.row, s.column);

    for (i64 group = 0; group < c.groups; ++group) {
        const Grid image = {packed.first + group * c.words(), c.output_height, c.output_width,
                            c.image(), c.stride_height * row, c.stride_width * pixel};
        const Grid weights = {weight + group * outputs * taps * c.words(), 1, outputs, 0, 0, taps * c.words()};
        const float* scales = scale ? scale + group * outputs : nullptr;
        Product p = {};
        p.segments = segments;
        p.offset = static_cast<i32>(taps * c.group_channels());
        p.factor = -2;
        if (c.channels_last) {
            p.rows = image, p.row_count = c.batch * pixels;
            p.columns = weights, p.column_count = p.image_columns = outputs;
            p.floats = out + group * outputs;
            p.row_stride = c.outputs;
            p.column_scale = scales;
        } else {
            p.rows = weights, p.row_count = outputs;
            p.columns = image, p.column_count = c.batch * pixels;
            p.image_columns = pixels, p.image_stride = c.outputs * pixels;
            p.floats = out + group * outputs * pixels;
            p.row_stride = pixels;
            p.row_scale = scales;
        }
        multiply(kernel, p, threads);
    }
}
