// Attention of ragged rows to keys and values in pages of sixteen tokens.
//
// Keys lie head_dim first, so that sixteen of them are one vector and no sum runs across lanes:
//
//   fp32, bf16  keys [kv_heads, head_dim, 16], values [kv_heads, 16, head_dim]
//   int8        for each head 16 bf16 scales, one a token, then keys [head_dim / 2, 16, 2], and values
//               [head_dim / 16, 8, 16, 2], where tokens i and i + 8 lie together: the two whose
//               products are added first
//
// Over int8 the products are those of integers: queries and weights are rounded to 16 bits on the
// way, which costs nothing that a float would show.
//
// A run of rows reads one source (its sequence's pages, causally) or several (images, all of them).
// Sources are read in pieces of PIECE tokens, each with a softmax of its own (the online one,
// 2205.14135, over KEYS at a time), and the pieces are merged in order. So neither threads nor
// company change a bit of what a row gets.
//
// Rows in bulk, those of a prompt or an image, may be rounded to bf16, which AMX multiplies ten times as
// fast. Which rows are such is said from outside, for it must not depend on how many come together.
#pragma once
#include <algorithm>
#include <type_traits>
#include <vector>

#include "amx.h"
#include "pool.h"
#include "scratch.h"
#include "vec.h"

constexpr int PAGE = 16, PAGES = 8, KEYS = PAGES * PAGE;  // PAGES are looked at together
constexpr int TOGETHER = 4;
constexpr long EXACT_ROWS = 32, BULK_ROWS = 128, MOST_ROWS = BULK_ROWS;  // of a tile
constexpr long PIECE = 1024;
constexpr int STEPS = 4;  // of products, without a branch
constexpr int ABREAST = 2 / Vec::N ? 2 / Vec::N : 1;  // pages, so that there are sums enough to hide how long one takes

struct Source {  // `pages` of `keys` and `values`, null for 0, 1, 2 ...
    const void *keys, *values;
    const int64_t* pages;
    long tokens;
};
struct Run {  // rows start..start+length-1 at positions context.., or, if that is below 0, of no order
    long start, length, context, first_source, sources;
};

struct Shape {
    long heads, kv_heads, head_dim;
};

// Bytes that one head of a page takes in keys or in values.
template <class T> static inline long head_bytes(long d) { return d * PAGE * (long)sizeof(T); }
template <> inline long head_bytes<int8_t>(long d) { return (d + 2) * PAGE; }

// What a tile's rows have gathered: the largest score (of base 2), sixteen sums of weights, and the sum
// of weighted values.
struct Gathered {
    static long whole(long rows) { return (rows + 15) / 16 * 16; }  // so that what follows begins a line
    static long floats(long rows, long d) { return whole(rows) + rows * (PAGE + d); }
    float *most, *weight, *out;
    long d;

    Gathered(float* memory, long rows, long head_dim)
        : most(memory), weight(most + whole(rows)), out(weight + rows * PAGE), d(head_dim) {}
    void clear(long rows) const {
        std::fill(most, most + rows, -INFINITY);
        std::fill(weight, weight + rows * PAGE, 0.0f);
        std::fill(out, out + rows * d, 0.0f);
    }
    void add(const Gathered& other, long rows) const {
        for (long r = 0; r < rows; r++) {
            if (other.most[r] == -INFINITY) continue;
            const float now = std::max(most[r], other.most[r]);
            const Vec mine = splat(std::exp2(most[r] - now)), theirs = splat(std::exp2(other.most[r] - now));
            auto join = [&](float* to, const float* from) { save(to, load(to) * mine + load(from) * theirs); };
            most[r] = now;
            join(weight + r * PAGE, other.weight + r * PAGE);
            for (long c = 0; c < d; c += 16) join(out + r * d + c, other.out + r * d + c);
        }
    }
    void finish(long rows, float* to, const long* at) const {
        for (long r = 0; r < rows; r++) {
            const Vec share = splat(1 / total(load(weight + r * PAGE)));
            for (long c = 0; c < d; c += 16) save(to + at[r] + c, load(out + r * d + c) * share);
        }
    }
};

// Where PAGES pages of one head lie, and, unless it was asked for, what will be wanted next.
struct Place {
    const uint8_t *now[PAGES], *next[PAGES];
    bool asks;

    template <int bytes> __attribute__((always_inline)) void ask(int page, long first) const {
        if (asks)
#pragma GCC unroll 8
            for (int line = 0; line < bytes; line += 64) __builtin_prefetch(next[page] + first + line, 0, 2);
    }
};

// --- fp32 and bf16: products of floats

// Of TOGETHER rows the first number of each, then the second of each, and so on: what is wanted together.
template <class T> struct Queries {
    static constexpr long ROWS = EXACT_ROWS;
    static long room(long rows) { return rows; }
    float* const q;
    Queries(const float* const* from, long rows, long d, float) : q(scratch<float, TILE_QUERIES>(ROWS * d)) {
        for (long r = 0; r < rows; r++)
            for (long c = 0; c < d; c++) q[r / TOGETHER * TOGETHER * d + c * TOGETHER + r % TOGETHER] = from[r][c];
    }
};

template <class T, int R>
static void score(const Queries<T>& q, long row, const Place& at, int count, const Shape& s, float scale,
    float (*scores)[KEYS]) {
    for (int p = 0; p < count; p += ABREAST) {
        const float* mine = q.q + row * s.head_dim;
        lanes sum[ABREAST][R][Vec::N] = {};
        for (long c = 0; c < s.head_dim; c += STEPS) {
            for (int a = 0; a < ABREAST; a++) at.ask<STEPS * PAGE * sizeof(T)>(p + a, c * PAGE * sizeof(T));
#pragma GCC unroll 8
            for (int step = 0; step < STEPS; step++, mine += TOGETHER)
                for (int a = 0; a < ABREAST; a++) {
                    const Vec key = apart((const T*)at.now[p + a] + (c + step) * PAGE);
                    for (int r = 0; r < R; r++) EACH sum[a][r][i] += key.v[i] * mine[r];
                }
        }
#pragma GCC unroll 2
        for (int a = 0; a < ABREAST; a++)
#pragma GCC unroll 4
            for (int r = 0; r < R; r++)
                save(scores[r] + (p + a) * PAGE, together<T>(joined(sum[a][r])) * splat(scale));
    }
}

template <class T, int R>
static void weigh(float (*weights)[KEYS], const long*, const Place& at, int count, long keys, const Shape& s,
    float* out) {
    const long d = s.head_dim;
    for (long c = 0; c < d; c += 16) {
        lanes sum[2][R][Vec::N] = {};  // of even tokens and of odd ones
        for (int p = 0; p < count; p++) {
            const T* v = (const T*)at.now[p] + c;
            at.ask<16 * PAGE * sizeof(T)>(p, c * PAGE * sizeof(T));
            const float* weight = weights[0] + p * PAGE;
            const long rows = std::min((long)PAGE, keys - p * PAGE);
            auto add = [&](lanes(*to)[Vec::N]) {
                const Vec value = apart(v);
                for (int r = 0; r < R; r++) EACH to[r][i] += value.v[i] * weight[r * KEYS];
                v += d, weight++;
            };
            long key = 0;
            for (; key + 2 <= rows; key += 2) add(sum[0]), add(sum[1]);
            if (key < rows) add(sum[0]);
        }
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            EACH sum[0][r][i] += sum[1][r][i];
            save(out + r * d + c, load(out + r * d + c) + together<T>(joined(sum[0][r])));
        }
    }
}

// --- int8: products of integers

// Rounds to int16 with the scale that is given back; a scale that is no number says so of all.
static inline float to_int16(const float* x, long count, float most, int16_t* to) {
    if (!(most > 1e-30f) || most == INFINITY) {
        memset(to, 0, count * 2);
        return most * 0;
    }
    const float inverse = 32767 / most;
    for (long c = 0; c < count; c++) to[c] = (int16_t)(int)std::nearbyint(x[c] * inverse);
    return most / 32767;
}

// As above, of pairs.
template <> struct Queries<int8_t> {
    static constexpr long ROWS = EXACT_ROWS;
    static long room(long rows) { return rows; }
    int32_t* const pairs;
    float scale[EXACT_ROWS];
    const long d;
    Queries(const float* const* from, long rows, long head_dim, float)
        : pairs(scratch<int32_t, TILE_QUERIES>((ROWS + 2) * head_dim / 2)), d(head_dim) {
        int32_t* const row = pairs + ROWS * d / 2;
        for (long r = 0; r < rows; r++) {
            float most = 0, nothing = 0;
            for (long c = 0; c < d; c++) {
                most = std::max(most, std::fabs(from[r][c]));
                nothing += from[r][c] * 0;  // NaN once there is an infinity or a NaN
            }
            scale[r] = to_int16(from[r], d, most + nothing, (int16_t*)row);
            int32_t* to = pairs + r / TOGETHER * TOGETHER * d / 2 + r % TOGETHER;
            for (long c = 0; c < d / 2; c++) to[c * TOGETHER] = row[c];
        }
    }
};

template <int R>
static void score(const Queries<int8_t>& q, long row, const Place& at, int count, const Shape& s, float scale,
    float (*scores)[KEYS]) {
    for (int p = 0; p < count; p += ABREAST) {
        const int32_t* mine = q.pairs + row * s.head_dim / 2;
        ilanes sum[ABREAST][R][Vec::N] = {};
        for (int a = 0; a < ABREAST; a++) at.ask<64>(p + a, s.head_dim * PAGE);
        for (long c = 0; c < s.head_dim; c += 2 * STEPS) {
            for (int a = 0; a < ABREAST; a++) at.ask<2 * STEPS * PAGE>(p + a, c * PAGE);
#pragma GCC unroll 8
            for (int step = 0; step < STEPS; step++, mine += TOGETHER)
                for (int a = 0; a < ABREAST; a++) {
                    pairs key[Vec::N];
                    widen_pairs((const int8_t*)at.now[p + a] + (2 + c + 2 * step) * PAGE, key);
                    for (int r = 0; r < R; r++) EACH add_products(sum[a][r][i], key[i], mine[r]);
                }
        }
#pragma GCC unroll 2
        for (int a = 0; a < ABREAST; a++) {
            const Vec unit = widen((const uint16_t*)at.now[p + a]) * splat(scale);
#pragma GCC unroll 4
            for (int r = 0; r < R; r++)
                save(scores[r] + (p + a) * PAGE, joined(sum[a][r]) * unit * splat(q.scale[row + r]));
        }
    }
}

// `weights` as int16 with the unit that is given back: token i of a page in the low half of pair i, token
// i + 8 in the high one.
static inline float weights_to_int16(const float* weights, int count, int32_t* to) {
    typedef float eight __attribute__((vector_size(32)));
    typedef int32_t ieight __attribute__((vector_size(32)));
    Vec top = load(weights);
    for (int p = 1; p < count; p++) top = greater(top, load(weights + p * PAGE));
    const float most = largest(top);
    if (!(most > 1e-30f) || most == INFINITY) {
        memset(to, 0, count * PAGE / 2 * 4);
        return most * 0;
    }
    const float inverse = 32767 / most;
    for (int p = 0; p < count; p++, weights += PAGE, to += PAGE / 2) {
        eight first, second;
        memcpy(&first, weights, sizeof first);
        memcpy(&second, weights + PAGE / 2, sizeof second);
        const ieight low = (ieight)(first * inverse + 12582912.0f) & 0xffff;  // rounds, see vec.h
        const ieight both = low | (ieight)(second * inverse + 12582912.0f) << 16;
        memcpy(to, &both, sizeof both);
    }
    return most / 32767;
}

template <int R>
static void weigh(float (*weights)[KEYS], const long* seen, const Place& at, int count, long, const Shape& s,
    float* out) {
    const long d = s.head_dim;
    alignas(64) int32_t whole[R][KEYS / 2];
    float unit[R];
    for (int p = 0; p < count; p++) at.ask<64>(p, d * PAGE);
    for (int p = 0; p < count; p++) {
        const Vec scale = widen((const uint16_t*)at.now[p]);
        for (int r = 0; r < R; r++) save(weights[r] + p * PAGE, load(weights[r] + p * PAGE) * scale);
    }
    for (int r = 0; r < R; r++) {
        for (long c = std::max(0L, seen[r]); c < count * PAGE; c++) weights[r][c] = 0;  // and no NaN
        unit[r] = weights_to_int16(weights[r], count, whole[r]);
    }
    for (long c = 0; c < d; c += 16) {
        ilanes sum[ABREAST][R][Vec::N] = {};
        for (int p = 0; p < count; p += ABREAST) {
            const int32_t* weight = whole[0] + p * PAGE / 2;
            for (int a = 0; a < ABREAST; a++) at.ask<PAGE * PAGE>(p + a, PAGE * c);
#pragma GCC unroll 8
            for (int j = 0; j < PAGE / 2; j++, weight++)
#pragma GCC unroll 2
                for (int a = 0; a < ABREAST; a++) {
                    pairs value[Vec::N];
                    widen_pairs((const int8_t*)at.now[p + a] + (2 + c + 2 * j) * PAGE, value);
#pragma GCC unroll 4
                    for (int r = 0; r < R; r++)
                        EACH add_products(sum[a][r][i], value[i], weight[(r * KEYS + a * PAGE) / 2]);
                }
        }
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
            Vec all = joined(sum[0][r]);
            if (ABREAST > 1) all = joined(sum[0][r], sum[ABREAST - 1][r]);
            save(out + r * d + c, load(out + r * d + c) + all * splat(unit[r]));
        }
    }
}

template <class T, int R> struct Products {
    static constexpr auto score = ::score<T, R>;
    static constexpr auto weigh = ::weigh<T, R>;
};
template <int R> struct Products<int8_t, R> {
    static constexpr auto score = ::score<R>;
    static constexpr auto weigh = ::weigh<R>;
};

// --- softmax, the same for all

// Scores of `count` pages (of base 2), of which a row sees the first `seen` tokens, become weights, 0
// where it sees none.
static inline void soften(float* scores, long seen, int count, const Gathered& to, long row) {
    const int mine = (int)std::min((long)count, (std::max(0L, seen) + PAGE - 1) / PAGE);
    for (long c = std::max(0L, seen); c < mine * PAGE; c++) scores[c] = -INFINITY;
    for (int p = mine; p < count; p++) save(scores + p * PAGE, splat(0));
    if (!mine) return;
    Vec top = load(scores);
    for (int p = 1; p < mine; p++) top = greater(top, load(scores + p * PAGE));
    const float most = to.most[row], now = std::max(most, largest(top));
    if (now == -INFINITY) {
        for (int p = 0; p < mine; p++) save(scores + p * PAGE, splat(0));
        return;
    }
    Vec sum = splat(0);
    for (int p = 0; p < mine; p++) {
        const Vec e = power_of_two(load(scores + p * PAGE) - splat(now));
        save(scores + p * PAGE, e);
        sum = sum + e;
    }
    float *const weight = to.weight + row * PAGE, *const out = to.out + row * to.d;
    if (now == most) {
        save(weight, load(weight) + sum);
        return;
    }
    const Vec keep = splat(std::exp2(most - now));
    save(weight, load(weight) * keep + sum);
    for (long c = 0; c < to.d; c += 16) save(out + c, load(out + c) * keep);
    to.most[row] = now;
}

// R rows of a tile against up to KEYS keys of one head; row r sees the first seen[r] of them.
template <class T, int R>
static void attend(const Queries<T>& q, long row, const long* seen, const Place& keys, const Place& values,
    int count, long there, const Shape& s, float scale, const Gathered& to) {
    alignas(64) float scores[R][KEYS];
    count = (count + ABREAST - 1) / ABREAST * ABREAST;
    Products<T, R>::score(q, row, keys, count, s, scale, scores);
    for (int r = 0; r < R; r++) soften(scores[r], seen[r], count, to, row + r);
    Products<T, R>::weigh(scores, seen, values, count, there, s, to.out + row * s.head_dim);
}

// A tile's rows against tokens first..first+PIECE-1 of a source; row r sees its first seen[r] tokens.
template <class T>
static void attend_piece(const Queries<T>& q, long rows, const long* seen, const Source& source, long first,
    long kv, const Shape& s, float scale, const Gathered& to) {
    long last = 0;
    for (long r = 0; r < rows; r++) last = std::max(last, seen[r]);
    last = std::min(last, first + PIECE);
    const long bytes = head_bytes<T>(s.head_dim), stride = s.kv_heads * bytes;
    const long pages = (last + PAGE - 1) / PAGE;
    auto at = [&](const void* base, long page) {
        page = std::min(page, pages - 1);
        return (const uint8_t*)base + (source.pages ? source.pages[page] : page) * stride + kv * bytes;
    };
    for (; first < last; first += KEYS) {
        const int count = (int)std::min((long)PAGES, (last - first + PAGE - 1) / PAGE);
        Place keys, values;  // while keys are read, values are asked for, and then the next keys
        keys.asks = values.asks = true;
        for (int p = 0; p < PAGES; p++) {
            keys.now[p] = at(source.keys, first / PAGE + p);
            keys.next[p] = values.now[p] = at(source.values, first / PAGE + p);
            values.next[p] = at(source.keys, first / PAGE + p + PAGES);
        }
        for (long r = 0; r < rows; r += TOGETHER) {
            long here[TOGETHER];
            const int n = (int)std::min((long)TOGETHER, rows - r);
            for (int j = 0; j < n; j++) here[j] = seen[r + j] - first;
            switch (n) {
                case 1: attend<T, 1>(q, r, here, keys, values, count, last - first, s, scale, to); break;
                case 2: attend<T, 2>(q, r, here, keys, values, count, last - first, s, scale, to); break;
                case 3: attend<T, 3>(q, r, here, keys, values, count, last - first, s, scale, to); break;
                default: attend<T, 4>(q, r, here, keys, values, count, last - first, s, scale, to);
            }
            keys.asks = values.asks = false;
        }
    }
}

#if HAS_AMX
#include "attention_amx.h"
template <class T> using Bulk = std::conditional_t<sizeof(T) < sizeof(float), BulkQueries<T>, Queries<T>>;
#else
template <class T> using Bulk = Queries<T>;
#endif

// One key head of some tokens of a run: MOST_ROWS rows at most, for each token the heads that share
// the key head.
struct Tile {
    const Run& run;
    const long rows;
    long at[MOST_ROWS], seen[MOST_ROWS];  // where each row's head begins in queries and output

    Tile(const Run& of, long token, long tokens, long kv, const Shape& s)
        : run(of), rows(std::min(tokens, of.length - token) * (s.heads / s.kv_heads)) {
        const long group = s.heads / s.kv_heads;
        for (long r = 0; r < rows; r++) {
            const long row = token + r / group;
            at[r] = ((run.start + row) * s.heads + kv * group + r % group) * s.head_dim;
            seen[r] = run.context + row + 1;
        }
    }
    // Calls work(source, first token) for each piece, in order.
    template <class Work> void each_piece(const Source* sources, const Work& work) {
        for (long i = run.first_source; i < run.first_source + run.sources; i++) {
            if (run.context < 0) std::fill(seen, seen + rows, sources[i].tokens);
            for (long first = 0; first < seen[rows - 1]; first += PIECE) work(sources[i], first);
        }
    }
};

// A tile against all of its pieces into `out`, or, where there is a `part`, against one into that.
template <class Queries>
static void attend_tile(Tile& tile, const float* q, const Source* sources, long kv, const Shape& s, long piece,
    float* part, float* out) {
    const long d = s.head_dim, room = Queries::room(tile.rows), size = Gathered::floats(room, d);
    const float scale = 1.44269504f / std::sqrt((float)d);  // softmax to the base of two
    const float* from[MOST_ROWS];
    for (long r = 0; r < tile.rows; r++) from[r] = q + tile.at[r];
    const Queries rows(from, tile.rows, d, scale);
    float* const memory = scratch<float, GATHERED>(2 * size);
    const Gathered all(memory, room, d), some(part ? part : memory + size, room, d);
    if (!part) all.clear(room);
    tile.each_piece(sources, [&](const Source& source, long first) {
        if (part && piece--) return;
        some.clear(room);
        attend_piece(rows, tile.rows, tile.seen, source, first, kv, s, scale, some);
        if (!part) all.add(some, tile.rows);
    });
    if (!part) all.finish(tile.rows, out, tile.at);
}

// Rows from `exact` on, of whole runs, are in bulk.
template <class T>
static void attention(Pool& pool, const float* q, const Run* runs, long count, const Source* sources,
    const Shape& s, long exact, float* out) {
    struct Item {
        long run, token, kv, piece, part;  // where in `parts`, or -1: all pieces, into `out`
    };
    const long group = s.heads / s.kv_heads;
    auto bulk = [&](const Run& run) { return run.start >= exact; };
    auto tokens = [&](const Run& run) {
        return std::max(1L, (bulk(run) ? Bulk<T>::ROWS : Queries<T>::ROWS) / group);
    };
    auto room = [&](const Run& run) {
        return (bulk(run) ? Bulk<T>::room : Queries<T>::room)(run.length * group);
    };
    // A run of one tile leaves its pieces to several threads, and they are merged afterwards; longer
    // ones have tiles enough.
    std::vector<Item> items, merges;
    long floats = 0;
    for (long i = 0; i < count; i++) {
        const Run& run = runs[i];
        long pieces = 0;
        for (long j = run.first_source; j < run.first_source + run.sources; j++) {
            const long read = run.context < 0 ? sources[j].tokens : run.context + run.length;
            pieces += (read + PIECE - 1) / PIECE;
        }
        if (run.length > tokens(run) || pieces < 2) {
            for (long token = 0; token < run.length; token += tokens(run))
                for (long kv = 0; kv < s.kv_heads; kv++) items.push_back({i, token, kv, 0, -1});
            continue;
        }
        const long size = Gathered::floats(room(run), s.head_dim);
        for (long kv = 0; kv < s.kv_heads; kv++) merges.push_back({i, 0, kv, pieces, floats + kv * size});
        for (long piece = 0; piece < pieces; piece++)
            for (long kv = 0; kv < s.kv_heads; kv++, floats += size) items.push_back({i, 0, kv, piece, floats});
    }
    float* const parts = scratch<float, PARTS>(floats);
    pool.run((long)items.size(), [&](long number) {
        const Item& item = items[number];
        const Run& run = runs[item.run];
        Tile tile(run, item.token, tokens(run), item.kv, s);
        float* const part = item.part < 0 ? nullptr : parts + item.part;
        if (bulk(run)) attend_tile<Bulk<T>>(tile, q, sources, item.kv, s, item.piece, part, out);
        else attend_tile<Queries<T>>(tile, q, sources, item.kv, s, item.piece, part, out);
    });
    pool.run((long)merges.size(), [&](long number) {
        const Item& item = merges[number];
        const Run& run = runs[item.run];
        const Tile tile(run, 0, tokens(run), item.kv, s);
        const long size = Gathered::floats(room(run), s.head_dim);
        float* const memory = scratch<float, GATHERED>(size);
        const Gathered all(memory, room(run), s.head_dim);
        all.clear(tile.rows);
        for (long piece = 0; piece < item.piece; piece++)
            all.add(Gathered(parts + item.part + piece * s.kv_heads * size, room(run), s.head_dim), tile.rows);
        all.finish(tile.rows, out, tile.at);
    });
}

// --- writing into pages

static inline void narrow(float* to, float x) { *to = x; }
static inline void narrow(uint16_t* to, float x) { *to = float_to_bf16(x); }

// One head of a token into its place of a page.
template <class T>
static void put(uint8_t* keys, uint8_t* values, long place, const float* k, const float* v, long d) {
    for (long c = 0; c < d; c++) {
        narrow((T*)keys + c * PAGE + place, k[c]);
        narrow((T*)values + place * d + c, v[c]);
    }
}

// The scale in bf16, rounded up so that no value exceeds 127, and the values in `to`. It is infinite
// where they are no numbers.
static inline uint16_t to_int8(const float* x, long d, int8_t* to) {
    float most = 0, nothing = 0;  // NaN once there is an infinity or a NaN
    for (long c = 0; c < d; c++) {
        most = std::max(most, std::fabs(x[c]));
        nothing += x[c] * 0;
    }
    memset(to, 0, d);
    if (nothing != 0) return 0x7f80;
    const float exact = most / 127;
    if (exact < 1e-32f) return 0;
    uint32_t bits;
    memcpy(&bits, &exact, 4);
    const uint16_t scale = (uint16_t)((bits + 0xffff) >> 16);
    const float inverse = 1 / bf16_to_float(scale);
    for (long c = 0; c < d; c++) to[c] = (int8_t)(int)std::nearbyint(x[c] * inverse);
    return scale;
}

template <>
inline void put<int8_t>(uint8_t* keys, uint8_t* values, long place, const float* k, const float* v, long d) {
    std::vector<int8_t> whole(d);
    uint16_t scale = to_int8(k, d, whole.data());
    memcpy(keys + place * 2, &scale, 2);
    keys += 2 * PAGE;
    for (long c = 0; c < d; c++) keys[(c / 2 * PAGE + place) * 2 + c % 2] = (uint8_t)whole[c];
    scale = to_int8(v, d, whole.data());
    memcpy(values + place * 2, &scale, 2);
    values += 2 * PAGE;
    for (long c = 0; c < d; c++) values[(c / 16 * 128 + place % 8 * 16 + c % 16) * 2 + place / 8] = (uint8_t)whole[c];
}

// Row r of k and v [rows, kv_heads, head_dim] at slots[r]: page slots[r] / PAGE, its place the rest.
template <class T>
static void store(Pool& pool, void* keys, void* values, const int64_t* slots, const float* k, const float* v,
    long rows, const Shape& s) {
    const long bytes = head_bytes<T>(s.head_dim), heads = s.kv_heads;
    auto one = [&](long r) {
        for (long h = 0; h < heads; h++) {
            const long from = (r * heads + h) * s.head_dim, to = (slots[r] / PAGE * heads + h) * bytes;
            put<T>((uint8_t*)keys + to, (uint8_t*)values + to, slots[r] % PAGE, k + from, v + from, s.head_dim);
        }
    };
    // A page's rows lie one beside the other: what a thread takes at once is a page's worth.
    pool.run((rows + PAGE - 1) / PAGE, [&](long chunk) {
        for (long r = chunk * PAGE; r < std::min(rows, (chunk + 1) * PAGE); r++) one(r);
    });
}
