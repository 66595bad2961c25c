// Puna's native kernels behind a plain C interface. Everything is fp32 but packed weights (formats.h)
// and the cache (attention.h). Pointers are to dense arrays; nothing is kept between calls but the
// threads and their scratch.
#include "amx.h"
#include "argmax.h"
#include "layer.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#define EXPORT __attribute__((visibility("default")))

namespace {

std::atomic<Pool*> pool;

enum CacheType { CACHE_FP32 = 0, CACHE_BF16 = 1, CACHE_INT8 = 2 };

std::vector<Weight> weights(int count, const int* formats, const void* const* ws, const long* ns) {
    std::vector<Weight> all;
    for (int i = 0; i < count; i++) all.push_back({formats[i], (const uint8_t*)ws[i], ns[i]});
    return all;
}

}  // namespace

extern "C" {

// Whether the system lets this process use what the kernels are compiled for; to be asked before all else.
EXPORT int puna_usable() {
#if HAS_AMX
    return amx::allowed();
#else
    return 1;
#endif
}

// To be called before what follows, and again after a fork, which takes no threads along. A call that runs goes on
// with the threads that it has; they sleep ever after.
EXPORT void puna_threads(int threads) { pool = new Pool(threads); }

// outs[i] [rows, ns[i]] = y @ ws[i] [ns[i], k].T for each of `count` weights, where y is x [rows, k], or
// with `norm` [k] x / sqrt(mean(x^2) + eps) * norm. With `residual`, of one shape with each out, it is
// residual + by * that. The first `exact` rows are exact, the others bulk; see Prepared in linear.h.
EXPORT void puna_linear(
    int count, const int* formats, const void* const* ws, const long* ns, long k, const float* x, long rows,
    long exact, const float* norm, float eps, const float* residual, float by, float* const* outs) {
    linear(*pool, weights(count, formats, ws, ns), k, x, rows, exact, norm, eps, residual, by, outs);
}

// out [rows, n] = silu(y @ ws[0].T) * (y @ ws[1].T) with y as above and both ws [n, k].
EXPORT void puna_gated(
    const int* formats, const void* const* ws, long n, long k, const float* x, long rows, long exact,
    const float* norm, float eps, float* out) {
    const long ns[2] = {n, n};
    gated(*pool, weights(2, formats, ws, ns), k, x, rows, exact, norm, eps, out);
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
    rotate(*pool, x, cos, sin, rows, heads, head_dim, out);
}

// ids[r], peaks[r] = where the greatest of x [rows, k] first stands in row r, and what it is; see argmax.h.
EXPORT void puna_argmax(const float* x, long rows, long k, int64_t* ids, float* peaks) {
    each_row(*pool, rows, [&](long r) {
        ids[r] = argmax(x + r * k, k);
        peaks[r] = x[r * k + ids[r]];
    });
}

// Asks for large pages of memory, where the system has them: a context of gigabytes is read at random
// places, and would miss the translation of each.
EXPORT void puna_large_pages(void* memory, long bytes) {
#if defined(MADV_HUGEPAGE)
    const uintptr_t first = ((uintptr_t)memory + 4095) & ~(uintptr_t)4095;
    madvise((void*)first, (uintptr_t)memory + bytes - first, MADV_HUGEPAGE);
#else
    (void)memory, (void)bytes;
#endif
}

// Writes k and v [rows, kv_heads, head_dim] into pages, row r at slots[r]; see attention.h.
EXPORT void puna_store(
    int type, void* keys, void* values, const int64_t* slots, const float* k, const float* v, long rows,
    long kv_heads, long head_dim) {
    const Shape s{kv_heads, kv_heads, head_dim};
    if (type == CACHE_INT8) store<int8_t>(*pool, keys, values, slots, k, v, rows, s);
    else if (type == CACHE_BF16) store<uint16_t>(*pool, keys, values, slots, k, v, rows, s);
    else store<float>(*pool, keys, values, slots, k, v, rows, s);
}

// Attention of runs of rows to pages of sources; see attention.h. `runs` [n, 5]: start, length, context
// (below 0: every row sees all), first source, number of sources. `sources` [m, 4]: the addresses of
// keys, values and page numbers (0: these are 0, 1, 2 ...), and the number of tokens. Runs from row `exact`
// on are in bulk.
EXPORT void puna_attention(
    const float* q, int type, const int64_t* runs, long n, const int64_t* sources, long m, long heads,
    long kv_heads, long head_dim, long exact, float* out) {
    std::vector<Run> r(n);
    std::vector<Source> s(m);
    for (long i = 0; i < n; i++, runs += 5) r[i] = {runs[0], runs[1], runs[2], runs[3], runs[4]};
    for (long i = 0; i < m; i++, sources += 4)
        s[i] = {(const void*)sources[0], (const void*)sources[1], (const int64_t*)sources[2], (long)sources[3]};
    const Shape shape{heads, kv_heads, head_dim};
    if (type == CACHE_INT8) attention<int8_t>(*pool, q, r.data(), n, s.data(), shape, exact, out);
    else if (type == CACHE_BF16) attention<uint16_t>(*pool, q, r.data(), n, s.data(), shape, exact, out);
    else attention<float>(*pool, q, r.data(), n, s.data(), shape, exact, out);
}

// `count` decoder layers, one after another; see layer.h.
EXPORT void puna_layers(
    const Layer* layers, long count, int type, long head_dim, float eps, const int64_t* spans, long n,
    const int64_t* slots, const float* cos, const float* sin, const float* x, long rows,
    long exact, float* out) {
    auto run = [&](auto cache) {
        for (long i = 0; i < count; i++)
            layer<decltype(cache)>(
                *pool, layers[i], head_dim, eps, spans, n, slots, cos, sin, i ? out : x, rows, exact, out);
    };
    if (type == CACHE_INT8) run(int8_t());
    else if (type == CACHE_BF16) run(uint16_t());
    else run(0.0f);
}
}
