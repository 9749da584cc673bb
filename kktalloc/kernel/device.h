/* One device in plain numbers: the scalar twin of `form.py`, `reduced.py`, `link.py` and `efficiency.py`, whose names it
 * keeps. Bandwidth is counted in cells, power in peaks, rates in nat/s per Hz of the cell. The searches with more than one
 * price, and those for the least of a budget, ask devices one by one; only plain `solve` asks them in lanes. */
#ifndef KKTALLOC_DEVICE_H
#define KKTALLOC_DEVICE_H

#include "curve.h"

#define MOST_EFFICIENCY 690.0 /* beyond this 1 / SNR underflows */

typedef struct {
    double weight, compute, rate0, rate1;
    double power0, power1;  /* the energy limit of power, power0 + power1 s; power0 is infinite without a budget */
    double snr, s_min, s_max, q_min;
    double power_share;  /* its peak over the cap on total power; 0 without a cap */
    int late, drained;
} Device;

INLINE double device_value(const Problem *p, int field, ptrdiff_t row, ptrdiff_t k)
{
    const Column *c = &p->device[field];
    return *(const double *)(c->data + row * c->row + k * c->step);
}

/* `reduce`, at a deadline and a bandwidth that may be others than the cell's. `rho_max` bounds the pruning ratio. */
static inline Device reduced(const Problem *p, ptrdiff_t row, ptrdiff_t k, double deadline, double bandwidth, double rho_max)
{
    const double compute_s = device_value(p, PRUNED_COMPUTE_S, row, k), peak = device_value(p, TX_POWER_MAX_W, row, k);
    const double payload = device_value(p, PAYLOAD_BITS, row, k), overhead = device_value(p, OVERHEAD_BITS, row, k);
    const double compute_j = device_value(p, PRUNED_COMPUTE_J, row, k), eta = device_value(p, PA_EFFICIENCY, row, k);
    const double gain = device_value(p, CHANNEL_GAIN, row, k), cap = cell_value(p, TOTAL_POWER_W, row);
    const double time = deadline - device_value(p, FIXED_LATENCY_S, row, k), window = time > 0.0 ? time : deadline;
    const double left = device_value(p, ENERGY_BUDGET_J, row, k) - device_value(p, FIXED_ENERGY_J, row, k);
    const double q_min = 1.0 - rho_max, energy = left > 0.0 ? left : 0.0, nats = LN2 / (window * bandwidth);
    Device d;
    d.weight = device_value(p, WEIGHT, row, k);
    /* Who has nothing to send and nothing to compute needs no time. */
    d.late = q_min > 0.0 || overhead > 0.0 ? time - compute_s * q_min <= 0.0 : time < 0.0;
    d.drained = left - compute_j * q_min < 0.0;
    d.compute = compute_s / window;
    d.rate0 = overhead * nats;
    d.rate1 = (payload + d.compute * overhead) * nats;
    const int limited = energy < INFINITY && peak > 0.0;
    const double drain = eta / (window * (peak > 0.0 ? peak : 1.0));
    d.power0 = limited ? drain * energy : INFINITY;
    d.power1 = limited ? drain * (d.compute * energy - compute_j) : 0.0;
    /* Without gain, power, energy or time a device can send nothing: it stays at its floor. */
    const int mute = gain * peak == 0.0 || energy == 0.0 || cap == 0.0 || !(time > 0.0);
    d.snr = mute ? 0.0 : gain * peak / (cell_value(p, NOISE_PSD_W_PER_HZ, row) * bandwidth);
    d.q_min = q_min;
    d.s_min = q_min / (d.late ? 1.0 : 1.0 - d.compute * q_min);
    const double room = 1.0 - d.compute, full = room > 0.0 ? 1.0 / room : INFINITY;
    d.s_max = mute ? d.s_min : most(full, d.s_min);
    d.power_share = mute ? 0.0 : peak / cap;
    return d;
}

/* The most power at s. */
INLINE double limit_at(const Device *d, double s)
{
    const double p = d->power1 != 0.0 ? d->power0 + d->power1 * s : d->power0;
    return p < 1.0 ? (p > 0.0 ? p : 0.0) : 1.0;
}

INLINE double rate_at(const Device *d, double s) { return d->rate0 + d->rate1 * s; }

/* phi(y) = y - 1 + e^-y, without its cancellation near 0; `fallen` is 1 - e^-y. */
INLINE double phi_at(double y, double fallen)
{
    if (y >= 0.1) return y - fallen;
    double p = 1.0 / 1814400.0;
    p = p * y - 1.0 / 181440.0;
    p = p * y + 1.0 / 20160.0;
    p = p * y - 1.0 / 2520.0;
    p = p * y + 1.0 / 360.0;
    p = p * y - 1.0 / 60.0;
    p = p * y + 1.0 / 12.0;
    p = p * y - 1.0 / 3.0;
    return (p * y + 1.0) * 0.5 * y * y;
}

/* The y with y / (e^y - 1) = theta, at which a power just carries a rate; 0 where theta >= 1, and at most the largest. `guess` > 0
 * if one is known. */
static inline double efficiency_near(double theta, double guess)
{
    if (!(theta < 1.0)) return 0.0;
    if (!(theta > 0.0)) return MOST_EFFICIENCY;
    const double target = -log(theta);
    double y = guess > 1e-8 && guess < MOST_EFFICIENCY && target > 1e-8 ? guess : target + log1p(target);  /* exact to rounding below 1e-8 */
    if (y > 1e-8 && y < MOST_EFFICIENCY) {
        for (int n = 0; n < 20; n++) {
            const double fallen = -expm1(-y), step = (y + log(fallen / y) - target) / (1.0 / fallen - 1.0 / y);
            y = most(y - step, 1e-9);
            if (fabs(step) < 1e-8 * y) break;  /* what is left is the square of that */
        }
    }
    return least(y, MOST_EFFICIENCY);
}

static inline double efficiency_for(double theta) { return efficiency_near(theta, 0.0); }

/* The y with e^y phi(y) = z, at which bandwidth and power are traded off, from ln z; `guess` > 0 if one is known. */
static inline double efficiency_at_power_price(double log_z, double guess)
{
    if (log_z == INFINITY) return INFINITY;
    if (log_z == -INFINITY) return 0.0;
    double y = guess > 0.0 && guess < INFINITY ? guess
        : log_z < 0.0 ? sqrt(2.0 * exp(log_z)) : log_z > 1.0 ? log_z - 0.8 * log(log_z) + 0.3 : 1.3;
    for (int n = 0; n < 60; n++) {
        const double f = phi_at(y, -expm1(-y));
        const double step = (log_z - y - log(f)) * f / (y * y);  /* d ln(e^y phi) / d ln y = y^2 / phi */
        y *= exp(most(least(step, 2.0), -2.0));
        if (fabs(step) < 1e-8) break;
    }
    return y;
}

/* The efficiency at which the most power just carries the rate of s. */
INLINE double limit_efficiency(const Device *d, double s)
{
    const double rate = rate_at(d, s);
    return rate > 0.0 ? efficiency_for(rate / (d->snr * limit_at(d, s))) : MOST_EFFICIENCY;
}

/* Bandwidth that puts a power at efficiency y, and the power that sends a rate at it. */
INLINE double bandwidth_at(const Device *d, double power, double y) { return y > 0.0 ? d->snr * power / expm1(y) : INFINITY; }

INLINE double power_at(const Device *d, double rate, double y) { return rate > 0.0 ? rate * expm1(y) / (d->snr * y) : 0.0; }

/* Least bandwidth at the floor; infinite where none will do. */
static inline double floor_bandwidth(const Device *d)
{
    if (d->late || d->drained) return INFINITY;
    const double rate = rate_at(d, d->s_min), power = limit_at(d, d->s_min), theta = rate / (d->snr * power);
    if (!(rate > 0.0)) return 0.0;
    return theta < 1.0 ? bandwidth_at(d, power, efficiency_for(theta)) : INFINITY;
}

#endif
