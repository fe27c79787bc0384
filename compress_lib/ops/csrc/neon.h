// 64-bit ARM: an instruction counts the ones of each of 16 bytes.
#pragma once
#include <arm_neon.h>

#include "portable.h"

namespace neon {
#define TARGET
using V = uint64x2_t;
constexpr int LANES = 2, WIDTH = 8, HEIGHT = 4;  // 16 sums, 4 vectors of columns, a word of a row: 21 of 32 registers

static inline V load(const u64* p) { return vld1q_u64(p); }
static inline void store(u64* p, V v) { vst1q_u64(p, v); }
static inline V spread(u64 word) { return vdupq_n_u64(word); }
static inline V both(V a, V b) { return vandq_u64(a, b); }
static inline V differ(V a, V b) { return veorq_u64(a, b); }
static inline V bytes(V v) { return vreinterpretq_u64_u8(vcntq_u8(vreinterpretq_u8_u64(v))); }
static inline V words(V v) { return vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(vreinterpretq_u8_u64(v)))); }
static inline V add_bytes(V a, V b) {
    return vreinterpretq_u64_u8(vaddq_u8(vreinterpretq_u8_u64(a), vreinterpretq_u8_u64(b)));
}

#include "bytes.h"
#include "generic.h"

constexpr Kernel KERNEL = {HEIGHT, WIDTH, LANES, tile, ::interleave, nullptr, finish, transpose,
                           {portable::pack<std::uint32_t, INF32>, portable::pack<std::uint16_t, INF16>,
                            portable::pack<std::uint16_t, INFB16>, portable::pack<u64, INF64>}, portable::plane};
#undef TARGET
}  // namespace neon
