// A whole self-attention layer of the decoder: one call from Python, not eight, which a step of one row
// feels (bench/LOG.md).
#pragma once
#include "attention.h"
#include "linear.h"

// out = x [rows, heads, head_dim] with each head turned by cos and sin [rows, head_dim / 2]
static void rotate(
    Pool& pool, const float* x, const float* cos, const float* sin, long rows, long heads, long head_dim,
    float* out) {
    const long half = head_dim / 2;
    each_row(pool, rows, [&](long r) {
        const float *c = cos + r * half, *s = sin + r * half;
        for (long at = r * heads * head_dim; at < (r + 1) * heads * head_dim; at += head_dim)
            for (long i = 0; i < half; i++) {
                const float first = x[at + i], second = x[at + half + i];
                out[at + i] = first * c[i] - second * s[i];
                out[at + half + i] = second * c[i] + first * s[i];
            }
    });
}

// Its weights: q, k, v, o, gate, up, down, each with its format and rows.
struct Layer {
    int64_t formats[7];
    const void* weights[7];
    int64_t ns[7];
    const float *attention_norm, *mlp_norm;
    double eps;

    Weight weight(int i) const { return {(int)formats[i], (const uint8_t*)weights[i], (long)ns[i]}; }
};

// out [rows, width] = the layer of x; `spans` [n, 4]: start, length, context, address of page numbers.
template <class T>
static void layer(
    Pool& pool, const Layer& w, void* keys, void* values, long head_dim, const int64_t* spans, long n,
    const int64_t* slots, const float* cos, const float* sin, const float* x, long rows, float* out) {
    const long width = w.ns[3], heads = w.ns[0] / head_dim, kv_heads = w.ns[1] / head_dim;
    const Shape shape{heads, kv_heads, head_dim};
    float* const q = scratch<float, 6>(rows * w.ns[0]);
    float* const k = scratch<float, 7>(rows * w.ns[1]);
    float* const v = scratch<float, 8>(rows * w.ns[2]);
    float* const attended = scratch<float, 9>(rows * w.ns[0]);
    float* h = scratch<float, 10>(rows * width);
    float* const gate = scratch<float, 11>(rows * w.ns[4]);
    std::vector<Run> runs(n);
    std::vector<Source> sources(n);
    for (long i = 0; i < n; i++, spans += 4) {
        runs[i] = {spans[0], spans[1], spans[2], i, 1};
        sources[i] = {keys, values, (const int64_t*)spans[3], (long)(spans[1] + spans[2])};
    }
    float* const qkv[] = {q, k, v};
    const float eps = (float)w.eps;
    linear(pool, {w.weight(0), w.weight(1), w.weight(2)}, width, x, rows, w.attention_norm, eps, nullptr, 0, qkv);
    rotate(pool, q, cos, sin, rows, heads, head_dim, q);
    rotate(pool, k, cos, sin, rows, kv_heads, head_dim, k);
    store<T>(pool, keys, values, slots, k, v, rows, shape);
    attention<T>(pool, q, runs.data(), n, sources.data(), shape, attended);
    linear(pool, {w.weight(3)}, w.ns[0], attended, rows, nullptr, 0, x, 1, &h);
    gated(pool, {w.weight(4), w.weight(5)}, width, h, rows, w.mlp_norm, eps, gate);
    linear(pool, {w.weight(6)}, w.ns[4], gate, rows, nullptr, 0, h, 1, &out);
}
