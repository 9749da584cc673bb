/* What a block of devices answers to a price of bandwidth: the compiled twin of _response.py (equations: theory, "KKT
 * solution"). Unknown per device: the spectral efficiency y = ln(1 + SNR). In the ratios of block.h everything is explicit:
 *
 *     s = (f k - o) / (1 - c k),   1 + A s = (r + d k) / (1 - c k),   p = (F0 - o F1) / (1 - c k),
 *     b = gamma p / (e^y - 1),     m = weight phi(y) / (rate1 (1 - c e^-y) (1 + A s)^2).
 */
#ifndef KKTALLOC_RESPONSE_H
#define KKTALLOC_RESPONSE_H

#include "block.h"

#define PLACED 1e-12  /* relative distance of a marginal value from its price that is none */

enum { SEARCH_STEPS = 12 };  /* of Newton while the price moves: who needs more goes on in the next sweep */

/* phi(y) = y - 1 + e^-y without its cancellation near 0. */
INLINE double phi(double y, double em)
{
    const double z = least(y, 0.1);
    double p = 1.0 / 1814400.0;
    p = p * z - 1.0 / 181440.0;
    p = p * z + 1.0 / 20160.0;
    p = p * z - 1.0 / 2520.0;
    p = p * z + 1.0 / 360.0;
    p = p * z - 1.0 / 60.0;
    p = p * z + 1.0 / 12.0;
    p = p * z - 1.0 / 3.0;
    p = p * z + 1.0;
    return y < 0.1 ? p * 0.5 * z * z : y - em;
}

/* What is found at an efficiency: the allocation; whether its marginal value is the price, `excess` being relative; by how
 * much the efficiency is off. */
enum Depth { ALLOCATION, PRICE, SLOPE };

/* Everything at y on the branch that `second` names, as far as `depth` says. One division serves five
 * quotients: they are what takes time. Beyond saturation (1 + A s)^2 stays what it is there: the root is on the same side
 * of it as without, and is found sooner. */
INLINE void at_efficiency(Block *v, enum Depth depth)
{
    Lanes shrunk, lost, values;
    EACH_OF(v, i) {
        const double y = v->y[i];
        double e, em;
        decay(y, &e, &em);
        shrunk[i] = e;
        lost[i] = em;
        values[i] = phi(y, em);
    }
    EACH_OF(v, i) {
        const double y = v->y[i], e = shrunk[i], em = lost[i], value = values[i];
        const double energy = v->energy_first[i] != v->second[i] ? 1.0 : 0.0;
        const double power0 = v->power0[i], power1 = v->power1[i];
        const double F0 = energy > 0.0 ? power0 : 1.0, F1 = energy > 0.0 ? power1 : 0.0;
        const double c_energy = v->c[i], d_energy = v->d[i], d_peak = v->d_peak[i], f = v->f[i] * F0;
        const double c = energy > 0.0 ? c_energy : 0.0, d = energy > 0.0 ? d_energy : d_peak;
        const double per_em = 1.0 / em, k_y = e * per_em, k = y * k_y;
        const double rest = 1.0 - c * k, spread = 1.0 - c * e, grown = v->payload[i] + d * k;  /* grown / rest = 1 + A s */
        const double branch = rest * grown, all = 1.0 / (branch * value * spread);
        const double per = all * value * spread, per_value = all * branch * spread, per_spread = all * branch * value;
        const double per_rest = per * grown, bend = spread * per_em * per_rest;
        const double p = (F0 - v->overhead[i] * F1) * per_rest, capped = most(least(p, 1.0), 0.0);
        const double per_s = per * rest * rest, per_top = 1.0 - v->compute[i];  /* 1 / (1 + A s), and at saturation */
        /* Who leaves saturation does so with the slope inside. */
        const double inside = per_s > per_top * (1.0 - 1e-9) ? 1.0 : 0.0, per_room = inside > 0.0 ? per_s : per_top;
        const double ratio = v->worth[i] * v->paid.per_price[i] * value * per_spread * per_room * per_room;
        const double to_peak = ratio * spread - 1.0, to_energy = ratio - (1.0 - c_energy * e);
        if (depth >= PRICE) {
            v->excess[i] = rest > 0.0 ? ratio : -1.0;
            v->across[i] = energy > 0.0 ? to_peak : to_energy;
        }
        if (depth == SLOPE) {
            /* k' = -(e^-y / em^2) phi */
            const double fall = k_y * per_em * value, turning = 2.0 * fall * (c * v->payload[i] + d) * per;
            const double turn = inside > 0.0 ? turning : 0.0, growth = em * per_value, mixed = c * e * per_spread;
            const double slope = growth + turn - mixed;
            const double turn2 = turn * (growth - 1.0 - 2.0 * k_y + fall * per * (d * rest - c * grown));
            const double bent = e * per_value - growth * growth + turn2 + mixed * per_spread;
            const double per_slope = 1.0 / slope;
            v->curl[i] = bent * per_slope;
            v->per_slope[i] = per_slope;
        }
        v->s[i] = (f * k - v->overhead[i]) * per_rest;
        v->p[i] = capped;
        v->b[i] = v->gamma[i] * capped * k_y;
        v->decayed[i] = k_y;
        v->bend[i] = bend;
    }
    if (depth >= PRICE) EACH_OF(v, i) {
        const double ratio = v->excess[i], excess = depth == SLOPE ? natural_log(ratio) : ratio - 1.0;
        v->excess[i] = ratio < 0.0 ? -INFINITY : excess;  /* left of the branch, where s is infinite */
    }
}

LANE_LOOP void place(Block *v) { at_efficiency(v, ALLOCATION); }

LANE_LOOP void check(Block *v) { at_efficiency(v, PRICE); }

LANE_LOOP void evaluate(Block *v) { at_efficiency(v, SLOPE); }

/* The limit of power at s, in peaks. */
INLINE double power_limit(const Block *v, int i, double s)
{
    return most(least(v->power0[i] + v->power1[i] * s, 1.0), 0.0);
}

INLINE double corner_s(const Block *v, int i)
{
    const double s_min = v->s_min[i], s_kink = v->s_kink[i], s_max = v->s_max[i], corner = v->corner[i];
    const double upper = corner == KINK ? s_kink : s_max;
    return corner == FLOOR ? s_min : upper;
}

/* Halley's step in y towards y / (e^y - 1) = theta, in logarithms: those of ratios near 1 need no more than three terms. */
INLINE double towards(double y, double theta)
{
    double e, em;
    decay(y, &e, &em);
    const double got = y * e, asked = em * theta, w = (got - asked) / (got + asked), ww = w * w;
    const double off = 2.0 * w * (1.0 + ww * (1.0 / 3.0 + ww * (1.0 / 5.0)));
    const double both = em * y, rise = (y - em) * both, newton = off * both * both;
    return newton * rise / (rise * rise + 0.5 * newton * (em * em - e * y * y));
}

/* The efficiency of the lanes that are fresh at their corner: y / (e^y - 1) = theta, `_efficiency.efficiency_for`. */
LANE_LOOP void settle(Block *v)
{
    Lanes theta, y;
    EACH_OF(v, i) {
        const double s = corner_s(v, i), rate = v->rate1[i] * (v->overhead[i] + s);
        theta[i] = rate / (v->gamma[i] * power_limit(v, i, s));
        const double loss = fabs(natural_log(least(theta[i], 1.0))), target = rate > 0.0 ? loss : EFFICIENCY_MAX;
        const double rough = target > 1e-8 ? rough_log1p(target) : target;
        y[i] = most(least(target + rough, EFFICIENCY_MAX), 1e-300);
    }
    /* The start is within 4 %, and exact to rounding below 1e-8; a step of Halley leaves 2e-6, the next nothing. */
    EACH_OF(v, i) y[i] = y[i] > 1e-8 ? most(y[i] + towards(y[i], theta[i]), 1e-8) : y[i];
    EACH_OF(v, i) {
        const double polished = y[i] + towards(y[i], theta[i]), settled = y[i] > 1e-8 ? polished : y[i];
        const double corner_y = least(settled, EFFICIENCY_MAX), y_before = v->y[i], decayed = v->decayed[i];
        const double corner_decayed = least(theta[i], 1.0) / corner_y;
        v->y[i] = v->fresh[i] > 0.0 ? corner_y : y_before;
        v->decayed[i] = v->fresh[i] > 0.0 ? corner_decayed : decayed;
    }
}

/* One step of `newton`, pending in `v->step`; which lanes have yet to move by more than the tolerance is left in
 * `v->flag`. No step leaves y > 0; one out of the bracket bisects. Who is beyond the end of the branch that the root
 * lies beyond has seen enough. Who so passes the kink for the first time goes on on the other branch, which will say
 * whether it belongs there or on the kink. */
LANE_LOOP int propose(Block *v, int bisect)
{
    uint64_t unfinished = 0;
    const double trust = bisect ? 0.0 : 1.0;
    EACH_OF(v, i) {
        const double y = v->y[i], excess = v->excess[i], by = excess * v->per_slope[i], s = v->s[i], b = v->b[i];
        const double free = v->corner[i] == UNSET ? 1.0 : 0.0, second = v->second[i], kinked = v->kinked[i];
        const double s_min = v->s_min[i], s_kink = v->s_kink[i], s_max = v->s_max[i], crossed = v->crossed[i];
        const double top = second > 0.0 ? s_max : s_kink, bottom = second > 0.0 ? s_kink : s_min;
        const double low = excess <= 0.0 ? y : v->low[i], high = excess >= 0.0 ? y : v->high[i];
        /* Halley's step, or Newton's in 1/y where that is long; beyond half the bracket neither has seen enough. */
        const double turned = most(1.0 - 0.5 * by * v->curl[i], 0.8), near = by < 0.5 * y * turned ? 1.0 : 0.0;
        const double straight = y - (near > 0.0 ? by : by * y) / (near > 0.0 ? turned : y + by);
        const double closed = high < EFFICIENCY_MAX ? low : 0.0, halfway = 0.5 * (low + high);
        const double floor = closed > 0.0 ? halfway : 0.0, roof = closed > 0.0 ? halfway : EFFICIENCY_MAX;
        const double up = least(straight, roof), left = excess > -INFINITY ? up : 1.25 * y;
        const double proposed = excess > 0.0 ? most(straight, floor) : left;
        const double tolerance = v->paid.tolerance[i], close = fabs(by) <= tolerance * y ? 1.0 : 0.0;
        const double small = fabs(by) * v->bend[i] <= tolerance ? close : 0.0;
        const double above = proposed > low ? trust : 0.0, inside = proposed <= high ? above : 0.0;
        const double middle = low > 0.0 ? halfway : 0.25 * high;
        const double next = inside + small > 0.0 ? proposed : middle, step = next - y;
        /* Where the step leads: rate0 + rate1 s = b y. */
        const double ahead = small > 0.0 ? b * (1.0 - v->bend[i] * y) * step : 0.0, rate1 = v->rate1[i];
        const double over = ahead >= (top - s) * rate1 ? 1.0 : 0.0, under = ahead <= (bottom - s) * rate1 ? 1.0 : 0.0;
        const double more = excess >= 0.0 ? over : small * over, fewer = excess <= 0.0 ? under : small * under;
        const double beyond = excess > -INFINITY ? most(more, fewer) : 0.0;
        const double on_kink = second > 0.0 ? fewer : more, meets = beyond * kinked > 0.0 ? on_kink : 0.0;
        const double passes = free * meets * (1.0 - crossed), stays = passes > 0.0 ? 0.0 : 1.0;
        const double settled = most(small, beyond), open = high - low > 1e-15 * high ? 1.0 - settled : 0.0;
        const double stops = beyond > 0.0 ? 1.0 - small : 0.0, moves = free * stays * (1.0 - stops);
        v->second[i] = passes > 0.0 ? 1.0 - second : second;
        v->crossed[i] = crossed + passes;
        v->low[i] = passes > 0.0 ? 0.0 : low;
        v->high[i] = passes > 0.0 ? EFFICIENCY_MAX : high;
        v->step[i] = moves > 0.0 ? step : 0.0;
        const double flag = most(free * open * stays, passes);
        v->flag[i] = flag;
        unfinished |= double_to_bits(flag);
    }
    return unfinished != 0;
}

LANE_LOOP void take_step(Block *v)
{
    EACH_OF(v, i) {
        v->y[i] += v->step[i];
        v->step[i] = 0.0;
    }
}

/* Halley's steps in y for the lanes without a corner, until each pending one would change b by less than its
 * tolerance. */
static void newton(Block *v, int most_steps, int evaluated)
{
    EACH(i) {
        v->low[i] = 0.0;
        v->high[i] = EFFICIENCY_MAX;
    }
    for (int n = 0; n < most_steps; n++) {
        if (n || !evaluated) evaluate(v);
        const int unfinished = propose(v, n > 8 && n % 3 == 0);
        if (n == most_steps - 1 || !unfinished) return;
        take_step(v);
    }
}

/* Gives up, and flags, corners that are not the answer at this price: the marginal value must not exceed it on the
 * branch that leaves the floor, nor fall below it on the one that enters saturation; at a kink both. */
LANE_LOOP void leave_corners(Block *v)
{
    EACH_OF(v, i) {
        const double corner = v->corner[i], excess = v->excess[i], second = v->second[i];
        const double too_low = v->across[i] < 0.0 ? 1.0 : 0.0, too_high = excess > 0.0 ? 1.0 : 0.0;
        const double below = excess < 0.0 ? 1.0 : 0.0, off_floor = too_high * (1.0 - v->pinned[i]);
        const double at_end = corner == FLOOR ? off_floor : below, off = corner == KINK ? too_low + too_high : at_end;
        const double gone = corner == UNSET ? 0.0 : off, first = too_low > 0.0 ? 0.0 : 1.0;
        v->second[i] = corner == KINK ? first : second;
        v->corner[i] = gone > 0.0 ? UNSET : corner;
        v->flag[i] = gone;
    }
}

/* Devices that cannot or need not leave their floor are put there. */
LANE_LOOP void pin(Block *v)
{
    EACH_OF(v, i) {
        const double corner = v->corner[i], pinned = v->pinned[i], fresh = corner == UNSET ? pinned : 0.0;
        v->corner[i] = fresh > 0.0 ? FLOOR : corner;
        v->fresh[i] = fresh;
        v->step[i] = 0.0;
        v->crossed[i] = 0.0;
    }
}

/* Puts lanes beyond the ends of their branch on its corners, for `settle` to find, and those that have passed the kink
 * for the first time on the other branch, flagged: that branch will say whether they belong there or on the kink. */
LANE_LOOP void stop_at_corners(Block *v)
{
    EACH_OF(v, i) {
        const double second = v->second[i], held = v->corner[i], s_kink = v->s_kink[i], step = v->step[i];
        /* Where the pending step leads: rate0 + rate1 s = b y. */
        const double s = v->s[i] + v->b[i] * (1.0 - v->bend[i] * v->y[i]) * step / v->rate1[i];
        const double s_min = v->s_min[i], s_max = v->s_max[i], kinked = v->kinked[i], crossed = v->crossed[i];
        const double low = second > 0.0 ? s_kink : s_min, high = second > 0.0 ? s_max : s_kink;
        const double bottom = second > 0.0 ? KINK : FLOOR, top = second < kinked ? KINK : SATURATED;
        const double upper = s >= high ? top : UNSET, ended = s <= low ? bottom : upper;
        const double end = v->flag[i] > 0.0 ? UNSET : ended;  /* Newton has not done with it */
        const double passed = end == KINK ? 1.0 - crossed : 0.0, passes = held == UNSET ? passed : 0.0;
        const double corner = passes > 0.0 ? UNSET : end, fresh = corner == UNSET ? 0.0 : 1.0;
        v->second[i] = passes > 0.0 ? 1.0 - second : second;
        v->crossed[i] = crossed + passes;
        v->flag[i] = passes;
        v->fresh[i] = held == UNSET ? fresh : v->fresh[i];
        v->corner[i] = held == UNSET ? corner : held;
        v->step[i] = fresh > 0.0 ? 0.0 : step;
    }
}

/* What a lane at a corner holds. */
LANE_LOOP void hold_corners(Block *v)
{
    EACH_OF(v, i) {
        const double corner = v->corner[i], s = corner == UNSET ? v->s[i] : corner_s(v, i);
        /* Who cannot be heard says nothing. */
        const double most_p = power_limit(v, i, s), limit = v->gamma[i] > 0.0 ? most_p : 0.0;
        const double p = corner == UNSET ? v->p[i] : limit;
        const double sends = v->overhead[i] + s > 0.0 ? 1.0 : 0.0, held = sends > 0.0 ? v->gamma[i] * p * v->decayed[i] : 0.0;
        const double b = v->b[i], per_slope = v->per_slope[i];
        v->s[i] = s;
        v->p[i] = p;
        v->b[i] = corner == UNSET ? b : held;
        v->per_slope[i] = corner == UNSET ? per_slope : 0.0;  /* d y / d ln price */
    }
}

/* The rest of an answer, once Newton has had its say; whether a lane has passed a kink unseen. */
static int finish(Block *v)
{
    stop_at_corners(v);
    if (any(v->fresh, v->width)) settle(v);  /* before giving up: `pin` forgets who is fresh */
    if (any(v->flag, v->width)) return 0;
    hold_corners(v);
    return 1;
}

/* The answer of a block to its price, each efficiency to a pending step below its tolerance, or taken if `exact`. */
static void respond(Block *v, int exact)
{
    evaluate(v);
    leave_corners(v);
    int evaluated = !any(v->flag, v->width);
    pin(v);
    do {
        newton(v, exact ? 100 : SEARCH_STEPS, evaluated);
        if (exact) {
            take_step(v);
            place(v);
        }
        evaluated = 0;
    } while (!finish(v));
}

/* Flags who is not where its price wants it, after `leave_corners`. */
LANE_LOOP void doubt(Block *v)
{
    EACH_OF(v, i) {
        const double free = v->corner[i] == UNSET ? 1.0 : 0.0, off = fabs(v->excess[i]) > PLACED ? free : 0.0;
        v->flag[i] = most(v->flag[i], off);
    }
}

/* The same where the efficiencies should be right. */
static void confirm(Block *v)
{
    const int exact = 1;
    check(v);
    leave_corners(v);
    doubt(v);
    const int wrong = any(v->flag, v->width);
    if (!wrong) pin(v);
    if (wrong || !finish(v)) respond(v, exact);
}

/* Takes up a device where the last sweep left it: its regime, and its efficiency, moved as its price has been since. */
LANE_LOOP void recall(Block *v)
{
    EACH_OF(v, i) {
        const double code = v->code[i], known = v->known[i], moves = v->moves[i], kinked = v->kinked[i], fresh_y = v->y[i];
        const double energy_second = 1.0 - v->energy_first[i];
        const double on_energy = code == ENERGY ? energy_second : 0.0;
        const double on_peak = code == PEAK ? 1.0 - energy_second : on_energy;
        const double held = code == UNSET ? v->second[i] : on_peak;  /* a start chose it */
        const double second = code == SATURATED ? 1.0 : code == KINK ? 1.0 : held;
        const double free = code == ENERGY ? 1.0 : code == PEAK ? 1.0 : 0.0;
        const double shifted = known + (free > 0.0 ? moves * v->paid.moved[i] : 0.0);
        const double usable = shifted > 0.5 * known ? least(shifted, EFFICIENCY_MAX) : known;
        v->y[i] = code == UNSET ? fresh_y : usable;
        v->per_slope[i] = moves;
        v->second[i] = kinked > 0.0 ? second : 0.0;
        v->corner[i] = free > 0.0 ? UNSET : code;
    }
}

LANE_LOOP void leave_off(Block *v)
{
    EACH_OF(v, i) {
        const double branch = v->energy_first[i] != v->second[i] ? ENERGY : PEAK, corner = v->corner[i];
        v->code[i] = corner == UNSET ? branch : corner;
        v->known[i] = v->y[i] + v->step[i];
        v->moves[i] = v->per_slope[i];
    }
}

#endif
