/* A block of devices in reduced form: the compiled twin of _reduced.py. On a branch of the power limit, p = F0 + F1 s (the
 * peak branch has F0 = 1, F1 = 0), and with k = y / (e^y - 1) the ratios
 *
 *     f = gamma F0 / rate1,   c = gamma F1 / rate1,   d = gamma (A F0 - F1) / rate1 >= 0,
 *     o = rate0 / rate1,      r = 1 - A o = payload / (payload + A overhead)
 *
 * are all that response.h needs. */
#ifndef KKTALLOC_BLOCK_H
#define KKTALLOC_BLOCK_H

#include "problem.h"

enum { UNSET = -1, FLOOR, ENERGY, KINK, PEAK, SATURATED };  /* Regime of _regime.py */

/* What the lanes pay: price of bandwidth, and by how much its logarithm has moved since the last sweep; the relative steps
 * that may wait for the next. */
typedef struct {
    Lanes price, per_price, moved, tolerance;
} Prices;

/* A block of devices; booleans are 0.0 or 1.0 so that every lane is a double. */
typedef struct {
    int width;  /* lanes in use, in whole vectors */
    Lanes bandwidth, deadline, per_noise, nats_second, per_nats_second;  /* of the lane's problem */
    Prices paid;
    Lanes field[DEVICE_FIELDS];
    Lanes worth, compute, rate1, overhead, payload, gamma;  /* weight / rate1; o and r are `overhead` and `payload` */
    Lanes power0, power1, f, c, d, d_peak;  /* of the energy branch; `f` and `d_peak` of the peak branch */
    Lanes s_min, s_max, s_kink, kinked, energy_first, hopeless, pinned;
    Lanes y, second, corner;  /* state: efficiency, on the second branch, `FLOOR`, `KINK`, `SATURATED` or UNSET */
    Lanes code, known, moves;  /* where the last sweep left off: regime, efficiency, its derivative in ln price */
    Lanes low, high, across, flag, crossed, fresh;  /* scratch of the searches */
    /* At y: ln(m / price), or m / price - 1 where only that was asked for, one over its derivative, its second
     * derivative over the first, ..., e^-y / (1 - e^-y), -d ln b / d y; the pending step of y. `across` has the sign
     * that the excess has on the other branch where both meet. */
    Lanes excess, per_slope, curl, s, p, b, decayed, bend, step;
} Block;

#define EFFICIENCY_MAX 690.0

/* Over the lanes in use. */
#define EACH_OF(v, i) for (int i = 0; i < ((v)->width & -VECTOR); i++)

/* The problems that the lanes belong to. */
LANE_LOOP void enter_cells(Block *v, const Problem *problem, const Strip *at)
{
    const Strip cells = {at->row, 0, 0, at->across ? at->count : 1, 1};
    Lanes noise;
    v->width = whole_vectors(at->count);
    load(v->bandwidth, &problem->cell[BANDWIDTH_HZ], &cells);
    load(v->deadline, &problem->cell[DEADLINE_S], &cells);
    load(noise, &problem->cell[NOISE_PSD_W_PER_HZ], &cells);
    EACH_OF(v, i) {
        const int from = at->across ? i : 0;
        const double bandwidth = v->bandwidth[from];
        v->per_noise[i] = 1.0 / (noise[from] * bandwidth);
        v->nats_second[i] = LN2 / bandwidth;
        v->per_nats_second[i] = bandwidth / LN2;
        v->bandwidth[i] = bandwidth;
        v->deadline[i] = v->deadline[from];
    }
}

/* The reduced form: `_reduced.reduce`. */
LANE_LOOP void reduce(Block *v, const Problem *problem, const Strip *at)
{
    for (int i = 0; i < DEVICE_FIELDS; i++) load(v->field[i], &problem->device[i], at);
    EACH_OF(v, i) {
        const double compute_s = v->field[PRUNED_COMPUTE_S][i], peak = v->field[TX_POWER_MAX_W][i];
        const double q_min = 1.0 - v->field[PRUNING_RATIO_MAX][i], gain = v->field[CHANNEL_GAIN][i];
        const double weight = v->field[WEIGHT][i], payload = v->field[PAYLOAD_BITS][i], overhead = v->field[OVERHEAD_BITS][i];
        const double compute_j = v->field[PRUNED_COMPUTE_J][i], eta = v->field[PA_EFFICIENCY][i], deadline = v->deadline[i];
        const double time = deadline - v->field[FIXED_LATENCY_S][i], window = time > 0.0 ? time : deadline;
        /* Who has nothing to send and nothing to compute needs no time. */
        const double idle = q_min + overhead > 0.0 ? 0.0 : 1.0, untimely = time - compute_s * q_min <= 0.0 ? 1.0 : 0.0;
        const double late = idle > 0.0 ? (time < 0.0 ? 1.0 : 0.0) : untimely;
        const double per_window = 1.0 / window, A = compute_s * per_window;
        const double left = v->field[ENERGY_BUDGET_J][i] - v->field[FIXED_ENERGY_J][i], energy = most(left, 0.0);
        const double drained = left - compute_j * q_min < 0.0 ? 1.0 : 0.0;
        const double nats = per_window * v->nats_second[i], bits = payload + A * overhead, rate1 = bits * nats;
        const double per_bits = 1.0 / bits, per_rate1 = per_bits * window * v->per_nats_second[i];

        /* Where energy is no limit, a constant limit beyond the peak stands in for the infinite one. */
        const double finite = energy < INFINITY ? 1.0 : 0.0, limited = peak > 0.0 ? finite : 0.0;
        const double drain = eta * per_window / (peak > 0.0 ? peak : 1.0), heat = drain * compute_j;
        const double F0 = limited > 0.0 ? drain * energy : 2.0, F1 = limited > 0.0 ? A * F0 - heat : 0.0;
        const double mixed = limited > 0.0 ? heat : 2.0 * A;  /* A F0 - F1 */
        /* Without gain, power, energy or time a device can send nothing: it stays at its floor. */
        const double able = energy > 0.0 ? gain * peak : 0.0, received = time > 0.0 ? able : 0.0;
        const double gamma = received * v->per_noise[i];
        /* In seconds: next to nothing may be left of the window, and is all rounding in shares of it. */
        const double spare = window - compute_s * q_min, room = window - compute_s;
        const double s_min = q_min * window / (late > 0.0 ? window : spare);
        const double full = room > 0.0 ? window / room : INFINITY, s_max = gamma > 0.0 ? most(full, s_min) : s_min;
        const double rising = F1 > 0.0 ? 1.0 : 0.0, falling = F1 < 0.0 ? 1.0 : 0.0, below = F0 < 1.0 ? 1.0 : 0.0;
        const double raw_min = F0 + F1 * s_min, s_meet = F1 != 0.0 ? (1.0 - F0) / F1 : -1.0;
        const double beyond = s_meet > s_min ? 1.0 : 0.0, kinked = s_meet < s_max ? beyond : 0.0;
        const double rate_min = (overhead + bits * s_min) * nats;
        const double carried = gamma * most(least(raw_min, 1.0), 0.0);
        /* By the crossing itself: at the floor rounding might decide otherwise. */
        const double sloped = beyond > 0.0 ? rising : falling;
        const double unable = rate_min < carried ? 0.0 : 1.0;  /* theta >= 1: no bandwidth carries the floor */
        const double silent = weight > 0.0 ? 0.0 : 1.0;

        v->worth[i] = weight * per_rate1;
        v->compute[i] = A;
        v->rate1[i] = rate1;
        v->overhead[i] = overhead * per_bits;
        v->payload[i] = payload * per_bits;
        v->gamma[i] = gamma;
        v->power0[i] = F0;
        v->power1[i] = F1;
        v->f[i] = gamma * per_rate1;
        v->c[i] = gamma * F1 * per_rate1;
        v->d[i] = gamma * mixed * per_rate1;
        v->d_peak[i] = gamma * A * per_rate1;
        v->s_min[i] = s_min;
        v->s_max[i] = s_max;
        v->s_kink[i] = kinked > 0.0 ? s_meet : s_max;
        v->kinked[i] = kinked;
        v->energy_first[i] = F1 != 0.0 ? sloped : below;
        v->hopeless[i] = late + drained + (rate_min > 0.0 ? unable : 0.0);
        v->pinned[i] = s_max > s_min ? silent : 1.0;
    }
}

#endif
