/* What a block of devices has at a given efficiency: the compiled twin of the formulas of `at_price.py` (equations: theory,
 * "KKT solution"). Unknown per device: the spectral efficiency y = ln(1 + SNR). In the ratios of block.h everything is explicit:
 *
 *     s = (f k - o) / (1 - c k),   1 + A s = (r + d k) / (1 - c k),   p = (F0 - o F1) / (1 - c k),
 *     b = gamma p / (e^y - 1),     m = weight e'(rho) phi(y) / (rate1 (1 - c e^-y) (1 + A s)^2).
 */
#ifndef KKTALLOC_EFFICIENCY_H
#define KKTALLOC_EFFICIENCY_H

#include "block.h"

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

/* Everything at y on the branch that `second` names, as far as `depth` says, for the curve's kind. One division serves five
 * quotients: they are what takes time. Beyond saturation (1 + A s)^2 stays what it is there: the root is on the same side
 * of it as without, and is found sooner; a power law, whose slope is 0 there, has no root beyond. */
INLINE void at_efficiency(Block *v, enum Depth depth, int kind)
{
    Lanes shrunk, lost, values, steepness, fade;
    EACH_OF(v, i) {
        const double y = v->y[i];
        double e, em;
        decay(y, &e, &em);
        shrunk[i] = e;
        lost[i] = em;
        values[i] = phi(y, em);
    }
    /* rho^(n - 1), and (n - 1) / rho. */
    if (kind == POWER_LAW && depth >= PRICE) {
        EACH_OF(v, i) {
            const double energy = v->energy_first[i] != v->second[i] ? 1.0 : 0.0, power0 = v->power0[i];
            const double F0 = energy > 0.0 ? power0 : 1.0, c_energy = v->c[i], c = energy > 0.0 ? c_energy : 0.0;
            const double k = v->y[i] * shrunk[i] / lost[i], rest = 1.0 - c * k, sent = v->f[i] * F0 * k - v->overhead[i];
            const double rho = 1.0 - sent / (rest + v->compute[i] * sent);
            fade[i] = rest > 0.0 ? rho : -1.0;
        }
        EACH_OF(v, i) {
            const double rho = fade[i], power = v->power[i], some = rho > 0.0 ? rho : 1.0;
            double e, em;
            decay(least(-power * natural_log(least(some, 1.0)), 700.0), &e, &em);
            const double gone = power > 0.0 ? 0.0 : 1.0;
            steepness[i] = rho > 0.0 ? e : gone;
            fade[i] = power / some;
        }
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
        const double straight = v->worth[i] * v->paid.per_price[i] * value * per_spread * per_room * per_room;
        const double ratio = kind == POWER_LAW && depth >= PRICE ? straight * steepness[i] : straight;
        const double to_peak = ratio * spread - 1.0, to_energy = ratio - (1.0 - c_energy * e);
        if (depth >= PRICE) {
            const double over_kink = energy > 0.0 ? to_peak : to_energy;
            v->excess[i] = rest > 0.0 ? (kind != POWER_LAW || ratio > 0.0 ? ratio : -1.0) : -1.0;
            v->across[i] = kind == TABLE && v->corner[i] == BREAK ? ratio * v->flatter[i] - 1.0 : over_kink;
        }
        if (depth == SLOPE) {
            /* k' = -(e^-y / em^2) phi */
            const double fall = k_y * per_em * value, turning = 2.0 * fall * (c * v->payload[i] + d) * per;
            const double turn = inside > 0.0 ? turning : 0.0, growth = em * per_value, mixed = c * e * per_spread;
            const double slope = growth + turn - mixed;
            const double turn2 = turn * (growth - 1.0 - 2.0 * k_y + fall * per * (d * rest - c * grown));
            const double bent = e * per_value - growth * growth + turn2 + mixed * per_spread;
            if (kind == POWER_LAW) {
                /* (n - 1) ln rho, of which ln rho' turns as fall / grown^2. */
                const double rise = fall * v->f[i] * p * per_rest * per_s * per_s, ratio_rise = fade[i] * rise;
                const double turn3 = ratio_rise * (growth - 1.0 - 2.0 * k_y + 2.0 * d * fall * per * rest);
                const double both = slope + ratio_rise, per_slope = 1.0 / both, power = v->power[i];
                const double squared = power > 0.0 ? ratio_rise * ratio_rise / power : 0.0;
                v->quick[i] = most(bend, power > 0.0 ? ratio_rise / power : 0.0);
                v->curl[i] = (bent + turn3 - squared) * per_slope;
                v->per_slope[i] = per_slope;
            } else {
                const double per_slope = 1.0 / slope;
                v->curl[i] = bent * per_slope;
                v->per_slope[i] = per_slope;
            }
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

LANE_LOOP void place(Block *v) { at_efficiency(v, ALLOCATION, LINEAR); }

LANE_LOOP void check_linear(Block *v) { at_efficiency(v, PRICE, LINEAR); }
LANE_LOOP void check_power_law(Block *v) { at_efficiency(v, PRICE, POWER_LAW); }
LANE_LOOP void check_table(Block *v) { at_efficiency(v, PRICE, TABLE); }

LANE_LOOP void evaluate_linear(Block *v) { at_efficiency(v, SLOPE, LINEAR); }
LANE_LOOP void evaluate_power_law(Block *v) { at_efficiency(v, SLOPE, POWER_LAW); }
LANE_LOOP void evaluate_table(Block *v) { at_efficiency(v, SLOPE, TABLE); }

static void check(Block *v)
{
    if (v->curve->kind == LINEAR) check_linear(v);
    else if (v->curve->kind == POWER_LAW) check_power_law(v);
    else check_table(v);
}

static void evaluate(Block *v)
{
    if (v->curve->kind == LINEAR) evaluate_linear(v);
    else if (v->curve->kind == POWER_LAW) evaluate_power_law(v);
    else evaluate_table(v);
}

#endif
