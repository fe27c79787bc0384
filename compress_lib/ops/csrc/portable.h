// Any processor: 8 counters in the bytes of a word, by sums within ever larger fields.
#pragma once
#include "product.h"

// A sign's bit from the bits of a float: 1 unless it is negative or NaN; −0 is no negative number.
template <class Bits, Bits INFINITE>
inline u64 sign(Bits bits) {
    return bits <= INFINITE || bits == static_cast<Bits>(Bits(1) << (sizeof(Bits) * 8 - 1));
}

template <class Bits, Bits INFINITE>
inline u64 sign_word(const void* x, i64 n) {
    u64 word = 0;
    for (i64 i = 0; i < n; ++i) word |= sign<Bits, INFINITE>(static_cast<const Bits*>(x)[i]) << i;
    return word;
}

constexpr std::uint32_t INF32 = 0x7F800000;
constexpr std::uint16_t INF16 = 0x7C00, INFB16 = 0x7F80;
constexpr std::uint64_t INF64 = 0x7FF0000000000000;

namespace portable {
#define TARGET
using V __attribute__((vector_size(16))) = u64;  // two words: the compiler finds instructions for them, or uses two
constexpr int LANES = 2, WIDTH = 4, HEIGHT = 2;

static inline V load(const u64* p) { return V{p[0], p[1]}; }
static inline void store(u64* p, V v) { p[0] = v[0], p[1] = v[1]; }
static inline V spread(u64 word) { return V{word, word}; }
static inline V both(V a, V b) { return a & b; }
static inline V differ(V a, V b) { return a ^ b; }
static inline V add_bytes(V a, V b) { return a + b; }
static inline V words(V v) {
    v = (v & 0x00FF00FF00FF00FF) + (v >> 8 & 0x00FF00FF00FF00FF);  // a sum of 8 bytes may be above 255
    return v * 0x0001000100010001 >> 48;
}
static inline V bytes(V v) {
    v -= v >> 1 & 0x5555555555555555;
    v = (v & 0x3333333333333333) + (v >> 2 & 0x3333333333333333);
    return (v + (v >> 4)) & 0x0F0F0F0F0F0F0F0F;
}

#include "bytes.h"
#include "generic.h"

template <class Bits, Bits INFINITE>
static void pack(const void* x, i64 n, u64* word) {
    const Bits* bits = static_cast<const Bits*>(x);
    for (; n > 0; n -= 64, bits += 64) *word++ = sign_word<Bits, INFINITE>(bits, std::min<i64>(64, n));
}

static u64 plane(const std::uint8_t* codes, i64 n, int bit) {
    u64 word = 0;
    for (i64 i = 0; i < n; ++i) word |= u64(codes[i] >> bit & 1) << i;
    return word;
}

constexpr Kernel KERNEL = {HEIGHT, WIDTH, LANES, tile, ::interleave, nullptr, finish, transpose,
                           {pack<std::uint32_t, INF32>, pack<std::uint16_t, INF16>, pack<std::uint16_t, INFB16>,
                            pack<u64, INF64>},
                           plane};
#undef TARGET
}  // namespace portable
