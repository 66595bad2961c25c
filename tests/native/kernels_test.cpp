// The native kernels, driven through their C interface on random odd shapes and held against naive
// loops. Built with sanitizers and run by tests/unit/kernels/test_native_sources.py: every array has
// exactly the size that the interface promises, so a step outside it ends the program.
#include "../../src/puna/kernels/native/kernels.cpp"

#include <cstdio>
#include <cstdlib>
#include <random>

namespace {

std::mt19937 engine(7);

long between(long least, long most) { return std::uniform_int_distribution<long>(least, most)(engine); }

std::vector<float> normal(long count) {
    std::normal_distribution<float> draw;
    std::vector<float> values(count);
    for (float& value : values) value = draw(engine);
    return values;
}

void check(bool good, const char* what, double got, double expected) {
    if (good) return;
    std::fprintf(stderr, "%s: %.9g, expected %.9g\n", what, got, expected);
    std::exit(1);
}

void near(const char* what, double got, double expected, double tolerance) {
    check(std::fabs(got - expected) <= tolerance * (1 + std::fabs(expected)), what, got, expected);
}

// A packed weight [n, k] of random bits, and what formats.h says that it means.
struct Weight {
    std::vector<uint8_t> bytes;
    std::vector<float> values;
    std::vector<double> largest;  // [n, panels of 256 columns]: what integers may stand for there at most
};

constexpr uint16_t HALVES[] = {0x3c00, 0x3800, 0xb400, 0x0001, 0x2e66, 0x0000};
constexpr float SCALES[] = {1.0f, 0.5f, -0.25f, 5.9604645e-8f, 0.099975586f, 0.0f};

// Puts `value` (0..15) where formats.h says that nibble (r, c) of 32 columns lies.
void put_nibble(uint8_t* nibbles, long r, long c, int value) {
    nibbles[c / 8 * 128 + r * 4 + c % 4] |= (uint8_t)(value << (c % 8 < 4 ? 0 : 4));
}

Weight random_weight(int format, long n, long k) {
    const long wide = format == Q6 || format == Q4M ? 256 : 32;
    const long size = format == BF16 ? 2048 : format == Q8 ? 1088 : format == Q4 ? 576
                    : format == Q6 ? 6720 : 4736;
    const long across = (k + wide - 1) / wide, down = (n + 31) / 32;
    const long panels = (k + 255) / 256;
    Weight w{std::vector<uint8_t>(down * across * size), std::vector<float>(n * k), std::vector<double>(n * panels)};
    for (long row = 0; row < down * 32; row++)
        for (long first = 0; first < across * wide; first += 32) {
            uint8_t* block = w.bytes.data() + (row / 32 * across + first / wide) * size;
            const long r = row % 32, choice = between(0, 4), least_choice = between(0, 4);
            const float scale = SCALES[choice];
            if (format != BF16 && first % wide == 0) {
                memcpy(block + 2 * r, &HALVES[choice], 2);
                if (format == Q4M) memcpy(block + 64 + 2 * r, &HALVES[least_choice], 2);
            }
            uint8_t* group = block + (format == Q6 ? 64 + first % 256 / 32 * 832 : 128 + first % 256 / 32 * 576);
            float own[2] = {}, least = 0;  // what a group of a wide format has of its own
            if (wide == 256) {
                own[0] = own[1] = half_to_float(*(const uint16_t*)(block + 2 * r));
                if (format == Q4M) least = half_to_float(*(const uint16_t*)(block + 64 + 2 * r));
                const int first_scale = (int)between(format == Q6 ? -128 : 0, format == Q6 ? 127 : 255);
                const int second = (int)between(-128, 127), lowest = (int)between(0, 255);
                group[r] = (uint8_t)first_scale;
                group[32 + r] = (uint8_t)(format == Q6 ? second : lowest);
                own[0] *= (float)first_scale;
                own[1] *= (float)second;
                least *= (float)lowest;
            }
            if (row < n && format != BF16 && first < panels * 256) {
                const double far = format == Q4M ? std::max(std::fabs((double)least), std::fabs(15.0 * own[0] - least))
                                 : format == Q6  ? 32.0 * std::max(std::fabs(own[0]), std::fabs(own[1]))
                                                 : std::fabs(scale) * (format == Q8 ? 128.0 : 8.0);
                double& largest = w.largest[row * panels + first / 256];
                largest = std::max(largest, far);
            }
            for (long i = 0; i < 32; i++) {
                const bool padding = row >= n || first + i >= k;
                float value = 0;
                if (format == BF16) {
                    const long some = 0x3e00 + between(0, 0x1ff) + (between(0, 1) << 15);
                    const uint16_t bits = padding ? 0 : (uint16_t)some;
                    const uint32_t wider = (uint32_t)bits << 16;
                    memcpy(&value, &wider, 4);
                    memcpy(block + i / 2 * 128 + r * 4 + i % 2 * 2, &bits, 2);
                } else if (format == Q8) {
                    const int q = padding ? 0 : (int)between(-127, 127);
                    block[64 + i / 4 * 128 + r * 4 + i % 4] = (uint8_t)(q + 128);
                    value = scale * q;
                } else if (format == Q4) {
                    const int q = padding ? 0 : (int)between(-8, 7);
                    put_nibble(block + 64, r, i, q + 8);
                    value = scale * q;
                } else if (format == Q6) {
                    const int q = padding ? 0 : (int)between(-32, 31);
                    put_nibble(group + 64, r, i, (q + 32) & 15);
                    group[576 + i / 16 * 128 + r * 4 + i % 4] |= (uint8_t)((q + 32) >> 4 << (i % 16 / 4 * 2));
                    value = own[i / 16] * q;
                } else {
                    const int q = (int)between(0, 15);
                    put_nibble(group + 64, r, i, q);
                    value = own[0] * q - least;
                }
                if (!padding) w.values[row * k + first + i] = value;
            }
        }
    return w;
}

// One weight through the kernel of many.
void one_linear(
    int format, const void* w, long n, long k, const float* x, long rows, float* out, long exact = 1 << 20) {
    puna_linear(1, &format, &w, &n, k, x, rows, std::min(rows, exact), nullptr, 0, nullptr, 1, &out);
}

// How far bulk rows that meet integers may be off where they are multiplied in a way of their own, for each
// output: in each panel half a step of the activations, and of the weights one or, where two are rounded, two.
std::vector<double> bulk_errors(const Weight& w, int format, long n, long k, const float* x) {
    const double steps_of_inputs = HAS_AMX ? 127 : 2047, steps_of_weights = HAS_AMX ? 126 : 128 * 16;
    std::vector<double> errors(n);
    for (long o = 0; o < n; o++)
        for (long first = 0; first < k; first += 256) {
            double weights = 0, inputs = 0, most = 0;
            for (long c = first; c < std::min(k, first + 256); c++) {
                weights += std::fabs(w.values[o * k + c]);
                inputs += std::fabs(x[c]);
                most = std::max(most, std::fabs((double)x[c]));
            }
            const double step = w.largest[o * ((k + 255) / 256) + first / 256] / steps_of_weights;
            errors[o] += weights * most / (2 * steps_of_inputs) + (inputs + most) * step * (format == Q4M ? 1.02 : 0.51);
        }
    return errors;
}

std::vector<float> as_quantised(const std::vector<float>& x, long rows, long k) {
    std::vector<float> seen(x);
    for (long r = 0; r < rows; r++)
        for (long first = 0; first < k; first += 32) {
            const long end = std::min(k, first + 32);
            float most = 0;
            for (long c = first; c < end; c++) most = std::max(most, std::fabs(x[r * k + c]));
            for (long c = first; c < end && most > 0; c++)
                seen[r * k + c] = std::nearbyint(x[r * k + c] * (127 / most)) * (most / 127);
        }
    return seen;
}

// What bf16 weights meet: floats, or where the processor multiplies bf16 itself, bf16.
std::vector<float> as_inputs(std::vector<float> x) {
#if defined(__AVX512BF16__)
    for (float& value : x) value = bf16_to_float(float_to_bf16(value));
#endif
    return x;
}

constexpr bool OWN_BULK = HAS_BULK<tiles::Q8Panel>;

// Few meet weights as they lie, many meet them widened.
long few_or_many() { return between(0, 3) ? between(1, 14) : between(15, 40); }

void test_linear(int format) {
    const long n = between(1, 100), rows = few_or_many();
    const long k = between(0, 2) ? between(1, 150) : between(200, 600);
    const Weight w = random_weight(format, n, k);
    const long exact = between(0, 2) ? rows : between(0, rows);
    const std::vector<float> x = normal(rows * k);
    const std::vector<float> seen = format == BF16 ? as_inputs(x) : as_quantised(x, rows, k);
    std::vector<float> out(rows * n, NAN), row(k);
    one_linear(format, w.bytes.data(), n, k, x.data(), rows, out.data(), exact);
    for (long r = 0; r < rows; r++) {
        const bool own = format != BF16 && r >= exact && (HAS_AMX || (format == Q8 && OWN_BULK));
        const std::vector<double> errors = own ? bulk_errors(w, format, n, k, x.data() + r * k) : std::vector<double>(n);
        for (long o = 0; o < n; o++) {
            double sum = 0, size = 0;
            for (long c = 0; c < k; c++) {
                const double term = (double)w.values[o * k + c] * (own ? x[r * k + c] : seen[r * k + c]);
                sum += term;
                size += std::fabs(term);
            }
            near("linear", out[r * n + o], sum, 1e-5 * (1 + size) + errors[o]);
        }
        // the same bits alone as among others
        std::vector<float> alone(n);
        one_linear(format, w.bytes.data(), n, k, x.data() + r * k, 1, alone.data(), r < exact);
        check(!memcmp(alone.data(), out.data() + r * n, n * 4), "linear alone", alone[0], out[r * n]);
    }
    const std::vector<int64_t> ids{n - 1, 0, between(0, n - 1)};
    std::vector<float> looked(ids.size() * k);
    puna_rows(format, w.bytes.data(), k, ids.data(), (long)ids.size(), looked.data());
    for (size_t i = 0; i < ids.size(); i++)
        for (long c = 0; c < k; c++) near("rows", looked[i * k + c], w.values[ids[i] * k + c], 1e-6);
}

// Several weights of several formats in one call, after a norm, onto a residual, and gated, against
// the same one by one.
void test_together() {
    const long k = between(1, 300), rows = few_or_many(), n = between(1, 70);
    const std::vector<float> x = normal(rows * k), norm = normal(k);
    std::vector<float> normed(rows * k);
    puna_rms_norm(x.data(), norm.data(), 1e-5f, rows, k, normed.data());
    const int formats[] = {Q4, BF16, Q6, Q8, Q4M};
    const long ns[] = {n, between(1, 70), n, between(1, 70), between(1, 70)};
    std::vector<Weight> weights;
    std::vector<std::vector<float>> got, expected;
    std::vector<const void*> data;
    std::vector<float*> outs;
    for (int i = 0; i < 5; i++) {
        weights.push_back(random_weight(formats[i], ns[i], k));
        got.emplace_back(rows * ns[i], NAN);
        expected.emplace_back(rows * ns[i], NAN);
    }
    for (int i = 0; i < 5; i++) {
        data.push_back(weights[i].bytes.data());
        outs.push_back(got[i].data());
        one_linear(formats[i], data[i], ns[i], k, normed.data(), rows, expected[i].data());
    }
    puna_linear(5, formats, data.data(), ns, k, x.data(), rows, rows, norm.data(), 1e-5f, nullptr, 1, outs.data());
    for (int i = 0; i < 5; i++)
        for (size_t j = 0; j < got[i].size(); j++) near("together", got[i][j], expected[i][j], 1e-5);

    const int pair[] = {Q4, Q6};
    const void* both[] = {data[0], data[2]};
    std::vector<float> gated(rows * n, NAN), one_by_one(rows * n);
    puna_gated(pair, both, n, k, x.data(), rows, rows, norm.data(), 1e-5f, gated.data());
    puna_swiglu(expected[0].data(), expected[2].data(), rows, n, one_by_one.data());
    for (long i = 0; i < rows * n; i++) near("gated", gated[i], one_by_one[i], 1e-5);

    const std::vector<float> residual = normal(rows * n);
    std::vector<float> sum(rows * n, NAN);
    float* to = sum.data();
    puna_linear(1, pair, both, &n, k, normed.data(), rows, rows, nullptr, 0, residual.data(), 0.5f, &to);
    for (long i = 0; i < rows * n; i++) near("residual", sum[i], residual[i] + 0.5 * expected[0][i], 1e-5);
}

void test_extremes(int format) {
    const long k = 70;
    Weight w = random_weight(format, 3, k);
    for (long exact : {2, 0}) {
        std::vector<float> x(2 * k), out(2 * 3);
        for (float bad : {NAN, INFINITY, -INFINITY}) {
            x[5] = bad;
            one_linear(format, w.bytes.data(), 3, k, x.data(), 2, out.data(), exact);
            check(!std::isfinite(out[0]), "a row that holds no number", out[0], bad);
            check(out[3] == 0, "the row beside it", out[3], 0);
        }
        for (float tiny : {1e-45f, 1e-38f, 3e-37f}) {
            std::fill(x.begin(), x.end(), tiny);
            one_linear(format, w.bytes.data(), 3, k, x.data(), 2, out.data(), exact);
            near("tiny activations", out[0], 0, 1e-30);
        }
    }
}

void test_rowwise() {
    const long rows = between(1, 9), k = between(1, 70);
    const std::vector<float> x = normal(rows * k), y = normal(rows * k), weight = normal(k);
    std::vector<float> out(rows * k);
    puna_rms_norm(x.data(), weight.data(), 1e-5f, rows, k, out.data());
    for (long r = 0; r < rows; r++) {
        double squares = 0;
        for (long c = 0; c < k; c++) squares += (double)x[r * k + c] * x[r * k + c];
        for (long c = 0; c < k; c++)
            near("norm", out[r * k + c], x[r * k + c] / std::sqrt(squares / k + 1e-5) * weight[c], 1e-5);
    }
    std::vector<float> gate(x);
    for (float& value : gate) value *= 40;
    puna_swiglu(gate.data(), y.data(), rows, k, out.data());
    for (long i = 0; i < rows * k; i++)
        near("swiglu", out[i], gate[i] / (1 + std::exp(-(double)gate[i])) * y[i], 1e-5);

    const long heads = between(1, 4), half = between(1, 40);
    const std::vector<float> z = normal(rows * heads * 2 * half);
    const std::vector<float> cos = normal(rows * half), sin = normal(rows * half);
    std::vector<float> turned(z.size());
    puna_rotate(z.data(), cos.data(), sin.data(), rows, heads, 2 * half, turned.data());
    for (long r = 0; r < rows; r++)
        for (long h = 0; h < heads; h++)
            for (long i = 0; i < half; i++) {
                const long at = (r * heads + h) * 2 * half;
                const double a = z[at + i], b = z[at + half + i];
                const double c = cos[r * half + i], s = sin[r * half + i];
                near("rotate", turned[at + i], a * c - b * s, 1e-5);
                near("rotate", turned[at + half + i], b * c + a * s, 1e-5);
            }
}

float widened(float x) { return x; }
float widened(uint16_t x) { return bf16_to_float(x); }

// Feature c of token `place` in one head of a page, as attention.h draws it.
template <class T> float key_at(const uint8_t* head, long place, long c, long) {
    return widened(((const T*)head)[c * PAGE + place]);
}
template <class T> float value_at(const uint8_t* head, long place, long c, long d) {
    return widened(((const T*)head)[place * d + c]);
}
float int8_at(const uint8_t* head, long place, long at) {
    return widened(((const uint16_t*)head)[place]) * ((const int8_t*)head)[2 * PAGE + at];
}
template <> float key_at<int8_t>(const uint8_t* head, long place, long c, long) {
    return int8_at(head, place, (c / 2 * PAGE + place) * 2 + c % 2);
}
template <> float value_at<int8_t>(const uint8_t* head, long place, long c, long) {
    return int8_at(head, place, (c / 16 * 128 + place % 8 * 16 + c % 16) * 2 + place / 8);
}

// Keys and values of `tokens` random tokens in shuffled pages, or in 0, 1, 2 ...; all else is NaN.
template <class T> struct Memory {
    long tokens, kv_heads, d;
    std::vector<int64_t> pages;
    std::vector<uint8_t> keys, values;

    Memory(int type, long count, long heads, long head_dim, bool shuffled)
        : tokens(count), kv_heads(heads), d(head_dim), pages((count + PAGE - 1) / PAGE) {
        const long page_bytes = heads * head_bytes<T>(d);
        for (size_t i = 0; i < pages.size(); i++) pages[i] = (int64_t)i;
        if (shuffled) std::shuffle(pages.begin(), pages.end(), engine);
        keys.assign(pages.size() * page_bytes, 0xff);
        values = keys;
        const std::vector<float> k = normal(tokens * heads * d), v = normal(tokens * heads * d);
        std::vector<int64_t> slots;
        for (long p = 0; p < tokens; p++) slots.push_back(pages[p / PAGE] * PAGE + p % PAGE);
        puna_store(type, keys.data(), values.data(), slots.data(), k.data(), v.data(), tokens, heads, d);
        for (long p = 0; p < tokens; p++)
            for (long h = 0; h < heads; h++)
                for (long c = 0; c < d; c++) {
                    const long at = (p * heads + h) * d + c;
                    const double step = type == CACHE_FP32 ? 0 : type == CACHE_BF16 ? 0.01 : 0.03;
                    near("stored key", key(p, h, c), k[at], step);
                    near("stored value", value(p, h, c), v[at], step);
                }
    }
    long head(long p, long h) const { return (pages[p / PAGE] * kv_heads + h) * head_bytes<T>(d); }
    float key(long p, long h, long c) const { return key_at<T>(keys.data() + head(p, h), p % PAGE, c, d); }
    float value(long p, long h, long c) const {
        return value_at<T>(values.data() + head(p, h), p % PAGE, c, d);
    }
};

// What queries and weights lose in bf16, of values of unit size.
constexpr double IN_BULK = 0.04;
#if !HAS_AMX
#define HAS_AMX 0
#endif

template <class T> void test_attention(int type, double tolerance) {
    const long group = between(1, 8), kv_heads = between(1, 3), heads = group * kv_heads;
    const long d = std::vector<long>{16, 64, 80, 128}[between(0, 3)], count = between(1, 4);
    std::vector<Memory<T>> memories;
    std::vector<int64_t> runs, sources;
    long rows = 0;
    memories.reserve(3 * count);
    for (long i = 0; i < count; i++) {
        const bool causal = between(0, 2) > 0;
        const long length = between(0, 2) ? between(1, 3) : between(4, 40);
        const long long_one = between(0, 5) ? 150 : 2200;
        const long context = causal ? between(0, 1) ? 0 : between(0, long_one) : -1;
        const long its = causal ? 1 : between(1, 3);
        runs.insert(runs.end(), {rows, length, context, (int64_t)memories.size(), its});
        for (long j = 0; j < its; j++) {
            const long tokens = causal ? context + length : between(1, long_one);
            memories.emplace_back(type, tokens, kv_heads, d, causal);
            const Memory<T>& m = memories.back();
            const int64_t pages = causal ? (int64_t)m.pages.data() : 0;
            sources.insert(sources.end(), {(int64_t)m.keys.data(), (int64_t)m.values.data(), pages, tokens});
        }
        rows += length;
    }
    const std::vector<float> q = normal(rows * heads * d);
    std::vector<float> out(q.size(), NAN);
    const long exact = runs[5 * between(0, count - 1)] + between(0, 1);
    puna_attention(
        q.data(), type, runs.data(), count, sources.data(), (long)memories.size(), heads, kv_heads, d, exact,
        out.data());
    for (long i = 0; i < count; i++) {
        const int64_t* run = runs.data() + i * 5;
        const double off = HAS_AMX && type != CACHE_FP32 && run[0] >= exact ? IN_BULK : tolerance;
        for (long r = 0; r < run[1]; r++)
            for (long h = 0; h < heads; h++) {
                const long at = ((run[0] + r) * heads + h) * d;
                std::vector<double> sum(d);
                double weights = 0;
                for (long j = run[3]; j < run[3] + run[4]; j++) {
                    const Memory<T>& m = memories[j];
                    for (long p = 0; p < (run[2] < 0 ? m.tokens : run[2] + r + 1); p++) {
                        double score = 0;
                        for (long c = 0; c < d; c++) score += (double)q[at + c] * m.key(p, h / group, c);
                        const double weight = std::exp(score / std::sqrt((double)d));
                        weights += weight;
                        for (long c = 0; c < d; c++) sum[c] += weight * m.value(p, h / group, c);
                    }
                }
                for (long c = 0; c < d; c++) near("attention", out[at + c], sum[c] / weights, off);
            }
    }
}

// Layers in one call against their parts, one by one.
template <class T> void test_layers(int type) {
    const long d = std::vector<long>{16, 64, 80}[between(0, 2)], kv_heads = between(1, 2);
    const long heads = kv_heads * between(1, 4), width = between(1, 120), wide = between(1, 150);
    const long context = between(0, 40), length = few_or_many(), rows = length, count = between(1, 3);
    const long ns[7] = {heads * d, kv_heads * d, kv_heads * d, width, wide, wide, width};
    const long ks[7] = {width, width, width, heads * d, width, width, wide};
    std::vector<Layer> layers(count);
    std::vector<Weight> weights;
    std::vector<Memory<T>> mine, theirs;
    weights.reserve(7 * count);
    mine.reserve(count);
    const std::vector<float> norms = normal(2 * width * count);
    for (long l = 0; l < count; l++) {
        for (int i = 0; i < 7; i++) {
            const int format = (int)between(0, 1) ? Q4 : Q8;
            weights.push_back(random_weight(format, ns[i], ks[i]));
            layers[l].matrices[i] = {format, weights.back().bytes.data(), ns[i]};
        }
        layers[l].attention_norm = norms.data() + 2 * l * width;
        layers[l].mlp_norm = norms.data() + (2 * l + 1) * width;
        mine.emplace_back(type, context + length, kv_heads, d, true);
        if (l) mine[l].pages = mine[0].pages;
        layers[l].keys = mine[l].keys.data();
        layers[l].values = mine[l].values.data();
    }
    theirs = mine;
    const int64_t span[4] = {0, length, context, (int64_t)mine[0].pages.data()};
    std::vector<int64_t> slots;
    for (long p = context; p < context + length; p++) slots.push_back(mine[0].pages[p / PAGE] * PAGE + p % PAGE);
    const std::vector<float> x = normal(rows * width), cos = normal(rows * d / 2), sin = normal(rows * d / 2);
    std::vector<float> got(rows * width, NAN), expected(x);
    puna_layers(
        layers.data(), count, type, d, 1e-5f, span, 1, slots.data(), cos.data(), sin.data(), x.data(), rows,
        rows, got.data());

    std::vector<float> q(rows * ns[0]), k(rows * ns[1]), v(k), attended(q), h(rows * width), gated(rows * wide);
    float* const qkv[3] = {q.data(), k.data(), v.data()};
    float* const to_h = h.data();
    float* const to_out = expected.data();
    for (long l = 0; l < count; l++) {
        Memory<T>& memory = theirs[l];
        int formats[7];
        const void* data[7];
        for (int i = 0; i < 7; i++) {
            formats[i] = (int)layers[l].matrices[i].format;
            data[i] = layers[l].matrices[i].data;
        }
        puna_linear(
            3, formats, data, ns, width, expected.data(), rows, rows, layers[l].attention_norm, 1e-5f, nullptr, 1,
            qkv);
        puna_rotate(q.data(), cos.data(), sin.data(), rows, heads, d, q.data());
        puna_rotate(k.data(), cos.data(), sin.data(), rows, kv_heads, d, k.data());
        puna_store(
            type, memory.keys.data(), memory.values.data(), slots.data(), k.data(), v.data(), rows, kv_heads, d);
        const int64_t run[5] = {0, length, context, 0, 1};
        const int64_t source[4] = {
            (int64_t)memory.keys.data(), (int64_t)memory.values.data(), (int64_t)memory.pages.data(),
            context + length};
        puna_attention(q.data(), type, run, 1, source, 1, heads, kv_heads, d, rows, attended.data());
        puna_linear(
            1, formats + 3, data + 3, ns + 3, ns[0], attended.data(), rows, rows, nullptr, 0, expected.data(), 1,
            &to_h);
        puna_gated(formats + 4, data + 4, wide, width, h.data(), rows, rows, layers[l].mlp_norm, 1e-5f, gated.data());
        puna_linear(1, formats + 6, data + 6, ns + 6, wide, gated.data(), rows, rows, nullptr, 0, h.data(), 1, &to_out);
        check(mine[l].keys == memory.keys && mine[l].values == memory.values, "a layer's cache", 0, 0);
    }
    check(!memcmp(got.data(), expected.data(), got.size() * 4), "layers", got[0], expected[0]);
}

// The first of those that tie, and before all a NaN.
void test_argmax() {
    const long rows = between(1, 6), k = between(0, 1) ? between(1, 40) : between(1000, 3100);
    std::vector<float> x(rows * k), peaks(rows);
    std::vector<int64_t> ids(rows);
    const long odd = between(0, 3);
    for (float& value : x) value = (float)between(-4, 4);
    for (long i = 0; i < odd; i++) x[between(0, rows * k - 1)] = between(0, 1) ? NAN : -INFINITY;
    puna_argmax(x.data(), rows, k, ids.data(), peaks.data());
    for (long r = 0; r < rows; r++) {
        const float* row = x.data() + r * k;
        long best = 0;
        for (long c = 1; c < k; c++)
            if (row[best] == row[best] && !(row[c] <= row[best])) best = c;
        check(ids[r] == best, "argmax", (double)ids[r], (double)best);
        check(!memcmp(&peaks[r], row + best, 4), "a peak", peaks[r], row[best]);
    }
}

// What a cache in 8 bits makes of rows that hold no numbers, and of rows too small for a scale.
void test_int8_extremes() {
    std::vector<float> k(16), v(16);
    std::vector<uint8_t> keys(head_bytes<int8_t>(16)), values(keys);
    const int64_t slot = 0;
    auto stored = [&](float x) {
        k[3] = v[3] = x;
        puna_store(CACHE_INT8, keys.data(), values.data(), &slot, k.data(), v.data(), 1, 1, 16);
        return widened(((const uint16_t*)keys.data())[0]);
    };
    for (float bad : {NAN, INFINITY, -INFINITY}) check(std::isinf(stored(bad)), "a bad key", stored(bad), bad);
    for (float tiny : {0.0f, 1e-45f, -1e-33f}) check(stored(tiny) == 0, "a tiny key", stored(tiny), 0);
    for (float good : {1e-25f, -3e38f}) {
        stored(good);
        near("an extreme key", key_at<int8_t>(keys.data(), 0, 3, 16) / good, 1, 0.01);
    }
}

// Two engines share the threads; each must get its own results.
void test_two_callers() {
    const long n = 1000, k = 96, rows = 6;
    const Weight w = random_weight(Q8, n, k);
    auto call = [&](unsigned seed) {
        std::mt19937 mine(seed);
        std::vector<float> x(rows * k), once(rows * n), again(rows * n);
        for (float& value : x) value = (float)mine() / (float)mine.max();
        one_linear(Q8, w.bytes.data(), n, k, x.data(), rows, once.data());
        for (int i = 0; i < 20; i++) {
            one_linear(Q8, w.bytes.data(), n, k, x.data(), rows, again.data());
            check(once == again, "two callers", again[0], once[0]);
        }
    };
    std::thread other(call, 1);
    call(2);
    other.join();
}

// A thread that still computes when the program ends, as a daemon thread of Python's may.
void leave_one_computing() {
    static const Weight& w = *new Weight(random_weight(Q4, 64 * 32, 32));
    static std::atomic<int> calls{0};
    std::thread([] {
        static float x[8 * 32], out[8 * 64 * 32];
        for (;; calls++) one_linear(Q4, w.bytes.data(), 64 * 32, 32, x, 8, out);
    }).detach();
    while (calls < 3) std::this_thread::yield();
}

}  // namespace

int main(int count, char** arguments) {
    check(puna_usable(), "the system lets these kernels run", 0, 1);
    puna_threads(3);
    for (int round = 0; round < (count > 1 ? std::atoi(arguments[1]) : 10); round++) {
        for (int format : {BF16, Q8, Q6, Q4M, Q4}) test_linear(format);
        test_together();
        test_rowwise();
        test_argmax();
        test_attention<float>(CACHE_FP32, 2e-5);
        test_attention<uint16_t>(CACHE_BF16, 2e-5);
        test_attention<int8_t>(CACHE_INT8, 2e-4);
        test_layers<float>(CACHE_FP32);
        test_layers<uint16_t>(CACHE_BF16);
        test_layers<int8_t>(CACHE_INT8);
    }
    for (int format : {BF16, Q8, Q6, Q4M, Q4}) test_extremes(format);
    test_int8_extremes();
    test_two_callers();
    leave_one_computing();
    return 0;
}
