/* Where the search for a device's efficiency starts. */
#ifndef KKTALLOC_START_H
#define KKTALLOC_START_H

#include "response.h"

#define ROUGH_MAX 80.0f  /* efficiencies of which single precision holds the exponential */

enum { ROUGH_STEPS = 5, STEEP_STEPS = 9 };

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

/* ln x to a few parts in a million of 1, for normal x. */
INLINE float rough_log(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t half_root = 0x3f3504f3, biased = (bits - half_root + (128u << 23)) >> 23;
    const float n = (float)(int32_t)biased - 128.0f;
    bits -= (biased - 128u) << 23;
    float m;
    memcpy(&m, &bits, sizeof m);
    const float z = (m - 1.0f) / (m + 1.0f), zz = z * z;
    return n * (float)LN2 + 2.0f * z * (1.0f + zz * (1.0f / 3.0f + zz * (1.0f / 5.0f + zz * (1.0f / 7.0f))));
}

/* The same numbers in single precision. */
typedef struct {
    float worth[LANES], compute[LANES], overhead[LANES], f[LANES], F0[LANES], c[LANES], s_max[LANES], power[LANES];
    float efficiency[LANES], low[LANES], high[LANES], branch[LANES];
} Rough;

/* A Newton step for the logarithm of R = m / price, of which ln R ~ 2 (R - 1) / (R + 1) is enough where no power law makes R
 * steep. */
INLINE void rough_step(const Block *v, Rough *at, int kind)
{
    EACH_ROUGH(v, i) {
        const float y = at->efficiency[i], e = rough_decay(y), em = 1.0f - e, phi_y = y - em, ye = y * e, c = at->c[i];
        const float overhead = at->overhead[i], compute = at->compute[i], s_max = at->s_max[i];
        /* s = sent / den on either branch; the one with less of it holds. */
        const float rest = em - c * ye, heard = at->f[i] * ye, spare = overhead * em;
        const float on_peak = heard - spare, on_energy = heard * at->F0[i] - spare;
        const int energy = rest > 0.0f && on_energy * em < on_peak * rest;
        const float sent = energy ? on_energy : on_peak, den = energy ? rest : em, ce = energy ? c * e : 0.0f;
        const float spread = 1.0f - ce, values = phi_y * spread, yden = y * den, per = 1.0f / (values * yden);
        const float s = sent * per * y * values, held = s < s_max ? s : s_max, room = 1.0f + compute * held;
        const float fall = per * values * phi_y;  /* -d ln (o + s) / d y, for y spread - den = phi(y) */
        const float turn = s < s_max ? 2.0f * compute * (overhead + held) * fall : 0.0f;
        const float value = at->worth[i] * phi_y, cost = spread * room * room;
        float slope = per * yden * (em * spread - ce * phi_y) * room + turn;  /* d ln R / d y, times `room` */
        float excess = 2.0f * (value - cost) / (value + cost), further = 2.0f;
        if (kind == POWER_LAW) {
            const float kept = 1.0f - held / room, rho = kept > 1e-5f ? kept : 1e-5f, power = at->power[i];
            excess = rough_log(value / cost) + power * rough_log(rho);
            slope += power * (overhead + held) * fall / (room * rho);
            /* Where everything is kept no step can be told from another. */
            further = kept > 1e-5f ? further : 4.0f;
            excess = kept > 1e-5f || power == 0.0f ? excess : -INFINITY;
        }
        const float next = y - excess * room / slope, low_before = at->low[i], high_before = at->high[i];
        const float low = excess < 0.0f ? y : low_before, high = excess > 0.0f ? y : high_before;
        /* Halfway into the bracket at most: where everything is kept ln R turns sharply. */
        const float floor = 0.5f * (y + low), halfway = 0.5f * (y + high), far = further * y, roof = far < halfway ? far : halfway;
        const float raised = next < floor ? floor : next;
        at->efficiency[i] = raised > roof ? roof : raised;  /* NaN, once it is one, for good */
        at->low[i] = low;
        at->high[i] = high;
        at->branch[i] = energy ? 1.0f : 0.0f;
    }
}

LANE_LOOP void rough_linear(const Block *v, Rough *at) { rough_step(v, at, LINEAR); }
LANE_LOOP void rough_power_law(const Block *v, Rough *at) { rough_step(v, at, POWER_LAW); }

/* Brings most efficiencies to within a few parts in a hundred of the answer, on the branch where that is, in single
 * precision: twice as many go into a vector. Whom single precision does not serve keeps the start it had. */
LANE_LOOP void to_single(const Block *v, Rough *at)
{
    EACH_ROUGH(v, i) {
        at->worth[i] = (float)(v->worth[i] * v->paid.per_price[i]);
        at->compute[i] = (float)v->compute[i];
        at->overhead[i] = (float)v->overhead[i];
        at->f[i] = (float)v->f[i];
        at->F0[i] = (float)v->power0[i];
        at->c[i] = (float)v->c[i];
        at->s_max[i] = (float)v->s_max[i];
        at->power[i] = (float)v->power[i];
        at->efficiency[i] = (float)v->y[i];
        at->low[i] = 0.0f;
        at->high[i] = ROUGH_MAX;
    }
}

LANE_LOOP void from_single(Block *v, const Rough *at)
{
    EACH_OF(v, i) {
        const double rough = at->efficiency[i], start = v->y[i], usable = rough > 0.01 ? rough : start;
        const double y = start < ROUGH_MAX ? usable : start, on_energy = at->branch[i];
        const double second = v->energy_first[i] != on_energy ? v->kinked[i] : 0.0;
        v->y[i] = y;
        v->second[i] = y == rough ? second : 0.0;
    }
}

static void approach(Block *v)
{
    Rough at;
    to_single(v, &at);
    if (v->curve->kind == POWER_LAW) for (int n = 0; n < STEEP_STEPS; n++) rough_power_law(v, &at);
    else for (int n = 0; n < ROUGH_STEPS; n++) rough_linear(v, &at);
    from_single(v, &at);
}

/* What keeping more is worth at a break of a table, in prices, but for the slope of the curve: the marginal value there depends on
 * nothing else. Its efficiency is found to a few parts in a million. */
LANE_LOOP void value_breaks(const Block *v, const double *restrict ratio, double *restrict s, double *restrict value)
{
    Lanes theta, y;
    EACH_OF(v, i) {
        const double at = most(s_at_ratio(ratio[i], v->compute[i]), v->s_min[i]), rate = v->rate1[i] * (v->overhead[i] + at);
        const double load = rate / (v->gamma[i] * power_limit(v, i, at)), loss = fabs(natural_log(least(load, 1.0)));
        s[i] = at;
        theta[i] = load;
        y[i] = most(least(loss + rough_log1p(loss), EFFICIENCY_MAX), 1e-8);
    }
    EACH_OF(v, i) {
        const double near = most(y[i] + towards(y[i], theta[i]), 1e-8), room = 1.0 - v->compute[i] * (1.0 - ratio[i]);
        const double energy = v->power0[i] + v->power1[i] * s[i] < 1.0 ? 1.0 : 0.0, c_energy = v->c[i], c = energy > 0.0 ? c_energy : 0.0;
        double e, em;
        decay(least(near, EFFICIENCY_MAX), &e, &em);
        const double found = v->plain[i] * v->paid.per_price[i] * phi(near, em) / (1.0 - c * e) * room * room;
        const double inside = s[i] < v->s_max[i] ? found : 0.0;
        value[i] = theta[i] < 1.0 ? inside : 0.0;
    }
}

/* Between two breaks, a lane's answer is on one of the pieces from `high` up to `low`, counted from the one that keeps all. */
typedef struct {
    Lanes low, high, middle, ratio, gentle, s, value, worth;  /* at `middle`: its ratio, the slope above it, ...; `worth` at `high` */
} Halving;

/* Asks for the break in the middle next; whether a lane is left. */
LANE_LOOP int halve(const Block *v, Halving *h)
{
    uint64_t open = 0;
    EACH_OF(v, i) {
        const double left = h->low[i] - h->high[i], middle = (double)(((int)h->low[i] + (int)h->high[i] + 1) / 2);
        h->middle[i] = middle;
        open |= double_to_bits(left);
    }
    return open != 0;
}

LANE_LOOP void take_half(const Block *v, Halving *h)
{
    EACH_OF(v, i) {
        const double low = h->low[i], high = h->high[i], middle = h->middle[i], worth = h->worth[i], value = h->value[i];
        const double pays = h->gentle[i] * value > 1.0 ? 1.0 : 0.0, passed = h->s[i] > v->s_min[i] ? pays : 1.0;
        const double searching = low > high ? 1.0 : 0.0, upwards = searching * passed, downwards = searching * (1.0 - passed);
        h->low[i] = upwards > 0.0 ? middle - 1.0 : low;
        h->high[i] = downwards > 0.0 ? middle : high;
        h->worth[i] = downwards > 0.0 ? value : worth;
    }
}

/* Lanes that stay below a break which they cannot pay to pass are held there if they would pay for all beneath it. */
LANE_LOOP void hold_at_breaks(Block *v, const Halving *h)
{
    EACH_OF(v, i) {
        const double fresh = v->fresh[i], held = h->worth[i] * v->slope[i] >= 1.0 ? fresh : 0.0;
        v->fresh[i] = held;
        v->corner[i] = held > 0.0 ? BREAK : UNSET;
    }
}

/* Of the lanes of a table that are `fresh`, the piece that their answer is on, or which they are held at the upper end of: breaks are
 * halved, for what a device would pay to pass one does not depend on the others. */
static void find_pieces(Block *v)
{
    Halving h;
    EACH(i) {
        h.low[i] = v->floor_piece[i];
        h.high[i] = h.worth[i] = 0.0;
    }
    while (halve(v, &h)) {
        for (int i = 0; i < v->width; i++) {
            const Pieces table = pieces_at(v->curve, v->at, i);
            const int j = (int)h.middle[i];
            h.ratio[i] = ratio_at(&table, j);
            h.gentle[i] = j ? piece_slope(&table, j - 1) : 0.0;
        }
        value_breaks(v, h.ratio, h.s, h.value);
        take_half(v, &h);
    }
    for (int i = 0; i < v->width; i++) if (v->fresh[i] > 0.0) v->piece[i] = h.low[i];
    enter_pieces(v);
    hold_at_breaks(v, &h);
}

/* Where a device that has no regime yet starts. */
static void set_out(Block *v)
{
    const int table = v->curve->kind == TABLE;
    Lanes held;
    if (table) {
        EACH_OF(v, i) v->fresh[i] = v->code[i] == UNSET ? 1.0 : 0.0;
        find_pieces(v);
        EACH_OF(v, i) held[i] = v->fresh[i];
    }
    begin_at_price(v);
    begin(v);
    approach(v);
    if (!table || !any(held, v->width)) return;
    EACH_OF(v, i) {
        v->corner[i] = held[i] > 0.0 ? BREAK : UNSET;
        v->fresh[i] = held[i];
    }
    enter_segments(v);
    corner_efficiencies(v);
    EACH_OF(v, i) {
        const double known = v->known[i], moves = v->moves[i], code = v->code[i], left = v->held[i];
        v->known[i] = held[i] > 0.0 ? v->y[i] : known;
        v->moves[i] = held[i] > 0.0 ? 0.0 : moves;
        v->code[i] = held[i] > 0.0 ? PEAK : code;
        v->held[i] = held[i] > 0.0 ? -1.0 - v->piece[i] : left;
    }
}

#endif
