// What every processor's kernel has in common, compiled for it: included inside its namespace, after TARGET, its
// attribute, LANES, the words in a vector, HEIGHT and WIDTH, of its largest tile, and sized_tile.

// Counts to float32 numbers.
TARGET static inline void finish_some(const i32* counts, i64 n, i32 offset, i32 factor, float row_scale,
                                      const float* scales, float* out) {
    if (scales)
        for (i64 i = 0; i < n; ++i) out[i] = static_cast<float>(offset + factor * counts[i]) * scales[i];
    else
        for (i64 i = 0; i < n; ++i) out[i] = static_cast<float>(offset + factor * counts[i]) * row_scale;
}

TARGET static void finish(const i32* counts, i64 n, i32 offset, i32 factor, float row_scale, const float* scales,
                          float* out) {
    if (n == WIDTH)  // a number that the compiler knows
        finish_some(counts, WIDTH, offset, factor, row_scale, scales, out);
    else
        finish_some(counts, n, offset, factor, row_scale, scales, out);
}

template <bool BOTH, int R>
static void wide_tile(i64 vectors, const u64* const* row, const Segment* segment, i64 segments, const u64* panel,
                      bool add, i32* counts) {
    constexpr int MOST = WIDTH / LANES;
    if constexpr (!BOTH && MOST > 1)
        if (vectors == 1) return sized_tile<BOTH, R, 1>(row, segment, segments, panel, add, counts);
    if constexpr (!BOTH && MOST > 2)
        if (vectors == 2) return sized_tile<BOTH, R, 2>(row, segment, segments, panel, add, counts);
    if constexpr (!BOTH && MOST > 3)
        if (vectors == 3) return sized_tile<BOTH, R, 3>(row, segment, segments, panel, add, counts);
    sized_tile<BOTH, R, MOST>(row, segment, segments, panel, add, counts);
}

template <bool BOTH>
static void any_tile(i64 rows, i64 vectors, const u64* const* row, const Segment* segment, i64 segments,
                     const u64* panel, bool add, i32* counts) {
    if (rows == HEIGHT) return wide_tile<BOTH, HEIGHT>(vectors, row, segment, segments, panel, add, counts);
    for (; rows > 0; rows -= 2, row += 2, counts += 2 * WIDTH)
        wide_tile<BOTH, 2>(vectors, row, segment, segments, panel, add, counts);
}

static void tile(bool both, i64 rows, i64 columns, const u64* const* row, const Segment* segment, i64 segments,
                 const u64* panel, bool add, i32* counts) {
    (both ? any_tile<true> : any_tile<false>)(rows, columns / LANES, row, segment, segments, panel, add, counts);
}

// Bit j of word i and bit i of word j change places: halves of the square, then quarters, and so on.
TARGET static void transpose(u64* word) {
    u64 mask = 0x00000000FFFFFFFF;
    for (int half = 32; half; half >>= 1, mask ^= mask << half)
        for (int block = 0; block < 64; block += 2 * half)
            for (int i = block; i < block + half; ++i) {
                const u64 swapped = (word[i] >> half ^ word[i + half]) & mask;
                word[i + half] ^= swapped;
                word[i] ^= swapped << half;
            }
}
