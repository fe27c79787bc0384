// x86 with AVX2: the ones of a half byte by looking them up, 32 at once.
#pragma once
#include <immintrin.h>

#include "portable.h"

namespace avx2 {
#define TARGET __attribute__((target("avx2")))
using V = __m256i;
constexpr int LANES = 4, WIDTH = 8, HEIGHT = 4;

TARGET static inline V load(const u64* p) { return _mm256_loadu_si256(reinterpret_cast<const V*>(p)); }
TARGET static inline void store(u64* p, V v) { _mm256_storeu_si256(reinterpret_cast<V*>(p), v); }
TARGET static inline V spread(u64 word) { return _mm256_set1_epi64x(static_cast<long long>(word)); }
TARGET static inline V both(V a, V b) { return _mm256_and_si256(a, b); }
TARGET static inline V differ(V a, V b) { return _mm256_xor_si256(a, b); }
TARGET static inline V add_bytes(V a, V b) { return _mm256_add_epi8(a, b); }
TARGET static inline V words(V v) { return _mm256_sad_epu8(v, _mm256_setzero_si256()); }
TARGET static inline V bytes(V v) {
    const V ones = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const V half = _mm256_set1_epi8(15);
    const V low = _mm256_shuffle_epi8(ones, _mm256_and_si256(v, half));
    return _mm256_add_epi8(low, _mm256_shuffle_epi8(ones, _mm256_and_si256(_mm256_srli_epi16(v, 4), half)));
}

#include "bytes.h"
#include "generic.h"

// The top bit of each lane: 0 where the number is ≥ 0. (`sign` of portable.h, with signed comparisons.)
TARGET static inline V negative(V bits, std::uint32_t) {
    const V minus_zero = _mm256_cmpeq_epi32(bits, _mm256_set1_epi32(INT32_MIN));
    return _mm256_or_si256(_mm256_cmpgt_epi32(bits, _mm256_set1_epi32(INF32)), _mm256_andnot_si256(minus_zero, bits));
}
TARGET static inline V negative(V bits, std::uint16_t infinite) {
    const V minus_zero = _mm256_cmpeq_epi16(bits, _mm256_set1_epi16(INT16_MIN));
    const V nan = _mm256_cmpgt_epi16(bits, _mm256_set1_epi16(static_cast<short>(infinite)));
    return _mm256_or_si256(nan, _mm256_andnot_si256(minus_zero, bits));
}

TARGET static inline V vector(const void* x, i64 i) { return _mm256_loadu_si256(static_cast<const V*>(x) + i); }

template <class Bits, Bits INFINITE>
TARGET static inline u64 whole_word(const void* x) {
    u64 word = 0;
    if constexpr (sizeof(Bits) == 4) {
        for (int i = 0; i < 8; ++i)
            word |= u64(_mm256_movemask_ps(_mm256_castsi256_ps(negative(vector(x, i), INFINITE)))) << 8 * i;
    } else {
        for (int i = 0; i < 4; i += 2) {  // packing keeps the sign, and mixes the halves of its two vectors
            const V pair = _mm256_packs_epi16(negative(vector(x, i), INFINITE), negative(vector(x, i + 1), INFINITE));
            word |= u64(std::uint32_t(_mm256_movemask_epi8(_mm256_permute4x64_epi64(pair, 0xD8)))) << 16 * i;
        }
    }
    return ~word;
}

template <class Bits, Bits INFINITE>
TARGET static void pack(const void* x, i64 n, u64* word) {
    const Bits* bits = static_cast<const Bits*>(x);
    for (; n >= 64; n -= 64, bits += 64) *word++ = whole_word<Bits, INFINITE>(bits);
    if (n) *word = sign_word<Bits, INFINITE>(bits, n);
}

TARGET static u64 plane(const std::uint8_t* codes, i64 n, int bit) {
    if (n < 64) return portable::plane(codes, n, bit);
    u64 word = 0;
    for (int i = 0; i < 2; ++i) {  // the bit moves to the top of its byte; what its neighbours shift in stays below
        const V top = _mm256_sll_epi16(vector(codes, i), _mm_cvtsi32_si128(7 - bit));
        word |= u64(std::uint32_t(_mm256_movemask_epi8(top))) << 32 * i;
    }
    return word;
}

constexpr Kernel KERNEL = {HEIGHT, WIDTH, LANES, tile, ::interleave, nullptr, finish, transpose,
                           {pack<std::uint32_t, INF32>, pack<std::uint16_t, INF16>, pack<std::uint16_t, INFB16>,
                            portable::pack<u64, INF64>},
                           plane};
#undef TARGET
}  // namespace avx2
