// Where the greatest of a row stands: what a greedy choice of a token asks of its logits.
#pragma once
#include <algorithm>

#include "vec.h"

// The greatest of `count` floats, 1 at least; NaN if one of them is.
static float greatest(const float* x, long count) {
    Vec most = splat(x[0]);
    ilanes odd[Vec::N] = {};
    long c = 0;
    for (; c + 16 <= count; c += 16) {
        const Vec v = load(x + c);
        EACH odd[i] |= v.v[i] != v.v[i];
        most = greater(most, v);
    }
    float peak = largest(most);
    bool numbers = true;
    EACH for (int lane = 0; lane < LANES; lane++) numbers &= !odd[i][lane];
    for (; c < count; c++) {
        numbers &= x[c] == x[c];
        peak = std::max(peak, x[c]);
    }
    return numbers ? peak : NAN;
}

// The first place of the greatest of x [k]; NaN counts as greater than all, as torch has it. A short
// piece is searched, and only the one that holds it: the row is read once.
static long argmax(const float* x, long k) {
    constexpr long PIECE = 1024;
    float peak = -INFINITY;
    long at = 0;
    for (long c = 0; c < k && peak == peak; c += PIECE) {
        const float here = greatest(x + c, std::min(PIECE, k - c));
        if (here <= peak) continue;
        peak = here;
        at = c;
    }
    while (x[at] == x[at] && x[at] != peak) at++;
    return at;
}
