// Self-attention layers of the decoder: one call from Python for all that follow each other, not eight a
// layer, which a step of one row feels (bench/LOG.md).
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

// Weights and cache of one: the matrices are q, k, v, o, gate, up, down. All fields have eight bytes.
struct Layer {
    struct Matrix {
        int64_t format;
        const void* data;
        int64_t n;

        operator Weight() const { return {(int)format, (const uint8_t*)data, (long)n}; }
    } matrices[7];
    const float *attention_norm, *mlp_norm;
    void *keys, *values;
};

// out [rows, width] = the layer of x; `spans` [n, 4]: start, length, context, address of page numbers.
// `out` may be x.
template <class T>
static void layer(
    Pool& pool, const Layer& w, long head_dim, float eps, const int64_t* spans, long n, const int64_t* slots,
    const float* cos, const float* sin, const float* x, long rows, long exact, float* out) {
    const Weight wq = w.matrices[0], wk = w.matrices[1], wv = w.matrices[2], wo = w.matrices[3];
    const Weight wgate = w.matrices[4], wup = w.matrices[5], wdown = w.matrices[6];
    const long width = wo.n, heads = wq.n / head_dim, kv_heads = wk.n / head_dim;
    const Shape shape{heads, kv_heads, head_dim};
    float* const q = scratch<float, QUERIES>(rows * wq.n);
    float* const k = scratch<float, KEYS_OF_ROWS>(rows * wk.n);
    float* const v = scratch<float, VALUES_OF_ROWS>(rows * wv.n);
    float* const attended = scratch<float, ATTENDED>(rows * wq.n);
    float* h = scratch<float, HIDDEN>(rows * width);
    float* const gate = scratch<float, GATED>(rows * wgate.n);
    std::vector<Run> runs(n);
    std::vector<Source> sources(n);
    for (long i = 0; i < n; i++, spans += 4) {
        runs[i] = {spans[0], spans[1], spans[2], i, 1};
        sources[i] = {w.keys, w.values, (const int64_t*)spans[3], (long)(spans[1] + spans[2])};
    }
    float* const qkv[] = {q, k, v};
    linear(pool, {wq, wk, wv}, width, x, rows, exact, w.attention_norm, eps, nullptr, 0, qkv);
    rotate(pool, q, cos, sin, rows, heads, head_dim, q);
    rotate(pool, k, cos, sin, rows, kv_heads, head_dim, k);
    store<T>(pool, w.keys, w.values, slots, k, v, rows, shape);
    attention<T>(pool, q, runs.data(), n, sources.data(), shape, exact, attended);
    linear(pool, {wo}, wq.n, attended, rows, exact, nullptr, 0, x, 1, &h);
    gated(pool, {wgate, wup}, width, h, rows, exact, w.mlp_norm, eps, gate);
    linear(pool, {wdown}, wgate.n, gate, rows, exact, nullptr, 0, h, 1, &out);
}
