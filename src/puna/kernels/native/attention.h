// Paged attention of ragged rows: keys lie in pages [kv_heads, head_dim, 16], values in pages
// [kv_heads, 16, head_dim], so sixteen keys are one vector and no sum runs across lanes.
//
// A work item is one sequence, one key head, and up to 4 * n query rows that share it (several heads
// of a token, several tokens). Softmax is the online one (2205.14135), over 64 keys at a time.
#pragma once
#include <algorithm>
#include <vector>

#include "pool.h"
#include "vec.h"

constexpr int PAGE = 16, KEYS = 4 * PAGE, TOGETHER = 4;

struct Spans {  // n spans: rows start..start+length-1 at positions context..; pages from first_page
    long n;
    const int64_t *start, *length, *context, *first_page, *pages;
};

struct Shape {
    long heads, kv_heads, head_dim;
};

// R query rows against the keys of one sequence and head; row r sees keys 0..seen[r]-1.
template <class T, int R> static void attend(
    const float* const* q, const long* seen, const T* keys, const T* values, const int64_t* pages,
    long kv, const Shape& s, float scale, float* const* out) {
    const long d = s.head_dim, stride = s.kv_heads * d * PAGE;
    float scores[R][KEYS], weight[R], most[R];
    long last = 0;
    for (int r = 0; r < R; r++) {
        last = std::max(last, seen[r]);
        weight[r] = 0;
        most[r] = -INFINITY;
        for (long c = 0; c < d; c++) out[r][c] = 0;
    }
    for (long first = 0; first < last; first += KEYS) {
        const int count = (int)std::min((long)4, (last - first + PAGE - 1) / PAGE);
        for (int p = 0; p < count; p++) {
            const T* k = keys + pages[first / PAGE + p] * stride + kv * d * PAGE;
            Vec sum[R];
            for (int r = 0; r < R; r++) sum[r] = splat(0);
            for (long c = 0; c < d; c++, k += PAGE) {
                Vec key = widen(k);
                for (int r = 0; r < R; r++) add_product(sum[r], key, splat(q[r][c]));
            }
            for (int r = 0; r < R; r++) save(scores[r] + p * PAGE, sum[r] * splat(scale));
        }
        for (int r = 0; r < R; r++) {
            for (long c = std::max(0L, seen[r] - first); c < count * PAGE; c++) scores[r][c] = -INFINITY;
            Vec top = load(scores[r]);
            for (int p = 1; p < count; p++) top = greater(top, load(scores[r] + p * PAGE));
            float now = std::max(most[r], largest(top));
            if (now == -INFINITY) {
                for (int c = 0; c < count * PAGE; c++) scores[r][c] = 0;
                continue;
            }
            float keep = std::exp(most[r] - now);
            most[r] = now;
            Vec sum = splat(0);
            for (int p = 0; p < count; p++) {
                Vec e = exponential(load(scores[r] + p * PAGE) - splat(now));
                save(scores[r] + p * PAGE, e);
                sum = sum + e;
            }
            weight[r] = weight[r] * keep + total(sum);
            if (keep != 1.0f)
                for (long c = 0; c < d; c += 16) save(out[r] + c, load(out[r] + c) * splat(keep));
        }
        for (int p = 0; p < count; p++) {
            const T* v = values + pages[first / PAGE + p] * stride + kv * d * PAGE;
            const long rows = std::min((long)PAGE, last - first - p * PAGE);
            for (long c = 0; c < d; c += 16) {
                Vec sum[R];
                for (int r = 0; r < R; r++) sum[r] = load(out[r] + c);
                for (long key = 0; key < rows; key++) {
                    Vec value = widen(v + key * d + c);
                    for (int r = 0; r < R; r++)
                        add_product(sum[r], value, splat(scores[r][p * PAGE + key]));
                }
                for (int r = 0; r < R; r++) save(out[r] + c, sum[r]);
            }
        }
    }
    for (int r = 0; r < R; r++)
        for (long c = 0; c < d; c += 16) save(out[r] + c, load(out[r] + c) * splat(1 / weight[r]));
}

template <class T> static void paged_attention(
    Pool& pool, const float* q, const T* keys, const T* values, const Spans& spans, const Shape& s,
    float* out) {
    const long group = s.heads / s.kv_heads, tokens = std::max(1L, 32 / group);  // tokens an item
    std::vector<long> items(spans.n + 1, 0);
    for (long i = 0; i < spans.n; i++)
        items[i + 1] = items[i] + s.kv_heads * ((spans.length[i] + tokens - 1) / tokens);
    const float scale = 1 / std::sqrt((float)s.head_dim);
    pool.run(items[spans.n], [&](long item) {
        long i = std::upper_bound(items.begin(), items.end(), item) - items.begin() - 1;
        long kv = (item - items[i]) % s.kv_heads, tile = (item - items[i]) / s.kv_heads;
        long begin = tile * tokens, end = std::min(spans.length[i], begin + tokens);
        long rows = (end - begin) * group;
        const int64_t* pages = spans.pages + spans.first_page[i];
        for (long r = 0; r < rows; r += TOGETHER) {
            const float* from[TOGETHER];
            float* to[TOGETHER];
            long seen[TOGETHER];
            int n = (int)std::min((long)TOGETHER, rows - r);
            for (int j = 0; j < n; j++) {
                long token = begin + (r + j) / group, head = kv * group + (r + j) % group;
                long at = ((spans.start[i] + token) * s.heads + head) * s.head_dim;
                from[j] = q + at;
                to[j] = out + at;
                seen[j] = spans.context[i] + token + 1;
            }
            switch (n) {
                case 1: attend<T, 1>(from, seen, keys, values, pages, kv, s, scale, to); break;
                case 2: attend<T, 2>(from, seen, keys, values, pages, kv, s, scale, to); break;
                case 3: attend<T, 3>(from, seen, keys, values, pages, kv, s, scale, to); break;
                default: attend<T, 4>(from, seen, keys, values, pages, kv, s, scale, to);
            }
        }
    });
}
