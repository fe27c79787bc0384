// How many bits one thread can XOR, count and add up, with everything in registers: the ceiling of products of signs.
#include <cstdint>
#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("avx512f,avx512vpopcntdq"))) static void wide(std::int64_t rounds) {
    __m512i sum[16], a = _mm512_set1_epi64(0x123456789), b[4];
    for (auto& s : sum) s = _mm512_setzero_si512();
    for (int i = 0; i < 4; ++i) b[i] = _mm512_set1_epi64(0x987654321 * (i + 1));
    for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) {
            asm volatile("" : "+v"(a), "+v"(b[i % 4]));  // may have changed: the compiler can save no XOR
            sum[i] = _mm512_add_epi64(sum[i], _mm512_popcnt_epi64(_mm512_xor_si512(a, b[i % 4])));
        }
    }
    for (auto& s : sum) asm volatile("" ::"v"(s));
}
#define NARROW __attribute__((target("popcnt")))
#else
#define NARROW
#endif

NARROW static void narrow(std::int64_t rounds) {
    std::uint64_t sum[8] = {}, a = 0x123456789, b = 0x987654321;
    for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) {
            asm volatile("" : "+r"(a), "+r"(b));
            sum[i] += __builtin_popcountll(a ^ b);
        }
    }
    for (auto& s : sum) asm volatile("" ::"r"(s));
}

static bool has_wide() {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vpopcntdq");
#else
    return false;
#endif
}

#define EXPORT extern "C" __attribute__((visibility("default")))

// The bits of a round.
EXPORT std::int64_t bits() { return has_wide() ? 16 * 512 : 8 * 64; }

EXPORT void peak(std::int64_t rounds) {
#if defined(__x86_64__)
    if (has_wide()) return wide(rounds);
#endif
    narrow(rounds);
}
