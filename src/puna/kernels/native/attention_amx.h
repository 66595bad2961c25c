// Attention of rows in bulk: queries, keys, values and weights meet as bf16 in tiles of AMX, and softmax is
// of floats between them. Pages of BULK_KEYS tokens are laid out for it anew, which many rows share.
//
// It knows no runs and no threads: it is a part of attention.h.
#pragma once
#include "scratch.h"

constexpr int BULK_KEYS = 256;  // are looked at together: what is done once for each row weighs less than with KEYS

// Sixteen pairs, each of a number of one row and one of another.
static inline void pair(const uint16_t* first, const uint16_t* second, uint16_t* to) {
    const Vec low = widen(first), high = widen(second);
    EACH {
        const words both = (words)low.v[i] >> 16 | (words)high.v[i];
        memcpy(to + i * LANES * 2, &both, sizeof both);
    }
}
// Sixteen pairs of bytes, all of which bf16 holds exactly.
static inline void pair(const int8_t* from, uint16_t* to) {
    pairs whole[Vec::N];
    widen_pairs(from, whole);
    EACH {
        const ilanes two = (ilanes)whole[i];
        const words low = (words)__builtin_convertvector((two << 16) >> 16, lanes);
        const words high = (words)__builtin_convertvector(two >> 16, lanes);
        const words both = low >> 16 | high;  // the lower half of each is 0
        memcpy(to + i * LANES * 2, &both, sizeof both);
    }
}

// Features c and c + 1 of a page's keys; sixteen features from c on of its values i and i + 8.
static inline void pair_keys(const uint16_t* page, long c, uint16_t* to) {
    pair(page + c * PAGE, page + (c + 1) * PAGE, to);
}
static inline void pair_values(const uint16_t* page, long i, long c, long d, uint16_t* to) {
    pair(page + i * d + c, page + (i + PAGE / 2) * d + c, to);
}
static inline void pair_keys(const int8_t* page, long c, uint16_t* to) { pair(page + (2 + c) * PAGE, to); }
static inline void pair_values(const int8_t* page, long i, long c, long, uint16_t* to) {
    pair(page + (2 + c + 2 * i) * PAGE, to);
}

// sums[M][N] += a[M][depth] b[depth][N] tiles, those of b `b_next` and `b_step` numbers apart.
template <int M, int N>
static inline void multiply(const uint16_t* a, long stride, const uint16_t* b, long b_next, long b_step, long depth) {
    for (long k = 0; k < depth; k++, a += 32, b += b_step) {
        amx::load<4>(a, 2 * stride);
        amx::load<6>(b, 64);
        amx::multiply_bf16<0, 4, 6>();
        if constexpr (N > 1) amx::load<7>(b + b_next, 64);
        if constexpr (N > 1) amx::multiply_bf16<1, 4, 7>();
        if constexpr (M > 1) amx::load<5>(a + 16 * stride, 2 * stride);
        if constexpr (M > 1) amx::multiply_bf16<2, 5, 6>();
        if constexpr (M > 1 && N > 1) amx::multiply_bf16<3, 5, 7>();
    }
}
template <int M, int N> static inline void load_sums(const float* from, long stride) {
    amx::load<0>(from, 4 * stride);
    if constexpr (N > 1) amx::load<1>(from + 16, 4 * stride);
    if constexpr (M > 1) amx::load<2>(from + 16 * stride, 4 * stride);
    if constexpr (M > 1 && N > 1) amx::load<3>(from + 16 * stride + 16, 4 * stride);
}
template <int M, int N> static inline void store_sums(float* to, long stride) {
    amx::store<0>(to, 4 * stride);
    if constexpr (N > 1) amx::store<1>(to + 16, 4 * stride);
    if constexpr (M > 1) amx::store<2>(to + 16 * stride, 4 * stride);
    if constexpr (M > 1 && N > 1) amx::store<3>(to + 16 * stride + 16, 4 * stride);
}

// Rows of a tile of attention, and what a thread needs to multiply them: all bf16, but for scores and units.
template <class T> struct BulkQueries {
    static constexpr long ROWS = BULK_ROWS, TILE = 512;  // numbers in a tile
    static long room(long rows) { return (rows + 15) / 16 * 16; }
    using Stored = T;

    const long d, wide;  // features, and with zeros behind them
    uint16_t *const queries, *const keys, *const values, *const weights;
    float *const scores, *const units;
    const amx::Tiles tiles{{{16, 64}, {16, 64}, {16, 64}, {16, 64}, {16, 64}, {16, 64}, {16, 64}, {16, 64}}};

    BulkQueries(const float* const* from, long rows, long head_dim, float scale)
        : d(head_dim), wide((d + 31) / 32 * 32), queries(scratch<uint16_t, TILE_QUERIES>(ROWS * wide)),
          keys(scratch<uint16_t, TILE_KEYS>(BULK_KEYS * wide)), values(scratch<uint16_t, TILE_VALUES>(BULK_KEYS * d)),
          weights(scratch<uint16_t, TILE_WEIGHTS>(32 * BULK_KEYS)), scores(scratch<float, TILE_SCORES>(32 * BULK_KEYS)),
          units(scratch<float, TILE_UNITS>(2 * BULK_KEYS)) {
        memset(queries, 0, room(rows) * wide * 2);
        if (wide > d) memset(keys, 0, BULK_KEYS * wide * 2);
        for (long r = 0; r < rows; r++)
            for (long c = 0; c < d; c++) queries[r * wide + c] = float_to_bf16(from[r][c] * scale);
    }

    // A page of keys as tiles of 32 features by 16 tokens.
    void take_keys(int p, const T* page) const {
        for (long c = 0; c < d; c += 2) pair_keys(page, c, keys + p * 16 * wide + c * PAGE);
        if constexpr (sizeof(T) == 1) save(units + p * PAGE, widen((const uint16_t*)page));
    }
    // The first `there` tokens of a page of values, as half a tile of 32 tokens for each 16 features.
    void take_values(int p, const T* page, long there) const {
        uint16_t* const to = values + p / 2 * 32 * d + p % 2 * TILE / 2;
        for (long c = 0; c < d; c += 16)
            for (int i = 0; i < PAGE / 2; i++) pair_values(page, i, c, d, to + c / 16 * TILE + i * 32);
        if constexpr (sizeof(T) == 1) save(units + BULK_KEYS + p * PAGE, widen((const uint16_t*)page));
        for (long i = there; i < PAGE; i++) no_value(p, i);
    }
    // What lies behind the end may be NaN, which no weight of 0 undoes.
    void no_value(int p, long i) const {
        uint16_t* const to = values + p / 2 * 32 * d + p % 2 * TILE / 2 + i % 8 * 32 + i / 8;
        for (long c = 0; c < d; c++) to[c / 16 * TILE + c % 16 * 2] = 0;
    }

    // 16 M rows against the first `count` pages that were taken; of them `rows` are some.
    template <int M> void attend(long row, long rows, const long* seen, long first, int count, const Gathered& to) const {
        for (int p = 0; p < count; p += 2) {
            zero_sums();
            multiply<M, 2>(queries + row * wide, wide, keys + p * 16 * wide, 16 * wide, TILE, wide / 32);
            store_sums<M, 2>(scores + p * PAGE, BULK_KEYS);
        }
        const int even = (count + 1) / 2 * 2;
        for (long r = 0; r < rows; r++) {
            float* const mine = scores + r * BULK_KEYS;
            const long here = seen[row + r] - first;
            if constexpr (sizeof(T) == 1)
                for (int p = 0; p < count; p++) save(mine + p * PAGE, load(mine + p * PAGE) * load(units + p * PAGE));
            soften(mine, here, even, to, row + r);
            if constexpr (sizeof(T) == 1) {
                for (int p = 0; p < count; p++)
                    save(mine + p * PAGE, load(mine + p * PAGE) * load(units + BULK_KEYS + p * PAGE));
                for (long c = std::max(0L, here); c < count * PAGE; c++) mine[c] = 0;  // and no NaN
            }
            weights_to_bf16(mine, even, weights + r * BULK_KEYS);
        }
        long c = 0;
        float* const out = to.out + row * d;
        for (; c + 32 <= d; c += 32) add_values<M, 2>(c, even / 2, out);
        if (c < d) add_values<M, 1>(c, even / 2, out);
    }

private:
    static void zero_sums() { amx::zero<0>(), amx::zero<1>(), amx::zero<2>(), amx::zero<3>(); }
    template <int M, int N> void add_values(long c, int depth, float* out) const {
        load_sums<M, N>(out + c, d);
        multiply<M, N>(weights, BULK_KEYS, values + c / 16 * TILE, TILE, 32 * d, depth);
        store_sums<M, N>(out + c, d);
    }
    // Tokens i and i + 8 of a page lie together, as in the values.
    static void weights_to_bf16(const float* from, int count, uint16_t* to) {
        typedef uint32_t eight __attribute__((vector_size(32)));
        for (int p = 0; p < count; p++, from += PAGE, to += PAGE) {
            eight low, high;
            memcpy(&low, from, sizeof low);
            memcpy(&high, from + PAGE / 2, sizeof high);
            const eight both = (low + 0x8000) >> 16 | ((high + 0x8000) & 0xffff0000);
            memcpy(to, &both, sizeof both);
        }
    }
};

// Inlined, or the compiler takes it for something that does nothing.
static inline __attribute__((always_inline)) void ask(const void* from, long bytes) {
    for (long i = 0; i < bytes; i += 64) __builtin_prefetch((const uint8_t*)from + i);
}

// As over other queries.
template <class T>
static void attend_piece(const BulkQueries<T>& q, long rows, const long* seen, const Source& source, long first,
    long kv, const Shape& s, float, const Gathered& to) {
    const long bytes = head_bytes<T>(s.head_dim), last = std::min(seen[rows - 1], first + PIECE);
    auto at = [&](const void* base, long page) {
        return (const T*)((const uint8_t*)base + ((source.pages ? source.pages[page] : page) * s.kv_heads + kv) * bytes);
    };
    for (; first < last; first += BULK_KEYS) {
        const long there = std::min((long)BULK_KEYS, last - first);
        for (int p = 0; p * PAGE < there; p++) {
            const long next = std::min(first / PAGE + p + 2, (last - 1) / PAGE);
            ask(at(source.keys, next), bytes);
            ask(at(source.values, next), bytes);
            q.take_keys(p, at(source.keys, first / PAGE + p));
            q.take_values(p, at(source.values, first / PAGE + p), there - p * PAGE);
        }
        if (const int p = (int)((there + PAGE - 1) / PAGE); p % 2)
            for (int i = 0; i < PAGE; i++) q.no_value(p, i);
        for (long r = 0; r < rows; r += 32) {
            const long some = std::min(32L, rows - r), most = std::min((long)BULK_KEYS, seen[r + some - 1] - first);
            const int count = (int)((most + PAGE - 1) / PAGE);
            if (most < 1) continue;
            if (some > 16) q.template attend<2>(r, some, seen, first, count, to);
            else q.template attend<1>(r, some, seen, first, count, to);
        }
    }
}
