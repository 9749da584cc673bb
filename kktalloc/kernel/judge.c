/* The certificate of allocations at given bandwidth prices: arrays in, residuals out. */
#include "judge.h"

#include <stdlib.h>

typedef struct {
    double worst[WORST];
    Total sum[SUMS];
} Verdict;

/* The same of the devices that share a lane. */
typedef struct {
    Lanes worst[WORST];
    LaneTotal sum[SUMS];
} Tally;

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
    Lanes noise, price, per_w;
    v->width = whole_vectors(at->count);
    load(v->bandwidth, &problem->cell[BANDWIDTH_HZ], &cells);
    load(noise, &problem->cell[NOISE_PSD_W_PER_HZ], &cells);
    load(v->deadline, &problem->cell[DEADLINE_S], &cells);
    load(price, &given->price_per_hz, &cells);
    load(per_w, &given->price_per_w, &cells);
    load(v->total_power, &problem->cell[TOTAL_POWER_W], &cells);
    v->capped = 0;
    for (int i = 0; i < v->width; i++) {
        const int from = at->across ? i : 0;
        const double bandwidth = v->bandwidth[from];
        v->bandwidth[i] = bandwidth;
        v->per_bandwidth[i] = 1.0 / bandwidth;
        v->per_noise[i] = 1.0 / noise[from];
        v->deadline[i] = v->deadline[from];
        v->price[i] = most(price[from], 0.0);
        v->total_power[i] = v->total_power[from];
        v->watt_price[i] = most(per_w[from], 0.0);
        v->capped |= v->watt_price[i] > 0.0;
    }
}

static void visit(const Problem *problem, const Judgement *given, Block *v, const Strip *at, const double *here, Tally *t)
{
    const ptrdiff_t K = problem->devices, first = at->row * K + at->device;
    v->width = whole_vectors(at->count);
    v->curve = &problem->curve;
    v->at = at;
    if (v->curve->kind == POWER_LAW) {
        load(v->exponent, &v->curve->exponent, at);
        load(v->factor, &v->curve->scale, at);
    }
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
    const double per_w = value_at(&given->price_per_w, row), mu = most(per_w, 0.0), P = cell_value(problem, TOTAL_POWER_W, row);
    const double lam = most(price, 0.0), paid = lam * B + (mu > 0.0 ? mu * P : 0.0), used = value_of(all->sum[BANDWIDTH]);
    const double radiated = value_of(all->sum[POWER]);
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
        [PRIMAL_TOTAL_POWER] = radiated > P ? no_nan((radiated - P) / most(P, 1e-300)) : no_nan(0.0 * radiated),
        [DUAL] = no_nan(most(most(-price * B, -per_w * least(P, 1e300)), 0.0) + 0.0 * price + 0.0 * per_w),
        [COMPLEMENTARITY] = no_nan((value_of(all->sum[UNUSED]) + most(paid - lam * used - mu * radiated, 0.0) + 0.0 * used) / scale),
        [STATIONARITY] = all->worst[STATIONARY],
        [CONSISTENCY] = consistency,
        [DUALITY_GAP] = (objective - (value_of(all->sum[BOUND]) - paid)) / scale,
        [RESOLUTION] = 8.0 * DBL_EPSILON * (most(1.0, fabs(objective) / scale) + (paid + value_of(all->sum[WORTH]) + fabs(later) * deadline) / scale),
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

/* y with y / (e^y - 1) = load: ln((e^y - 1) / y) = -ln(load) by Newton's method. */
static double efficiency_of(double load)
{
    const double wanted = -log(load);
    if (!(load < 1.0)) return 0.0;
    double y = most(wanted + log1p(wanted), 1e-300);
    for (int n = 0; n < 5 && y > 1e-8 && y < 700.0; n++) {
        const double fallen = -expm1(-y);
        y = most(y - (y + log(fallen / y) - wanted) / (1.0 / fallen - 1.0 / y), 1e-9);
    }
    return least(y, 690.0);
}

INLINE double one_of(const Column *c, ptrdiff_t row, ptrdiff_t k)
{
    return *(const double *)(c->data + row * c->row + k * c->step);
}

static double cost_of_one(const Problem *problem, const Uploads *given, ptrdiff_t row, ptrdiff_t k)
{
    const double rho = one_of(&given->pruning_ratio, row, k), at_hz = one_of(&given->at_hz, row, k);
    const double per_w = one_of(&given->per_w, row, k), per_hz = value_at(&given->per_hz, row);
    double v[DEVICE_FIELDS];
    for (int i = 0; i < DEVICE_FIELDS; i++) v[i] = one_of(&problem->device[i], row, k);
    const double q = 1.0 - rho, bits = v[PAYLOAD_BITS] * q + v[OVERHEAD_BITS];
    const double busy = v[FIXED_LATENCY_S] + v[PRUNED_COMPUTE_S] * q, left = cell_value(problem, DEADLINE_S, row) - busy;
    const double joules = v[ENERGY_BUDGET_J] - v[FIXED_ENERGY_J] - v[PRUNED_COMPUTE_J] * q;
    if (bits > 0.0 ? left <= 0.0 : left < 0.0) return INFINITY;
    if (!(bits > 0.0)) return bits == bits ? 0.0 : NAN;
    const double rate = bits * LN2 / left, gain = v[CHANNEL_GAIN] / cell_value(problem, NOISE_PSD_W_PER_HZ, row);
    const double heard = gain * least(v[TX_POWER_MAX_W], v[PA_EFFICIENCY] * most(joules, 0.0) / left), load = rate / heard;
    if (load >= 1.0) return INFINITY;  /* no bandwidth carries it */
    const double steepest = efficiency_of(load), low = heard / expm1(steepest), high = cell_value(problem, BANDWIDTH_HZ, row);
    const double asked = bits * LN2 / (value_at(&given->by_s, row) - busy) / at_hz, y = least(asked > 0.0 ? asked : 0.0, steepest), fallen = -expm1(-y);
    const double small = y * y * (0.5 - y * (1.0 / 6.0 - y * (1.0 / 24.0 - y * (1.0 / 120.0 - y * (1.0 / 720.0 - y / 5040.0)))));
    const double phi = y < 0.01 ? small : y - fallen, worth = per_w > 0.0 ? per_w / gain * exp(y) : 0.0;
    /* Linear in b from here on: least at an end of [least bandwidth at the most power, cell]. */
    const double slope = per_hz - worth * phi;
    return worth * rate + least(slope * least(low, high), slope * high);
}

void least_cost(const Problem *problem, const Uploads *given, double *cost)
{
    const ptrdiff_t K = problem->devices;
    for (ptrdiff_t row = 0; row < problem->problems; row++)
        for (ptrdiff_t k = 0; k < K; k++) cost[row * K + k] = cost_of_one(problem, given, row, k);
}
