/* Where the search for a device's efficiency starts. */
#ifndef KKTALLOC_START_H
#define KKTALLOC_START_H

#include "block.h"

#define ROUGH_MAX 80.0f  /* efficiencies of which single precision holds the exponential */

enum { ROUGH_STEPS = 3 };

/* Over the lanes in use, in vectors of single precision, which hold twice as many: the last may take in lanes that are not,
 * for nobody to read. */
#define EACH_ROUGH(v, i) for (int i = 0; i < (((v)->width + VECTOR) & (-2 * VECTOR)); i++)

/* Before a first sweep, where no price is known: the efficiency at an equal share of the bandwidth. */
LANE_LOOP void begin_at_shares(Block *v, double shares)
{
    EACH_OF(v, i) v->y[i] = natural_log1p(v->gamma[i] * shares);
}

/* At a price: a bound from below of the y of phi(y) = price rate1 (1 + A s)^2 / weight with s halfway to saturation. */
LANE_LOOP void begin_at_price(Block *v)
{
    EACH_OF(v, i) {
        const double top = 1.0 - v->compute[i], s_min = v->s_min[i], floor = 1.0 + v->compute[i] * s_min;
        const double room = top > 0.01 ? 0.5 + 0.5 / top : floor;
        const double t = v->paid.price[i] / v->worth[i] * room * room;
        v->y[i] = least(sqrt(t * (t + 2.0)), EFFICIENCY_MAX);
    }
}

/* Within the branch that leaves the floor: k <= e^(-y/2), so that beyond 2 ln c the energy branch exists. */
LANE_LOOP void begin(Block *v)
{
    EACH_OF(v, i) {
        const double c = v->c[i], from = c > 1.0 ? 2.0 * natural_log(c) + 1e-6 : 1e-300;
        const double first = v->energy_first[i] > 0.0 ? from : 1e-300;
        v->y[i] = least(most(v->y[i], first), EFFICIENCY_MAX);
        v->second[i] = 0.0;
        v->corner[i] = UNSET;
    }
}

/* e^-y to a few parts in a million, for 0 <= y <= ROUGH_MAX. */
INLINE float rough_decay(float y)
{
    const float magic = 0x1.8p23f, shifted = y * (float)(-1.0 / LN2) + magic, n = shifted - magic;
    const float r = -y - n * (float)LN2;
    const float grown = 1.0f + r * (1.0f + r * (0.5f + r * (1.0f / 6.0f + r * (1.0f / 24.0f + r * (1.0f / 120.0f)))));
    uint32_t bits;
    float scale;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127u) << 23;  /* 2^n */
    memcpy(&scale, &bits, sizeof scale);
    return scale * grown;
}

/* Brings most efficiencies to within a few parts in a hundred of the answer, on the branch where that is, in single
 * precision: twice as many go into a vector. Newton's steps for the logarithm of R = m / price, of which
 * ln R ~ 2 (R - 1) / (R + 1) is enough. Whom single precision does not serve keeps the start it had. */
LANE_LOOP void approach(Block *v)
{
    float worth[LANES], compute[LANES], overhead[LANES], f[LANES], F0[LANES], c[LANES], s_max[LANES];
    float efficiency[LANES], branch[LANES];
    EACH_ROUGH(v, i) {
        worth[i] = (float)(v->worth[i] * v->paid.per_price[i]);
        compute[i] = (float)v->compute[i];
        overhead[i] = (float)v->overhead[i];
        f[i] = (float)v->f[i];
        F0[i] = (float)v->power0[i];
        c[i] = (float)v->c[i];
        s_max[i] = (float)v->s_max[i];
        efficiency[i] = (float)v->y[i];
    }
    for (int n = 0; n < ROUGH_STEPS; n++) EACH_ROUGH(v, i) {
        const float y = efficiency[i], e = rough_decay(y), em = 1.0f - e, phi_y = y - em, ye = y * e;
        /* s = sent / den on either branch; the one with less of it holds. */
        const float rest = em - c[i] * ye, heard = f[i] * ye, spare = overhead[i] * em;
        const float on_peak = heard - spare, on_energy = heard * F0[i] - spare;
        const int energy = rest > 0.0f && on_energy * em < on_peak * rest;
        const float sent = energy ? on_energy : on_peak, den = energy ? rest : em, ce = energy ? c[i] * e : 0.0f;
        const float spread = 1.0f - ce, values = phi_y * spread, yden = y * den, per = 1.0f / (values * yden);
        const float s = sent * per * y * values, held = s < s_max[i] ? s : s_max[i], room = 1.0f + compute[i] * held;
        const float fall = per * values * phi_y;  /* -d ln (o + s) / d y, for y spread - den = phi(y) */
        const float turn = s < s_max[i] ? 2.0f * compute[i] * (overhead[i] + held) * fall : 0.0f;
        const float slope = per * yden * (em * spread - ce * phi_y) * room + turn;  /* d ln R / d y, times `room` */
        const float value = worth[i] * phi_y, cost = spread * room * room;
        const float next = y - 2.0f * (value - cost) * room / ((value + cost) * slope), low = 0.5f * y, high = 2.0f * y;
        const float raised = next < low ? low : next, roof = high < ROUGH_MAX ? high : ROUGH_MAX;
        efficiency[i] = raised > roof ? roof : raised;  /* NaN, once it is one, for good */
        branch[i] = energy ? 1.0f : 0.0f;
    }
    EACH_OF(v, i) {
        const double rough = efficiency[i], start = v->y[i], usable = rough > 0.01 ? rough : start;
        const double y = start < ROUGH_MAX ? usable : start, on_energy = branch[i];
        const double second = v->energy_first[i] != on_energy ? v->kinked[i] : 0.0;
        v->y[i] = y;
        v->second[i] = y == rough ? second : 0.0;
    }
}

#endif
