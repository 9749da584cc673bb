/* What one device answers to a price of bandwidth and the ratio that the price of total power has to it: the scalar twin of
 * `at_price.py`, found in another order.
 *
 * At these prices a device that keeps s spends at least U(s) = b + cost p, cost = ratio power_share, and
 *
 *     U'(s) = rate1 / phi(y*)                                     as long as y* takes less power than there is,
 *     U'(s) = (rate1 - snr F1 e^-y) / phi(y) + cost F1            at the power limit, which s meets at y < y*
 *
 * (F1 is 0 at peak power). U' rises and the worth of keeping more, alpha e'(rho) / (1 + A s)^2, falls, so that one s is
 * best: an end, a kink of the power limit, a break of a table, or where ln(worth / U') = ln(price). */
#ifndef KKTALLOC_ANSWER_H
#define KKTALLOC_ANSWER_H

#include "device.h"

enum { AT_FLOOR, ON_ENERGY, AT_KINK, ON_PEAK, SATURATED, BELOW_LIMIT };  /* `Regime` of Python */

/* A device with what depends on no price: whether its two limits of power meet between floor and saturation, the s where they
 * do, and the efficiencies at the power limit there and at the ends. */
typedef struct {
    Device own;
    int kinked;
    double s_kink, y_floor, y_kink, y_full;
    double scale, power;  /* of a power law: ln(scale exponent), exponent - 1 */
    Pieces table;
    int last_piece;  /* of a table: the one at the floor */
    /* At the present ratio of prices: */
    double cost, y_star, log_m_floor, log_m_full;
} Asked;

typedef struct {
    double y, s, p, b, flow;  /* flow = -db / d ln price; 0 where the device sits at a corner */
    int regime, held;         /* the table's break that it sits at, else -1 */
} Answer;

/* A smooth part of the curve: ln(alpha e'(rho)) = log_worth + power ln(rho). */
typedef struct {
    double log_worth, power;
} Smooth;

static inline Asked asked_of(const Problem *p, ptrdiff_t row, ptrdiff_t k)
{
    Asked a;
    a.own = reduced(p, row, k, cell_value(p, DEADLINE_S, row), cell_value(p, BANDWIDTH_HZ, row),
                    device_value(p, PRUNING_RATIO_MAX, row, k));
    const Device *d = &a.own;
    a.s_kink = d->power1 != 0.0 ? (1.0 - d->power0) / d->power1 : NAN;
    a.kinked = a.s_kink > d->s_min && a.s_kink < d->s_max;
    a.y_floor = limit_efficiency(d, d->s_min);
    a.y_full = d->s_max < INFINITY ? least(limit_efficiency(d, d->s_max), a.y_floor) : 0.0;
    a.y_kink = a.kinked ? most(least(limit_efficiency(d, a.s_kink), a.y_floor), a.y_full) : a.y_full;
    a.scale = a.power = 0.0;
    a.last_piece = 0;
    a.y_star = 0.0;
    if (p->curve.kind == POWER_LAW) {
        const Column *n = &p->curve.exponent, *c = &p->curve.scale;
        const double exponent = *(const double *)(n->data + row * n->row + k * n->step);
        a.scale = log(exponent * *(const double *)(c->data + row * c->row + k * c->step));
        a.power = exponent - 1.0;
    } else if (p->curve.kind == TABLE) {
        a.table = pieces_of(&p->curve, row, k);
        a.last_piece = piece_at(&a.table, 1.0 - d->q_min, 1);
    }
    return a;
}

/* The curve where the device keeps the least, and where it keeps most. */
INLINE Smooth piece_of(const Asked *a, int kind, int piece)
{
    const double alpha = log(a->own.weight);
    if (kind == TABLE) return (Smooth){alpha + log(piece_slope(&a->table, piece)), 0.0};
    return (Smooth){alpha + a->scale, a->power};
}

INLINE double log_slope(const Smooth *e, const Device *d, double s)
{
    const double rho = most(1.0 - s / (1.0 + d->compute * s), 0.0);
    return e->power > 0.0 ? e->log_worth + e->power * log(rho) : e->log_worth;
}

/* Whether the energy limit is the one that binds just above s. */
INLINE int on_energy_above(const Device *d, double s)
{
    const double p = d->power0 + d->power1 * s;
    if (d->power1 == 0.0) return d->power0 < 1.0;
    return p == 1.0 ? d->power1 < 0.0 : p < 1.0;
}

/* ln(1 / (U'(s) (1 + A s)^2)), where the limit carries s at `y_limit`, on the energy branch or the peak's. */
static inline double log_thrift(const Asked *a, double s, double y_limit, int energy)
{
    const Device *d = &a->own;
    const double room = 1.0 + d->compute * s, y = least(y_limit, a->y_star), fallen = -expm1(-y), f = phi_at(y, fallen);
    const double F1 = energy && y_limit < a->y_star ? d->power1 : 0.0;
    const double spent = d->rate1 - d->snr * F1 * (1.0 - fallen) + a->cost * F1 * f;
    return log(f / spent) - 2.0 * log(room);
}

/* The same as a whole at the ends, when the ratio of prices is new. */
static void price_power(Asked *a, double ratio, int kind)
{
    const Device *d = &a->own;
    a->cost = ratio * d->power_share;
    a->y_star = a->cost > 0.0 ? efficiency_at_power_price(log(d->snr / a->cost), a->y_star) : INFINITY;
    const Smooth first = piece_of(a, kind, a->last_piece), last = piece_of(a, kind, 0);
    a->log_m_floor = a->log_m_full = -INFINITY;
    if (!(d->s_max > d->s_min)) return;
    a->log_m_floor = log_slope(&first, d, d->s_min) + log_thrift(a, d->s_min, a->y_floor, on_energy_above(d, d->s_min));
    if (d->s_max < INFINITY && a->y_full > 0.0) {
        /* Just below the end: beyond a kink there lies another branch. */
        const int meets = a->s_kink == d->s_max, above = on_energy_above(d, d->s_max);
        a->log_m_full = log_slope(&last, d, d->s_max) + log_thrift(a, d->s_max, a->y_full, meets ? !above : above);
    }
}

/* The answer at s, where the limit carries it at `y_limit`. */
static Answer stay(const Asked *a, double s, double y_limit, int regime, int held)
{
    const Device *d = &a->own;
    const double rate = rate_at(d, s), limit = limit_at(d, s);
    if (!(rate > 0.0)) return (Answer){MOST_EFFICIENCY, s, 0.0, 0.0, 0.0, regime, held};
    if (a->y_star < y_limit)
        return (Answer){a->y_star, s, least(power_at(d, rate, a->y_star), limit), rate / a->y_star, 0.0, regime, held};
    return (Answer){y_limit, s, limit, bandwidth_at(d, limit, y_limit), 0.0, regime, held};
}

/* s at y*, below the power limit, between `low` and `high`; 2 d ln(1 + A s) and what the curve adds are left in `bend`. */
static double s_at_star(const Asked *a, const Smooth *e, double log_price, double low, double high, double *bend)
{
    const Device *d = &a->own;
    const double A = d->compute, f = phi_at(a->y_star, -expm1(-a->y_star)), straight = e->log_worth + log(f / d->rate1) - log_price;
    if (!(e->power > 0.0)) {
        const double room = exp(0.5 * straight), free_s = A > 0.0 ? (room - 1.0) / A : room > 1.0 ? INFINITY : 0.0;
        const double s = most(least(free_s, high), low);
        *bend = 2.0 * A / (1.0 + A * s);
        return s;
    }
    /* power ln(rho) - 2 ln(1 + A s) + straight = 0, with 1 / (1 + A s) = 1 - A + A rho: Newton's method for ln(rho). */
    double below = log(most(1.0 - high / (1.0 + A * high), 0.0)), above = log(1.0 - low / (1.0 + A * low));
    if (!(high < INFINITY)) below = log(most(1.0 - 1.0 / A, 0.0));
    double x = least(-straight / e->power, above), before = INFINITY;
    if (!(x > below)) x = below > -INFINITY ? 0.5 * (below + above) : above - 1.0;  /* at the lower end 1 + A s may be infinite */
    for (int n = 0; n < 200; n++) {
        const double rho = exp(x), per_room = 1.0 - A + A * rho, off = e->power * x + 2.0 * log(per_room) + straight;
        const double slope = e->power + 2.0 * A * rho / per_room, size = fabs(off), next = x - off / slope;
        if (off > 0.0) above = least(above, x);
        else below = most(below, x);
        const int good = next <= above && next >= below && !(size > 0.5 * before);
        before = size;
        if (size < 1e-8 * least(slope, 1.0) && next == next) {
            x = most(least(next, above), below);
            break;
        }
        x = good ? next : below > -INFINITY ? 0.5 * (below + above) : above - 2.0;
        if (above - below <= 1e-16 * fabs(above)) break;
    }
    const double rho = exp(x), q = -expm1(x), per_room = 1.0 - A * q;
    *bend = 2.0 * A * per_room + e->power / rho * per_room * per_room;
    return most(least(q / per_room, high), low);
}

/* The answer at the power limit with y in [low, high], on one branch. */
static Answer along_limit(const Asked *a, const Smooth *e, int energy, double log_price, double start, double low, double high)
{
    const Device *d = &a->own;
    const double F0 = energy ? d->power0 : 1.0, F1 = energy ? d->power1 : 0.0, A = d->compute;
    double y = start > low && start < high ? start : low > 0.0 ? sqrt(low * high) : 0.5 * high, before = INFINITY;
    Answer found = {.regime = energy ? ON_ENERGY : ON_PEAK, .held = -1};
    for (int n = 0, last = 0; n < 200; n++) {
        const double grown = expm1(y), decayed = 1.0 / (1.0 + grown), fallen = grown * decayed, f = phi_at(y, fallen);
        const double k = y / grown, rest = d->rate1 - d->snr * k * F1, per_em = 1.0 / fallen;
        const double s = most((d->snr * k * F0 - d->rate0) / rest, 0.0), p = (d->rate1 * F0 - d->rate0 * F1) / rest;
        const double spread = d->rate1 - d->snr * F1 * decayed + a->cost * F1 * f, room = 1.0 + A * s;
        const double b = d->snr * p / grown;
        const double rho = most(1.0 - s / room, 0.0), fade = e->power > 0.0 ? e->power / rho : 0.0;
        const double bend = 2.0 * A / room + fade / (room * room), drop = d->snr * p * k * per_em * f / rest;
        const double slope = y * fallen / f - y * F1 * (d->snr * decayed + a->cost * fallen) / spread + bend * drop;
        found.y = y;
        found.s = s;
        found.p = most(least(p, 1.0), 0.0);
        found.b = b;
        found.flow = slope > 0.0 ? b * per_em * y * (d->rate1 - d->snr * F1 * decayed) / rest / slope : 0.0;
        if (last || !(high - low > 2e-16 * high)) break;
        const double off = log_slope(e, d, s) + log(f / spread) - 2.0 * log(room) - log_price, size = fabs(off);
        const double newton = y * exp(-off / slope);
        /* Left of where the energy branch begins s is beyond bounds: too much is kept. */
        if (!(rest > 0.0) || off < 0.0) low = most(low, y);
        else high = least(high, y);
        last = size < 1e-8 * least(slope, 1.0) && newton == newton;
        const int good = newton >= low && newton <= high && !(size > 0.5 * before) && rest > 0.0;
        before = rest > 0.0 ? size : INFINITY;
        y = good || last ? newton : low > 0.0 ? sqrt(low * high) : 0.5 * high;
    }
    return found;
}

/* The answer on a smooth part of the curve between two s, which the limit carries at `y_low` >= `y_high`. The root is between
 * them. */
static Answer between(const Asked *a, const Smooth *e, double log_price, double start, double s_low, double s_high, double y_low,
                      double y_high)
{
    const Device *d = &a->own;
    double high = y_low;
    if (a->y_star < y_low) {
        double bend;
        const double s = s_at_star(a, e, log_price, s_low, s_high, &bend), rate = rate_at(d, s);
        const double p = s < INFINITY ? power_at(d, rate, a->y_star) : INFINITY;
        if (p <= limit_at(d, s))
            return (Answer){a->y_star, s, p, rate / a->y_star, s > s_low && s < s_high ? d->rate1 / a->y_star / bend : 0.0,
                            BELOW_LIMIT, -1};
        high = a->y_star;
    }
    int energy = on_energy_above(d, s_low);
    double low = y_high;
    if (a->s_kink > s_low && a->s_kink < s_high) {
        if (a->y_kink >= high) energy = !energy;  /* passed below the limit */
        else {
            const double worth = log_slope(e, d, a->s_kink);
            if (log_price < worth + log_thrift(a, a->s_kink, a->y_kink, !energy)) {
                high = a->y_kink;
                energy = !energy;
            } else if (log_price <= worth + log_thrift(a, a->s_kink, a->y_kink, energy))
                return stay(a, a->s_kink, a->y_kink, AT_KINK, -1);
            else low = a->y_kink;
        }
    }
    return along_limit(a, e, energy, log_price, start, low, high);
}

/* The regime of a device that is held at a break. */
INLINE int regime_at(const Asked *a, double s, double y_limit)
{
    return a->y_star < y_limit ? BELOW_LIMIT : limit_at(&a->own, s) < 1.0 ? ON_ENERGY : ON_PEAK;
}

/* On a table: of its breaks, which keeping more meets from the last to the first, the one at which the device stops or the two
 * between which it does. */
static Answer among_pieces(const Asked *a, double log_price, double start)
{
    const Device *d = &a->own;
    double s_low = d->s_min, y_low = a->y_floor, s_high = d->s_max, y_high = a->y_full, worth_high = 0.0;
    int low = a->last_piece, high = 0, met = 0;  /* pieces: the answer is on one of them, or at a break between */
    while (low > high) {
        const int j = (low + high + 1) / 2;  /* the break at which piece j begins */
        const double q = 1.0 - ratio_at(&a->table, j), room = 1.0 - d->compute * q, s = room > 0.0 ? q / room : INFINITY;
        if (!(s > s_low)) {
            low = j - 1;
            continue;
        }
        const double y = s < s_high ? limit_efficiency(d, s) : 0.0;
        const double base = s < s_high ? log(d->weight) + log_thrift(a, s, y, on_energy_above(d, s)) : 0.0;
        if (s < s_high && log_price < base + log(piece_slope(&a->table, j - 1))) {
            low = j - 1;
            s_low = s;
            y_low = y;
        } else {
            high = j;
            if (s < s_high) {
                s_high = s;
                y_high = y;
                worth_high = base;
                met = 1;
            }
        }
    }
    const Smooth e = piece_of(a, TABLE, low);
    if (met && log_price <= worth_high + log(piece_slope(&a->table, low)))
        return stay(a, s_high, y_high, regime_at(a, s_high, y_high), low - 1);
    return between(a, &e, log_price, start, s_low, s_high, y_low, y_high);
}

/* The best answer at a log price; `start` guesses the efficiency. Free bandwidth (-inf) leaves nobody at the floor but those who
 * cannot leave it. */
static Answer answer_to(const Asked *a, int kind, double log_price, double start)
{
    const Device *d = &a->own;
    if (!(d->s_max > d->s_min) || (log_price >= a->log_m_floor && log_price > -INFINITY))
        return stay(a, d->s_min, a->y_floor, AT_FLOOR, -1);
    if (log_price <= a->log_m_full) return stay(a, d->s_max, a->y_full, SATURATED, -1);
    if (kind == TABLE) return among_pieces(a, log_price, start);
    const Smooth e = piece_of(a, kind, 0);
    return between(a, &e, log_price, start, d->s_min, d->s_max, a->y_floor, a->y_full);
}

#endif
