/* What given keep ratios take: the floors themselves, and the least level, bandwidth, deadline or energy at which they can be
 * met. Scalar twin of `feasibility.py`, `minmax.py` and `least.py`; the curve of the pruning error plays no part. */
#include "device.h"
#include "root.h"

#include <stdlib.h>

#define FILLED 1e-13
#define WITHIN 1e-12  /* floors that exceed a budget by no more than this count as served */
#define LEVEL 1e-15   /* a level is searched until its bandwidth is right to this */
#define LOOSE 1e-10   /* a gap of a level above this is worth a search for better prices */
#define SPAN 80.0     /* how far the logarithm of a ratio of prices is searched */
#define PRICE_SPAN 1500.0

/* The devices of one problem, at a deadline and a bandwidth that may be others than the cell's. */
typedef struct {
    const Problem *problem;
    ptrdiff_t row, count;
    Device *device;
    double *y_star, *y_limit;  /* where the last searches for an efficiency have ended: at a price of power, at a level */
    double deadline, bandwidth;
    double *weight;     /* of a level: K alpha */
    double *joules;     /* at peak power over the whole upload */
    double log_ratio, ratio;  /* of the prices, power's over bandwidth's; -infinite and 0 where power is free */
    long asked;         /* how often all devices were asked what they take */
} Floors;

static void reduce_all(Floors *f)
{
    for (ptrdiff_t k = 0; k < f->count; k++)
        f->device[k] = reduced(f->problem, f->row, k, f->deadline, f->bandwidth,
                               device_value(f->problem, PRUNING_RATIO_MAX, f->row, k));
}

/* The efficiency at which power is worth what it costs beside bandwidth. */
static double star(Floors *f, ptrdiff_t k, double log_z)
{
    const double y = efficiency_at_power_price(log_z, f->y_star[k]);
    if (y > 0.0 && y < INFINITY) f->y_star[k] = y;
    return y;
}

static double all_floors(const Floors *f)
{
    Total sum = {0.0, 0.0};
    for (ptrdiff_t k = 0; k < f->count; k++) {
        const double b = floor_bandwidth(&f->device[k]);
        if (!(b < INFINITY)) return INFINITY;
        add(&sum, b);
    }
    return value_of(sum);
}

/* Bandwidth and power of a device at its floor where power costs `log_ratio`: it sends at y* if that saves power. */
static double at_floor(Floors *f, ptrdiff_t k, double *power)
{
    const Device *d = &f->device[k];
    const double rate = rate_at(d, d->s_min), limit = limit_at(d, d->s_min);
    *power = 0.0;
    if (!(rate > 0.0)) return 0.0;
    const double y_limit = efficiency_for(rate / (d->snr * limit));
    const double y_free = star(f, k, log(d->snr / d->power_share) - f->log_ratio), y = least(y_limit, y_free);
    *power = least(power_at(d, rate, y), limit);
    return rate / y;
}

static double excess_of_sparing(void *context, double less)
{
    Floors *f = context;
    Total sum = {0.0, 0.0};
    double power;
    f->asked++;
    f->log_ratio = -less;
    for (ptrdiff_t k = 0; k < f->count; k++) add(&sum, at_floor(f, k, &power));
    return log(value_of(sum));
}

/* The least power, in caps, that serves the floors within the bandwidth, which holds them. */
static double floor_power(Floors *f)
{
    f->log_ratio = -find_root(excess_of_sparing, f, 0.0, -200.0, 200.0, FILLED, 1e-14).at;
    Total sum = {0.0, 0.0};
    for (ptrdiff_t k = 0; k < f->count; k++) {
        double power;
        at_floor(f, k, &power);
        add(&sum, f->device[k].power_share * power);
    }
    return value_of(sum);
}

static int is_capped(const Floors *f) { return cell_value(f->problem, TOTAL_POWER_W, f->row) < INFINITY; }

/* The logarithm of the floors' share of the budget that they exceed the most; half of what counts as served is left to the end of
 * the search. */
static double excess_of_floors(Floors *f)
{
    const double cells = log(all_floors(f)) - 0.5 * WITHIN;
    if (!is_capped(f) || cells > FILLED) return cells;
    return most(cells, log(floor_power(f)) - 0.5 * WITHIN);
}

/* What a device lacks to meet its floor, by itself; and what all lack together. The limit on its own bandwidth is not asked here. */
enum { NOTHING, TIME, ENERGY, POWER, OWN_BANDWIDTH, BANDWIDTH, TOTAL_POWER };

static int lacking(const Device *d, double b)
{
    if (d->late) return TIME;
    if (b < INFINITY) return NOTHING;
    const double rate = rate_at(d, d->s_min);
    return d->drained || (limit_at(d, d->s_min) < 1.0 && rate < d->snr) ? ENERGY : POWER;
}

static void lack_together(const Floors *f, const double *floor, double *lacks, int what)
{
    for (ptrdiff_t k = 0; k < f->count; k++)
        if (lacks[k] == NOTHING && floor[k] > 0.0) lacks[k] = what;
}

/* FLOORS: per device the least bandwidth and what it lacks; the sum of those, the least power for them all and the ratio of prices
 * there. The bandwidth and the power that serve the floors are those of the least power where that has a cap. */
static void write_floors(Floors *f, double **of_device, double *needed, double *watts, double *ratio)
{
    double *floor = of_device[0], *lacks = of_device[1], *b = of_device[2], *p = of_device[3];
    Total sum = {0.0, 0.0};
    int alone = 0;
    for (ptrdiff_t k = 0; k < f->count; k++) {
        const Device *d = &f->device[k];
        floor[k] = b[k] = floor_bandwidth(d);
        p[k] = b[k] > 0.0 ? limit_at(d, d->s_min) : 0.0;
        lacks[k] = lacking(d, b[k]);
        if (b[k] < INFINITY) add(&sum, b[k]);
        else alone = 1;
    }
    *needed = alone ? INFINITY : value_of(sum);
    *watts = *ratio = 0.0;
    if (!alone && *needed > 1.0 + WITHIN) lack_together(f, floor, lacks, BANDWIDTH);
    if (!is_capped(f) || !(*needed <= 1.0 + WITHIN)) return;
    *watts = floor_power(f);
    *ratio = exp(f->log_ratio);
    if (*watts > 1.0 + WITHIN) lack_together(f, floor, lacks, TOTAL_POWER);
    for (ptrdiff_t k = 0; k < f->count; k++) b[k] = at_floor(f, k, &p[k]);
}

typedef struct {
    Floors *floors;
    double cell, cells;
} Width;

static double excess_of_cells(void *context, double log_more)
{
    const Width *w = context;
    w->floors->bandwidth = w->cell * (w->cells * exp(log_more));
    reduce_all(w->floors);
    return excess_of_floors(w->floors);
}

/* CELLS: the least bandwidth, in cells; infinite where none will do. */
static double least_cells(Floors *f)
{
    Width width = {f, f->bandwidth, all_floors(f)};
    if (!(width.cells < INFINITY) || !(width.cells > 0.0)) return width.cells;
    /* Bandwidth that just carries the floors at full power may take more power than there is; and where a floor hangs on the last
     * bits of the data, its share of another bandwidth is not quite what that of the cell was. */
    if (excess_of_cells(&width, 0.0) <= FILLED) return width.cells;
    const Root root = find_root(excess_of_cells, &width, 0.5, 0.0, SPAN, FILLED, 1e-14);
    return root.found ? width.cells * exp(root.at) : INFINITY;
}

typedef struct {
    Floors *floors;
    double earliest, unit;
} Wait;

static double excess_of_wait(void *context, double log_wait)
{
    const Wait *w = context;
    Floors *f = w->floors;
    f->deadline = w->earliest + w->unit * exp(log_wait);
    f->asked++;
    reduce_all(f);
    return excess_of_floors(f);
}

/* DEADLINE: the least at which the floors can be met, in seconds; infinite where none is. */
static double least_deadline(Floors *f)
{
    const Problem *p = f->problem;
    double earliest = 0.0;
    for (ptrdiff_t k = 0; k < f->count; k++) {
        const double kept = 1.0 - device_value(p, PRUNING_RATIO_MAX, f->row, k);
        earliest = most(earliest, device_value(p, FIXED_LATENCY_S, f->row, k) + device_value(p, PRUNED_COMPUTE_S, f->row, k) * kept);
    }
    Wait wait = {f, earliest, cell_value(p, DEADLINE_S, f->row)};
    /* The logarithm of the time after the longest computation, in deadlines, from below rounding to beyond any use. */
    const double own = wait.unit - earliest, start = own > 0.0 ? log(own / wait.unit) : log(0.1);
    const Root root = find_root(excess_of_wait, &wait, start, -80.0, 300.0, FILLED, 1e-14);
    /* Who sends nothing needs no time beyond the computation. */
    return root.found ? earliest + (root.at <= -80.0 ? 0.0 : wait.unit * exp(root.at)) : INFINITY;
}

/* What a device must keep at a level, as the q that 1 - rho rounds to. */
static double asked(const Floors *f, ptrdiff_t k, double level)
{
    const double own = 1.0 - device_value(f->problem, PRUNING_RATIO_MAX, f->row, k), q = 1.0 - level / f->weight[k];
    return q > own ? q : own;  /* NaN for a device of no weight at level 0 */
}

/* A device's floor moved to a keep ratio. */
static Device floored(const Device *d, double q)
{
    Device at = *d;
    const double room = 1.0 - d->compute * q;
    at.q_min = q;
    at.late = d->late || !(room > 0.0);
    at.s_min = q / (room > 0.0 ? room : 1.0);
    return at;
}

/* What a level takes at the ratio of prices: bandwidth, power, the least b + cost p that will do, and by how much that falls with
 * the level. */
typedef struct {
    double b, p, use, carried;
} AtLevel;

static AtLevel at_level(Floors *f, ptrdiff_t k, double level)
{
    const double q = asked(f, k, level), own = 1.0 - device_value(f->problem, PRUNING_RATIO_MAX, f->row, k);
    const Device d = floored(&f->device[k], q);
    const double s = d.s_min, rate = rate_at(&d, s), limit = limit_at(&d, s), theta = rate / (d.snr * limit);
    const double cost = f->ratio * d.power_share, ds_dq = (1.0 + d.compute * s) * (1.0 + d.compute * s);
    if (d.late || d.drained || (rate > 0.0 && !(theta < 1.0))) return (AtLevel){INFINITY, limit, INFINITY, 0.0};
    const double y_limit = rate > 0.0 ? f->y_limit[k] = efficiency_near(theta, f->y_limit[k]) : MOST_EFFICIENCY;
    const double y_free = cost > 0.0 ? star(f, k, log(d.snr / cost)) : INFINITY, y = least(y_limit, y_free);
    const double grown = expm1(y), fallen = grown / (1.0 + grown), phi = phi_at(y, fallen);
    AtLevel at = {0.0, 0.0, 0.0, 0.0};
    if (rate > 0.0) {
        at.b = y_free < y_limit ? rate / y : d.snr * limit / grown;
        at.p = y_free < y_limit ? least(rate * grown / (d.snr * y), limit) : limit;
    }
    at.use = at.b + cost * at.p;
    const double F1 = limit < 1.0 ? d.power1 : 0.0, spread = d.rate1 - d.snr * F1 * (1.0 - fallen);
    const double fall = y_free < y_limit ? d.rate1 / phi : spread / phi + cost * F1;
    if (q > own && phi > 0.0) at.carried = fall * ds_dq / f->weight[k];
    return at;
}

/* What all devices take at a level: the logarithm of the budget's share, how fast that falls with the level, and the power. */
typedef struct {
    double excess, fall, power;
} Taken;

static Taken take(Floors *f, double level)
{
    Total use = {0.0, 0.0}, power = {0.0, 0.0};
    double carried = 0.0;
    f->asked++;
    for (ptrdiff_t k = 0; k < f->count; k++) {
        const AtLevel one = at_level(f, k, level);
        if (!(one.use < INFINITY)) return (Taken){INFINITY, 0.0, INFINITY};
        add(&use, one.use);
        add(&power, f->device[k].power_share * one.p);
        carried += one.carried;
    }
    const double all = value_of(use);
    return (Taken){log(all / (1.0 + f->ratio)), carried / all, value_of(power)};
}

/* The least level that the budget allows, from `start` on, and what it takes: Newton's method on the logarithm of what it takes, in a
 * bracket. After a small step the next go beyond the root, further each time, so that the bracket closes from both sides. */
static double level_at(Floors *f, double start, double closed, double width, Taken *of_it)
{
    double highest = 0.0, low = -INFINITY, before = INFINITY, beyond = 0.0;
    for (ptrdiff_t k = 0; k < f->count; k++) highest = most(highest, f->weight[k] * (1.0 - f->device[k].q_min));
    double level = most(least(start, highest), 0.0), high = INFINITY, best = highest;
    for (int n = 0; n < ROOT_ITERATIONS; n++) {
        const Taken taken = take(f, level);
        const double excess = taken.excess, size = fabs(excess), point = most(width * most(1.0, level), nextafter(level, INFINITY) - level);
        if (excess != excess) break;
        if (excess > closed) low = level;
        else best = high = level;
        if (excess <= closed || !(high < INFINITY)) *of_it = taken;
        if (size <= closed || high - low <= point || low >= highest || high <= 0.0) break;
        const double step = excess / taken.fall, bottom = most(low, 0.0), top = least(high, highest);
        const int small = fabs(step) <= 1e-7 * level, slow = size > 0.5 * before;
        double next = level + step + (small ? copysign(beyond * point, step) : 0.0);
        if (small) beyond = most(4.0 * beyond, 1.0);
        if (!(low > -INFINITY) && next <= 0.0) next = 0.0;       /* the ends themselves have not been asked yet */
        else if (!(high < INFINITY) && next >= highest && excess < INFINITY) next = highest;
        else if (!(next > bottom && next < top) || (slow && !small)) next = 0.5 * (bottom + top);
        before = size;
        level = next;
    }
    return best;
}

/* The last level found, its ratio of prices, and by how much it rises with the logarithm of that. */
typedef struct {
    Floors *floors;
    double level, log_ratio, rise;
} Budgets;

static double excess_of_power(void *context, double log_ratio)
{
    Budgets *x = context;
    Floors *f = x->floors;
    Taken taken = {NAN, NAN, NAN};
    f->log_ratio = log_ratio;
    f->ratio = exp(log_ratio);
    x->level = level_at(f, x->level + x->rise * (log_ratio - x->log_ratio), FILLED, FILLED, &taken);
    x->log_ratio = log_ratio;
    /* Devices take the least: of the two ways to pay only the power and the budget itself grow with the ratio. */
    const double rise = (taken.power - 1.0) * f->ratio / (1.0 + f->ratio) / taken.fall;
    x->rise = fabs(rise) < INFINITY ? rise : 0.0;
    return log(taken.power);
}

/* Whether devices that prune no more than `rho` can be served, and the least power for it in caps. */
static int served(const Floors *f, Floors *at, const double *rho, double *watts)
{
    for (ptrdiff_t k = 0; k < f->count; k++) at->device[k] = floored(&f->device[k], 1.0 - rho[k]);
    *watts = 0.0;
    if (!(all_floors(at) <= 1.0 + WITHIN)) return 0;
    if (is_capped(f)) *watts = floor_power(at);
    return *watts <= 1.0 + WITHIN;
}

/* LEVEL: rho, theta, bandwidth and power of each device; the level, the fall of it per cell of bandwidth, and the ratio of prices. 0 where not even
 * the floors fit, or the search has failed. */
static int least_level(Floors *f, Device *spare, double **of_device, double *level, double *price, double *ratio)
{
    double *rho = of_device[0], *theta = of_device[1], *b = of_device[2], *p = of_device[3], watts;
    Floors at = *f;
    at.device = spare;
    for (ptrdiff_t k = 0; k < f->count; k++) {
        f->weight[k] = f->device[k].weight * (double)f->count;
        rho[k] = 1.0 - f->device[k].q_min;
    }
    if (!served(f, &at, rho, &watts)) return 0;
    f->log_ratio = -INFINITY;
    f->ratio = 0.0;
    Taken taken;
    *level = level_at(f, 0.5, LEVEL, 0.0, &taken);
    for (ptrdiff_t k = 0; k < f->count; k++) rho[k] = 1.0 - asked(f, k, *level);
    served(f, &at, rho, &watts);
    if (watts > 1.0 + 0.1 * WITHIN) {
        Budgets budgets = {f, *level, 0.0, 0.0};
        f->log_ratio = find_root(excess_of_power, &budgets, 0.0, -SPAN, SPAN, FILLED, 1e-14).at;
        f->ratio = exp(f->log_ratio);
        *level = level_at(f, budgets.level, LEVEL, 0.0, &taken);
    }
    /* The search ends next to the level, and 1 - rho rounds: these are the last bits that its floors may need. */
    int fits = 0;
    for (int bits = -52; bits < -16 && !fits; bits++) {
        for (ptrdiff_t k = 0; k < f->count; k++) rho[k] = 1.0 - asked(f, k, *level);
        fits = served(f, &at, rho, &watts);
        if (!fits) *level *= 1.0 + ldexp(1.0, bits);
    }
    *ratio = f->ratio;
    Total carried = {0.0, 0.0}, use = {0.0, 0.0};
    int stuck = 0;
    for (ptrdiff_t k = 0; k < f->count; k++) {
        const AtLevel one = at_level(f, k, *level);
        const Device *d = &f->device[k];
        theta[k] = *level > 0.0 ? one.carried : 0.0;
        b[k] = one.b * f->bandwidth;
        p[k] = one.p * device_value(f->problem, TX_POWER_MAX_W, f->row, k);
        add(&carried, theta[k]);
        add(&use, one.use);
        const double keeps = d->s_max < INFINITY ? d->s_max / (1.0 + d->compute * d->s_max) : 1.0;
        stuck |= f->weight[k] * (1.0 - keeps) >= *level * (1.0 - 1e-12);
    }
    /* A device that can keep no more, whatever the bandwidth, may hold the level up: then it carries all of it. */
    const int idle = *level > 0.0 && stuck && value_of(use) < (1.0 + *ratio) * (1.0 - 1e-9);
    double total = value_of(carried);
    if (idle) {
        total = 0.0;
        for (ptrdiff_t k = 0; k < f->count; k++) {
            const Device *d = &f->device[k];
            const double keeps = d->s_max < INFINITY ? d->s_max / (1.0 + d->compute * d->s_max) : 1.0;
            theta[k] = f->weight[k] * (1.0 - keeps) >= *level * (1.0 - 1e-12) ? 1.0 : 0.0;
            total += theta[k];
        }
    }
    for (ptrdiff_t k = 0; k < f->count; k++) theta[k] = total > 0.0 ? theta[k] / total : 0.0;
    *price = idle || !(total > 0.0) ? 0.0 : 1.0 / total;
    return fits;
}

static Column in_rows(const double *data, ptrdiff_t columns)
{
    return (Column){(const char *)data, columns * (ptrdiff_t)sizeof(double), sizeof(double)};
}

/* What no level can be below: the judge's bound on the sum with weights theta w, at the prices that came with the levels. 0 when
 * memory ran out. */
static int bound_levels(const Problem *problem, double *of_problem, const double *of_device)
{
    const ptrdiff_t N = problem->problems, K = problem->devices;
    const double *level = of_problem, *price = of_problem + N, *ratio = of_problem + 2 * N, *theta = of_device + N * K;
    double *bound = of_problem + 3 * N, *carries = malloc((size_t)(N * K + (2 + VERDICTS) * N) * sizeof *carries + 1);
    if (!carries) return 0;
    double *per_hz = carries + N * K, *per_w = per_hz + N, *verdict = per_w + N;
    for (ptrdiff_t row = 0; row < N; row++) {
        const double cap = cell_value(problem, TOTAL_POWER_W, row);
        per_hz[row] = price[row] / cell_value(problem, BANDWIDTH_HZ, row);
        per_w[row] = cap > 0.0 && cap < INFINITY ? price[row] * ratio[row] / cap : 0.0;
        for (ptrdiff_t k = 0; k < K; k++)
            carries[row * K + k] = theta[row * K + k] * device_value(problem, WEIGHT, row, k) * (double)K;
    }
    Problem weighted = *problem;
    weighted.device[WEIGHT] = in_rows(carries, K);
    const Judgement given = {
        .pruning_ratio = in_rows(of_device, K), .bandwidth_hz = in_rows(of_device + 2 * N * K, K),
        .tx_power_w = in_rows(of_device + 3 * N * K, K), .price_per_hz = in_rows(per_hz, 1), .price_per_w = in_rows(per_w, 1),
        .verdict = verdict,
    };
    const int enough = dual_judge(&weighted, &given, 1);
    for (ptrdiff_t row = 0; row < N; row++) {
        Total reached = {0.0, 0.0};
        double total = 0.0;
        const double gap = verdict[DUALITY_GAP * N + row];
        for (ptrdiff_t k = 0; k < K; k++) {
            add(&reached, carries[row * K + k] * of_device[row * K + k]);
            total += carries[row * K + k];
        }
        /* Where everybody keeps everything no device carries the level, and it cannot be below 0. */
        const double proven = gap <= LOOSE && total > 0.0 ? value_of(reached) - gap * total : NAN;
        bound[row] = level[row] > 0.0 ? proven : level[row];
    }
    free(carries);
    return enough;
}

/* The cheapest way to send the floors, at a price of total power of exp(log_power) per cap. */
typedef struct {
    Floors *floors;
    double *unit, *y_floor;  /* J per nat at the wideband limit; the efficiency at the floor's own power limit */
    double log_price, log_power;
} Energy;

/* The efficiency of a device at a price of bandwidth: e^y phi(y) = price / unit, and at most its floor's. */
static double thrifty(const Energy *e, ptrdiff_t k)
{
    return least(star(e->floors, k, e->log_price - log(e->unit[k])), e->y_floor[k]);
}

static double excess_of_energy(void *context, double log_price)
{
    Energy *e = context;
    Floors *f = e->floors;
    Total sum = {0.0, 0.0};
    e->log_price = log_price;
    f->asked++;
    for (ptrdiff_t k = 0; k < f->count; k++) {
        const double rate = rate_at(&f->device[k], f->device[k].s_min);
        if (rate > 0.0) add(&sum, rate / thrifty(e, k));
    }
    return log(value_of(sum));
}

/* Bandwidths, powers, the price of the cell (J) and a bound from below on the energy of all uploads (J). */
static void cheapest(Energy *e, double *b, double *p, double *price, double *bound)
{
    Floors *f = e->floors;
    double dearest = 0.0;
    for (ptrdiff_t k = 0; k < f->count; k++) {
        const Device *d = &f->device[k];
        const double rate = rate_at(d, d->s_min), y = e->y_floor[k];
        if (!(rate > 0.0)) continue;
        e->unit[k] = (f->joules[k] + exp(e->log_power) * d->power_share) / d->snr;
        dearest = most(dearest, e->unit[k] * exp(y) * phi_at(y, -expm1(-y)));
    }
    const double high = dearest > 0.0 ? log(dearest) : 0.0;
    if (dearest > 0.0) e->log_price = find_root(excess_of_energy, e, high, high - PRICE_SPAN, high, FILLED, 1e-14).at;
    *price = dearest > 0.0 ? exp(e->log_price) : 0.0;
    Total sum = {0.0, 0.0};
    for (ptrdiff_t k = 0; k < f->count; k++) {
        const Device *d = &f->device[k];
        const double rate = rate_at(d, d->s_min);
        b[k] = p[k] = 0.0;
        if (!(rate > 0.0)) continue;
        const double y = thrifty(e, k), unit = e->unit[k];
        b[k] = rate / y;
        p[k] = least(b[k] * expm1(y) / d->snr, 1.0);
        /* The energy is a perspective, so its tangent at y supports it: b (e^(r/b) - 1) >= r e^y - b e^y phi(y). What is left is linear
         * in b, least at one end of [floor, cell], whatever price and y are. */
        const double slope = *price - unit * exp(y) * phi_at(y, -expm1(-y));
        add(&sum, unit * rate * exp(y) + least(slope * rate / e->y_floor[k], slope));
    }
    *bound = value_of(sum) - *price;
}

typedef struct {
    Energy *energy;
    double *b, *p, price, bound;
} Budget;

static double excess_of_watts(void *context, double log_power)
{
    Budget *x = context;
    const Floors *f = x->energy->floors;
    Total sum = {0.0, 0.0};
    x->energy->log_power = log_power;
    cheapest(x->energy, x->b, x->p, &x->price, &x->bound);
    for (ptrdiff_t k = 0; k < f->count; k++) add(&sum, f->device[k].power_share * x->p[k]);
    return log(value_of(sum));
}

/* ENERGY: b and p of each device; prices of cell and cap, and the bound on the energy of all uploads. */
static void least_energy(Floors *f, double *unit, double *y_floor, double **of_device, double *price, double *cap_price,
                         double *bound)
{
    const Problem *p = f->problem;
    Energy e = {f, unit, y_floor, 0.0, -INFINITY};
    Budget x = {&e, of_device[0], of_device[1], 0.0, 0.0};
    for (ptrdiff_t k = 0; k < f->count; k++) {
        const Device *d = &f->device[k];
        const double upload = f->deadline - device_value(p, FIXED_LATENCY_S, f->row, k)
            - device_value(p, PRUNED_COMPUTE_S, f->row, k) * d->q_min;
        f->joules[k] = device_value(p, TX_POWER_MAX_W, f->row, k) * upload / device_value(p, PA_EFFICIENCY, f->row, k);
        y_floor[k] = limit_efficiency(d, d->s_min);
    }
    *cap_price = 0.0;
    const double over = excess_of_watts(&x, -INFINITY);
    if (over > log(1.0 + FILLED)) {
        /* From the price at which the power is worth as much as the energy. */
        double spent = 0.0;
        for (ptrdiff_t k = 0; k < f->count; k++) spent += f->joules[k] * x.p[k];
        const double start = log(spent) - over;
        const Root root = find_root(excess_of_watts, &x, start, start - SPAN, start + SPAN, FILLED, 1e-14);
        excess_of_watts(&x, root.at);
        *cap_price = exp(root.at);
    }
    *price = x.price;
    *bound = x.bound - *cap_price;
}

typedef struct {
    double size, weight;
    ptrdiff_t device;
} Candidate;

static int in_order(const Candidate *a, const Candidate *b) { return a->device < b->device ? -1 : 1; }

/* The smaller floor first, of equal ones the heavier. */
static int by_size(const void *one, const void *other)
{
    const Candidate *a = one, *b = other;
    if (a->size != b->size) return a->size < b->size ? -1 : 1;
    if (a->weight != b->weight) return a->weight > b->weight ? -1 : 1;
    return in_order(a, b);
}

/* The most weight per bandwidth first. */
static int by_density(const void *one, const void *other)
{
    const Candidate *a = one, *b = other;
    const double x = a->size > 0.0 ? a->weight / a->size : INFINITY, y = b->size > 0.0 ? b->weight / b->size : INFINITY;
    if (x != y) return x > y ? -1 : 1;
    return in_order(a, b);
}

/* SELECT: least bandwidth, what is lacking, and whether the device is among the most that fit together; the weight of those, and
 * what no selection's weight exceeds: what would fit if devices could be split. */
static int select_most(Floors *f, double **of_device, double *held, double *bound)
{
    double *floor = of_device[0], *lacks = of_device[1], *kept = of_device[2];
    const ptrdiff_t K = f->count;
    Candidate *list = malloc((size_t)K * sizeof *list + 1);
    if (!list) return 0;
    for (ptrdiff_t k = 0; k < K; k++) {
        floor[k] = floor_bandwidth(&f->device[k]);
        lacks[k] = lacking(&f->device[k], floor[k]);
        kept[k] = 0.0;
        list[k] = (Candidate){floor[k], f->device[k].weight, k};
    }
    *held = *bound = 0.0;
    double filled = 0.0;
    qsort(list, (size_t)K, sizeof *list, by_size);
    for (ptrdiff_t i = 0; i < K && (filled += list[i].size) <= 1.0 + 0.5 * WITHIN; i++) {
        kept[list[i].device] = 1.0;
        *held += list[i].weight;
    }
    filled = 0.0;
    qsort(list, (size_t)K, sizeof *list, by_density);
    for (ptrdiff_t i = 0; i < K; i++) {
        if (!(list[i].size <= 1.0)) continue;
        const double part = list[i].size > 0.0 ? (1.0 - filled) / list[i].size : 1.0;
        *bound += list[i].weight * most(least(part, 1.0), 0.0);
        filled += list[i].size;
    }
    free(list);
    return 1;
}

int kkt_least(const Problem *problem, enum Question question, double *of_problem, double *of_device)
{
    const ptrdiff_t N = problem->problems, K = problem->devices;
    enum { COLUMNS = 6 };
    Device *device = malloc((size_t)K * (2 * sizeof *device + COLUMNS * sizeof(double)) + 1);
    if (!device) return 0;
    double *columns = (double *)(device + 2 * K);
    for (ptrdiff_t row = 0; row < N; row++) {
        Floors f = {.problem = problem, .row = row, .count = K, .device = device, .y_star = columns, .asked = 1};
        f.weight = columns + K;
        f.joules = columns + 2 * K;
        f.y_limit = columns + 5 * K;
        f.deadline = cell_value(problem, DEADLINE_S, row);
        f.bandwidth = cell_value(problem, BANDWIDTH_HZ, row);
        memset(f.y_star, 0, (size_t)K * sizeof(double));
        memset(f.y_limit, 0, (size_t)K * sizeof(double));
        double *each[OF_DEVICE], *one[OF_PROBLEM];
        for (int i = 0; i < OF_DEVICE; i++) each[i] = of_device + (i * N + row) * K;
        for (int i = 0; i < OF_PROBLEM; i++) one[i] = of_problem + i * N + row;
        reduce_all(&f);
        if (question == OF_SELECTION) {
            if (!select_most(&f, each, one[0], one[1])) {
                free(device);
                return 0;
            }
        } else if (question == OF_FLOORS) write_floors(&f, each, one[0], one[1], one[2]);
        else if (question == OF_CELLS) *one[0] = least_cells(&f);
        else if (question == OF_DEADLINE) *one[0] = least_deadline(&f);
        else if (question == OF_ENERGY) least_energy(&f, columns + 3 * K, columns + 4 * K, each, one[0], one[1], one[2]);
        else if (!least_level(&f, device + K, each, one[0], one[1], one[2])) {
            *one[0] = *one[1] = *one[2] = NAN;
            for (ptrdiff_t i = 0; i < OF_DEVICE * K; i++) each[i / K][i % K] = NAN;
        }
        *one[OF_PROBLEM - 1] = (double)f.asked;
    }
    free(device);
    return question != OF_LEVEL || bound_levels(problem, of_problem, of_device);
}
