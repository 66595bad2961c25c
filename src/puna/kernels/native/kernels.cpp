// Puna's native kernels behind a plain C interface. Everything is fp32 but packed weights (formats.h)
// and the cache (attention.h). Pointers are to dense arrays; nothing is kept between calls but the
// threads and their scratch.
#include "attention.h"
#include "linear.h"

#define EXPORT __attribute__((visibility("default")))

namespace {

std::atomic<Pool*> pool;

enum CacheType { CACHE_FP32 = 0, CACHE_BF16 = 1 };

inline void narrow(float* to, float x) { *to = x; }
inline void narrow(uint16_t* to, float x) { *to = float_to_bf16(x); }

template <class T>
void store(
    T* keys, T* values, const int64_t* slots, const float* k, const float* v, long rows, const Shape& s) {
    const long d = s.head_dim;
    each_row(*pool, rows, [&](long r) {
        const long page = slots[r] / PAGE, place = slots[r] % PAGE;
        for (long h = 0; h < s.kv_heads; h++) {
            const long from = (r * s.kv_heads + h) * d, to = (page * s.kv_heads + h) * d * PAGE;
            for (long c = 0; c < d; c++) {
                narrow(keys + to + c * PAGE + place, k[from + c]);
                narrow(values + to + place * d + c, v[from + c]);
            }
        }
    });
}

std::vector<Weight> weights(int count, const int* formats, const void* const* ws, const long* ns) {
    std::vector<Weight> all;
    for (int i = 0; i < count; i++) all.push_back({formats[i], (const uint8_t*)ws[i], ns[i]});
    return all;
}

}  // namespace

extern "C" {

// To be called first, and again after a fork, which takes no threads along. A call that runs goes on
// with the threads that it has; they sleep ever after.
EXPORT void puna_threads(int threads) { pool = new Pool(threads); }

// outs[i] [rows, ns[i]] = y @ ws[i] [ns[i], k].T for each of `count` weights, where y is x [rows, k], or
// with `norm` [k] x / sqrt(mean(x^2) + eps) * norm. With `residual`, of one shape with each out, it is
// residual + by * that.
EXPORT void puna_linear(
    int count, const int* formats, const void* const* ws, const long* ns, long k, const float* x, long rows,
    const float* norm, float eps, const float* residual, float by, float* const* outs) {
    linear(*pool, weights(count, formats, ws, ns), k, x, rows, norm, eps, residual, by, outs);
}

// out [rows, n] = silu(y @ ws[0].T) * (y @ ws[1].T) with y as above and both ws [n, k].
EXPORT void puna_gated(
    const int* formats, const void* const* ws, long n, long k, const float* x, long rows, const float* norm,
    float eps, float* out) {
    const long ns[2] = {n, n};
    gated(*pool, weights(2, formats, ws, ns), k, x, rows, norm, eps, out);
}

// out [tokens, k] = rows `ids` of w [n, k], widened.
EXPORT void puna_rows(int format, const void* w, long k, const int64_t* ids, long tokens, float* out) {
    each_row(*pool, tokens, [&](long t) {
        unpack_row((const uint8_t*)w, format, k, ids[t], out + t * k);
    });
}

// out [rows, k] = x / sqrt(mean(x^2) + eps) * weight
EXPORT void puna_rms_norm(const float* x, const float* weight, float eps, long rows, long k, float* out) {
    each_row(*pool, rows, [&](long r) {
        const float* v = x + r * k;
        const float scale = norm_scale(v, k, eps);
        for (long i = 0; i < k; i++) out[r * k + i] = v[i] * scale * weight[i];
    });
}

// out [rows, k] = silu(gate) * up
EXPORT void puna_swiglu(const float* gate, const float* up, long rows, long k, float* out) {
    each_row(*pool, rows, [&](long r) {
        const float *g = gate + r * k, *u = up + r * k;
        long c = 0;
        for (; c + 16 <= k; c += 16) save(out + r * k + c, silu(load(g + c)) * load(u + c));
        for (; c < k; c++) out[r * k + c] = g[c] / (1 + std::exp(-g[c])) * u[c];
    });
}

// out = x [rows, heads, head_dim] with each head turned by cos and sin [rows, head_dim / 2]
EXPORT void puna_rotate(
    const float* x, const float* cos, const float* sin, long rows, long heads, long head_dim, float* out) {
    const long half = head_dim / 2;
    each_row(*pool, rows, [&](long r) {
        const float *c = cos + r * half, *s = sin + r * half;
        for (long at = r * heads * head_dim; at < (r + 1) * heads * head_dim; at += head_dim)
            for (long i = 0; i < half; i++) {
                const float first = x[at + i], second = x[at + half + i];
                out[at + i] = first * c[i] - second * s[i];
                out[at + half + i] = second * c[i] + first * s[i];
            }
    });
}

// Writes k and v [rows, kv_heads, head_dim] into the pages of the cache, row r at slots[r].
EXPORT void puna_store(
    int type, void* keys, void* values, const int64_t* slots, const float* k, const float* v, long rows,
    long kv_heads, long head_dim) {
    const Shape s{kv_heads, kv_heads, head_dim};
    if (type == CACHE_BF16) store((uint16_t*)keys, (uint16_t*)values, slots, k, v, rows, s);
    else store((float*)keys, (float*)values, slots, k, v, rows, s);
}

// Causal attention of ragged rows through pages; see attention.h.
EXPORT void puna_attention(
    const float* q, int type, const void* keys, const void* values, long spans, const int64_t* start,
    const int64_t* length, const int64_t* context, const int64_t* first_page, const int64_t* pages,
    long heads, long kv_heads, long head_dim, float* out) {
    const Spans s{spans, start, length, context, first_page, pages};
    const Shape shape{heads, kv_heads, head_dim};
    if (type == CACHE_BF16)
        paged_attention(*pool, q, (const uint16_t*)keys, (const uint16_t*)values, s, shape, out);
    else
        paged_attention(*pool, q, (const float*)keys, (const float*)values, s, shape, out);
}
}
