/* What a problem asks of its numbers. */
#include "problem.h"

/* Whether all of them are in [low, high], or in (low, high] where `open`. */
LANE_LOOP double count_outside(const double *x, ptrdiff_t count, double low, double open, double high)
{
    double outside = 0.0;
    for (ptrdiff_t i = 0; i < count; i++) {
        const double enough = x[i] >= low ? 1.0 : 0.0, distinct = x[i] != low ? 1.0 : 1.0 - open;
        const double fits = x[i] <= high ? enough * distinct : 0.0;
        outside = fits > 0.0 ? outside : 1.0;
    }
    return outside;
}

int all_in_range(const double *x, ptrdiff_t count, double low, int open, double high)
{
    return count_outside(x, count, low, open ? 1.0 : 0.0, high) == 0.0;
}

/* Weights over their sum, row by row; divided by the largest first, which keeps the sum of huge ones finite. 0 where a row
 * has none above 0. */
int normalise(const Column *weight, ptrdiff_t rows, ptrdiff_t devices, double *out)
{
    int positive = 1;
    for (ptrdiff_t row = 0; row < rows; row++) {
        double *share = out + row * devices, top = 0.0;
        Total total = {0.0, 0.0};
        for (ptrdiff_t first = 0; first < devices; first += LANES) {
            const int count = devices - first < LANES ? (int)(devices - first) : LANES;
            Lanes w;
            const Strip at = {row, first, LANES, count, 0};
            load(w, weight, &at);
            for (int i = 0; i < count; i++) {
                share[first + i] = w[i];
                top = most(top, w[i]);
            }
        }
        positive &= top > 0.0;
        for (ptrdiff_t first = 0; first < devices; first += LANES) {
            const int count = devices - first < LANES ? (int)(devices - first) : LANES;
            Lanes w = {0};
            for (int i = 0; i < count; i++) w[i] = share[first + i] /= top;
            add(&total, sum_lanes(w, LANES));
        }
        const double sum = value_of(total);
        for (ptrdiff_t k = 0; k < devices; k++) share[k] /= sum;
    }
    return positive;
}
