// x86 with AVX-512: an instruction counts the ones of 8 words.
#pragma once
#include <immintrin.h>

#include "portable.h"

namespace avx512 {
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq")))
using V = __m512i;
constexpr int LANES = 8, WIDTH = 32, HEIGHT = 6;  // 24 sums, 4 vectors of columns, a word of a row: 29 of 32 registers

template <bool BOTH, int R, int Q>
TARGET static void sized_tile(const u64* const* row, const Segment* segment, i64 segments, const u64* panel, bool add,
                              i32* counts) {
    V sum[R][Q];
    for (int r = 0; r < R; ++r)
        for (int q = 0; q < Q; ++q) sum[r][q] = _mm512_setzero_si512();
    for (i64 s = 0; s < segments; ++s) {
        const u64* at[R];
        for (int r = 0; r < R; ++r) at[r] = row[r] + segment[s].row;
        for (i64 k = 0; k < segment[s].words; ++k, panel += Q * LANES) {
            V b[Q];
#pragma GCC unroll 4
            for (int q = 0; q < Q; ++q) b[q] = _mm512_load_si512(panel + q * LANES);
#pragma GCC unroll 6
            for (int r = 0; r < R; ++r) {
                const V a = _mm512_set1_epi64(static_cast<long long>(at[r][k]));
#pragma GCC unroll 4
                for (int q = 0; q < Q; ++q) {
                    const V bits = BOTH ? _mm512_and_si512(a, b[q]) : _mm512_xor_si512(a, b[q]);
                    sum[r][q] = _mm512_add_epi64(sum[r][q], _mm512_popcnt_epi64(bits));
                }
            }
        }
    }
    const __m256i weight = _mm256_set1_epi32(segment->weight);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int q = 0; q < Q; ++q) {
            __m256i* place = reinterpret_cast<__m256i*>(counts + r * WIDTH + q * LANES);
            // With a mask, as GCC 12 warns of the version without.
            const __m256i found = _mm256_mullo_epi32(_mm512_maskz_cvtepi64_epi32(255, sum[r][q]), weight);
            _mm256_storeu_si256(place, add ? _mm256_add_epi32(_mm256_loadu_si256(place), found) : found);
        }
}

#include "generic.h"

// As of product.h, in squares of 8 × 8 words.
TARGET static void interleave(const u64* const* column, i64 columns, i64 from, i64 words, u64* panel) {
    i64 k = 0;
    for (; k + LANES <= words; k += LANES)
        for (i64 c = 0; c < columns; c += LANES) {
            V a[8], b[8];
#pragma GCC unroll 8
            for (int i = 0; i < 8; ++i) a[i] = _mm512_loadu_si512(column[c + i] + from + k);
#pragma GCC unroll 8
            for (int i = 0; i < 8; i += 2) {  // words of two columns side by side
                b[i] = _mm512_unpacklo_epi64(a[i], a[i + 1]);
                b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 1]);
            }
#pragma GCC unroll 8
            for (int i = 0; i < 2; ++i) {  // of four: words i, i + 4 and i + 2, i + 6
                a[i] = _mm512_shuffle_i64x2(b[i], b[i + 2], 0x88);
                a[i + 2] = _mm512_shuffle_i64x2(b[i], b[i + 2], 0xDD);
                a[i + 4] = _mm512_shuffle_i64x2(b[i + 4], b[i + 6], 0x88);
                a[i + 6] = _mm512_shuffle_i64x2(b[i + 4], b[i + 6], 0xDD);
            }
#pragma GCC unroll 8
            for (int i = 0; i < 4; ++i) {  // of eight
                _mm512_store_si512(panel + (k + i) * columns + c, _mm512_shuffle_i64x2(a[i], a[i + 4], 0x88));
                _mm512_store_si512(panel + (k + i + 4) * columns + c, _mm512_shuffle_i64x2(a[i], a[i + 4], 0xDD));
            }
        }
    for (; k < words; ++k)
        for (i64 c = 0; c < columns; ++c) panel[k * columns + c] = column[c][from + k];
}

// One column after the other: memory is read in its order, which is faster than to share the row among several.
TARGET static void few(const u64* row, const u64* columns, i64 count, i64 words, i32* counts) {
    const __mmask8 rest = static_cast<__mmask8>((1 << words % LANES) - 1);
    for (i64 c = 0; c < count; ++c, columns += words) {
        V sum = _mm512_setzero_si512();
        i64 k = 0;
        for (; k + LANES <= words; k += LANES) {
            const V bits = _mm512_xor_si512(_mm512_loadu_si512(row + k), _mm512_loadu_si512(columns + k));
            sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(bits));
        }
        if (rest) {
            const V a = _mm512_maskz_loadu_epi64(rest, row + k), b = _mm512_maskz_loadu_epi64(rest, columns + k);
            const V bits = _mm512_xor_si512(a, b);
            sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(bits));
        }
        counts[c] = static_cast<i32>(_mm512_reduce_add_epi64(sum));
    }
}

// `sign` of portable.h, of the numbers whose bit in `which` is set.
template <class Bits, Bits INFINITE>
TARGET static inline u64 some(const void* x, u64 which) {
    if constexpr (sizeof(Bits) == 2) {
        const V bits = _mm512_maskz_loadu_epi16(static_cast<__mmask32>(which), x);
        const __mmask32 zero = _mm512_cmpeq_epi16_mask(bits, _mm512_set1_epi16(INT16_MIN));
        return (_mm512_cmple_epu16_mask(bits, _mm512_set1_epi16(static_cast<short>(INFINITE))) | zero) & which;
    } else {
        const V bits = _mm512_maskz_loadu_epi32(static_cast<__mmask16>(which), x);
        const __mmask16 zero = _mm512_cmpeq_epi32_mask(bits, _mm512_set1_epi32(INT32_MIN));
        return (_mm512_cmple_epu32_mask(bits, _mm512_set1_epi32(INFINITE)) | zero) & which;
    }
}

template <class Bits, Bits INFINITE>
TARGET static void pack(const void* x, i64 n, u64* word) {
    constexpr int LENGTH = 64 / sizeof(Bits);
    constexpr u64 ALL = (u64(1) << LENGTH) - 1;
    const Bits* bits = static_cast<const Bits*>(x);
    for (; n >= 64; n -= 64, bits += 64) {
        u64 whole = 0;
#pragma GCC unroll 8
        for (int i = 0; i < 64; i += LENGTH) whole |= some<Bits, INFINITE>(bits + i, ALL) << i;
        *word++ = whole;
    }
    if (n) {
        u64 rest = 0;
        for (int i = 0; i < n; i += LENGTH)
            rest |= some<Bits, INFINITE>(bits + i, n - i < LENGTH ? (u64(1) << (n - i)) - 1 : ALL) << i;
        *word = rest;
    }
}

TARGET static u64 plane(const std::uint8_t* codes, i64 n, int bit) {
    const V bytes = _mm512_maskz_loadu_epi8(n < 64 ? (u64(1) << n) - 1 : ~u64(0), codes);
    return _mm512_test_epi8_mask(bytes, _mm512_set1_epi8(static_cast<char>(1 << bit)));
}

constexpr Kernel KERNEL = {HEIGHT, WIDTH, LANES, tile, interleave, few, finish, transpose,
                           {pack<std::uint32_t, INF32>, pack<std::uint16_t, INF16>, pack<std::uint16_t, INFB16>,
                            portable::pack<u64, INF64>},
                           plane};
#undef TARGET
}  // namespace avx512
