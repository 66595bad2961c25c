// x @ w.T for packed weights, with what stands before and after it in a transformer: norm, gate and
// residual. Integer weights meet activations that are quantised on the way in.
#pragma once
#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include "formats.h"
#include "pool.h"
#include "scratch.h"
#include "tiles.h"
#include "vec.h"

constexpr long ROWS_A_PASS = 512;      // activation rows that meet a panel while it is in the cache
constexpr long MOST_BYTES = 1 << 20;   // weights that a thread takes at once
constexpr float SMALLEST = 1e-35f;     // activations below it count as 0: 127 / them is infinite

template <class Work> static void each_row(Pool& pool, long rows, const Work& work) {
    if (rows < 4) {
        for (long r = 0; r < rows; r++) work(r);
    } else {
        pool.run(rows, work);
    }
}

static inline float norm_scale(const float* v, long k, float eps) {
    Vec squares = splat(0);
    long c = 0;
    for (; c + 16 <= k; c += 16) add_product(squares, load(v + c), load(v + c));
    float sum = total(squares);
    for (; c < k; c++) sum += v[c] * v[c];
    return 1 / std::sqrt(sum / k + eps);
}

struct Weight {
    int format;
    const uint8_t* data;
    long n;
};

// Calls `call` with the panel type of an integer format.
template <class Call> static void by_format(int format, const Call& call) {
    switch (format) {
        case Q8: call((tiles::Q8Panel*)nullptr); break;
        case Q6: call((tiles::Q6Panel*)nullptr); break;
        case Q4M: call((tiles::Q4MPanel*)nullptr); break;
        default: call((tiles::Q4Panel*)nullptr);
    }
}

// Whether bulk rows meet a format's panels in a way of their own.
template <class Panel> constexpr bool HAS_BULK = !std::is_same<Panel, typename Panel::Bulk>::value;
template <class Panel> constexpr bool HAS_BULK<Panel*> = HAS_BULK<Panel>;

// Activation rows [rows, k] as weights want them. They are normed first if there is a `norm` [k].
//
// The first `exact` meet integers under a scale for each 32 columns, panel by panel: in one that is small, rows
// follow each other. The others are bulk: with AMX bytes in tiles, under a scale a panel. Without, a bulk row
// differs only where each format has a `Bulk` of its own, and else counts as exact. Weights of bf16 meet all
// rows as bf16 with AMX, as tiles too, and else as the processor can.
class Prepared {
public:
    using Float = tiles::BF16Panel::Input;  // what bf16 weights meet without AMX
    const long rows, exact, k, panels = (k + PANEL - 1) / PANEL;
    const long apart = HAS_AMX ? (exact + 15) / 16 * 16 : rows;  // rows of integers from one panel to the next

    Prepared(
        Pool& pool, const float* x, long rows, long exact_rows, long k, const float* norm, float eps,
        const std::vector<Weight>& weights)
        : rows(rows), exact(know_bulk(weights) ? exact_rows : rows), k(k) {
        bool integers = false, wide = false, used[5] = {};
        for (const Weight& w : weights) {
            used[w.format] = true;
            if (w.format == BF16) continue;
            integers = true;
            by_format(w.format, [&](auto* panel) { wide |= panel->WIDE; });
        }
        if (integers && (!HAS_AMX || exact > 0)) {
            q = scratch<int8_t, INTEGERS>(apart * panels * PANEL);
            scale = scratch<float, SCALES>(apart * panels * GROUPS);
            if (wide) q16 = scratch<int16_t, WIDE_INTEGERS>(apart * panels * PANEL);
            start[Q8] = used[Q8] ? scratch<int32_t, STARTS_OF_Q8>(apart * panels * STARTS) : nullptr;
            start[Q6] = used[Q6] ? scratch<int32_t, STARTS_OF_Q6>(apart * panels * STARTS) : nullptr;
            start[Q4] = used[Q4] ? scratch<int32_t, STARTS_OF_Q4>(apart * panels * STARTS) : nullptr;
            start[Q4M] = used[Q4M] ? scratch<int32_t, STARTS_OF_Q4M>(apart * panels * STARTS) : nullptr;
        }
#if HAS_AMX
        first_in_tiles = used[BF16] ? 0 : exact;
        tiles = (rows - first_in_tiles + TILE - 1) / TILE;
        if (used[BF16]) bf16_in_tiles = scratch<uint16_t, INPUTS>(tiles * panels * PANEL * TILE);
        if (integers && exact < rows) {
            bytes_in_tiles = scratch<int8_t, BYTES_IN_TILES>(tiles * panels * PANEL * TILE);
            scale_in_tiles = scratch<float, SCALES_IN_TILES>(tiles * panels * TILE);
        }
        // a last tile is filled with zeros, and a first one that exact rows begin
        const std::vector<float> nothing(tiles ? k : 0);
        for (long r = 0; r < tiles * TILE; r++) {
            const bool after = r >= rows - first_in_tiles, before = r < exact - first_in_tiles;
            if (bf16_in_tiles && after) into_bf16(nothing.data(), r);
            if (bytes_in_tiles && (after || before)) into_bytes(nothing.data(), r);
        }
#else
        if (used[BF16]) floats = scratch<Float, INPUTS>(rows * panels * PANEL);
#endif
        each_row(pool, rows, [&](long r) {
            const float* v = x + r * k;
            if (norm) {
                float* normed = scratch<float, NORMED>(k);
                const float by = norm_scale(v, k, eps);
                for (long c = 0; c < k; c++) normed[c] = v[c] * by * norm[c];
                v = normed;
            }
            if (integers && r < exact) quantize(v, r);
#if HAS_AMX
            if (bf16_in_tiles) into_bf16(v, r - first_in_tiles);
            if (bytes_in_tiles && r >= exact) into_bytes(v, r - first_in_tiles);
#endif
            if (!HAS_AMX && r >= exact)
                by_format(weights[0].format, [&](auto* panel) {
                    if constexpr (HAS_BULK<decltype(panel)>) quantize_for(panel, v, r);
                });
            if (floats)
                for (long c = 0; c < k; c += FLOAT_PANEL) {
                    Float* to = floats + c * rows + r * FLOAT_PANEL;
                    const long there = std::min((long)FLOAT_PANEL, k - c);
                    for (long i = 0; i < there; i++) to[i] = tiles::BF16Panel::input(v[c + i]);
                    std::fill(to + there, to + FLOAT_PANEL, Float());
                }
        });
    }

    Activations at(int format, long panel, long row) const {
        const long place = panel * apart + row;
        return {q + place * PANEL, q16 + place * PANEL, scale + place * GROUPS, start[format] + place * STARTS};
    }
    const Float* floats_at(long panel, long row) const { return floats + (panel * rows + row) * FLOAT_PANEL; }
#if HAS_AMX
    // The tile that holds a row, as bf16 or bytes, the scales of the latter, and where in it the row stands.
    const uint16_t* bf16_of(long panel, long row) const { return bf16_in_tiles + tile(panel, row) * PANEL * TILE; }
    const int8_t* bytes_of(long panel, long row) const { return bytes_in_tiles + tile(panel, row) * PANEL * TILE; }
    const float* scale_of(long panel, long row) const { return scale_in_tiles + tile(panel, row) * TILE; }
    long place_in_tile(long row) const { return (row - first_in_tiles) % TILE; }
#endif

private:
    static bool know_bulk(const std::vector<Weight>& weights) {
        bool all = true;
        for (const Weight& w : weights)
            if (w.format == BF16) all = false;
            else by_format(w.format, [&](auto* panel) { all &= HAS_BULK<decltype(panel)>; });
        return HAS_AMX || all;
    }
    // How to write `count` numbers as integers up to `most`: what to multiply them with, and what 1 is then.
    // Not at all if one is none: 0, NAN.
    template <int count> static std::pair<float, float> steps(const float* v, float most) {
        uint32_t largest_bits = 0;  // magnitudes sort like their bits, and infinity and NaN come last
        for (int c = 0; c < count; c++) {
            uint32_t bits;
            memcpy(&bits, v + c, 4);
            largest_bits = std::max(largest_bits, bits & 0x7fffffff);
        }
        float largest;
        memcpy(&largest, &largest_bits, 4);
        if (largest_bits >= 0x7f800000) return {0, NAN};
        if (largest < SMALLEST) return {0, 0};
        return {most / largest, largest / most};
    }
    // `count` numbers of a row from `first` on, those behind its end 0: then they are in `room`.
    template <int count> const float* padded(const float* row, long first, float (&room)[count]) const {
        if (k - first >= count) return row + first;
        memset(room, 0, sizeof room);
        return (const float*)memcpy(room, row + first, (k - first) * 4);
    }
    void quantize(const float* row, long r) {
        for (long g = 0; g < blocks(k); g++) {
            const long place = g / GROUPS * apart + r, i = g % GROUPS;
            float room[32];
            const float* const v = padded(row, g * 32, room);
            int8_t* to = q + place * PANEL + i * 32;
            const auto [inverse, unit] = steps<32>(v, 127);
            scale[place * GROUPS + i] = unit;
            if (inverse > 0)
                for (int c = 0; c < 32; c++) to[c] = (int8_t)(int)std::nearbyint(v[c] * inverse);
            else
                memset(to, 0, 32);
            for (int format : {Q8, Q6, Q4, Q4M})
                if (start[format])
                    by_format(format, [&](auto* panel) {
                        panel->start(to, start[format] + place * STARTS + i * 2);
                        if constexpr (std::remove_pointer<decltype(panel)>::type::WIDE)
                            panel->widen(to, q16 + place * PANEL + i * 32);
                    });
        }
    }

    // In bulk: by panels, each under one scale.
    template <class Panel> void quantize_for(Panel*, const float* row, long r) {
        for (long p = 0; p < panels; p++) {
            float room[PANEL];
            const float* const v = padded(row, p * PANEL, room);
            const long place = p * apart + r;
            const auto [inverse, unit] = steps<PANEL>(v, Panel::Bulk::FINEST);
            scale[place * GROUPS] = unit;
            int16_t* const to = q16 + place * PANEL;
            if (inverse > 0) {
                start[Q8][place * STARTS] = Panel::Bulk::quantize(v, inverse, to);
            } else {
                memset(to, 0, PANEL * 2);
                start[Q8][place * STARTS] = 0;
            }
        }
    }

#if HAS_AMX
    // Row r of those in tiles; of each tile 64 bytes of all its rows lie together.
    void into_bf16(const float* row, long r) {
        for (long s = 0; s < blocks(k); s++) {
            float room[32];
            const float* const v = padded(row, s * 32, room);
            const long place = (s / GROUPS * tiles + r / TILE) * GROUPS + s % GROUPS;
            tiles::narrow(v, bf16_in_tiles + (place * TILE + r % TILE) * 32);
        }
    }
    void into_bytes(const float* row, long r) {
        for (long p = 0; p < panels; p++) {
            float room[PANEL];
            const float* const v = padded(row, p * PANEL, room);
            const long place = p * tiles + r / TILE;
            const auto [inverse, unit] = steps<PANEL>(v, 127);
            scale_in_tiles[place * TILE + r % TILE] = unit;
            int8_t* to = bytes_in_tiles + (place * PANEL / 64 * TILE + r % TILE) * 64;
            for (long c = 0; c < PANEL; c += 64, to += TILE * 64)
                if (inverse > 0)
                    for (long i = 0; i < 64; i++) to[i] = (int8_t)(int)std::nearbyint(v[c + i] * inverse);
                else
                    memset(to, 0, 64);
        }
    }
    long tile(long panel, long row) const { return panel * tiles + (row - first_in_tiles) / TILE; }

    static constexpr int TILE = tiles::TILE;
    uint16_t* bf16_in_tiles = nullptr;  // [panels][tiles][PANEL / 32][TILE][32]
    int8_t* bytes_in_tiles = nullptr;   // [panels][tiles][PANEL / 64][TILE][64]
    float* scale_in_tiles = nullptr;    // [panels][tiles][TILE]
    long first_in_tiles = 0, tiles = 0;
#endif
    int8_t* q = nullptr;
    int16_t* q16 = nullptr;
    float* scale = nullptr;
    Float* floats = nullptr;
    int32_t* start[5] = {};
};

#define BY_ROWS(m, CALL)                                \
    switch (m) {                                        \
        case 1: { constexpr int M = 1; CALL; break; }   \
        case 2: { constexpr int M = 2; CALL; break; }   \
        case 3: { constexpr int M = 3; CALL; break; }   \
        case 4: { constexpr int M = 4; CALL; break; }   \
        case 5: { constexpr int M = 5; CALL; break; }   \
        case 6: { constexpr int M = 6; CALL; break; }   \
        case 7: { constexpr int M = 7; CALL; break; }   \
        default: { constexpr int M = 8; CALL; }         \
    }

constexpr long BULK_BLOCKS = 16;  // that all bulk rows meet while they are in the cache
constexpr long FEW_ROWS = 18;  // up to here a panel pays off less than it costs

// Adds to sums [count][32] the products of a panel's columns with activation rows at(0), at(1) ...
template <class Panel, class At>
static void panel_times_rows(const uint8_t* data, int columns, const At& at, long count, float* sums) {
    constexpr int most = Panel::TOGETHER;
    static_assert(most <= 8, "what BY_ROWS knows");
    Panel panel;
    panel.open(data, columns);
    for (long r = 0, parts = (count + most - 1) / most; parts; parts--) {
        const long m = (count - r + parts - 1) / parts;  // 8 rows are 4 and 4, not 6 and 2
        BY_ROWS(m, if constexpr (M <= most) panel.template multiply<M>(columns, at(r), sums + r * ROWS))
        r += m;
    }
}
template <class Panel, class At>
static void times_rows(const uint8_t* data, int columns, const At& at, long count, float* sums) {
    if (count <= FEW_ROWS) panel_times_rows<typename Panel::Block>(data, columns, at, count, sums);
    else panel_times_rows<Panel>(data, columns, at, count, sums);
}

// Calls work(panel type, data, groups, panel) for each panel of block row b of integers.
template <class Work> static void each_panel(const Weight& w, long b, const Prepared& a, const Work& work) {
    const uint8_t* data = w.data + b * row_bytes(w.format, a.k);
    by_format(w.format, [&](auto* type) {
        const long bytes = PANEL / block_columns(w.format) * block_bytes(w.format);
        for (long p = 0; p < a.panels; p++)
            work(type, data + p * bytes, (int)std::min((long)GROUPS, blocks(a.k) - p * GROUPS), p);
    });
}

#if HAS_AMX
constexpr long MANY_ROWS = 9;    // exact ones, for which tiles are faster

// The products of block row b of integers with exact rows, added to sums [a multiple of 16][32].
static void block_times_many(
    const Weight& w, long b, const Prepared& a, long first, long count, float* sums) {
    const tiles::ExactTiles shapes(w.format == Q6 ? 16 : 32);
    each_panel(w, b, a, [&](auto* type, const uint8_t* data, int groups, long p) {
        constexpr int format = std::remove_pointer<decltype(type)>::type::FORMAT;
        alignas(64) int8_t bytes[GROUPS * 1024];
        tiles::signed_bytes<format>(data, groups, bytes);
        for (long r = 0; r < count; r += 16)
            tiles::times_exact<format>(data, bytes, groups, a.at(format, p, first + r), sums + r * ROWS);
    });
}

// sums[i] [tiles of `count` rows][32] = of[i], a block row of a weight, times activation rows from the
// tile of row `first` on.
static void blocks_times_tiles(
    const std::pair<Weight, long>* of, int width, const Prepared& a, long first, long count, float* const* sums) {
    const tiles::BulkTiles shapes;
    int8_t* const narrow = scratch<int8_t, NARROWED>(width * PANEL * ROWS);
    const long number = (count + tiles::TILE - 1) / tiles::TILE;
    for (long p = 0; p < a.panels; p++) {
        const int groups = (int)std::min((long)GROUPS, blocks(a.k) - p * GROUPS);
        tiles::BulkBlock block[BULK_BLOCKS];
        float unit[BULK_BLOCKS][ROWS];
        for (int i = 0; i < width; i++) {
            const auto& [w, b] = of[i];
            const uint8_t* data = w.data + b * row_bytes(w.format, a.k);
            if (w.format == BF16) {  // lies as tiles do
                block[i] = {data + p * GROUPS * tiles::STEP, 128, 64, tiles::STEP, number <= 2, nullptr};
                continue;
            }
            int8_t* const to = narrow + i * PANEL * ROWS;
            by_format(w.format, [&](auto* type) {
                constexpr int format = std::remove_pointer<decltype(type)>::type::FORMAT;
                data += p * (PANEL / block_columns(format) * block_bytes(format));
                tiles::to_one_scale<format>(data, groups, to, unit[i]);
            });
            block[i] = {(const uint8_t*)to, 64, tiles::STEP / 2, tiles::STEP, false, unit[i]};
        }
        for (long t = 0; t < number; t += 2)
            for (int i = 0; i < width; i++) {
                const bool bytes = block[i].unit;
                const long row = first + t * tiles::TILE, far = PANEL * tiles::TILE * (bytes ? 1 : 2);
                const uint8_t* const x = bytes ? (const uint8_t*)a.bytes_of(p, row) : (const uint8_t*)a.bf16_of(p, row);
                const float* const scale = bytes ? a.scale_of(p, row) : nullptr;
                const int steps = bytes ? (groups + 1) / 2 : groups;
                float* const to = sums[i] + t * tiles::TILE * ROWS;
                if (t + 1 < number) tiles::times_bulk<2>(block[i], x, far, scale, steps, to, p == 0);
                else tiles::times_bulk<1>(block[i], x, far, scale, steps, to, p == 0);
            }
    }
}
#endif

// sums [count][32] = block row b of w times activation rows first..first+count-1, all of one kind.
static void block_times_rows(
    const Weight& w, long b, const Prepared& a, long first, long count, float* sums) {
    if (w.format == BF16) {
#if HAS_AMX
        const std::pair<Weight, long> one(w, b);
        blocks_times_tiles(&one, 1, a, first, count, &sums);
#else
        memset(sums, 0, count * ROWS * 4);
        for (long p = 0; p * FLOAT_PANEL < a.k; p++) {
            const int columns = (int)std::min((long)FLOAT_PANEL, blocks(a.k) * COLS - p * FLOAT_PANEL);
            const auto at = [&](long r) { return a.floats_at(p, first + r); };
            const uint8_t* data = w.data + b * row_bytes(w.format, a.k) + p * FLOAT_PANEL * 64;
            times_rows<tiles::BF16Panel>(data, columns, at, count, sums);
        }
#endif
        return;
    }
    memset(sums, 0, count * ROWS * 4);
#if HAS_AMX
    if (count >= MANY_ROWS) return block_times_many(w, b, a, first, count, sums);
#endif
    each_panel(w, b, a, [&](auto* type, const uint8_t* data, int groups, long p) {
        using Panel = typename std::remove_pointer<decltype(type)>::type;
        const auto at = [&](long r) { return a.at(w.format, p, first + r); };
        if (first < a.exact) times_rows<Panel>(data, groups, at, count, sums);
        else times_rows<typename Panel::Bulk>(data, groups, at, count, sums);
    });
}

// Calls work(first, end) for runs of `count` blocks, each a multiple of `least` but the last. Threads take
// long runs first, because memory is read faster so, and short ones in the end, so that they finish
// together.
template <class Work>
static void each_run(Pool& pool, long count, long bytes, long least, const Work& work) {
    std::vector<long> starts;
    for (long b = 0; b < count;) {
        starts.push_back(b);
        const long share = std::min((count - b) / (4 * pool.threads()), MOST_BYTES / bytes);
        b += std::max(1L, share / least) * least;
    }
    starts.push_back(count);
    pool.run((long)starts.size() - 1, [&](long run) { work(starts[run], std::min(count, starts[run + 1])); });
}

// Calls take(n, row, sums, apart) for each n in 0..count-1 and each activation row: its products with 32
// rows of each of W weights, block(n, i), are at sums + i * apart. `bytes`: of all W, at most.
template <int W, class Block, class Take>
static void each_product(
    Pool& pool, const Prepared& a, long count, long bytes, const Block& block, const Take& take) {
    const auto up = [](long rows) { return (rows + 15) / 16 * 16; };
    const bool tiles = HAS_AMX && a.exact < a.rows;
    const long together = tiles ? BULK_BLOCKS / W : 1, rows = HAS_AMX ? a.exact : a.rows;
    each_run(pool, count, bytes, together, [&](long from, long end) {
        for (long n = from; n < end; n++)
            for (long first = 0, some; first < rows; first += some) {
                some = std::min(ROWS_A_PASS, (first < a.exact ? a.exact : rows) - first);
                const long apart = up(some) * ROWS;
                float* const sums = scratch<float, SUMS>(W * apart);
                for (int i = 0; i < W; i++) {
                    const auto [w, b] = block(n, i);
                    block_times_rows(w, b, a, first, some, sums + i * apart);
                }
                for (long r = 0; r < some; r++) take(n, first + r, sums + r * ROWS, apart);
            }
#if HAS_AMX
        for (long n = from; tiles && n < end; n += together)
            for (long first = a.exact, some; first < a.rows; first += some) {
                const long before = a.place_in_tile(first), width = std::min(together, end - n);
                some = std::min(ROWS_A_PASS - before, a.rows - first);
                const long apart = up(before + some) * ROWS;
                float* const memory = scratch<float, SUMS>(W * width * apart);
                std::pair<Weight, long> of[BULK_BLOCKS];
                float* sums[BULK_BLOCKS];
                for (long i = 0; i < W * width; i++) {
                    of[i] = block(n + i / W, i % W);
                    sums[i] = memory + i * apart;
                }
                blocks_times_tiles(of, (int)(W * width), a, first, before + some, sums);
                for (long i = 0; i < width; i++)
                    for (long r = 0; r < some; r++)
                        take(n + i, first + r, sums[i * W] + (before + r) * ROWS, apart);
            }
#endif
    });
}

// outs[i] = normed x @ weights[i].T; or residual + by * that, where there is one, all of one shape.
static void linear(
    Pool& pool, const std::vector<Weight>& weights, long k, const float* x, long rows, long exact,
    const float* norm, float eps, const float* residual, float by, float* const* outs) {
    const Prepared a(pool, x, rows, exact, k, norm, eps, weights);
    long all = 0, most = 0;
    for (const Weight& w : weights) {
        all += blocks(w.n);
        most = std::max(most, row_bytes(w.format, k));
    }
    const auto weight_of = [&](long& b) {
        int i = 0;
        for (; b >= blocks(weights[i].n); i++) b -= blocks(weights[i].n);
        return i;
    };
    const auto block = [&](long b, int) {
        const Weight& w = weights[weight_of(b)];
        return std::pair<Weight, long>(w, b);
    };
    each_product<1>(pool, a, all, most, block, [&](long b, long row, const float* sums, long) {
        const int i = weight_of(b);
        const long n = weights[i].n, width = std::min((long)ROWS, n - b * ROWS), at = row * n + b * ROWS;
        if (residual)
            for (long c = 0; c < width; c++) outs[i][at + c] = residual[at + c] + by * sums[c];
        else
            memcpy(outs[i] + at, sums, width * 4);
    });
}

static inline Vec silu(const Vec& x) { return x / (splat(1) + exponential(splat(0) - x)); }

// out = silu(normed x @ gate.T) * (normed x @ up.T)
static void gated(
    Pool& pool, const std::vector<Weight>& gate_and_up, long k, const float* x, long rows, long exact,
    const float* norm, float eps, float* out) {
    const Prepared a(pool, x, rows, exact, k, norm, eps, gate_and_up);
    const long n = gate_and_up[0].n;
    const long bytes = row_bytes(gate_and_up[0].format, k) + row_bytes(gate_and_up[1].format, k);
    const auto block = [&](long b, int i) { return std::pair<Weight, long>(gate_and_up[i], b); };
    each_product<2>(pool, a, blocks(n), bytes, block, [&](long b, long row, const float* sums, long apart) {
        float both[ROWS];
        for (long c = 0; c < ROWS; c += 16) save(both + c, silu(load(sums + c)) * load(sums + apart + c));
        memcpy(out + row * n + b * ROWS, both, std::min((long)ROWS, n - b * ROWS) * 4);
    });
}
