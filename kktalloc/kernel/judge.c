/* The certificate of an allocation at given bandwidth prices, the compiled twin of _certificate.py, _dual.py and
 * _prices.py (equations there) for the linear pruning error without a cap on total power. It knows nothing of the
 * solver: arrays in, residuals out. */
#include "problem.h"

#include <float.h>
#include <stdlib.h>

/* NaN must count as the worst there is. */
INLINE double no_nan(double x) { return x == x ? x : INFINITY; }

/* Regime of _regime.py, or none claimed. */
enum { ANYWHERE = -2, AT_FLOOR = 0, ON_ENERGY, AT_KINK, AT_PEAK, AT_TOP, AT_TOTAL_POWER };

/* What is worst, and what adds up, over the devices. */
enum { RATE, ENERGY, PEAK, PRUNING, NEGATIVE, STATIONARY, CONSISTENT, WORST };
enum { OBJECTIVE, SHARE, BOUND, BANDWIDTH, WORTH, UNUSED, LATER, SUMS };

typedef struct {
    double worst[WORST];
    Total sum[SUMS];
} Verdict;

/* The same of the devices that share a lane. */
typedef struct {
    Lanes worst[WORST];
    LaneTotal sum[SUMS];
} Tally;

typedef struct {
    int width;  /* lanes in use, in whole vectors */
    Lanes bandwidth, per_bandwidth, per_noise, deadline, price;  /* of the lane's problem */
    Lanes field[DEVICE_FIELDS], rho, b, p, regime, claimed[CLAIMS], implied[CLAIMS];
    Lanes power_price, joule_price;  /* of all that limits power, had it one price */
    Lanes window, per_window, rate, snr, log_snr, silent, needed, off_peak, off_budget;
    Lanes worst[WORST], sum[SUMS];
} Block;

/* The distance of a claim from what the allocation implies, relative to it or to more. */
INLINE double distance(double claim, double implied, double more)
{
    const double scale = most(fabs(implied), more), off = fabs(claim - implied) / (scale > 0.0 ? scale : 1.0);
    return claim == implied ? 0.0 : no_nan(off);
}

#define Q_ULP 1e-15     /* of _certificate.py: what rounding leaves open of rho = 1 - q, and of the terms of a slope */
#define ROUNDING 2e-14  /* of _dual.py */

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
        v->sum[OBJECTIVE][i] = alpha * rho;
        v->sum[SHARE][i] = alpha;
        v->sum[BANDWIDTH][i] = b < 0.0 ? 0.0 : b;  /* nobody hands out what another gives back */
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
        const double needed = LN2 * v->price[i] * r1 * floor_room * floor_room / (v->field[WEIGHT][i] * window);
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

/* The best multipliers at a device's SNR and price, and what the allocation leaves to them. */
LANE_LOOP void weigh(Block *v)
{
    for (int i = 0; i < (v->width & -VECTOR); i++) {
        const double B = v->bandwidth[i], lam = v->price[i], window = v->window[i], per_window = v->per_window[i];
        const double payload = v->field[PAYLOAD_BITS][i], extra = v->field[OVERHEAD_BITS][i], eta = v->field[PA_EFFICIENCY][i];
        const double a = v->field[PRUNED_COMPUTE_S][i], peak = v->field[TX_POWER_MAX_W][i], per_a = 1.0 / a;
        const double budget = v->field[ENERGY_BUDGET_J][i], fixed_j = v->field[FIXED_ENERGY_J][i];
        const double compute_j = v->field[PRUNED_COMPUTE_J][i], q_min = 1.0 - v->field[PRUNING_RATIO_MAX][i];
        /* Who has no time can send nothing, as if there were no gain. */
        const double on_time = v->deadline[i] > v->field[FIXED_LATENCY_S][i] ? 1.0 : 0.0;
        const double alpha = v->field[WEIGHT][i], g = on_time > 0.0 ? v->field[CHANNEL_GAIN][i] * v->per_noise[i] : 0.0;
        const double p = v->p[i], q = 1.0 - v->rho[i], rate = v->rate[i];

        /* The convex rows. */
        const double r0 = extra * per_window, r1 = payload + a * r0, left = budget - fixed_j;
        const double most_rate = B * natural_log1p(g * (left > 0.0 ? peak : 0.0) * v->per_bandwidth[i]) * PER_LN2;
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
        const double usable = marginal < INFINITY ? positive : 0.0, nu = usable > 0.0 ? lam / marginal : 0.0;
        const double power_price = usable > 0.0 ? nu * g * per_room * PER_LN2 : 0.0;
        /* The dual is concave in omega with slope P - e0 - e1 u at the best u: the sign at both ends tells whether it is best
         * at one of them or between, where u rests on the kink (e0 + e1 u = P). A tie is the peak's. */
        const double u_none = best_u(nu * r1, alpha, a, per_a, window, u_min, u_cap);
        const double u_all = best_u(nu * r1 - power_price * e1, alpha, a, per_a, window, u_min, u_cap);
        const double some = e0 + e1 * u_none < peak * (1.0 - ROUNDING) ? limited : 0.0;
        const double between = e0 + e1 * u_all > peak ? some : 0.0, per_e1 = 1.0 / e1;
        const double u_kink = (peak - e0) * per_e1, raw = (nu * r1 - slope_at(u_kink, alpha, a, window)) * per_e1;
        const double balance = least(raw > 0.0 ? raw : 0.0, power_price), at_end = some > 0.0 ? power_price : 0.0;
        const double omega = between > 0.0 ? balance : at_end, pi = power_price - omega, spread = nu * r1 - omega * e1;
        /* A balance that was clipped is not on the kink. */
        const double u_more = balance < power_price ? u_kink : u_all, u_between = balance > 0.0 ? u_more : u_none;
        const double u_end = some > 0.0 ? u_all : u_none, u_best = between > 0.0 ? u_between : u_end;
        const double kept = window * u_best / (1.0 + a * u_best), cost = alpha * most(least(1.0 - kept, 1.0), 0.0);
        v->sum[BOUND][i] = cost + spread * u_best + nu * r0 - omega * e0 - pi * peak;

        /* What is priced is used up, and no device gains by moving: the marginal terms agree, for one of the q next to this
         * one, or q is the best at these prices. In u = q / t the fall of the objective is alpha (T - a q)^2 / T; where the
         * computation leaves next to no time that is all rounding, but u is within its cap. (Where it leaves none the rate
         * is beyond its limit, whatever the slopes.) */
        const double u = least(q / (window - a * q), u_cap), per_t = (1.0 + a * u) * per_window;
        const double flattest = slope_at(u_cap, alpha, a, window), before = most(window - a * (q - Q_ULP), 0.0);
        const double behind = most(window - a * (q + Q_ULP), 0.0), weight = alpha * per_window;
        const double steep = most(weight * before * before, flattest), flat = most(weight * behind * behind, flattest);
        const double slack = limited > 0.0 ? e0 + e1 * u - p : 0.0, per_j = omega * eta * per_t;
        const double unused = nu * (rate - r0 - r1 * u) + omega * slack + pi * (peak - p);
        const double spread_ulp = Q_ULP * (nu * r1 + power_price * fabs(e1));
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
        const double content = flat == 0.0 ? 0.0 : 1.0, off_total = regime == AT_TOTAL_POWER ? content : off_budget;
        const double off = regime == AT_FLOOR ? kept_beyond : off_total;
        v->worst[CONSISTENT][i] = regime == ANYWHERE ? 0.0 : no_nan(off);
    }
}

static void judge_block(Block *v)
{
    imply(v);
    if (any(v->silent, v->width)) judge_first_bits(v);
    weigh(v);
}

/* Where one of the two limits of power is next to free, its price is what rounding leaves of the price of both. */
LANE_LOOP void compare(Block *v, int claim)
{
    for (int i = 0; i < (v->width & -VECTOR); i++) {
        const double worst = v->worst[CONSISTENT][i], per_w = v->power_price[i], per_j = v->joule_price[i];
        const double of_energy = claim == ENERGY_PER_J ? per_j : 0.0, more = claim == PEAK_POWER_PER_W ? per_w : of_energy;
        v->worst[CONSISTENT][i] = most(worst, distance(v->claimed[claim][i], v->implied[claim][i], more));
    }
}

LANE_LOOP void tally(Tally *restrict t, const Block *restrict v, const double *restrict here)
{
    for (int i = 0; i < (v->width & -VECTOR); i++) {
        const double one = here[i];
        for (int n = 0; n < WORST; n++) {
            const double worst = t->worst[n][i], found = v->worst[n][i];
            t->worst[n][i] = most(worst, one > 0.0 ? found : 0.0);
        }
        for (int n = 0; n < SUMS; n++) {
            const double found = v->sum[n][i];
            add_lane(&t->sum[n], i, one > 0.0 ? found : 0.0);
        }
    }
}

typedef struct {
    const Problem *problem;
    const Judgement *given;
    ptrdiff_t row;
    Verdict *chunks;
} Hearing;

LANE_LOOP void enter_cells(Block *v, const Problem *problem, const Judgement *given, const Strip *at)
{
    const Strip cells = {at->row, 0, 0, at->across ? at->count : 1, 1};
    Lanes noise, price;
    v->width = whole_vectors(at->count);
    load(v->bandwidth, &problem->cell[BANDWIDTH_HZ], &cells);
    load(noise, &problem->cell[NOISE_PSD_W_PER_HZ], &cells);
    load(v->deadline, &problem->cell[DEADLINE_S], &cells);
    load(price, &given->price_per_hz, &cells);
    for (int i = 0; i < v->width; i++) {
        const int from = at->across ? i : 0;
        const double bandwidth = v->bandwidth[from];
        v->bandwidth[i] = bandwidth;
        v->per_bandwidth[i] = 1.0 / bandwidth;
        v->per_noise[i] = 1.0 / noise[from];
        v->deadline[i] = v->deadline[from];
        v->price[i] = most(price[from], 0.0);
    }
}

static void visit(const Problem *problem, const Judgement *given, Block *v, const Strip *at, const double *here, Tally *t)
{
    const ptrdiff_t K = problem->devices, first = at->row * K + at->device;
    v->width = whole_vectors(at->count);
    for (int i = 0; i < DEVICE_FIELDS; i++) load(v->field[i], &problem->device[i], at);
    load(v->rho, &given->pruning_ratio, at);
    load(v->b, &given->bandwidth_hz, at);
    load(v->p, &given->tx_power_w, at);
    if (given->regime) gather_codes(v->regime, given->regime + first, at, K);
    else EACH(i) v->regime[i] = ANYWHERE;
    judge_block(v);
    for (int i = 0; i < CLAIMS; i++) {
        if (!given->claims[i].data) continue;
        load(v->claimed[i], &given->claims[i], at);
        compare(v, i);
    }
    tally(t, v, here);
    if (given->energy_per_j) scatter(given->energy_per_j + first, v->implied[ENERGY_PER_J], here, at, K);
    if (given->peak_power_per_w) scatter(given->peak_power_per_w + first, v->implied[PEAK_POWER_PER_W], here, at, K);
}

static void judge_chunk(void *shared, ptrdiff_t chunk)
{
    const Hearing *h = shared;
    const ptrdiff_t K = h->problem->devices, from = chunk * CHUNK, to = from + CHUNK < K ? from + CHUNK : K;
    Block block;
    Tally t;
    Lanes here;
    Strip at = {h->row, from, LANES, to - from < LANES ? (int)(to - from) : LANES, 0};
    const int width = whole_vectors(at.count);
    memset(&t, 0, sizeof t);
    enter_cells(&block, h->problem, h->given, &at);
    for (; at.device < to; at.device += LANES) {
        if (to - at.device < LANES) at.count = (int)(to - at.device);
        EACH(i) here[i] = i < at.count ? 1.0 : 0.0;
        visit(h->problem, h->given, &block, &at, here, &t);
    }
    Verdict *sum = &h->chunks[chunk];
    for (int n = 0; n < SUMS; n++) sum->sum[n] = total_of(&t.sum[n], width);
    for (int n = 0; n < WORST; n++) {
        sum->worst[n] = 0.0;
        for (int i = 0; i < width; i++) sum->worst[n] = most(sum->worst[n], t.worst[n][i]);
    }
}

/* What the devices' part comes to, written in the form of Certificate. */
static void pronounce(const Problem *problem, const Judgement *given, const Verdict *all, ptrdiff_t row)
{
    const double B = cell_value(problem, BANDWIDTH_HZ, row), price = value_at(&given->price_per_hz, row);
    const double lam = most(price, 0.0), paid = lam * B, used = value_of(all->sum[BANDWIDTH]);
    const double total = value_of(all->sum[SHARE]), scale = total > 0.0 ? total : 1.0;
    const double objective = value_of(all->sum[OBJECTIVE]), later = value_of(all->sum[LATER]);
    const double deadline = cell_value(problem, DEADLINE_S, row);
    double consistency = all->worst[CONSISTENT];
    if (given->objective.data) consistency = most(consistency, distance(value_at(&given->objective, row), objective, 0.0));
    if (given->deadline_claim.data)
        consistency = most(consistency, distance(value_at(&given->deadline_claim, row), later, 0.0));
    const double verdict[VERDICTS] = {
        [PRIMAL_RATE] = all->worst[RATE],
        [PRIMAL_ENERGY] = all->worst[ENERGY],
        [PRIMAL_PEAK_POWER] = all->worst[PEAK],
        [PRIMAL_BANDWIDTH] = no_nan(most((used - B) / B, all->worst[NEGATIVE] / B) + 0.0 * used),
        [PRIMAL_PRUNING] = all->worst[PRUNING],
        [DUAL] = no_nan(most(-price * B, 0.0) + 0.0 * price),
        [COMPLEMENTARITY] = no_nan((value_of(all->sum[UNUSED]) + most(paid - lam * used, 0.0) + 0.0 * used) / scale),
        [STATIONARITY] = all->worst[STATIONARY],
        [CONSISTENCY] = consistency,
        [DUALITY_GAP] = (objective - (value_of(all->sum[BOUND]) - paid)) / scale,
        [RESOLUTION] = 8.0 * DBL_EPSILON * (1.0 + (paid + value_of(all->sum[WORTH]) + fabs(later) * deadline) / scale),
    };
    for (int i = 0; i < VERDICTS; i++) given->verdict[i * problem->problems + row] = verdict[i];
    if (given->deadline_per_s) given->deadline_per_s[row] = later;
}

static void judge_row(const Problem *problem, const Judgement *given, Verdict *chunks, ptrdiff_t row, Team *team)
{
    const ptrdiff_t count = (problem->devices + CHUNK - 1) / CHUNK;
    Hearing hearing = {problem, given, row, chunks};
    in_parallel(team, judge_chunk, &hearing, count);
    Verdict all;
    memset(&all, 0, sizeof all);
    for (ptrdiff_t i = 0; i < count; i++) {
        for (int n = 0; n < WORST; n++) all.worst[n] = most(all.worst[n], chunks[i].worst[n]);
        for (int n = 0; n < SUMS; n++) add(&all.sum[n], value_of(chunks[i].sum[n]));
    }
    pronounce(problem, given, &all, row);
}

/* Problems side by side in the lanes. */
static void judge_across(const Problem *problem, const Judgement *given, ptrdiff_t row, int count)
{
    Block block;
    Tally t;
    Lanes here;
    Strip at = {row, 0, 0, count, 1};
    memset(&t, 0, sizeof t);
    enter_cells(&block, problem, given, &at);
    EACH(i) here[i] = i < count ? 1.0 : 0.0;
    for (; at.device < problem->devices; at.device++) visit(problem, given, &block, &at, here, &t);
    for (int i = 0; i < count; i++) {
        Verdict all;
        for (int n = 0; n < WORST; n++) all.worst[n] = t.worst[n][i];
        for (int n = 0; n < SUMS; n++) all.sum[n] = (Total){t.sum[n].sum[i], t.sum[n].carry[i]};
        pronounce(problem, given, &all, row + i);
    }
}

typedef struct {
    const Problem *problem;
    const Judgement *given;
    ptrdiff_t rows;  /* of one group */
} Batch;

static void judge_rows(void *shared, ptrdiff_t group)
{
    const Batch *batch = shared;
    const ptrdiff_t from = group * batch->rows, N = batch->problem->problems;
    const ptrdiff_t end = from + batch->rows < N ? from + batch->rows : N;
    Verdict chunk;
    if (packed(batch->problem)) {
        for (ptrdiff_t row = from; row < end; row += LANES)
            judge_across(batch->problem, batch->given, row, end - row < LANES ? (int)(end - row) : LANES);
    } else {
        for (ptrdiff_t row = from; row < end; row++) judge_row(batch->problem, batch->given, &chunk, row, NULL);
    }
}

int dual_judge(const Problem *problem, const Judgement *given, int threads)
{
    const ptrdiff_t N = problem->problems, K = problem->devices, chunks = (K + CHUNK - 1) / CHUNK;
    Batch batch = {problem, given, (1 + CHUNK / (LANES * (K + 1))) * LANES};
    const ptrdiff_t groups = (N + batch.rows - 1) / batch.rows;
    Verdict *verdicts = malloc((size_t)chunks * sizeof *verdicts + 1);
    if (!verdicts) return 0;
    Team *team = start_team(threads, chunks > 1 ? chunks : groups);
    if (chunks <= 1) in_parallel(team, judge_rows, &batch, groups);
    else for (ptrdiff_t row = 0; row < N; row++) judge_row(problem, given, verdicts, row, team);
    end_team(team);
    free(verdicts);
    return 1;
}
