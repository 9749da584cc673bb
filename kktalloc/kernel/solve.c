/* The exact solution of the reduced form, the compiled twin of _reduced.py and _kkt.py (equations: theory, "KKT
 * solution"). Unknown per device: the spectral efficiency y = ln(1 + SNR). On a branch of the power limit,
 * p = F0 + F1 s (the peak branch has F0 = 1, F1 = 0), with k = y / (e^y - 1) and the ratios
 *
 *     f = gamma F0 / rate1,   c = gamma F1 / rate1,   d = gamma (A F0 - F1) / rate1 >= 0,
 *     o = rate0 / rate1,      r = 1 - A o = payload / (payload + A overhead)
 *
 * everything is explicit:
 *
 *     s = (f k - o) / (1 - c k),   1 + A s = (r + d k) / (1 - c k),   p = (F0 - o F1) / (1 - c k),
 *     b = gamma p / (e^y - 1),     m = weight phi(y) / (rate1 (1 - c e^-y) (1 + A s)^2).
 *
 * Price and efficiencies take their Newton steps together: a sweep over the devices evaluates each where the last
 * sweep left it, adds the bandwidth that its pending step would ask for, and takes that step. */
#include "problem.h"

#include <stdlib.h>

#define EFFICIENCY_MAX 690.0
#define ROUNDING 1e-12  /* of _diagnosis.py: floors that fill the bandwidth to within this count as feasible */

enum { SEARCH_STEPS = 12 };  /* of Newton while the price moves: who needs more goes on in the next sweep */
enum { SAMPLE = 8192 };  /* devices that a large problem asks for its first prices */

enum { UNSET = -1, FLOOR, ENERGY, KINK, PEAK, SATURATED };  /* Regime of _kkt.py */

/* A block of devices; booleans are 0.0 or 1.0 so that every lane is a double. */
typedef struct {
    Lanes weight, worth, compute, rate1, overhead, payload, gamma;  /* o and r are `overhead` and `payload` */
    Lanes power0, power1, f, c, d, d_peak;  /* of the energy branch; `f` and `d_peak` of the peak branch;
                                                               `worth` is weight / rate1 */
    Lanes s_min, s_max, s_kink, kinked, energy_first, hopeless, pinned;
    Lanes y, second, corner;          /* state: efficiency, on the second branch, `FLOOR`, `KINK`, `SATURATED` or UNSET */
    Lanes low, high, before, flag, crossed, fresh;  /* scratch of the searches */
    Lanes excess, per_slope, s, p, b, elasticity, bend, step;
    /* at y: ln(m / price), 1 over its derivative, ..., -d ln b / d y; the pending step of y */
} Block;

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

/* The reduced form of a block: `_reduced.reduce`. */
LANE_LOOP void reduce(Block *v, const Problem *problem, ptrdiff_t row, ptrdiff_t first, int count)
{
    Lanes field[DEVICE_FIELDS];
    for (int i = 0; i < DEVICE_FIELDS; i++) load(field[i], &problem->device[i], row, first, count);
    const double bandwidth = cell_value(problem, BANDWIDTH_HZ, row), deadline = cell_value(problem, DEADLINE_S, row);
    const double per_noise = 1.0 / (cell_value(problem, NOISE_PSD_W_PER_HZ, row) * bandwidth);
    const double nats_second = LN2 / bandwidth, per_nats_second = bandwidth / LN2;
    EACH(i) {
        const double compute_s = field[PRUNED_COMPUTE_S][i], peak = field[TX_POWER_MAX_W][i];
        const double q_min = 1.0 - field[PRUNING_RATIO_MAX][i], gain = field[CHANNEL_GAIN][i];
        const double weight = field[WEIGHT][i], payload = field[PAYLOAD_BITS][i], overhead = field[OVERHEAD_BITS][i];
        const double compute_j = field[PRUNED_COMPUTE_J][i], eta = field[PA_EFFICIENCY][i];
        const double time = deadline - field[FIXED_LATENCY_S][i], window = time > 0.0 ? time : deadline;
        const double late = time - compute_s * q_min <= 0.0 ? 1.0 : 0.0;
        const double per_window = 1.0 / window, A = compute_s / window;
        const double left = field[ENERGY_BUDGET_J][i] - field[FIXED_ENERGY_J][i], energy = most(left, 0.0);
        const double drained = left - compute_j * q_min < 0.0 ? 1.0 : 0.0;
        const double nats = per_window * nats_second, bits = payload + A * overhead, rate1 = bits * nats;
        const double per_bits = 1.0 / bits, per_rate1 = per_bits * window * per_nats_second;

        /* Where energy is no limit, a constant limit beyond the peak stands in for the infinite one. */
        const double finite = energy < INFINITY ? 1.0 : 0.0, limited = peak > 0.0 ? finite : 0.0;
        const double drain = eta * per_window / (peak > 0.0 ? peak : 1.0), heat = drain * compute_j;
        const double F0 = limited > 0.0 ? drain * energy : 2.0, F1 = limited > 0.0 ? A * F0 - heat : 0.0;
        const double mixed = limited > 0.0 ? heat : 2.0 * A;  /* A F0 - F1 */
        const double received = energy > 0.0 ? gain * peak : 0.0, gamma = received * per_noise;
        /* In seconds: next to nothing may be left of the window, and is all rounding in shares of it. */
        const double spare = window - compute_s * q_min, room = window - compute_s;
        const double s_min = q_min * window / (late > 0.0 ? window : spare);
        const double full = room > 0.0 ? window / room : INFINITY, s_max = gamma > 0.0 ? most(full, s_min) : s_min;
        const double raw_min = F0 + F1 * s_min, s_meet = F1 != 0.0 ? (1.0 - F0) / F1 : -1.0;
        const double beyond = s_meet > s_min ? 1.0 : 0.0, kinked = s_meet < s_max ? beyond : 0.0;
        const double rate_min = (overhead + bits * s_min) * nats;
        const double carried = gamma * most(least(raw_min, 1.0), 0.0);
        const double touching = F1 < 0.0 ? 1.0 : 0.0;  /* a falling limit that starts at the peak is below it from there on */
        const double unable = rate_min < carried ? 0.0 : 1.0;  /* theta >= 1: no bandwidth carries the floor */
        const double silent = weight > 0.0 ? 0.0 : 1.0;

        v->weight[i] = weight;
        v->worth[i] = weight * per_rate1;
        v->compute[i] = A;
        v->rate1[i] = rate1;
        v->overhead[i] = overhead * per_bits;
        v->payload[i] = payload * per_bits;
        v->gamma[i] = gamma;
        v->power0[i] = F0;
        v->power1[i] = F1;
        v->f[i] = gamma * per_rate1;  /* of the peak branch */
        v->c[i] = gamma * F1 * per_rate1;
        v->d[i] = gamma * mixed * per_rate1;
        v->d_peak[i] = gamma * A * per_rate1;
        v->s_min[i] = s_min;
        v->s_max[i] = s_max;
        v->s_kink[i] = kinked > 0.0 ? s_meet : s_max;
        v->kinked[i] = kinked;
        v->energy_first[i] = raw_min < 1.0 ? 1.0 : raw_min > 1.0 ? 0.0 : touching;
        v->hopeless[i] = late + drained + (rate_min > 0.0 ? unable : 0.0);
        v->pinned[i] = s_max > s_min ? silent : 1.0;
    }
}

/* Everything at y on the branch that `second` names. One division serves five quotients: they are what takes time. */
LANE_LOOP void evaluate(Block *v, double price)
{
    const double per_price = 1.0 / price;
    EACH(i) {
        const double y = v->y[i];
        const double energy = v->energy_first[i] != v->second[i] ? 1.0 : 0.0;
        const double power0 = v->power0[i], power1 = v->power1[i];
        const double F0 = energy > 0.0 ? power0 : 1.0, F1 = energy > 0.0 ? power1 : 0.0;
        const double c_energy = v->c[i], d_energy = v->d[i], d_peak = v->d_peak[i], f = v->f[i] * F0;
        const double c = energy > 0.0 ? c_energy : 0.0, d = energy > 0.0 ? d_energy : d_peak;
        double e, em;
        decay(y, &e, &em);
        const double per_em = 1.0 / em, k_y = e * per_em, k = y * k_y, value = phi(y, em);
        const double rest = 1.0 - c * k, spread = 1.0 - c * e, grown = v->payload[i] + d * k;  /* grown / rest = 1 + A s */
        const double branch = rest * grown, all = 1.0 / (branch * value * spread);
        const double per = all * value * spread, per_value = all * branch * spread, per_spread = all * branch * value;
        const double per_rest = per * grown, per_room = per * rest * rest;  /* 1 / (1 + A s) */
        const double ratio = v->worth[i] * per_price * value * per_spread * per_room * per_room;
        /* k' = -(e^-y / em^2) phi */
        const double slope = em * per_value + 2.0 * k_y * per_em * value * (c * v->payload[i] + d) * per - c * e * per_spread;
        const double excess = natural_log(ratio), p = (F0 - v->overhead[i] * F1) * per_rest, bend = spread * per_em * per_rest;
        v->excess[i] = rest > 0.0 ? excess : -INFINITY;  /* left of the branch, where s is infinite */
        v->per_slope[i] = 1.0 / slope;
        v->s[i] = (f * k - v->overhead[i]) * per_rest;
        v->p[i] = most(least(p, 1.0), 0.0);
        v->b[i] = v->gamma[i] * v->p[i] * k_y;
        v->bend[i] = bend;
        v->elasticity[i] = bend * v->per_slope[i];
    }
}

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

/* The efficiency of the lanes that are fresh at their corner: y / (e^y - 1) = theta, `_efficiency.efficiency_for`. */
LANE_LOOP void settle(Block *v)
{
    Lanes theta, target, y;
    EACH(i) {
        const double s = corner_s(v, i), rate = v->rate1[i] * (v->overhead[i] + s);
        theta[i] = rate / (v->gamma[i] * power_limit(v, i, s));
        target[i] = fabs(natural_log(least(theta[i], 1.0)));
        target[i] = rate > 0.0 ? target[i] : EFFICIENCY_MAX;
        y[i] = most(least(target[i] + natural_log1p(target[i]), EFFICIENCY_MAX), 1e-300);
    }
    for (int n = 0; n < 4; n++) EACH(i) {
        double e, em;
        decay(y[i], &e, &em);
        const double per_y = 1.0 / y[i], slope = 1.0 / em - per_y;
        const double better = y[i] - (y[i] + natural_log(em * per_y) - target[i]) / slope;
        /* Below 1e-8 the start is exact to rounding. */
        y[i] = y[i] > 1e-8 ? most(better, 1e-9) : y[i];
    }
    EACH(i) {
        /* The logarithms leave an ulp of ln theta; the ratio itself settles it. */
        double e, em;
        decay(y[i], &e, &em);
        const double off = y[i] * e / (em * theta[i]) - 1.0, step = off * em * y[i] / (y[i] - em);
        const double polished = fabs(off) < 1e-9 ? y[i] + step : y[i], settled = y[i] > 1e-8 ? polished : y[i];
        const double corner_y = least(settled, EFFICIENCY_MAX), before = v->y[i];
        v->y[i] = v->fresh[i] > 0.0 ? corner_y : before;
    }
}

/* One step of `newton`, pending in `v->step`; which lanes have yet to move by more than the tolerance is left in
 * `v->flag`. Left of the root it steps in y, right of it in 1/y, so that no step leaves y > 0; a step out of the bracket
 * bisects. */
LANE_LOOP void propose(Block *v, double tolerance, int bisect)
{
    const double trust = bisect ? 0.0 : 1.0;
    EACH(i) {
        const double y = v->y[i], excess = v->excess[i], by = excess * v->per_slope[i], corner = v->corner[i];
        const double low = excess <= 0.0 ? y : v->low[i], high = excess >= 0.0 ? y : v->high[i];
        const double up = least(y - by, EFFICIENCY_MAX), left = excess > -INFINITY ? up : 1.25 * y;
        const double right = y * y / (y + by);
        const double proposed = excess > 0.0 ? right : left;
        const double close = fabs(by) <= tolerance * y ? 1.0 : 0.0, small = fabs(by) * v->bend[i] <= tolerance ? close : 0.0;
        const double above = proposed > low ? trust : 0.0, inside = proposed <= high ? above : 0.0;
        const double middle = low > 0.0 ? 0.5 * (low + high) : 0.25 * high;
        const double next = inside + small > 0.0 ? proposed : middle;
        const double open = high - low > 1e-15 * high ? 1.0 - small : 0.0;
        v->low[i] = low;
        v->high[i] = high;
        v->step[i] = corner == UNSET ? next - y : 0.0;
        v->flag[i] = corner == UNSET ? open : 0.0;
    }
}

LANE_LOOP void take_step(Block *v)
{
    EACH(i) v->y[i] += v->step[i];
}

/* Newton in y for the lanes without a corner, until each pending step would change b by less than `tolerance`. */
static void newton(Block *v, double price, double tolerance, int most_steps, int evaluated)
{
    EACH(i) {
        v->low[i] = 0.0;
        v->high[i] = EFFICIENCY_MAX;
    }
    for (int n = 0; n < most_steps; n++) {
        if (n || !evaluated) evaluate(v, price);
        propose(v, tolerance, n > 8 && n % 3 == 0);
        if (n == most_steps - 1 || !any(v->flag)) return;
        take_step(v);
    }
}

/* Puts the lanes at a kink on the branch beyond it. */
LANE_LOOP void cross_kinks(Block *v)
{
    EACH(i) {
        const double second = v->second[i], corner = v->corner[i];
        v->before[i] = v->excess[i];
        v->second[i] = corner == KINK ? 1.0 : second;
    }
}

/* Flags the lanes at a kink. */
LANE_LOOP void find_kinks(Block *v)
{
    EACH(i) v->flag[i] = v->corner[i] == KINK ? 1.0 : 0.0;
}

/* Gives up, and flags, corners that are not the answer at this price: the marginal value must not exceed it on the
 * branch that leaves the floor, nor fall below it on the one that enters saturation; at a kink both. */
LANE_LOOP void leave_corners(Block *v)
{
    EACH(i) {
        const double corner = v->corner[i], excess = v->excess[i], second = v->second[i];
        const double too_low = v->before[i] < 0.0 ? 1.0 : 0.0, too_high = excess > 0.0 ? 1.0 : 0.0;
        const double below = excess < 0.0 ? 1.0 : 0.0, off_floor = too_high * (1.0 - v->pinned[i]);
        const double at_end = corner == FLOOR ? off_floor : below, off = corner == KINK ? too_low + too_high : at_end;
        const double gone = corner == UNSET ? 0.0 : off;
        const double branch = too_low > 0.0 ? 0.0 : too_high;
        v->second[i] = corner == KINK ? branch : second;
        v->corner[i] = gone > 0.0 ? UNSET : corner;
        v->flag[i] = gone;
    }
}

/* Whether what was evaluated still holds for every free lane. */
static int release(Block *v, double price)
{
    evaluate(v, price);
    find_kinks(v);
    const int kinks = any(v->flag);
    cross_kinks(v);
    if (kinks) evaluate(v, price);
    leave_corners(v);
    return !(kinks && any(v->flag));
}

/* Puts lanes beyond the ends of their branch on its corners, for `settle` to find, and those that have passed the kink
 * for the first time on the other branch, flagged: that branch will say whether they belong there or on the kink. */
LANE_LOOP void stop_at_corners(Block *v)
{
    EACH(i) {
        const double second = v->second[i], held = v->corner[i], s_kink = v->s_kink[i], step = v->step[i];
        /* Where the pending step leads: rate0 + rate1 s = b y. */
        const double s = v->s[i] + v->b[i] * (1.0 - v->bend[i] * v->y[i]) * step / v->rate1[i];
        const double s_min = v->s_min[i], s_max = v->s_max[i], kinked = v->kinked[i], crossed = v->crossed[i];
        const double low = second > 0.0 ? s_kink : s_min, high = second > 0.0 ? s_max : s_kink;
        const double bottom = second > 0.0 ? KINK : FLOOR, top = second < kinked ? KINK : SATURATED;
        const double upper = s >= high ? top : UNSET, end = s <= low ? bottom : upper;
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
    EACH(i) {
        const double corner = v->corner[i], s = corner == UNSET ? v->s[i] : corner_s(v, i);
        const double limit = power_limit(v, i, s), p = corner == UNSET ? v->p[i] : limit;
        double e, em;
        decay(v->y[i], &e, &em);
        const double sends = v->overhead[i] + s > 0.0 ? 1.0 : 0.0, held = sends > 0.0 ? v->gamma[i] * p * e / em : 0.0;
        const double b = v->b[i], elasticity = v->elasticity[i];
        v->s[i] = s;
        v->p[i] = p;
        v->b[i] = corner == UNSET ? b : held;
        v->elasticity[i] = corner == UNSET ? elasticity : 0.0;
    }
}

/* Devices that cannot or need not leave their floor are put there. */
LANE_LOOP void pin(Block *v)
{
    EACH(i) {
        const double corner = v->corner[i], pinned = v->pinned[i], fresh = corner == UNSET ? pinned : 0.0;
        v->corner[i] = fresh > 0.0 ? FLOOR : corner;
        v->fresh[i] = fresh;
        v->step[i] = 0.0;
        v->crossed[i] = 0.0;
    }
}

/* The answer of a block to a price, each efficiency to a pending step below `tolerance`, or taken if `exact`. */
static void answer(Block *v, double price, double tolerance, int exact)
{
    int evaluated = release(v, price);
    pin(v);
    for (int crossings = 0; crossings < 2; crossings++) {
        newton(v, price, tolerance, exact ? 100 : SEARCH_STEPS, evaluated);
        if (exact) {
            take_step(v);
            memset(v->step, 0, sizeof v->step);
            evaluate(v, price);
        }
        stop_at_corners(v);
        if (!any(v->flag)) break;
        evaluated = 0;
    }
    if (any(v->fresh)) settle(v);
    hold_corners(v);
}

/* The state of a block before its first sweep. Efficiency at an equal share of the bandwidth while no price is known;
 * else the root of phi(y) = t with t = price rate1 / weight, within 6 %: short of the answer by what 1 + A s asks for. */
LANE_LOOP void begin(Block *v, double shares, double price)
{
    EACH(i) {
        /* k <= e^(-y/2): beyond 2 ln c the energy branch exists. */
        const double c = v->c[i], from = c > 1.0 ? 2.0 * natural_log(c) + 1e-6 : 1e-300;
        const double first = v->energy_first[i] > 0.0 ? from : 1e-300, t = price / v->worth[i];
        const double equal = natural_log1p(v->gamma[i] * shares), start = shares > 0.0 ? equal : sqrt(t * (t + 2.0));
        v->y[i] = least(most(start, first), EFFICIENCY_MAX);
        v->second[i] = 0.0;
        v->corner[i] = UNSET;
    }
}

/* What stays with each device from one sweep to the next: its efficiency and its regime. */
LANE_LOOP void recall(Block *v, const double *y, const signed char *regime, int count)
{
    Lanes efficiency, codes;
    const Column column = {(const char *)y, 0, sizeof *y};
    load(efficiency, &column, 0, 0, count);
    for (int i = 0; i < LANES; i++) codes[i] = regime[i < count ? i : count - 1];
    EACH(i) {
        const double code = codes[i], kinked = v->kinked[i], fresh_y = v->y[i];
        const double energy_second = 1.0 - v->energy_first[i];
        const double on_energy = code == ENERGY ? energy_second : 0.0;
        const double on_peak = code == PEAK ? 1.0 - energy_second : on_energy;
        const double second = code == SATURATED ? 1.0 : on_peak;
        const double free = code == ENERGY ? 1.0 : code == PEAK ? 1.0 : 0.0;
        v->y[i] = code == UNSET ? fresh_y : efficiency[i];
        v->second[i] = kinked > 0.0 ? second : 0.0;
        v->corner[i] = free > 0.0 ? UNSET : code;
    }
}

/* The regimes of a block. */
LANE_LOOP void remember(const Block *v, double *y, signed char *regime, int count)
{
    Lanes next;
    int codes[LANES];
    EACH(i) {
        const double branch = v->energy_first[i] != v->second[i] ? ENERGY : PEAK, corner = v->corner[i];
        codes[i] = (int)(corner == UNSET ? branch : corner);
        next[i] = v->y[i] + v->step[i];
    }
    memcpy(y, next, (size_t)count * sizeof *y);
    for (int i = 0; i < count; i++) regime[i] = (signed char)codes[i];
}

/* The allocation in SI units. */
LANE_LOOP void write(const Block *v, const Problem *problem, const Allocation *out, ptrdiff_t row, ptrdiff_t first, int count,
                  Total *objective)
{
    const ptrdiff_t at = row * problem->devices + first;
    const double bandwidth = cell_value(problem, BANDWIDTH_HZ, row);
    Lanes field[DEVICE_FIELDS], rho, b, p, upload, latency, energy, lost;
    for (int i = 0; i < DEVICE_FIELDS; i++) load(field[i], &problem->device[i], row, first, count);
    EACH(i) {
        const double q = v->s[i] / (1.0 + v->compute[i] * v->s[i]);
        /* 1 - rho must not round above the q that bandwidth and power were made for. */
        double kept = 1.0 - q;
        kept = 1.0 - kept > q ? kept + 0x1p-53 : kept;
        kept = most(least(kept, field[PRUNING_RATIO_MAX][i]), 0.0);
        rho[i] = v->corner[i] == FLOOR ? field[PRUNING_RATIO_MAX][i] : v->corner[i] == SATURATED ? 0.0 : kept;
        b[i] = v->b[i] * bandwidth;
        p[i] = v->p[i] * field[TX_POWER_MAX_W][i];
        const double keep = 1.0 - rho[i], bits = field[PAYLOAD_BITS][i] * keep + field[OVERHEAD_BITS][i];
        upload[i] = bits > 0.0 ? bits * LN2 / (b[i] * v->y[i]) : 0.0;
        latency[i] = field[FIXED_LATENCY_S][i] + field[PRUNED_COMPUTE_S][i] * keep + upload[i];
        energy[i] = field[FIXED_ENERGY_J][i] + field[PRUNED_COMPUTE_J][i] * keep + p[i] * upload[i] / field[PA_EFFICIENCY][i];
        lost[i] = field[WEIGHT][i] * rho[i];
    }
    silence(lost, count);
    add(objective, sum_lanes(lost));
    const size_t size = (size_t)count * sizeof(double);
    memcpy(out->pruning_ratio + at, rho, size);
    memcpy(out->bandwidth_hz + at, b, size);
    memcpy(out->tx_power_w + at, p, size);
    memcpy(out->upload_s + at, upload, size);
    memcpy(out->latency_s + at, latency, size);
    memcpy(out->energy_j + at, energy, size);
}

/* What a problem's devices answer to a price, together. */
typedef struct {
    Total bandwidth, moving, value, objective;  /* sum b, sum b * elasticity, sum ln m, sum weight * rho */
    double nearest;  /* ln(price at which the first device leaves its floor / price); -inf where none can */
    ptrdiff_t devices, valued, at_floor, at_top, hopeless;
} Sums;

/* A first guess of the price; a joint Newton step; converged efficiencies, and the allocation written. */
enum Task { GUESS, SEARCH, ANSWER };

typedef struct {
    const Problem *problem;
    const Allocation *out;
    double *efficiency;
    ptrdiff_t row, stride;  /* every `stride`-th block is asked */
    int threads;
    double price;
    enum Task task;
    Sums *chunks;
} Sweep;

FOR_EVERY_CPU
static void sweep_chunk(void *shared, ptrdiff_t chunk)
{
    const Sweep *w = shared;
    const Problem *problem = w->problem;
    const ptrdiff_t K = problem->devices, from = chunk * CHUNK * w->stride, end = from + CHUNK * w->stride;
    const ptrdiff_t to = end < K ? end : K;
    Block block, *v = &block;
    Sums sums = {.nearest = -INFINITY};
    for (ptrdiff_t first = from; first < to; first += LANES * w->stride) {
        const int count = K - first < LANES ? (int)(K - first) : LANES;
        double *y = w->efficiency + w->row * K + first;
        signed char *regime = w->out->regime + w->row * K + first;
        reduce(v, problem, w->row, first, count);
        if (memchr(regime, UNSET & 0xff, (size_t)count)) begin(v, w->task == GUESS ? (double)K : 0.0, w->price);
        sums.devices += count;
        for (int i = 0; i < count; i++) sums.hopeless += v->hopeless[i] > 0.0;
        if (w->task == GUESS) {
            evaluate(v, 1.0);
            for (int i = 0; i < count; i++) {
                const int usable = v->weight[i] > 0.0 && fabs(v->excess[i]) < INFINITY;
                if (usable) add(&sums.value, v->excess[i]);
                sums.valued += usable;
            }
            continue;
        }
        Lanes asked, moving;
        recall(v, y, regime, count);
        answer(v, w->price, w->task == ANSWER ? 1e-6 : 0.01, w->task == ANSWER);
        EACH(i) {
            asked[i] = v->b[i] * (1.0 - (v->step[i] != 0.0 ? v->bend[i] * v->step[i] : 0.0));
            moving[i] = v->b[i] * v->elasticity[i];
        }
        silence(asked, count);
        silence(moving, count);
        add(&sums.bandwidth, sum_lanes(asked));
        add(&sums.moving, sum_lanes(moving));
        for (int i = 0; i < count; i++) {
            sums.at_floor += v->corner[i] == FLOOR;
            /* Known from the second sweep that finds it there. */
            const double leaves = v->fresh[i] > 0.0 ? 0.0 : v->before[i];
            if (v->corner[i] == FLOOR && v->pinned[i] == 0.0) sums.nearest = most(sums.nearest, leaves);
            sums.at_top += v->corner[i] == SATURATED || v->pinned[i] > 0.0;
        }
        remember(v, y, regime, count);
        if (w->task == ANSWER) write(v, problem, w->out, w->row, first, count, &sums.objective);
    }
    w->chunks[chunk] = sums;
}

static Sums sweep(Sweep *w, double price, enum Task task)
{
    const ptrdiff_t reach = CHUNK * w->stride, chunks = (w->problem->devices + reach - 1) / reach;
    w->price = price;
    w->task = task;
    in_parallel(sweep_chunk, w, chunks, w->threads);
    Sums all = {.nearest = -INFINITY};
    for (ptrdiff_t i = 0; i < chunks; i++) {
        const Sums *one = &w->chunks[i];
        add(&all.bandwidth, value_of(one->bandwidth));
        add(&all.moving, value_of(one->moving));
        add(&all.value, value_of(one->value));
        add(&all.objective, value_of(one->objective));
        all.nearest = most(all.nearest, one->nearest);
        all.devices += one->devices;
        all.valued += one->valued;
        all.at_floor += one->at_floor;
        all.at_top += one->at_top;
        all.hopeless += one->hopeless;
    }
    return all;
}

/* The log price at which the devices asked use their share of the bandwidth. Newton on ln sum b, safeguarded by a
 * bracket; a price at which no device moves is left in growing steps. A sample only serves to start from. */
static int search(Sweep *w, double *log_price, Sums *sums)
{
    const int sample = w->stride > 1;
    double price = *log_price, low = -INFINITY, high = INFINITY, reach = 0.5;
    enum Task task = SEARCH;
    for (int n = 0; n < (sample ? 20 : 200); n++) {
        *sums = sweep(w, exp(price), task);
        *log_price = price;
        const double share = (double)sums->devices / (double)w->problem->devices;
        const double used = value_of(sums->bandwidth) / share, excess = log(used);
        if (sums->hopeless) return INFEASIBLE;
        if (!(used >= 0.0)) return UNRESOLVED;
        if (sums->at_floor == sums->devices && used > 1.0 + ROUNDING) return INFEASIBLE;
        if (!sample && sums->at_floor == sums->devices && used >= 1.0) {
            /* The floors fill the bandwidth: of the prices that hold everyone there the least. */
            const int certain = task == ANSWER && (sums->nearest < 0.0 || n > 3);
            task = ANSWER;
            if (!certain) continue;
            if (sums->nearest > -INFINITY) *log_price = price + sums->nearest;
            return SOLVED;
        }
        if (sums->at_top == sums->devices && used <= 1.0) {  /* bandwidth to spare is free */
            if (!sample && task == SEARCH) {
                task = ANSWER;  /* to be sure of it */
                low = -INFINITY;
                high = INFINITY;
                continue;
            }
            *log_price = -INFINITY;
            if (!sample) *sums = sweep(w, 0.0, ANSWER);
            return SOLVED;
        }
        if (sample ? fabs(excess) <= 1e-3 : task == ANSWER && fabs(excess) <= 4e-15) return SOLVED;

        const double slope = value_of(sums->moving) / value_of(sums->bandwidth);
        /* The error of a search step may hide the sign of a small excess. */
        if (task == ANSWER || fabs(excess) > 0.02 || !(slope > 0.0)) {
            low = excess > 0.0 ? price : low;
            high = excess < 0.0 ? price : high;
        }
        double next = price + fmax(-20.0, fmin(20.0, excess / slope));
        if (!(slope > 0.0) || !(next > low && next < high)) {
            const int bracketed = low > -INFINITY && high < INFINITY;
            next = bracketed ? 0.5 * (low + high) : price + copysign(reach, excess);
            reach *= 2.0;
        }
        /* Everyone at the floor, with bandwidth to spare: down to where the first device leaves it, and a hair beyond. */
        const double leaves = price + sums->nearest - 1e-3;
        if (sums->at_floor == sums->devices && sums->nearest > -INFINITY && leaves > low) next = leaves;
        if (task == ANSWER && (fabs(next - price) <= 1e-15 * fmax(1.0, fabs(price)) || !(high > low)))
            return fabs(excess) <= 1e-10 ? SOLVED : UNRESOLVED;
        if (!(fabs(next) < 700.0)) return UNRESOLVED;
        price = next;
        if (!sample && task == SEARCH && (fabs(excess) < 1e-4 || n == 30)) {
            task = ANSWER;
            low = -INFINITY;  /* what was approximate is forgotten */
            high = INFINITY;
        }
    }
    return sample ? SOLVED : UNRESOLVED;
}

static void solve_row(const Problem *problem, const Allocation *out, double *efficiency, Sums *chunks, ptrdiff_t row,
                      int threads)
{
    const ptrdiff_t K = problem->devices;
    Sweep w = {problem, out, efficiency, row, K < 8 * SAMPLE ? 1 : K / SAMPLE, threads, 0.0, GUESS, chunks};
    memset(out->regime + row * K, UNSET, (size_t)K);
    Sums sums = sweep(&w, 1.0, GUESS);
    double log_price = sums.valued ? value_of(sums.value) / (double)sums.valued : 0.0;
    int state = SOLVED;
    if (w.stride > 1) {
        state = search(&w, &log_price, &sums);
        w.stride = 1;
        if (state != SOLVED || !(fabs(log_price) < INFINITY)) log_price = 0.0;
    }
    state = search(&w, &log_price, &sums);
    out->state[row] = (signed char)state;
    out->objective[row] = value_of(sums.objective);
    out->price_per_hz[row] = exp(log_price) / cell_value(problem, BANDWIDTH_HZ, row);
}

typedef struct {
    const Problem *problem;
    const Allocation *out;
    double *efficiency;
    ptrdiff_t rows;  /* of one group */
} Batch;

static void solve_rows(void *shared, ptrdiff_t group)
{
    const Batch *batch = shared;
    const ptrdiff_t from = group * batch->rows, end = from + batch->rows;
    Sums chunk;
    for (ptrdiff_t row = from; row < end && row < batch->problem->problems; row++)
        solve_row(batch->problem, batch->out, batch->efficiency, &chunk, row, 1);
}

int kkt_solve(const Problem *problem, const Allocation *out, int threads)
{
    const ptrdiff_t K = problem->devices, chunks = (K + CHUNK - 1) / CHUNK;
    double *efficiency = malloc((size_t)(problem->problems * K) * sizeof(double) + 1);
    Sums *sums = malloc((size_t)chunks * sizeof(Sums) + 1);
    const int enough = efficiency && sums;
    if (enough && chunks <= 1) {
        Batch batch = {problem, out, efficiency, 1 + CHUNK / (K + 1)};
        in_parallel(solve_rows, &batch, (problem->problems + batch.rows - 1) / batch.rows, threads);
    } else if (enough) {
        for (ptrdiff_t row = 0; row < problem->problems; row++)
            solve_row(problem, out, efficiency, sums, row, threads);
    }
    free(efficiency);
    free(sums);
    return enough;
}
