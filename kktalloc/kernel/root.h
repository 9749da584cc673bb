/* Where a falling function of one unknown crosses zero: the scalar twin of `roots.py`. */
#ifndef KKTALLOC_ROOT_H
#define KKTALLOC_ROOT_H

#include "lanes.h"

enum { ROOT_ITERATIONS = 120 };

/* `at`: the least unknown seen with a value of at most 0, the upper end of the search where there was none; whether the root
 * is known to the tolerance. */
typedef struct {
    double at;
    int found, evaluations;
} Root;

typedef double Falling(void *context, double x);

/* As `roots.crossing`: growing steps from `start` until the root is between two points, then Chandrupatla's method, inverse
 * quadratic interpolation wherever that is safe, else bisection. */
static inline Root find_root(Falling *falling, void *context, double start, double low, double high, double closed,
                             double width)
{
    double a = most(least(start, high), low), b = NAN, c = NAN, f_a = falling(context, a), f_b = NAN, f_c = NAN;
    double step = 1.0, t = 0.5;
    Root root = {high, 0, 1};
    for (int n = 0; n < ROOT_ITERATIONS; n++) {
        const int above = f_a > closed, bracketed = b == b;
        if (f_a != f_a) break;
        if (!above) root.at = least(root.at, a);
        const int at_end = !bracketed && (above ? a >= high : a <= low);
        const double point = most(width * most(1.0, fabs(a)), nextafter(fabs(a), INFINITY) - fabs(a));
        if ((bracketed && fabs(b - a) <= point) || at_end || fabs(f_a) <= closed) {
            root.found = !(at_end && above);
            break;
        }
        const double moved = a + (above ? step : -step);
        const double x = bracketed ? a + t * (b - a) : most(least(moved, high), low), f_x = falling(context, x);
        root.evaluations++;
        const int same = (f_x > closed) == above, first = !bracketed && same;
        c = same ? a : b;
        f_c = same ? f_a : f_b;
        if (first) step *= 4.0;
        else if (!same) {
            b = a;
            f_b = f_a;
        }
        a = x;
        f_a = f_x;
        if (b == b) {
            const double xi = (a - b) / (c - b), phi = (f_a - f_b) / (f_c - f_b);
            const int smooth = phi * phi < xi && (1.0 - phi) * (1.0 - phi) < 1.0 - xi;
            const double inverse = f_a / (f_b - f_a) * f_c / (f_b - f_c)
                + (c - a) / (b - a) * f_a / (f_c - f_a) * f_b / (f_c - f_b);
            const double guess = c == c ? (smooth ? inverse : 0.5) : f_a / (f_a - f_b);
            const double near = most(width * most(1.0, fabs(a)), nextafter(fabs(a), INFINITY) - fabs(a));
            const double tiny = least(near / fabs(b - a), 0.5);
            t = guess == guess && fabs(guess) < INFINITY ? most(least(guess, 1.0 - tiny), tiny) : 0.5;
        }
    }
    return root;
}

#endif
