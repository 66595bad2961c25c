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

}  // namespace

extern "C" {

// To be called first, and again after a fork, which takes no threads along. A call that runs goes on
// with the threads that it has; they sleep ever after.
EXPORT void puna_threads(int threads) { pool = new Pool(threads); }

// out [rows, n] = x [rows, k] @ w [n, k].T
EXPORT void puna_linear(int format, const void* w, long n, long k, const float* x, long rows, float* out) {
    linear(*pool, format, (const uint8_t*)w, n, k, x, rows, out);
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
        Vec squares = splat(0);
        long c = 0;
        for (; c + 16 <= k; c += 16) add_product(squares, load(v + c), load(v + c));
        float sum = total(squares);
        for (; c < k; c++) sum += v[c] * v[c];
        const float scale = 1 / std::sqrt(sum / k + eps);
        for (long i = 0; i < k; i++) out[r * k + i] = v[i] * scale * weight[i];
    });
}

// out [rows, k] = silu(gate) * up
EXPORT void puna_swiglu(const float* gate, const float* up, long rows, long k, float* out) {
    each_row(*pool, rows, [&](long r) {
        const float *g = gate + r * k, *u = up + r * k;
        long c = 0;
        for (; c + 16 <= k; c += 16) {
            const Vec v = load(g + c);
            save(out + r * k + c, v / (splat(1) + exponential(splat(0) - v)) * load(u + c));
        }
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
