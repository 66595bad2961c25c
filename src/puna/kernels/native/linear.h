// x @ w.T for packed weights, with what stands before and after it in a transformer: norm, gate and
// residual. Integer weights meet activations that are quantised on the way in.
#pragma once
#include <algorithm>
#include <type_traits>
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

// Activation rows [rows, k] as panels want them, panel by panel: in one that is small, rows follow
// each other. They are normed first if there is a `norm` [k].
class Prepared {
public:
    using Float = tiles::BF16Panel::Input;  // what bf16 weights meet
    const long rows, k, panels = (k + PANEL - 1) / PANEL;

    Prepared(
        Pool& pool, const float* x, long rows, long k, const float* norm, float eps,
        const std::vector<Weight>& weights)
        : rows(rows), k(k) {
        bool integers = false, wide = false, used[5] = {};
        for (const Weight& w : weights) {
            used[w.format] = true;
            if (w.format == BF16) continue;
            integers = true;
            by_format(w.format, [&](auto* panel) { wide |= panel->WIDE; });
        }
        if (integers) {
            q = scratch<int8_t>(rows * panels * PANEL);
            scale = scratch<float, 1>(rows * panels * GROUPS);
            if (wide) q16 = scratch<int16_t>(rows * panels * PANEL);
            start[Q8] = used[Q8] ? scratch<int32_t, Q8>(rows * panels * STARTS) : nullptr;
            start[Q6] = used[Q6] ? scratch<int32_t, Q6>(rows * panels * STARTS) : nullptr;
            start[Q4] = used[Q4] ? scratch<int32_t, Q4>(rows * panels * STARTS) : nullptr;
            start[Q4M] = used[Q4M] ? scratch<int32_t, Q4M>(rows * panels * STARTS) : nullptr;
        }
        if (used[BF16]) floats = scratch<Float, 2>(rows * panels * PANEL);
        each_row(pool, rows, [&](long r) {
            const float* v = x + r * k;
            if (norm) {
                float* normed = scratch<float, 3>(k);
                const float by = norm_scale(v, k, eps);
                for (long c = 0; c < k; c++) normed[c] = v[c] * by * norm[c];
                v = normed;
            }
            if (integers) quantize(v, r);
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
        const long place = panel * rows + row;
        return {q + place * PANEL, q16 + place * PANEL, scale + place * GROUPS, start[format] + place * STARTS};
    }
    const Float* floats_at(long panel, long row) const { return floats + (panel * rows + row) * FLOAT_PANEL; }

private:
    void quantize(const float* row, long r) {
        for (long g = 0; g < blocks(k); g++) {
            const long place = g / GROUPS * rows + r, i = g % GROUPS;
            float part[32] = {};
            const float* v = row + g * 32;
            if (const long there = k - g * 32; there < 32) v = (const float*)memcpy(part, v, there * 4);
            int8_t* to = q + place * PANEL + i * 32;
            uint32_t most_bits = 0;  // magnitudes sort like their bits, and infinity and NaN come last
            for (int c = 0; c < 32; c++) {
                uint32_t bits;
                memcpy(&bits, v + c, 4);
                most_bits = std::max(most_bits, bits & 0x7fffffff);
            }
            float most;
            memcpy(&most, &most_bits, 4);
            const bool finite = most_bits < 0x7f800000, numbers = finite && most >= SMALLEST;
            const float inverse = numbers ? 127 / most : 0;
            if (numbers)
                for (int c = 0; c < 32; c++) to[c] = (int8_t)(int)std::nearbyint(v[c] * inverse);
            else
                memset(to, 0, 32);
            scale[place * GROUPS + i] = numbers ? most / 127 : finite ? 0 : NAN;
            for (int format : {Q8, Q6, Q4, Q4M})
                if (start[format])
                    by_format(format, [&](auto* panel) {
                        panel->start(to, start[format] + place * STARTS + i * 2);
                        if constexpr (std::remove_pointer<decltype(panel)>::type::WIDE)
                            panel->widen(to, q16 + place * PANEL + i * 32);
                    });
        }
    }

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

// sums [count][32] = block row b of w times activation rows first..first+count-1.
static void block_times_rows(
    const Weight& w, long b, const Prepared& a, long first, long count, float* sums) {
    memset(sums, 0, count * ROWS * 4);
    const uint8_t* data = w.data + b * row_bytes(w.format, a.k);
    if (w.format == BF16) {
        for (long p = 0; p * FLOAT_PANEL < a.k; p++) {
            const int columns = (int)std::min((long)FLOAT_PANEL, blocks(a.k) * COLS - p * FLOAT_PANEL);
            const auto at = [&](long r) { return a.floats_at(p, first + r); };
            times_rows<tiles::BF16Panel>(data + p * FLOAT_PANEL * 64, columns, at, count, sums);
        }
        return;
    }
    by_format(w.format, [&](auto* type) {
        using Panel = typename std::remove_pointer<decltype(type)>::type;
        const long bytes = PANEL / block_columns(w.format) * block_bytes(w.format);
        for (long p = 0; p < a.panels; p++) {
            const int groups = (int)std::min((long)GROUPS, blocks(a.k) - p * GROUPS);
            const auto at = [&](long r) { return a.at(w.format, p, first + r); };
            times_rows<Panel>(data + p * bytes, groups, at, count, sums);
        }
    });
}

// Calls work(block row) for each of `count`. Threads take long runs first, because memory is read
// faster so, and short ones in the end, so that they finish together.
template <class Work> static void each_block(Pool& pool, long count, long bytes, const Work& work) {
    std::vector<long> starts;
    for (long b = 0; b < count;) {
        starts.push_back(b);
        const long share = (count - b) / (4 * pool.threads());
        b += std::max(1L, std::min(share, MOST_BYTES / bytes));
    }
    starts.push_back(count);
    pool.run((long)starts.size() - 1, [&](long run) {
        for (long b = starts[run]; b < starts[run + 1]; b++) work(b);
    });
}

// outs[i] = normed x @ weights[i].T; or residual + by * that, where there is one, all of one shape.
static void linear(
    Pool& pool, const std::vector<Weight>& weights, long k, const float* x, long rows, const float* norm,
    float eps, const float* residual, float by, float* const* outs) {
    const Prepared a(pool, x, rows, k, norm, eps, weights);
    long all = 0, most = 0;
    for (const Weight& w : weights) {
        all += blocks(w.n);
        most = std::max(most, row_bytes(w.format, k));
    }
    each_block(pool, all, most, [&](long b) {
        int i = 0;
        for (; b >= blocks(weights[i].n); i++) b -= blocks(weights[i].n);
        const long n = weights[i].n, width = std::min((long)ROWS, n - b * ROWS);
        for (long first = 0; first < rows; first += ROWS_A_PASS) {
            const long some = std::min(ROWS_A_PASS, rows - first);
            float* sums = scratch<float, 4>(some * ROWS);
            block_times_rows(weights[i], b, a, first, some, sums);
            for (long r = 0; r < some; r++) {
                const long at = (first + r) * n + b * ROWS;
                if (residual)
                    for (long c = 0; c < width; c++)
                        outs[i][at + c] = residual[at + c] + by * sums[r * ROWS + c];
                else
                    memcpy(outs[i] + at, sums + r * ROWS, width * 4);
            }
        }
    });
}

static inline Vec silu(const Vec& x) { return x / (splat(1) + exponential(splat(0) - x)); }

// out = silu(normed x @ gate.T) * (normed x @ up.T)
static void gated(
    Pool& pool, const std::vector<Weight>& gate_and_up, long k, const float* x, long rows,
    const float* norm, float eps, float* out) {
    const Prepared a(pool, x, rows, k, norm, eps, gate_and_up);
    const long n = gate_and_up[0].n;
    const long bytes = row_bytes(gate_and_up[0].format, k) + row_bytes(gate_and_up[1].format, k);
    each_block(pool, blocks(n), bytes, [&](long b) {
        const long width = std::min((long)ROWS, n - b * ROWS);
        for (long first = 0; first < rows; first += ROWS_A_PASS) {
            const long some = std::min(ROWS_A_PASS, rows - first);
            float *gate = scratch<float, 4>(some * ROWS), *up = scratch<float, 5>(some * ROWS);
            block_times_rows(gate_and_up[0], b, a, first, some, gate);
            block_times_rows(gate_and_up[1], b, a, first, some, up);
            for (long r = 0; r < some; r++) {
                for (long c = r * ROWS; c < (r + 1) * ROWS; c += 16)
                    save(gate + c, silu(load(gate + c)) * load(up + c));
                memcpy(out + (first + r) * n + b * ROWS, gate + r * ROWS, width * 4);
            }
        }
    });
}
