/* The pruning error of one device at one ratio. */
#ifndef KKTALLOC_ERROR_H
#define KKTALLOC_ERROR_H

#include "curve.h"

INLINE double curve_value(const Column *c, ptrdiff_t row, ptrdiff_t k)
{
    return *(const double *)(c->data + row * c->row + k * c->step);
}

/* The slope at rho, and in `bend` how its logarithm rises with rho. */
static double error_slope(const Curve *c, ptrdiff_t row, ptrdiff_t k, double rho, double *bend)
{
    *bend = 0.0;
    if (c->kind == LINEAR) return 1.0;
    if (c->kind == POWER_LAW) {
        const double m = curve_value(&c->exponent, row, k), scale = curve_value(&c->scale, row, k);
        if (m == 1.0) return scale;
        *bend = (m - 1.0) / rho;
        return scale * m * pow(rho, m - 1.0);
    }
    const Pieces table = pieces_of(c, row, k);
    return piece_slope(&table, piece_at(&table, rho, 0));
}

static double error_value(const Curve *c, ptrdiff_t row, ptrdiff_t k, double rho)
{
    if (c->kind == LINEAR) return rho;
    if (c->kind == POWER_LAW) return curve_value(&c->scale, row, k) * pow(rho, curve_value(&c->exponent, row, k));
    const Pieces table = pieces_of(c, row, k);
    return error_on(&table, piece_at(&table, rho, 0), rho);
}

#endif
