/* Problems whose cap on total power binds: the scalar twin of `clearing.py`. Two prices are searched for. At a fixed ratio of
 * them bandwidth clears as it does without a cap; the total power at these clearing prices falls as the ratio rises. */
#include "answer.h"
#include "root.h"

#include <stdlib.h>

#define FILLED 1e-13          /* a budget filled to this share is filled */
#define FILLED_EXACTLY 4e-15  /* the same of the bandwidth at a fixed ratio of prices */
#define WITHIN 1e-12          /* floors that exceed a budget by no more than this count as served */
#define CHEAPEST -800.0       /* the logarithm of a price that is next to 0 */

enum { PRICE_STEPS = 200 };

/* What all devices answer, with the totals of bandwidth and power and the logarithms of price and ratio. */
typedef struct {
    Answer *of;
    double bandwidth, power, log_price, log_ratio;
} Answers;

typedef struct {
    const Problem *problem;
    ptrdiff_t row, count;
    Asked *device;
    double *start;         /* efficiencies from which the next search sets out */
    double log_price;      /* the same of the price of bandwidth */
    Answers now, more, less;  /* at this price; at prices below and above the clearing one, where more and less is asked for */
    Answers heavy, light;  /* at clearing prices: too much power, and not too much */
    int nothing_scarce, lost;  /* everybody has enough within both budgets; a search ended without an answer */
} Market;

static void swap(Answers *a, Answers *b)
{
    const Answers kept = *a;
    *a = *b;
    *b = kept;
}

/* Everybody's answer at a price of bandwidth, in `now`; the flow of bandwidth with the price is returned. */
static double ask_all(Market *m, double log_price)
{
    Total bandwidth = {0.0, 0.0}, power = {0.0, 0.0};
    double flow = 0.0;
    for (ptrdiff_t k = 0; k < m->count; k++) {
        const Asked *a = &m->device[k];
        Answer *given = &m->now.of[k];
        *given = answer_to(a, m->problem->curve.kind, log_price, m->start[k]);
        if (given->regime == ON_ENERGY || given->regime == ON_PEAK) m->start[k] = given->y;
        add(&bandwidth, given->b);
        add(&power, a->own.power_share * given->p);
        flow += given->flow;
    }
    m->now.bandwidth = value_of(bandwidth);
    m->now.power = value_of(power);
    m->now.log_price = log_price;
    return flow;
}

/* How much of the answer over the budget a mixture with the one under it holds that just fills it; either may be missing (NaN).
 * Where the devices' answer jumps, those on both sides are equally good at the price, and so is what lies between. */
static double share_of(double over, double under)
{
    if (!(over == over) || fabs(under - 1.0) <= FILLED) return 0.0;
    if (!(under == under) || fabs(over - 1.0) <= FILLED) return 1.0;
    return most(least((1.0 - under) / (over - under), 1.0), 0.0);
}

/* Into `out` that share of one answer and the rest of the other. */
static void mix(Market *m, double share, const Answers *one, const Answers *other, Answers *out)
{
    const double rest = 1.0 - share;
    Total power = {0.0, 0.0};
    for (ptrdiff_t k = 0; k < m->count; k++) {
        const Answer *a = &one->of[k], *b = &other->of[k];
        Answer *c = &out->of[k];
        const int same = a->s == b->s && a->b == b->b && a->p == b->p;
        const Answer whole = share >= 0.5 ? *a : *b;
        *c = whole;
        if (!same && share > 0.0 && share < 1.0) {
            c->y = a->y == b->y ? a->y : share * a->y + rest * b->y;
            c->s = a->s == b->s ? a->s : share * a->s + rest * b->s;
            c->p = a->p == b->p ? a->p : share * a->p + rest * b->p;
            c->b = a->b == b->b ? a->b : share * a->b + rest * b->b;
            if (a->s != b->s) {
                c->regime = a->regime == b->regime ? a->regime : BELOW_LIMIT;
                c->held = -1;
            }
        }
        add(&power, m->device[k].own.power_share * c->p);
    }
    out->power = value_of(power);
    out->bandwidth = share * one->bandwidth + rest * other->bandwidth;
}

/* The price of bandwidth that fills it at a ratio of prices; the answers to it are left in `now`. Newton's method on the logarithm
 * of the total in a bracket, halved where a step did not halve the error. Infinite where even the floors, which save power, ask
 * for too much; -infinite where everybody has enough. */
static double clear_bandwidth(Market *m, double log_ratio)
{
    const int kind = m->problem->curve.kind;
    const double ratio = exp(log_ratio);
    double high = CHEAPEST, low = -INFINITY, before = INFINITY, over = NAN, under = NAN;
    Total floors = {0.0, 0.0}, enough = {0.0, 0.0};
    for (ptrdiff_t k = 0; k < m->count; k++) {
        Asked *a = &m->device[k];
        price_power(a, ratio, kind);
        high = most(high, a->log_m_floor);
        add(&floors, stay(a, a->own.s_min, a->y_floor, AT_FLOOR, -1).b);
        add(&enough, a->own.s_max < INFINITY ? stay(a, a->own.s_max, a->y_full, SATURATED, -1).b : INFINITY);
    }
    m->now.log_ratio = m->more.log_ratio = m->less.log_ratio = log_ratio;
    if (value_of(floors) > 1.0 + WITHIN) return INFINITY;
    if (value_of(enough) <= 1.0) {
        ask_all(m, -INFINITY);
        return -INFINITY;
    }
    double price = fabs(m->log_price) < INFINITY ? least(m->log_price, high) : high - 1.0;
    for (int n = 0; n < PRICE_STEPS; n++) {
        const double flow = ask_all(m, price), total = m->now.bandwidth, error = log(total), slope = flow / total;
        if (!(total > 0.0) && !(total <= 0.0)) {
            m->lost = 1;
            return NAN;
        }
        if (fabs(total - 1.0) <= FILLED_EXACTLY) return m->log_price = price;
        const int much = total > 1.0;
        if (much) {
            low = price;
            over = total;
            swap(&m->now, &m->more);
        } else {
            high = price;
            under = total;
            swap(&m->now, &m->less);
        }
        if (high <= nextafter(low, INFINITY) && under == under) break;
        if (high <= CHEAPEST) break;
        const double newton = price + most(least(error / slope, 50.0), -50.0);
        const double moved = much ? most(newton, nextafter(price, INFINITY)) : least(newton, nextafter(price, -INFINITY));
        const double middle = low > -INFINITY ? 0.5 * (low + high) : price - ldexp(1.0, n < 60 ? n : 60);
        const int good = slope > 0.0 && moved > low && moved < high && !(fabs(error) > 0.5 * before);
        before = fabs(error);
        /* The upper end leaves everybody at the floor: it is a candidate too as long as it has not been tried. */
        price = most(good ? moved : high <= nextafter(low, INFINITY) ? high : middle, CHEAPEST);
    }
    const double share = share_of(over, under);
    mix(m, share, &m->more, &m->less, &m->now);
    m->log_price = m->now.log_price = share >= 0.5 ? low : high;
    return m->log_price;
}

/* ln of the power at the price that clears the bandwidth; 0 where nothing is scarce, for the search to end. */
static double excess_power(void *context, double log_ratio)
{
    Market *m = context;
    const double log_price = clear_bandwidth(m, log_ratio);
    if (m->lost) return NAN;
    if (log_price == INFINITY) return -INFINITY;
    const double power = m->now.power;
    if (power > 1.0) {
        swap(&m->now, &m->heavy);
        return log(power);
    }
    swap(&m->now, &m->light);
    if (log_price == -INFINITY) {
        m->nothing_scarce = 1;
        return 0.0;
    }
    return log(power);
}

/* The logarithm of the ratio at which devices with equal shares of both budgets would trade one for the other, on average. */
static double guess_ratio(const Market *m)
{
    double sum = 0.0, some = 0.0;
    for (ptrdiff_t k = 0; k < m->count; k++) {
        const Device *d = &m->device[k].own;
        if (!(d->power_share > 0.0)) continue;
        const double y = log1p(d->snr * least((double)m->count, 1.0 / d->power_share));
        sum += log(d->snr / d->power_share) - y - log(phi_at(y, -expm1(-y)));
        some += 1.0;
    }
    return sum / some;
}

/* s as the bandwidth and a power below its limit carry it: a mixture of answers leaves some of both unused. */
static void carry(const Market *m, Answers *answers)
{
    for (ptrdiff_t k = 0; k < m->count; k++) {
        const Device *d = &m->device[k].own;
        Answer *a = &answers->of[k];
        if (a->regime != BELOW_LIMIT || a->held >= 0 || !(a->b > 0.0)) continue;
        const double s = (a->b * log1p(d->snr * a->p / a->b) - d->rate0) / d->rate1;
        if (s == s) a->s = most(least(s, d->s_max), d->s_min);
    }
}

static double error_at_ratio(const Asked *a, int kind, double rho)
{
    if (kind == LINEAR) return rho;
    if (kind == TABLE) return error_on(&a->table, piece_at(&a->table, rho, 0), rho);
    return exp(a->scale) / (a->power + 1.0) * pow(rho, a->power + 1.0);
}

/* The allocation in SI units. */
static void hand_over(const Market *m, const Answers *answers, const Allocation *out)
{
    const Problem *p = m->problem;
    const ptrdiff_t row = m->row, K = m->count;
    const double cell = cell_value(p, BANDWIDTH_HZ, row);
    Total objective = {0.0, 0.0};
    for (ptrdiff_t k = 0; k < K; k++) {
        const ptrdiff_t i = row * K + k;
        const Device *d = &m->device[k].own;
        const Answer *a = &answers->of[k];
        const double q = a->s / (1.0 + d->compute * a->s), rho_max = device_value(p, PRUNING_RATIO_MAX, row, k);
        double rho = 1.0 - q;
        if (1.0 - rho > q) rho = nextafter(rho, 2.0);  /* no more than bandwidth and power were made for */
        rho = a->regime == AT_FLOOR ? rho_max : a->regime == SATURATED ? 0.0 : most(least(rho, rho_max), 0.0);
        const double keep = 1.0 - rho, b = a->b * cell, watts = a->p * device_value(p, TX_POWER_MAX_W, row, k);
        const double bits = device_value(p, PAYLOAD_BITS, row, k) * keep + device_value(p, OVERHEAD_BITS, row, k);
        const double snr = device_value(p, CHANNEL_GAIN, row, k) * watts / (cell_value(p, NOISE_PSD_W_PER_HZ, row) * b);
        const double rate = b > 0.0 ? b * log1p(snr) / LN2 : 0.0, upload = bits > 0.0 ? bits / rate : 0.0;
        const double sent_j = upload > 0.0 ? watts * upload / device_value(p, PA_EFFICIENCY, row, k) : 0.0;
        out->pruning_ratio[i] = rho;
        out->bandwidth_hz[i] = b;
        out->tx_power_w[i] = watts;
        out->upload_s[i] = upload;
        out->latency_s[i] = device_value(p, FIXED_LATENCY_S, row, k) + device_value(p, PRUNED_COMPUTE_S, row, k) * keep + upload;
        out->energy_j[i] = device_value(p, FIXED_ENERGY_J, row, k) + device_value(p, PRUNED_COMPUTE_J, row, k) * keep + sent_j;
        out->regime[i] = (signed char)a->regime;
        add(&objective, d->weight * error_at_ratio(&m->device[k], p->curve.kind, rho));
    }
    out->objective[row] = value_of(objective);
    const double cap = cell_value(p, TOTAL_POWER_W, row);
    out->price_per_hz[row] = m->nothing_scarce ? 0.0 : exp(answers->log_price) / cell;
    out->price_per_w[row] = m->nothing_scarce ? 0.0 : exp(answers->log_price + answers->log_ratio) / cap;
}

/* Both prices of one problem, from the price of bandwidth that was right without a cap. */
static int solve_capped_row(const Problem *problem, const Allocation *out, ptrdiff_t row)
{
    const ptrdiff_t K = problem->devices;
    enum { SIDES = 5 };
    Asked *device = calloc((size_t)K, sizeof *device + SIDES * sizeof(Answer) + sizeof(double));
    if (!device) return UNRESOLVED;
    Answer *answers = (Answer *)(device + K);
    Market m = {.problem = problem, .row = row, .count = K, .device = device, .start = (double *)(answers + SIDES * K)};
    Answers *side[SIDES] = {&m.now, &m.more, &m.less, &m.heavy, &m.light};
    for (int i = 0; i < SIDES; i++) side[i]->of = answers + i * K;
    for (ptrdiff_t k = 0; k < K; k++) {
        device[k] = asked_of(problem, row, k);
        m.start[k] = 0.0;
    }
    m.heavy.power = m.light.power = NAN;
    m.log_price = log(out->price_per_hz[row] * cell_value(problem, BANDWIDTH_HZ, row));
    const Root root = find_root(excess_power, &m, guess_ratio(&m), -600.0, 600.0, FILLED, 1e-14);
    out->prices_tried[row] += root.evaluations;
    int state = UNRESOLVED;
    /* The least power that the floors take within the bandwidth is beyond the cap. */
    if (root.found && !m.lost && !(m.light.power == m.light.power) && m.heavy.power > 1.0 + WITHIN) state = INFEASIBLE;
    else if (root.found && !m.lost) {
        if (m.nothing_scarce) swap(&m.now, &m.light);
        else {
            const double share = share_of(m.heavy.power, m.light.power);
            mix(&m, share, &m.heavy, &m.light, &m.now);
            const Answers *nearer = share >= 0.5 ? &m.heavy : &m.light;
            m.now.log_price = nearer->log_price;
            m.now.log_ratio = nearer->log_ratio;
        }
        carry(&m, &m.now);
        hand_over(&m, &m.now, out);
        state = SOLVED;
    }
    free(device);
    return state;
}

typedef struct {
    const Problem *problem;
    const Allocation *out;
} Capped;

static void solve_if_capped(void *shared, ptrdiff_t row)
{
    const Capped *c = shared;
    const ptrdiff_t K = c->problem->devices;
    const double cap = cell_value(c->problem, TOTAL_POWER_W, row);
    c->out->price_per_w[row] = 0.0;
    if (c->out->state[row] != SOLVED || !(cap < INFINITY)) return;
    Total power = {0.0, 0.0};
    for (ptrdiff_t k = 0; k < K; k++) add(&power, c->out->tx_power_w[row * K + k]);
    if (value_of(power) > cap * (1.0 + FILLED)) c->out->state[row] = (signed char)solve_capped_row(c->problem, c->out, row);
}

void within_cap(const Problem *problem, const Allocation *out, int threads)
{
    const Column *cap = &problem->cell[TOTAL_POWER_W];
    if (cap->row == 0 && !(*(const double *)cap->data < INFINITY)) {
        memset(out->price_per_w, 0, (size_t)problem->problems * sizeof(double));
        return;
    }
    Capped shared = {problem, out};
    Team *team = start_team(threads, problem->problems);
    in_parallel(team, solve_if_capped, &shared, problem->problems);
    end_team(team);
}
