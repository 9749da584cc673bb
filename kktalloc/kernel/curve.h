/* Pruning-error curves given as tables: straight pieces between points. Piece j lies between the points j and j + 1, so that
 * a device that keeps more goes from the last piece, the steepest, towards piece 0. */
#ifndef KKTALLOC_CURVE_H
#define KKTALLOC_CURVE_H

#include "problem.h"

/* The table of one device. */
typedef struct {
    const char *ratio, *error, *slope;
    ptrdiff_t ratio_step, error_step, slope_step;
    int pieces;
} Pieces;

INLINE Pieces pieces_of(const Curve *c, ptrdiff_t row, ptrdiff_t device)
{
    const char *ratio = c->ratio.data + row * c->ratio.row + device * c->ratio.step;
    const char *error = c->error.data + row * c->error.row + device * c->error.step;
    const char *slope = c->slope.data + row * c->slope.row + device * c->slope.step;
    return (Pieces){ratio, error, slope, c->ratio_step, c->error_step, c->slope_step, c->points - 1};
}

/* That of lane i of a strip; the lanes beyond the last take its table. */
INLINE Pieces pieces_at(const Curve *c, const Strip *at, int i)
{
    const int lane = i < at->count ? i : at->count - 1;
    return at->across ? pieces_of(c, at->row + lane, at->device) : pieces_of(c, at->row, at->device + lane);
}

INLINE double ratio_at(const Pieces *p, int j) { return *(const double *)(p->ratio + j * p->ratio_step); }
INLINE double error_at(const Pieces *p, int j) { return *(const double *)(p->error + j * p->error_step); }
INLINE double piece_slope(const Pieces *p, int j) { return *(const double *)(p->slope + j * p->slope_step); }

/* The last piece that begins at or before rho; before it, if `open`. */
INLINE int piece_at(const Pieces *p, double rho, int open)
{
    int low = 0, high = p->pieces;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        const double start = ratio_at(p, middle);
        if (start < rho || (!open && start == rho)) low = middle;
        else high = middle;
    }
    return low;
}

/* The same, found at once where it is piece `guess`. */
INLINE int piece_near(const Pieces *p, double rho, int guess)
{
    const int begun = guess == 0 || ratio_at(p, guess) <= rho, open = guess + 1 == p->pieces || rho < ratio_at(p, guess + 1);
    return begun && open ? guess : piece_at(p, rho, 0);
}

INLINE double error_on(const Pieces *p, int j, double rho)
{
    return error_at(p, j) + piece_slope(p, j) * (rho - ratio_at(p, j));
}

#endif
