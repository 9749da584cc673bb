/* One device with a clock and electronics in plain numbers: the scalar twin of `_device/clocked.py`, where the formulas are
 * derived and whose names it keeps. Beyond the slope B'(q) it tells how that bends, so that a price is found by Newton steps. */
#ifndef KKTALLOC_CLOCKED_H
#define KKTALLOC_CLOCKED_H

#include "clock_problem.h"
#include "device.h"

/* `Clocked` of Python; the upper end of the clock of who computes nothing is its lower end. */
typedef struct {
    double weight, rate0, rate1, work0, work1, heat0, heat1, kappa, circuit, energy, slow, fast, snr, q_min, b_max;
    int late;
} Clocked;

/* `Point` of Python. `bend` is d ln B' / dq. */
typedef struct {
    double b, slope, bend, t, p, clock;
    int regime;
} Point;

/* What keeping q takes: nats, seconds and joules at relative clock 1. */
typedef struct {
    double L, w, h;
} Load;

enum { BALANCE_STEPS = 100, CUBIC_STEPS = 12 };
#define BALANCED 1e-13  /* a last step of this size, relative, is rounding */

static Clocked clocked_form(const ClockProblem *p, ptrdiff_t row, ptrdiff_t k)
{
    const Problem *plain = &p->problem;
    const double deadline = cell_value(plain, DEADLINE_S, row), B = cell_value(plain, BANDWIDTH_HZ, row);
    const double window = deadline - device_value(plain, FIXED_LATENCY_S, row, k), unit = window > 0.0 ? window : deadline;
    const double peak = device_value(plain, TX_POWER_MAX_W, row, k), eta = device_value(plain, PA_EFFICIENCY, row, k);
    const double own = own_value(p, BANDWIDTH_MAX_HZ, row, k), watts = peak > 0.0 ? peak : 1.0;
    const double heard = own > 0.0 && window > 0.0 ? device_value(plain, CHANNEL_GAIN, row, k) * peak : 0.0;
    const double q_min = 1.0 - device_value(plain, PRUNING_RATIO_MAX, row, k);
    const double work0 = own_value(p, FIXED_COMPUTE_S, row, k), work1 = device_value(plain, PRUNED_COMPUTE_S, row, k);
    const double least_work = work0 + work1 * q_min, overhead = device_value(plain, OVERHEAD_BITS, row, k);
    const double nats = LN2 / (unit * B), joule = eta / (watts * unit);
    const double slow = own_value(p, CLOCK_MIN, row, k), fast = own_value(p, CLOCK_MAX, row, k);
    const int works = work0 + work1 > 0.0;
    Clocked d = {
        .weight = device_value(plain, WEIGHT, row, k),
        .rate0 = overhead * nats, .rate1 = device_value(plain, PAYLOAD_BITS, row, k) * nats,
        .work0 = work0 / unit, .work1 = work1 / unit,
        .heat0 = own_value(p, FIXED_COMPUTE_J, row, k) * joule, .heat1 = device_value(plain, PRUNED_COMPUTE_J, row, k) * joule,
        .circuit = own_value(p, CIRCUIT_POWER_W, row, k) * (eta / watts),
        .energy = (device_value(plain, ENERGY_BUDGET_J, row, k) - device_value(plain, FIXED_ENERGY_J, row, k)) * joule,
        .slow = slow, .fast = works ? fast : slow, .snr = heard / (cell_value(plain, NOISE_PSD_W_PER_HZ, row) * B),
        .q_min = q_min, .b_max = own / B,
    };
    d.late = window > 0.0 ? least_work / fast > window : least_work > 0.0 || overhead > 0.0 || q_min > 0.0 || window < 0.0;
    /* Power of computing at relative clock 1; at q = 0 too, where there may be nothing to compute. */
    d.kappa = works ? (d.heat0 + d.heat1) / (d.work0 + d.work1) : 0.0;
    return d;
}

/* y e^y / (e^y - 1) - 1, by its series near 0. */
INLINE double psi_at(double y)
{
    return fabs(y) < 1e-2 ? y * (0.5 + y * (1.0 / 12.0 - y * y / 720.0)) : y / -expm1(-y) - 1.0;
}

/* d ln((e^y - 1) / y) / dy for any real y, given e^y - 1, which may be infinite. */
INLINE double growth_slope(double y, double grown)
{
    return fabs(y) < 1e-2 ? 0.5 + y * (1.0 / 12.0 - y * y / 720.0) : 1.0 + 1.0 / grown - 1.0 / y;
}

/* Log of the energy that the power balance asks for at clock s and time t over what the budget leaves; its slopes along s, with
 * t = 1 - w/s, and along q. */
typedef struct {
    double value, along_s, along_q;
} Excess;

static Excess excess_at(const Clocked *d, Load x, double s, double t)
{
    const double heat = x.h * s * s, left = d->energy - d->circuit * t - heat;
    if (!(left > 0.0)) return (Excess){INFINITY, NAN, NAN};
    const double A = d->energy - heat + 2.0 * d->kappa * s * s * s * t, grown = (d->snr * A - x.L) / x.L, y = log1p(grown);
    const double relative = x.L / (d->snr * left), rise = growth_slope(y, grown);
    const double value = fabs(y) < 1e-2 ? y * (0.5 + y * (1.0 / 24.0 - y * y / 2880.0)) + log(relative) : log(grown / y * relative);
    const double A_q = -3.0 * d->heat1 * s * s, left_q = d->circuit * d->work1 / s - d->heat1 * s * s, L_q = d->rate1 / x.L;
    return (Excess){
        value,
        rise * 6.0 * d->kappa * s * s * t / A + (d->circuit * x.w / (s * s) + 2.0 * x.h * s) / left,
        rise * (A_q / A - L_q) - (left_q / left - L_q),
    };
}

/* The clock in [low, fast] that balances power: Newton steps from s in a bracket whose ends are looked at when a step wants to go
 * there. `end` is -1 or 1 where the balance lies beyond the lower or the upper end. */
static double balanced(const Clocked *d, Load x, double s, double low, double *time, Excess *at, int *end)
{
    double high = d->fast;
    int below = 0, above = 0;  /* whether the ends of the bracket are known to be on their sides of the root */
    *end = 0;
    if (!(s > low && s < high)) s = sqrt(low * high);
    for (int n = 0; n < BALANCE_STEPS; n++) {
        *at = excess_at(d, x, s, 1.0 - x.w / s);
        const int is_low = s == low && !below, is_high = s == high && !above;
        if ((is_high && at->value <= 0.0) || (is_low && at->value >= 0.0)) {
            *end = is_high ? 1 : -1;
            *time = 1.0 - x.w / s;
            return s;
        }
        if (at->value < 0.0) low = s, below = 1;
        else high = s, above = 1;
        const double step = s - at->value / at->along_s, edge = 0.01 * (high - low);
        if (fabs(step - s) <= BALANCED * s) break;
        if (step > low && step < high) s = step;
        else if (step != step && !below) s = low;  /* not even the energy for the upload is left */
        else if (step >= high && !above) s = high;
        else if (step <= low && !below) s = low;
        else if (step > low - edge && step < high + edge) s = most(least(step, high - edge), low + edge);
        else s = 0.5 * (low + high);
    }
    double t = 1.0 - x.w / s;
    /* A short upload has lost its digits in the difference: a step in t itself finds them again. */
    for (int n = 0; n < 2 && t < 0.5; n++) {
        *at = excess_at(d, x, s, t);
        const double better = t - at->value * x.w / (at->along_s * s * s);
        if (!(better > 0.0 && better < 0.5)) break;
        t = better;
        s = most(least(x.w / (1.0 - t), d->fast), d->slow);
    }
    *time = t;
    return s;
}

/* The positive root of cube r^3 + square r^2 = constant, cube > 0 and constant >= 0: Newton from above. */
static double cubic_root(double cube, double square, double constant)
{
    const double third = cbrt(constant / cube);
    double r = square < 0.0 ? third - square / cube : least(third, sqrt(constant / square));
    for (int n = 0; n < CUBIC_STEPS; n++) {
        const double slope = (3.0 * cube * r + 2.0 * square) * r, step = ((cube * r + square) * r * r - constant) / slope;
        if (!(slope > 0.0)) break;
        r -= step;
        if (fabs(step) <= 1e-16 * r) break;
    }
    return r;
}

/* The least bandwidth that keeps q, and how; `clock` is a first guess of it, or 0. */
static Point least_bandwidth(const Clocked *d, double q, double clock)
{
    const Load x = {d->rate0 + d->rate1 * q, d->work0 + d->work1 * q, d->heat0 + d->heat1 * q};
    const double slow = d->slow, fast = d->fast, circuit = d->circuit, energy = d->energy, snr = d->snr;
    const double L = x.L, w = x.w, h = x.h, S = d->rate1, c = d->work1, j = d->heat1;
    const Point none = {INFINITY, INFINITY, NAN, NAN, NAN, NAN, ON_PEAK};
    if (d->late) return none;
    if (!(L > 0.0)) {  /* nothing to send: the clock is as slow as the window allows */
        const double s = most(slow, w);
        return s <= fast && h * s * s <= energy ? (Point){0.0, 0.0, NAN, 0.0, 0.0, s, ON_PEAK} : none;
    }
    const double t_fast = 1.0 - w / fast, t_slow = 1.0 - w / slow;
    if (!(t_fast > 0.0) || !(snr > 0.0)) return none;

    double s = fast, t = t_fast, e, s_q = 0.0, t_q = -c / fast, e_q, y_early = NAN, y_q = NAN;
    int regime = ON_PEAK, slack = 0;
    if (!(energy - circuit * t_fast - h * fast * fast >= t_fast)) {
        /* Where peak power and energy meet: with the slowest clock, or at the positive root r = 1 - t of a cubic. */
        double start = slow, t_kink = (energy - h * slow * slow) / (1.0 + circuit), r = 0.0;
        slack = t_kink <= t_slow;
        regime = ON_CLOCK;
        if (slack) {
            /* Early finish: energy is all that limits, and the clock is at its lower end. */
            const double A = energy - h * slow * slow, grown = (snr * A - L) / L;
            y_early = log(snr * A / L);
            e = L * grown / (snr * y_early);
            t = e * psi_at(y_early) / circuit;
            if (t <= t_kink) {
                regime = AT_KINK;
                t = e = t_kink;
                s = slow;
                t_q = e_q = -j * s * s / (1.0 + circuit);
            } else if (t < t_slow) {
                regime = FINISHED_EARLY;
                s = slow;
                y_q = -j * s * s / A - S / L;
                /* e = L growth / snr, and so of its logarithm */
                e_q = e * (S / L + growth_slope(y_early, grown) * y_q);
                const double psi = psi_at(y_early), fallen = -expm1(-y_early);
                t_q = e_q * psi / circuit + e / circuit * y_q * (1.0 / fallen - y_early * (1.0 - fallen) / (fallen * fallen));
            }
        } else {
            const double square = energy - 1.0 - circuit, constant = h * w * w;
            r = most(least(cubic_root(1.0 + circuit, square, constant), 1.0), w / fast);
            start = most(least(w / r, fast), slow);
            t_kink = 1.0 - r;
            /* A short upload has lost its digits in the difference: Newton steps in t find them again. */
            for (int n = 0; n < 2 && t_kink < 0.5; n++) {
                const double at_root = w / (1.0 - t_kink), spare = energy - (1.0 + circuit) * t_kink - h * at_root * at_root;
                const double better = t_kink + spare / (1.0 + circuit + 2.0 * h * at_root * at_root / (1.0 - t_kink));
                if (!(better > 0.0 && better < 0.5)) break;
                t_kink = better;
            }
        }
        if (regime == ON_CLOCK) {
            Excess at;
            int end;
            s = balanced(d, x, clock, start, &t, &at, &end);
            t_q = -c / s;
            if (end > 0 && (slack || s > start || at.value < 0.0)) regime = ON_ENERGY;
            else if (end && slack) regime = ON_CLOCK_MIN;
            else if (end) {
                regime = AT_KINK;
                const double square = energy - 1.0 - circuit, steep = (3.0 * (1.0 + circuit) * r + 2.0 * square) * r;
                const double r_q = (j * w * w + 2.0 * h * w * c) / steep;
                s = start;
                t = t_kink;
                t_q = -r_q;
                s_q = c / r - w * r_q / (r * r);
            } else {
                s_q = -at.along_q / at.along_s;
                t_q += w * s_q / (s * s);
            }
        }
    }
    if (regime == ON_PEAK || regime == AT_KINK) e = t, e_q = t_q;
    else if (regime != FINISHED_EARLY) {
        e = energy - circuit * t - h * s * s;
        e_q = -circuit * t_q - j * s * s - 2.0 * h * s * s_q;
    }
    if (!(t > 0.0) || !(e > 0.0) || !(snr * e > L)) return none;
    const double y = regime == FINISHED_EARLY ? y_early : efficiency_for(L / (snr * e)), b = L / (t * y);
    if (!(b < INFINITY)) return none;

    /* B' = [S + per_j omega C_q + tau c/s] / (t phi(y)), with the prices of energy and time per device, as in `_slope` of Python;
     * beside every part how it changes with q. */
    const double fallen = -expm1(-y), f = phi_at(y, fallen), per_j = snr * (1.0 - fallen);
    if (regime != FINISHED_EARLY) y_q = -(S / L - e_q / e) / growth_slope(y, fallen / (1.0 - fallen));
    const double b_q = b * (S / L - t_q / t - y_q / y), f_q = fallen * y_q, per_j_q = -per_j * y_q;
    const double whole = b * f + per_j, whole_q = b_q * f + b * f_q + per_j_q;
    const int at_slow = regime == FINISHED_EARLY || (regime == AT_KINK && t < 1.0 - w / s * (1.0 + 1e-15));
    const double turn = at_slow ? 0.0 : 2.0 * d->kappa * s * s * s, turn_q = at_slow ? 0.0 : 6.0 * d->kappa * s * s * s_q;
    double joule = per_j, joule_q = per_j_q;
    if (regime == ON_PEAK) joule = joule_q = 0.0;
    else if (regime == AT_KINK) {
        const double each = 1.0 + circuit + turn;
        joule = whole / each;
        joule_q = (whole_q - joule * turn_q) / each;
    }
    const int free_time = regime == FINISHED_EARLY || regime == AT_KINK || regime == ON_CLOCK;
    const double tau = free_time ? joule * turn : b * f + (per_j - joule) - joule * circuit;
    const double tau_q = free_time ? joule_q * turn + joule * turn_q : whole_q - joule_q * (1.0 + circuit);
    const double parts = S + joule * j * s * s + tau * c / s;
    const double parts_q = joule_q * j * s * s + 2.0 * joule * j * s * s_q + tau_q * c / s - tau * c * s_q / (s * s);
    return (Point){b, parts / (t * f), parts_q / parts - t_q / t - f_q / f, t, least(e / t, 1.0), s, regime};
}

#endif
