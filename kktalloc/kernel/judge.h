/* What the certificate says of one device: the compiled twin of _certificate/ (equations there). It knows nothing of the solver.
 */
#ifndef KKTALLOC_JUDGE_H
#define KKTALLOC_JUDGE_H

#include "curve.h"

#include <float.h>

/* NaN must count as the worst there is. */
INLINE double no_nan(double x) { return x == x ? x : INFINITY; }

/* `Regime` of Python, or none claimed. */
enum { ANYWHERE = -2, AT_FLOOR = 0, ON_ENERGY, AT_KINK, AT_PEAK, AT_TOP, AT_TOTAL_POWER };

/* What is worst, and what adds up, over the devices. */
enum { RATE, ENERGY, PEAK, PRUNING, NEGATIVE, STATIONARY, CONSISTENT, WORST };
enum { OBJECTIVE, SHARE, BOUND, BANDWIDTH, POWER, WORTH, UNUSED, LATER, SUMS };

typedef struct {
    int width;  /* lanes in use, in whole vectors */
    int capped;  /* whether some problem's total power has a price */
    Lanes bandwidth, per_bandwidth, per_noise, deadline, price, total_power, watt_price;  /* of the lane's problem */
    Lanes field[DEVICE_FIELDS], rho, b, p, regime, claimed[CLAIMS], implied[CLAIMS];
    Lanes power_price, joule_price;  /* of all that limits power, had it one price */
    Lanes window, per_window, rate, snr, log_snr, silent, needed, off_peak, off_budget;
    Lanes worst[WORST], sum[SUMS];
    const Curve *curve;
    const Strip *at;  /* what the lanes stand for */
    /* Of other curves than rho itself: exponent and scale of a power law; e(1) - e(0); e' at the floor, on both sides of the pruning
     * ratio, at the kink, and where all is kept that can be; the best u where energy has no price and where it has the whole. */
    Lanes exponent, factor, span, floor_slope, steep, flat, kink_slope, last_slope, u_none, u_all, u_kink, u_cap;
    Lanes piece;  /* of a table: the one that the allocation is on */
    Lanes kept;  /* the q that is best at the prices */
} Block;

/* The distance of a claim from what the allocation implies, relative to it or to more. */
INLINE double distance(double claim, double implied, double more)
{
    const double scale = most(fabs(implied), more), off = fabs(claim - implied) / (scale > 0.0 ? scale : 1.0);
    return claim == implied ? 0.0 : no_nan(off);
}

#define Q_ULP 1e-15     /* of `tolerances.py`: what rounding leaves open of rho = 1 - q, and of the terms of a slope */
#define ROUNDING 2e-14  /* of `tolerances.py` */

/* The u in [u_min, u_cap] that minimises alpha (1 - q(u)) + spread u: stationary where alpha T / (1 + a u)^2 = spread. */
INLINE double best_u(double spread, double alpha, double a, double per_a, double window, double u_min, double u_cap)
{
    const double root = sqrt(alpha * window / most(spread, 0.0)), straight = root > 1.0 ? INFINITY : 0.0;
    const double free_u = a > 0.0 ? (root - 1.0) * per_a : straight, clipped = most(least(free_u, u_cap), u_min);
    const double paid = spread > 0.0 ? clipped : u_cap, worthless = spread < 0.0 ? paid : u_min;
    return alpha > 0.0 ? paid : worthless;
}

/* Fall of the objective in u. */
INLINE double slope_at(double u, double alpha, double a, double window)
{
    const double room = 1.0 + a * u;
    return alpha * window / (room * room);
}

/* What an allocation implies, and how far it is beyond the limits that prices do not touch. Divisions take the time here
 * and below: what divides twice is inverted once. */
LANE_LOOP void imply(Block *v)
{
    for (int i = 0; i < (v->width & -VECTOR); i++) {
        const double deadline = v->deadline[i], rho = v->rho[i], b = v->b[i], p = v->p[i], q = 1.0 - rho;
        const double payload = v->field[PAYLOAD_BITS][i], extra = v->field[OVERHEAD_BITS][i], eta = v->field[PA_EFFICIENCY][i];
        const double a = v->field[PRUNED_COMPUTE_S][i], fixed_s = v->field[FIXED_LATENCY_S][i];
        const double peak = v->field[TX_POWER_MAX_W][i], budget = v->field[ENERGY_BUDGET_J][i];
        const double fixed_j = v->field[FIXED_ENERGY_J][i];
        const double compute_j = v->field[PRUNED_COMPUTE_J][i], rho_max = v->field[PRUNING_RATIO_MAX][i];
        const double alpha = v->field[WEIGHT][i], g = v->field[CHANNEL_GAIN][i] * v->per_noise[i];
        const double holds = b > 0.0 ? 1.0 : 0.0, snr = g * p / (holds > 0.0 ? b : 1.0), log_snr = natural_log1p(snr);
        const double sound = snr > -1.0 ? b * log_snr * PER_LN2 : NAN, rate = holds > 0.0 ? sound : 0.0;
        const double bits = payload * q + extra, upload = bits > 0.0 ? bits / rate : 0.0;
        const double sent_j = upload > 0.0 ? p * upload / eta : 0.0;
        const double latency = fixed_s + a * q + upload, energy = fixed_j + compute_j * q + sent_j;
        const double per_budget = 1.0 / most(budget, 1e-300), per_peak = 1.0 / most(peak, 1e-300);
        const double spent = (energy - budget) * per_budget, excess = (p - peak) * per_peak;
        const double over = p > peak ? excess : 0.0, range = most(q - 1.0, -q);
        v->worst[ENERGY][i] = budget < INFINITY ? no_nan(spent) : 0.0;
        v->worst[PEAK][i] = no_nan(most(over, -p * per_peak) + 0.0 * p);
        /* 0, or NaN where the problem has been spoilt since it was validated. */
        const double limit = budget == INFINITY ? 0.0 : budget, of_cell = 0.0 * deadline + 0.0 * v->bandwidth[i];
        const double of_uplink = 0.0 * g + 0.0 * peak + 0.0 * payload + 0.0 * extra + 0.0 * eta;
        const double of_rest = 0.0 * a + 0.0 * fixed_s + 0.0 * fixed_j + 0.0 * compute_j + 0.0 * limit + 0.0 * alpha;
        v->worst[PRUNING][i] = no_nan(most(1.0 - rho_max - q, range) + 0.0 * q + (of_cell + of_uplink + of_rest));
        v->worst[NEGATIVE][i] = -b;
        v->sum[OBJECTIVE][i] = alpha * rho;  /* e(rho) = rho, till `bend` knows better */
        v->sum[SHARE][i] = alpha;
        v->sum[BANDWIDTH][i] = b < 0.0 ? 0.0 : b;  /* nobody hands out what another gives back */
        v->sum[POWER][i] = p < 0.0 ? 0.0 : p;
        v->implied[UPLOAD_S][i] = upload;
        v->implied[LATENCY_S][i] = latency;
        v->implied[ENERGY_J][i] = energy;

        /* Without any time a device can keep nothing; its rows take another window to be numbers. */
        const double time = deadline - fixed_s, window = time > 0.0 ? time : deadline, per_window = 1.0 / window;
        const double late = (upload - (time - a * q)) * (time > 0.0 ? per_window : 1e300);
        v->worst[RATE][i] = no_nan(late);
        v->window[i] = window;
        v->per_window[i] = per_window;
        v->rate[i] = rate;
        v->snr[i] = snr;
        v->log_snr[i] = log_snr;
        v->silent[i] = holds > 0.0 ? (snr < INFINITY ? 0.0 : 1.0) : 1.0;
        v->needed[i] = 0.0;

        /* How far the device is from the limits that its regime may name. */
        const double off_budget = budget < INFINITY ? fabs(energy - budget) * per_budget : 1.0;
        v->off_peak[i] = fabs(p - peak) * per_peak;
        v->off_budget[i] = off_budget;
    }
}

/* A device that holds no bandwidth is judged at the SNR at which its first bit would just pay: phi(y) = y - 1 + e^-y =
 * lam r1 / slope; from y = 700 on that is `needed`. */
LANE_LOOP void judge_first_bits(Block *v)
{
    for (int i = 0; i < (v->width & -VECTOR); i++) {
        const double a = v->field[PRUNED_COMPUTE_S][i], window = v->window[i], q_min = 1.0 - v->field[PRUNING_RATIO_MAX][i];
        const double r1 = v->field[PAYLOAD_BITS][i] + a * v->field[OVERHEAD_BITS][i] * v->per_window[i];
        const double floor_room = 1.0 + a * q_min / (window - a * q_min);
        const double linear = v->field[WEIGHT][i] * window, alpha = v->curve->kind == LINEAR ? linear : linear * v->floor_slope[i];
        const double needed = LN2 * v->price[i] * r1 * floor_room * floor_room / alpha;
        double e, em, ignored;
        decay(least(needed + 1.0, 700.0), &e, &ignored);
        const double first = needed + 1.0 - e, y = least(first, 700.0), silent = v->silent[i];
        decay(y, &e, &em);
        const double snr = v->snr[i], log_snr = v->log_snr[i];
        v->snr[i] = silent > 0.0 ? em / e : snr;
        v->log_snr[i] = silent > 0.0 ? y : log_snr;
        v->needed[i] = first > 700.0 ? silent * needed : 0.0;
    }
}

/* No prices support an efficiency beyond y*, at which a watt is worth no more than its price: e^y phi(y) = lam g / mu, by
 * Newton's method for ln y. Where bandwidth is free that is 0. */
LANE_LOOP void judge_at_power_price(Block *v)
{
    Lanes wanted, heard, y;
    for (int i = 0; i < (v->width & -VECTOR); i++) {
        const double on_time = v->deadline[i] > v->field[FIXED_LATENCY_S][i] ? 1.0 : 0.0, mu = v->watt_price[i];
        const double g = on_time > 0.0 ? v->field[CHANNEL_GAIN][i] * v->per_noise[i] : 0.0, z = v->price[i] * g / mu;
        const double target = natural_log(most(least(z, 1e300), 1e-300)), root = sqrt(2.0 * most(least(z, 1.0), 1e-300));
        const double large = most(target, 1.0), start = large - 0.8 * natural_log(large) + 0.3;
        heard[i] = z;
        wanted[i] = target;
        y[i] = target < 0.0 ? root : start;
    }
    for (int n = 0; n < 6; n++)
        for (int i = 0; i < (v->width & -VECTOR); i++) {
            const double at = y[i];
            double e, em, shrunk, ignored;
            decay(least(at, 700.0), &e, &em);
            const double small = most(least(at, 0.1), 1e-300);
            const double terms = 1.0 / 20160.0 - small * (1.0 / 181440.0 - small * (1.0 / 1814400.0));
            const double more = 1.0 / 60.0 - small * (1.0 / 360.0 - small * (1.0 / 2520.0 - small * terms));
            const double series = 0.5 * small * small * (1.0 - small * (1.0 / 3.0 - small * (1.0 / 12.0 - small * more)));
            const double f = at < 0.1 ? series : at - em, off = (wanted[i] - at - natural_log(f)) * f / (at * at);
            const double step = most(least(off, 2.0), -2.0);
            decay(fabs(step), &shrunk, &ignored);
            y[i] = at * (step > 0.0 ? 1.0 / shrunk : shrunk);
        }
    for (int i = 0; i < (v->width & -VECTOR); i++) {
        const double mu = v->watt_price[i], bound = heard[i] > 1e-290 ? y[i] : 0.0, snr = v->snr[i], log_snr = v->log_snr[i];
        const double y_most = mu > 0.0 ? bound : INFINITY, needed = v->needed[i];
        double e, em;
        decay(least(y_most, 700.0), &e, &em);
        const double most_snr = em / e;
        v->snr[i] = y_most < log_snr ? most_snr : snr;
        v->log_snr[i] = least(log_snr, y_most);
        v->needed[i] = mu > 0.0 ? 0.0 : needed;
    }
}

/* The convex rows of a device, and the prices of rate and power at its SNR. `sound` is 0.0 where no prices support that SNR. */
typedef struct {
    double r0, r1, e0, e1, limited, u_min, u_cap, nu, power_price, per_room, sound;
} Rows;

INLINE Rows rows_of(const Block *v, int i)
{
    const double B = v->bandwidth[i], lam = v->price[i], window = v->window[i], per_window = v->per_window[i];
    const double payload = v->field[PAYLOAD_BITS][i], extra = v->field[OVERHEAD_BITS][i], eta = v->field[PA_EFFICIENCY][i];
    const double a = v->field[PRUNED_COMPUTE_S][i], peak = v->field[TX_POWER_MAX_W][i];
    const double budget = v->field[ENERGY_BUDGET_J][i], fixed_j = v->field[FIXED_ENERGY_J][i];
    const double compute_j = v->field[PRUNED_COMPUTE_J][i], q_min = 1.0 - v->field[PRUNING_RATIO_MAX][i];
    /* Who has no time can send nothing, as if there were no gain. */
    const double on_time = v->deadline[i] > v->field[FIXED_LATENCY_S][i] ? 1.0 : 0.0;
    const double g = on_time > 0.0 ? v->field[CHANNEL_GAIN][i] * v->per_noise[i] : 0.0;
    const double r0 = extra * per_window, r1 = payload + a * r0, left = budget - fixed_j;
    const double capped = least(peak, v->total_power[i]);
    const double most_rate = B * natural_log1p(g * (left > 0.0 ? capped : 0.0) * v->per_bandwidth[i]) * PER_LN2;
    const double u_min = q_min / (window - a * q_min), u_max = window > a ? 1.0 / (window - a) : INFINITY;
    const double highest = most(least(u_max, (most_rate - r0) / r1), u_min);
    const double u_cap = on_time > 0.0 ? highest : u_min;
    /* What is left of the peak at the kink may be small: rounded as in NumPy. */
    const double limited = left < INFINITY ? 1.0 : 0.0, e_left = limited > 0.0 ? left : 0.0;
    const double e0 = eta * e_left / window, e1 = limited > 0.0 ? eta * (a * e_left / window - compute_j) : 0.0;

    /* log1p(x) - x/(1+x) loses digits for small x; z = x/(2+x) gives a series of positive terms. */
    const double x = v->snr[i], z = x / (2.0 + x), zz = z * z, per_room = 1.0 / (1.0 + x);
    const double steps = ((1.0 / 13.0 * zz + 1.0 / 11.0) * zz + 1.0 / 9.0) * zz + 1.0 / 7.0;
    const double tail = (steps * zz + 1.0 / 5.0) * zz + 1.0 / 3.0;
    const double series = 2.0 * zz * ((1.0 + 0.5 * x) * per_room + z * tail);
    const double direct = x < 0.05 ? series : v->log_snr[i] - x * per_room, needed = v->needed[i];
    const double marginal = (needed > 0.0 ? needed : direct) * PER_LN2;
    const double priced = lam > 0.0 ? 1.0 : 0.0, positive = marginal > 0.0 ? priced : 0.0;
    const double usable = marginal < INFINITY ? positive : 0.0, mu = v->watt_price[i];
    /* Where bandwidth is free a bit costs power alone, at no SNR. */
    const double watts_alone = lam > 0.0 ? 0.0 : mu, at_no_snr = g > 0.0 ? watts_alone * LN2 / g : 0.0;
    const double nu = usable > 0.0 ? lam / marginal : at_no_snr;
    const double worth = usable > 0.0 ? nu * g * per_room * PER_LN2 : mu, beyond = worth - mu;
    const double sound = worth >= mu * (1.0 - 1e-12) ? 1.0 : 0.0;
    /* At y* power is worth its price; what rounding leaves of the difference would be laid on a limit far away. */
    const double power_price = beyond > ROUNDING * mu ? beyond : 0.0;
    return (Rows){r0, r1, e0, e1, limited, u_min, u_cap, nu, power_price, per_room, sound};
}

/* The best multipliers at a device's SNR and price, and what the allocation leaves to them. */
INLINE void weigh(Block *v, int linear)
{
    for (int i = 0; i < (v->width & -VECTOR); i++) {
        const Rows r = rows_of(v, i);
        const double r0 = r.r0, r1 = r.r1, e0 = r.e0, e1 = r.e1, limited = r.limited, u_min = r.u_min, u_cap = r.u_cap;
        const double nu = r.nu, power_price = r.power_price, window = v->window[i], per_window = v->per_window[i];
        const double a = v->field[PRUNED_COMPUTE_S][i], peak = v->field[TX_POWER_MAX_W][i], eta = v->field[PA_EFFICIENCY][i];
        const double budget = v->field[ENERGY_BUDGET_J][i], q_min = 1.0 - v->field[PRUNING_RATIO_MAX][i];
        const double alpha = v->field[WEIGHT][i], p = v->p[i], q = 1.0 - v->rho[i], rate = v->rate[i];

        /* The dual is concave in omega with slope P - e0 - e1 u at the best u: the sign at both ends tells whether it is best
         * at one of them or between, where u rests on the kink (e0 + e1 u = P). A tie is the peak's. */
        const double per_a = 1.0 / a;
        const double u_none = linear ? best_u(nu * r1, alpha, a, per_a, window, u_min, u_cap) : v->u_none[i];
        const double u_all = linear ? best_u(nu * r1 - power_price * e1, alpha, a, per_a, window, u_min, u_cap) : v->u_all[i];
        const double some = e0 + e1 * u_none < peak * (1.0 - ROUNDING) ? limited : 0.0;
        const double between = e0 + e1 * u_all > peak ? some : 0.0, per_e1 = 1.0 / e1;
        const double u_kink = (peak - e0) * per_e1, kink_slope = linear ? 1.0 : v->kink_slope[i];
        const double raw = (nu * r1 - slope_at(u_kink, alpha, a, window) * kink_slope) * per_e1;
        const double balance = least(raw > 0.0 ? raw : 0.0, power_price), at_end = some > 0.0 ? power_price : 0.0;
        const double omega = between > 0.0 ? balance : at_end, pi = power_price - omega, spread = nu * r1 - omega * e1;
        /* A balance that was clipped is not on the kink. */
        const double u_more = balance < power_price ? u_kink : u_all, u_between = balance > 0.0 ? u_more : u_none;
        const double u_end = some > 0.0 ? u_all : u_none, u_best = between > 0.0 ? u_between : u_end;
        const double kept = window * u_best / (1.0 + a * u_best), cost = linear ? alpha * most(least(1.0 - kept, 1.0), 0.0) : 0.0;
        v->kept[i] = kept;
        v->sum[BOUND][i] = r.sound > 0.0 ? cost + spread * u_best + nu * r0 - omega * e0 - pi * peak : -1e300;

        /* What is priced is used up, and no device gains by moving: the marginal terms agree, for one of the q next to this
         * one, or q is the best at these prices. In u = q / t the fall of the objective is alpha (T - a q)^2 / T; where the
         * computation leaves next to no time that is all rounding, but u is within its cap. (Where it leaves none the rate
         * is beyond its limit, whatever the slopes.) */
        const double u = least(q / (window - a * q), u_cap), per_t = (1.0 + a * u) * per_window;
        const double flattest = slope_at(u_cap, alpha, a, window) * (linear ? 1.0 : v->last_slope[i]);
        const double before = most(window - a * (q - Q_ULP), 0.0), behind = most(window - a * (q + Q_ULP), 0.0);
        const double weight = alpha * per_window;
        const double steepest = weight * before * before * (linear ? 1.0 : v->steep[i]);
        const double gentlest = weight * behind * behind * (linear ? 1.0 : v->flat[i]);
        const double steep = most(steepest, flattest), flat = most(gentlest, flattest);
        const double slack = limited > 0.0 ? e0 + e1 * u - p : 0.0, per_j = omega * eta * per_t;
        const double unused = nu * (rate - r0 - r1 * u) + omega * slack + pi * (peak - p);
        const double spread_ulp = Q_ULP * (nu * r1 + (power_price + v->watt_price[i]) * fabs(e1));
        const double off_slope = most(most(flat - spread, spread - steep) - spread_ulp, 0.0);
        const double later = (nu * rate - omega * p) * per_t;
        const double mismatch = off_slope / most(most(fabs(spread), steep), 1e-300);
        const double stored = per_j * budget, energy_worth = per_j > 0.0 ? stored : 0.0;
        v->sum[WORTH][i] = nu * rate + energy_worth + pi * peak;
        v->sum[UNUSED][i] = unused == unused ? most(unused, 0.0) : NAN;
        v->worst[STATIONARY][i] = no_nan(least(mismatch, fabs(q - kept)) + 0.0 * (mismatch + kept));
        v->sum[LATER][i] = later;
        v->implied[ENERGY_PER_J][i] = per_j;
        v->implied[PEAK_POWER_PER_W][i] = pi;
        v->power_price[i] = power_price;
        v->joule_price[i] = power_price * eta * per_t;

        /* How far the device is from the limit that its regime names; next to the floor the times of a tiny upload are all
         * rounding of rho: weighed by what is kept beyond it. */
        const double regime = v->regime[i], kept_beyond = q - q_min, at_peak = v->off_peak[i], at_budget = v->off_budget[i];
        const double both = most(at_peak, at_budget), at_top = regime == AT_TOP ? 1.0 - q : 1.0;
        const double off_peak = regime == AT_PEAK ? at_peak * kept_beyond : at_top;
        const double off_kink = regime == AT_KINK ? both * kept_beyond : off_peak;
        const double off_budget = regime == ON_ENERGY ? at_budget * kept_beyond : off_kink;
        const double content = flat == 0.0 || v->watt_price[i] > 0.0 ? 0.0 : 1.0, off_total = regime == AT_TOTAL_POWER ? content : off_budget;
        const double off = regime == AT_FLOOR ? kept_beyond : off_total;
        v->worst[CONSISTENT][i] = regime == ANYWHERE ? 0.0 : no_nan(off);
    }
}

LANE_LOOP void weigh_linear(Block *v) { weigh(v, 1); }
LANE_LOOP void weigh_curve(Block *v) { weigh(v, 0); }

/* x^n for x >= 0 and n >= 0; 0^0 is 1. */
INLINE double power_of(double x, double n)
{
    const double some = x > 0.0 ? x : 1.0, logarithm = n * natural_log(some);
    double e, em;
    decay(least(fabs(logarithm), 700.0), &e, &em);
    const double power = logarithm > 0.0 ? 1.0 / e : e, none = n > 0.0 ? 0.0 : 1.0;
    return x > 0.0 ? power : none;
}

/* The rho that a u stands for. */
INLINE double rho_at(double u, double a, double window)
{
    return most(least(1.0 - window * u / (1.0 + a * u), 1.0), 0.0);
}

/* The spread of rates and powers where energy has no price, and where it has the whole price of power, in the places of the u that are
 * best then; the u of the kink. */
LANE_LOOP void ask(Block *v)
{
    for (int i = 0; i < (v->width & -VECTOR); i++) {
        const Rows r = rows_of(v, i);
        v->u_none[i] = r.nu * r.r1;
        v->u_all[i] = r.nu * r.r1 - r.power_price * r.e1;
        v->u_kink[i] = (v->field[TX_POWER_MAX_W][i] - r.e0) / r.e1;
        v->u_cap[i] = r.u_cap;
    }
}

/* `best_u` for a power law, `u` being the spread before and the answer after: the root of
 *
 *     (n - 1) ln rho + 2 ln(1 - A + A rho) = ln(spread / (alpha scale n T)),   A = a / T,   rho = 1 - q,
 *
 * by Newton's method for ln rho, from the allocation's own. */
LANE_LOOP void best_of_power_law(Block *v, double *u)
{
    Lanes rho, low, high, wanted;
    for (int i = 0; i < (v->width & -VECTOR); i++) {
        const Rows r = rows_of(v, i);
        const double a = v->field[PRUNED_COMPUTE_S][i], T = v->window[i], alpha = v->field[WEIGHT][i], spread = u[i];
        const double most_rho = rho_at(r.u_min, a, T), least_rho = rho_at(r.u_cap, a, T), own = v->rho[i];
        const double worth = alpha * v->factor[i] * v->exponent[i] * T, n1 = v->exponent[i] - 1.0;
        const double root = sqrt(worth / most(spread, 0.0)), straight = root > 1.0 ? r.u_cap : r.u_min;
        const double free_u = a > 0.0 ? (root - 1.0) / a : straight, clipped = most(least(free_u, r.u_cap), r.u_min);
        const double ends = spread > 0.0 ? (n1 > 0.0 ? NAN : clipped) : r.u_cap;
        u[i] = worth > 0.0 ? ends : spread < 0.0 ? r.u_cap : r.u_min;
        wanted[i] = natural_log(spread / worth);
        low[i] = least_rho;
        high[i] = most_rho;
        rho[i] = own > 0.0 ? most(least(own, most_rho), least_rho) : most_rho;
    }
    for (int n = 0; n < 200; n++) {
        uint64_t unfinished = 0;
        for (int i = 0; i < (v->width & -VECTOR); i++) {
            const double A = v->field[PRUNED_COMPUTE_S][i] * v->per_window[i], x = rho[i], room = 1.0 - A + A * x;
            const double n1 = v->exponent[i] - 1.0, off = n1 * natural_log(x) + 2.0 * natural_log(room) - wanted[i];
            const double step = off / (n1 + 2.0 * A * x / room), d = most(least(step, 3.4), -3.4), dd = 1.0 + d * d * (1.0 / 12.0);
            const double moved = x * (dd - 0.5 * d) / (dd + 0.5 * d);  /* x e^-d, roughly for long steps */
            const double lower = low[i], upper = high[i], next = x > 0.0 ? most(least(moved, upper), lower) : lower;
            const double open = fabs(d) > 1e-6 ? 1.0 : 0.0, flag = u[i] == u[i] ? 0.0 : next == x ? 0.0 : open;
            rho[i] = next;
            unfinished |= double_to_bits(flag);
        }
        if (!unfinished) break;
    }
    for (int i = 0; i < (v->width & -VECTOR); i++) {
        const double q = 1.0 - rho[i], found = q / (v->window[i] - v->field[PRUNED_COMPUTE_S][i] * q), known = u[i];
        u[i] = known == known ? known : found;
    }
}

/* Whether it pays to enter a piece from below. */
INLINE int pays(const Pieces *table, int piece, double spread, double worth, double A)
{
    const double room = 1.0 - A * (1.0 - ratio_at(table, piece + 1));
    return room > 0.0 && worth * piece_slope(table, piece) * room * room > spread;
}

/* The best u on one table: on the last piece that pays. Most devices are there, on the piece `own`. */
static double best_of_table(const Pieces *table, int own, double spread, double alpha, double a, double T)
{
    const double worth = alpha * T, A = a / T;
    int low = own, high = own;
    if (!pays(table, own, spread, worth, A)) {
        low = own + 1;
        high = table->pieces;
    } else if (own && pays(table, own - 1, spread, worth, A)) {
        low = 0;
        high = own - 1;
    }
    while (low < high) {
        const int middle = (low + high) / 2;
        if (pays(table, middle, spread, worth, A)) high = middle;
        else low = middle + 1;
    }
    if (low == table->pieces) return 0.0;
    const double q0 = 1.0 - ratio_at(table, low + 1), q1 = 1.0 - ratio_at(table, low), start = q0 / (T - a * q0);
    const double end = T - a * q1 > 0.0 ? q1 / (T - a * q1) : INFINITY;
    const double free_u = a > 0.0 ? (sqrt(worth * piece_slope(table, low) / spread) - 1.0) / a : INFINITY;
    return least(most(free_u, start), end);
}

/* The same for tables, u by u. */
static void best_of_tables(Block *v, double *u)
{
    for (int i = 0; i < v->width; i++) {
        const Pieces table = pieces_at(v->curve, v->at, i);
        const double a = v->field[PRUNED_COMPUTE_S][i], T = v->window[i], alpha = v->field[WEIGHT][i], spread = u[i];
        const double q_min = 1.0 - v->field[PRUNING_RATIO_MAX][i], u_min = q_min / (T - a * q_min);
        const double found = spread > 0.0 ? best_of_table(&table, (int)v->piece[i], spread, alpha, a, T) : INFINITY;
        const double best = most(least(found, v->u_cap[i]), u_min);
        u[i] = alpha > 0.0 || spread < 0.0 ? best : u_min;
    }
}

/* Error and slopes of a power law. */
LANE_LOOP void bend_power_law(Block *v)
{
    for (int i = 0; i < (v->width & -VECTOR); i++) {
        const double n = v->exponent[i], n1 = n - 1.0, factor = v->factor[i], rho = v->rho[i], weight = v->field[WEIGHT][i];
        const double a = v->field[PRUNED_COMPUTE_S][i], T = v->window[i], steep = factor * n, sound = 0.0 * rho;
        const double inside = most(least(rho, 1.0), 0.0), above = least(inside + Q_ULP, 1.0), below = most(inside - Q_ULP, 0.0);
        v->span[i] = factor;
        v->floor_slope[i] = steep * power_of(v->field[PRUNING_RATIO_MAX][i], n1);
        v->steep[i] = steep * power_of(above, n1);
        v->flat[i] = steep * power_of(below, n1);
        v->kink_slope[i] = steep * power_of(rho_at(v->u_kink[i], a, T), n1);
        v->last_slope[i] = steep * power_of(rho_at(v->u_cap[i], a, T), n1);
        v->sum[OBJECTIVE][i] = weight * (factor * power_of(rho, n) + sound);
    }
}

INLINE double slope_of(const Pieces *table, double rho, int guess)
{
    return piece_slope(table, piece_near(table, rho, guess));
}

static void bend_tables(Block *v)
{
    for (int i = 0; i < v->width; i++) {
        const Pieces table = pieces_at(v->curve, v->at, i);
        const double rho = v->rho[i], a = v->field[PRUNED_COMPUTE_S][i], T = v->window[i];
        const double inside = most(least(rho, 1.0), 0.0), above = least(inside + Q_ULP, 1.0), below = most(inside - Q_ULP, 0.0);
        v->span[i] = error_at(&table, table.pieces) - error_at(&table, 0);
        const int own = piece_at(&table, inside, 0), limited = v->field[ENERGY_BUDGET_J][i] < INFINITY;
        v->piece[i] = own;
        v->floor_slope[i] = v->silent[i] > 0.0 ? slope_of(&table, v->field[PRUNING_RATIO_MAX][i], own) : 0.0;
        v->steep[i] = slope_of(&table, above, own);
        v->flat[i] = slope_of(&table, below, own);
        v->kink_slope[i] = limited ? slope_of(&table, rho_at(v->u_kink[i], a, T), own) : 0.0;
        v->last_slope[i] = slope_of(&table, rho_at(v->u_cap[i], a, T), 0);
        v->sum[OBJECTIVE][i] = v->field[WEIGHT][i] * (error_on(&table, own, inside) + 0.0 * rho);
    }
}

/* What the curve says of the best that each device could do. */
LANE_LOOP void cost_of_power_law(Block *v)
{
    for (int i = 0; i < (v->width & -VECTOR); i++) {
        const double rho = most(least(1.0 - v->kept[i], 1.0), 0.0), weight = v->field[WEIGHT][i];
        v->sum[BOUND][i] += weight * v->factor[i] * power_of(rho, v->exponent[i]);
        v->sum[SHARE][i] = weight * v->span[i];
    }
}

static void cost_of_tables(Block *v)
{
    for (int i = 0; i < v->width; i++) {
        const Pieces table = pieces_at(v->curve, v->at, i);
        const double rho = most(least(1.0 - v->kept[i], 1.0), 0.0), weight = v->field[WEIGHT][i];
        v->sum[BOUND][i] += weight * error_on(&table, piece_near(&table, rho, (int)v->piece[i]), rho);
        v->sum[SHARE][i] = weight * v->span[i];
    }
}

static void judge_block(Block *v)
{
    const int kind = v->curve->kind;
    imply(v);
    if (kind != LINEAR) {
        ask(v);  /* the kink and the cap do not depend on the SNR; the rest is asked for again below */
        if (kind == POWER_LAW) bend_power_law(v);
        else bend_tables(v);
    }
    if (any(v->silent, v->width)) judge_first_bits(v);
    if (v->capped) judge_at_power_price(v);
    if (kind == LINEAR) {
        weigh_linear(v);
        return;
    }
    ask(v);
    if (kind == POWER_LAW) {
        best_of_power_law(v, v->u_none);
        best_of_power_law(v, v->u_all);
        weigh_curve(v);
        cost_of_power_law(v);
    } else {
        best_of_tables(v, v->u_none);
        best_of_tables(v, v->u_all);
        weigh_curve(v);
        cost_of_tables(v);
    }
}

#endif
