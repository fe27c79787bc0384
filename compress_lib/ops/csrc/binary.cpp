// The kernels' C interface: plain pointers, no header of Python's or PyTorch's, so that a build takes seconds.
//
// Products of packed signs (64 to a word, see packing.py) by counting the bits that differ: with n signs in a row,
//     dot = n − 2 · popcount(a XOR b),
// and of integers in bit planes by popcount(a AND b). Which instructions are used is decided at run time.
#include "convolution.h"
#include "portable.h"
#if defined(__x86_64__)
#include "avx2.h"
#include "avx512.h"
#elif defined(__aarch64__)
#include "neon.h"
#endif

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// By the numbers that native.py gives the backends; null if this processor lacks the instructions.
const Kernel* find(int backend) {
    switch (backend) {
        case 0: return &portable::KERNEL;
#if defined(__x86_64__)
        case 1: return __builtin_cpu_supports("avx2") ? &avx2::KERNEL : nullptr;
        case 2:
            return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                           __builtin_cpu_supports("avx512vpopcntdq")
                       ? &avx512::KERNEL
                       : nullptr;
#elif defined(__aarch64__)
        case 3: return &neon::KERNEL;
#endif
        default: return nullptr;
    }
}

// What goes wrong comes back as a number, of those in native.py.
enum Status { FINE, NO_MEMORY, ONES_AFTER_THE_END, LARGE_CODE };

template <class Run>
Status guarded(const Run& run) {
    try {
        run();
        return FINE;
    } catch (...) {
        return NO_MEMORY;
    }
}

constexpr i64 FEW_ROWS = 8, FEW_COLUMNS = 128;

void few_rows(const Kernel& kernel, const u64* x, i64 rows, const u64* weight, i64 columns, i64 n, const float* scale,
              float* out, i64 threads) {
    const i64 words = divide_up(n, 64);
    threads = std::min(threads, 1 + columns * words / (1 << 16));
    parallel(divide_up(columns, FEW_COLUMNS), threads, [&](i64 task, i64) {
        const i64 c = task * FEW_COLUMNS, count = std::min(FEW_COLUMNS, columns - c);
        i32 counts[FEW_COLUMNS];
        for (i64 r = 0; r < rows; ++r) {
            kernel.few(x + r * words, weight + c * words, count, words, counts);
            const float* scales = scale ? scale + c : nullptr;
            kernel.finish(counts, count, static_cast<i32>(n), -2, 1, scales, out + r * columns + c);
        }
    });
}

// Whether rows of n bits end in zeros, so that they cancel in a product.
bool clean(const u64* packed, i64 rows, i64 n) {
    const i64 words = divide_up(n, 64);
    u64 rest = 0;
    if (n % 64)
        for (i64 i = 0; i < rows; ++i) rest |= packed[(i + 1) * words - 1] >> n % 64;
    return !rest;
}

}  // namespace

EXPORT int cl_has(int backend) { return find(backend) != nullptr; }

// x: (rows, n) dense, of dtype 0 float32, 1 float16, 2 bfloat16, 3 float64; packed: (rows, ⌈n/64⌉).
EXPORT int cl_pack(int backend, int dtype, const void* x, i64 rows, i64 n, u64* packed, i64 threads) {
    static const i64 SIZES[] = {4, 2, 2, 8};
    const auto pack = find(backend)->pack[dtype];
    const i64 each = std::max<i64>(1, (1 << 16) / std::max<i64>(n, 1)), words = divide_up(n, 64);
    return guarded([&] {
        parallel(divide_up(rows, each), std::min(threads, 1 + rows * n / (1 << 17)), [&](i64 task, i64) {
            for (i64 i = task * each; i < std::min(rows, (task + 1) * each); ++i)
                pack(static_cast<const char*>(x) + i * n * SIZES[dtype], n, packed + i * words);
        });
    });
}

// codes: (rows, n), packed: (bits, rows, ⌈n/64⌉).
EXPORT int cl_pack_codes(int backend, const std::uint8_t* codes, i64 rows, i64 n, int bits, u64* packed) {
    const auto plane = find(backend)->plane;
    const i64 words = divide_up(n, 64);
    u64 beyond = 0;
    for (i64 i = 0; i < rows; ++i)
        for (i64 k = 0; k < words; ++k)
            for (int bit = 0; bit < 8; ++bit) {
                const u64 word = plane(codes + i * n + 64 * k, std::min<i64>(64, n - 64 * k), bit);
                if (bit < bits)
                    packed[(bit * rows + i) * words + k] = word;
                else
                    beyond |= word;
            }
    return beyond ? LARGE_CODE : FINE;
}

// x: (rows, ⌈n/64⌉), weight: (columns, ⌈n/64⌉), scale: (columns) or null, out: (rows, columns).
EXPORT int cl_linear(int backend, const u64* x, i64 rows, const u64* weight, i64 columns, i64 n, const float* scale,
                     float* out, i64 threads) {
    if (!clean(weight, columns, n)) return ONES_AFTER_THE_END;
    const i64 words = divide_up(n, 64);
    const Kernel& kernel = *find(backend);
    if (kernel.few && rows <= FEW_ROWS)
        return guarded([&] { few_rows(kernel, x, rows, weight, columns, n, scale, out, threads); });
    return guarded([&] {
        Product p = {};
        p.rows = {x, 1, std::max<i64>(rows, 1), 0, 0, words}, p.row_count = rows;
        p.columns = {weight, 1, std::max<i64>(columns, 1), 0, 0, words}, p.column_count = p.image_columns = columns;
        p.segments = {{0, 0, words, 1}};
        p.offset = static_cast<i32>(n), p.factor = -2;
        p.floats = out, p.row_stride = columns, p.column_scale = scale;
        multiply(kernel, p, threads);
    });
}

// x: (x_planes, rows, ⌈n/64⌉), weight: (weight_planes, columns, ⌈n/64⌉), the planes' values, out: (rows, columns).
EXPORT int cl_planes(int backend, const u64* x, i64 rows, const i32* x_values, i64 x_planes, const u64* weight,
                     i64 columns, const i32* weight_values, i64 weight_planes, i64 n, i32* out, i64 threads) {
    if (!clean(weight, weight_planes * columns, n)) return ONES_AFTER_THE_END;
    const i64 words = divide_up(n, 64);
    return guarded([&] {
        Product p = {};
        p.both = true;
        p.rows = {x, 1, std::max<i64>(rows, 1), 0, 0, words}, p.row_count = rows;
        p.columns = {weight, 1, std::max<i64>(columns, 1), 0, 0, words}, p.column_count = p.image_columns = columns;
        for (i64 j = 0; j < weight_planes; ++j)
            for (i64 i = 0; i < x_planes; ++i)
                p.segments.push_back({i * rows * words, j * columns * words, words, x_values[i] * weight_values[j]});
        p.integers = out, p.row_stride = columns;
        multiply(*find(backend), p, threads);
    });
}

EXPORT int cl_conv2d(int backend, const Convolution* geometry, int dtype, const void* x, const u64* weight,
                     const float* scale, float* out, i64 threads) {
    const i64 taps = geometry->kernel_height * geometry->kernel_width;
    if (!clean(weight, geometry->outputs * taps, geometry->group_channels())) return ONES_AFTER_THE_END;
    return guarded([&] { convolve(*find(backend), *geometry, dtype, x, weight, scale, out, threads); });
}
