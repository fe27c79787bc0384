// The tile of processors that count bits byte by byte: included inside a namespace that has V, a vector of LANES words,
// and load, store, spread (a word to all lanes), both (AND), differ (XOR), bytes (ones of each byte), add_bytes, and
// words (the sum of the bytes of each word).

template <int R, int Q>
TARGET static inline void flush(V (&count)[R][Q], i32 weight, bool add, i32* counts) {
    for (int r = 0; r < R; ++r)
        for (int q = 0; q < Q; ++q) {
            u64 found[LANES];
            store(found, words(count[r][q]));
            i32* place = counts + r * WIDTH + q * LANES;
            for (int i = 0; i < LANES; ++i) place[i] = (add ? place[i] : 0) + weight * static_cast<i32>(found[i]);
            count[r][q] = spread(0);
        }
}

template <bool BOTH, int R, int Q>
TARGET static void sized_tile(const u64* const* row, const Segment* segment, i64 segments, const u64* panel, bool add,
                              i32* counts) {
    V count[R][Q];
    for (int r = 0; r < R; ++r)
        for (int q = 0; q < Q; ++q) count[r][q] = spread(0);
    i64 room = 31;  // words, of up to 8 ones in a byte, until a byte may overflow
    for (i64 s = 0; s < segments; ++s) {
        for (i64 k = 0; k < segment[s].words;) {
            const i64 end = std::min(segment[s].words, k + room);
            room -= end - k;
            for (; k < end; ++k, panel += Q * LANES) {
                V b[Q];
                for (int q = 0; q < Q; ++q) b[q] = load(panel + q * LANES);
                for (int r = 0; r < R; ++r) {
                    const V a = spread(row[r][segment[s].row + k]);
                    for (int q = 0; q < Q; ++q)
                        count[r][q] = add_bytes(count[r][q], bytes(BOTH ? both(a, b[q]) : differ(a, b[q])));
                }
            }
            if (!room) {
                flush<R, Q>(count, segment->weight, add, counts);
                room = 31;
                add = true;
            }
        }
    }
    flush<R, Q>(count, segment->weight, add, counts);
}
