/* One price of bandwidth for devices with a clock and electronics: the compiled twin of `_engine/clock_engine.py`. Devices are
 * asked one by one; a Newton step for what one keeps at a price, and one for the price, from the bend of the least bandwidth. */
#include "clocked.h"
#include "error.h"
#include "root.h"

#include <stdlib.h>

enum { PRICE_STEPS = 200, KEEP_STEPS = 200, HALVINGS = 6 };
#define FREE (-800.0)  /* the logarithm of a price that is 0 */
#define DEAREST 800.0
#define WITHIN 1e-12   /* floors that exceed a budget by no more than this count as served */
#define FILLED 1e-13
#define LAST 1e-7      /* of a log price or a log bandwidth: what a last step leaves is the square of that */
#define SETTLED 1e-11
#define ULPS 4e-16     /* of a keep ratio that a pruning ratio tells */
#define ROUNDED 1e-13  /* of the logarithm of a slope */
#define BLURRED 1e-11  /* the same at most, where a pruning ratio tells less */
#define NARROW 1e-17   /* a pruning ratio cannot tell keep ratios so close */
#define ROUGH 1e-3     /* of the same logarithm, far from the price that is looked for */
#define OVERHEAD 1e3   /* where overhead is so much of the payload, what is sent hardly depends on what is kept */

/* A device of the problem that is solved, with what it keeps at the price last asked for. */
typedef struct {
    Clocked own;
    Point at;
    double rho, q, less, more;  /* what it keeps lies between: known of prices too dear and too cheap */
    double above;          /* a keep ratio next to one at which its slope jumps across the price, else 0 */
    double pull;           /* by how much more bandwidth it asks as the log price falls, 0 where it does not move */
    double seen;           /* the keep ratio that `at` and the next two are of */
    double level, steep;   /* ln(B'/(alpha e')): less the log price, where it would start to move; and its slope along q */
    double low, high;      /* between them is what it keeps at the price last asked for; q where that is known to rounding */
} Phone;

typedef struct {
    const ClockProblem *problem;
    ptrdiff_t row, count;
    Phone *phone;
    double log_price, rough;  /* and how far from it, in the same logarithm, a device may be that moves */
    long asked;
    Team *team;
    Total *total;  /* of chunks: bandwidth, and pull */
} Cell;

/* The least bandwidth that keeps q, and what bandwidth is worth there; nothing is found twice. */
static void look(const Cell *cell, ptrdiff_t k, double q)
{
    Phone *f = &cell->phone[k];
    double bend;
    if (f->seen == q) return;
    const double worth = f->own.weight * error_slope(&cell->problem->problem.curve, cell->row, k, 1.0 - q, &bend);
    f->at = least_bandwidth(&f->own, q, f->at.clock);
    f->level = log(f->at.slope) - log(worth);
    f->steep = f->at.bend + bend;
    f->seen = q;
}

/* The keep ratio `less` below q along the tangent in the logarithm of what is sent: there a level is nearly straight where little
 * is kept. */
static double stride(const Clocked *d, double q, double less)
{
    const double sent = q + d->rate0 / d->rate1;
    return sent > 0.0 && sent < OVERHEAD ? q + sent * expm1(-less / sent) : q - less;
}

/* Half way, in the same logarithm where the ends are far apart in it. */
static double halfway(const Clocked *d, double low, double high)
{
    const double overhead = d->rate0 / d->rate1, one = low + overhead + NARROW, two = high + overhead + NARROW;
    return two > 4.0 * one ? low + (sqrt(one * two) - one) : 0.5 * (low + high);
}

/* What a device keeps at the log price: Newton steps in a bracket whose ends are looked at when a step wants to go there. */
static void keep(const Cell *cell, ptrdiff_t k)
{
    Phone *f = &cell->phone[k];
    double low = f->less, high = f->more, q = most(least(f->q, high), low), last = INFINITY;
    int below = 0, above = 0, jumped = 0;  /* whether the ends are known to be on their sides of the root */
    int known = 1;  /* to rounding */
    f->pull = 0.0;
    for (int n = 0; n < KEEP_STEPS; n++) {
        look(cell, k, q);
        const double gain = cell->log_price + f->level, steep = f->steep;
        const int rising = steep > 0.0 && steep < INFINITY, slow = fabs(gain) > 0.5 * last && fabs(gain) < INFINITY;
        if (gain != gain) break;  /* worth nothing, and costs nothing */
        /* An ulp of a pruning ratio may decide more than rounding does, and a step that does not help is rounding. */
        const double rounding = rising ? slow ? BLURRED : most(ROUNDED, least(ULPS * steep, BLURRED)) : ROUNDED;
        if (rising && fabs(gain) <= rounding) f->pull = f->at.slope / steep;
        if (fabs(gain) <= rounding || (gain < 0.0 && q >= high) || (gain > 0.0 && q <= low)) break;
        if (gain < 0.0) low = q, below = 1;
        else high = q, above = 1;
        if (rising && fabs(gain) <= cell->rough) {
            f->pull = f->at.slope / steep;
            known = 0;
            break;
        }
        if (below && above && high - low <= most(NARROW, nextafter(high, INFINITY) - high)) {
            f->above = high;
            if (q == low) break;
            q = low;
            continue;
        }
        const double step = rising ? stride(&f->own, q, gain / steep) : NAN;
        last = fabs(gain);
        if (!jumped && f->above > low && f->above < high && gain < 0.0) q = f->above, jumped = 1;
        else if (step > low && step < high && !(slow && below && above)) q = step;
        else if (gain < 0.0 && !above && !(step < high)) q = high, above = 1;
        else if (gain > 0.0 && !below && !(step > low)) q = low, below = 1;
        else q = halfway(&f->own, low, high);
    }
    f->q = q;
    f->low = known ? q : low;
    f->high = known ? q : high;
}

static void keep_chunk(void *context, ptrdiff_t item)
{
    const Cell *cell = context;
    const ptrdiff_t end = (item + 1) * CHUNK < cell->count ? (item + 1) * CHUNK : cell->count;
    Total bandwidth = {0.0, 0.0}, pull = {0.0, 0.0};
    for (ptrdiff_t k = item * CHUNK; k < end; k++) {
        keep(cell, k);
        const Phone *f = &cell->phone[k];
        add(&bandwidth, f->pull > 0.0 ? most(f->at.b - f->pull * (cell->log_price + f->level), 0.0) : f->at.b);
        add(&pull, f->pull);
    }
    cell->total[2 * item] = bandwidth;
    cell->total[2 * item + 1] = pull;
}

static double sum_of(const Cell *cell, int which)
{
    Total sum = {0.0, 0.0};
    for (ptrdiff_t item = 0; item * CHUNK < cell->count; item++) add(&sum, value_of(cell->total[2 * item + which]));
    return value_of(sum);
}

/* The most that a device keeps with a bandwidth that suffices for its floor. */
static double most_kept(const Cell *cell, ptrdiff_t k, double b)
{
    Phone *f = &cell->phone[k];
    double low = f->own.q_min, high = 1.0, q = 1.0;
    for (int n = 0; n < KEEP_STEPS && high - low > NARROW; n++) {
        look(cell, k, q);
        const double gain = log(f->at.b / b), step = q - gain * f->at.b / f->at.slope;
        if (q == 1.0 && gain <= 0.0) return q;
        if (fabs(gain) <= ROUNDED) return q;
        if (gain < 0.0) low = q;
        else high = q;
        q = step > low && step < high ? step : 0.5 * (low + high);
        if (q == low || q == high) break;
    }
    return low;
}

/* Between what devices keep at prices next to each other, where the answer jumps: those on both sides are as good. */
static double left_over(void *context, double share)
{
    Cell *cell = context;
    Total sum = {0.0, 0.0};
    cell->asked++;
    for (ptrdiff_t k = 0; k < cell->count; k++) {
        Phone *f = &cell->phone[k];
        f->q = f->less + (1.0 - share) * (f->more - f->less);
        look(cell, k, f->q);
        add(&sum, f->at.b);
    }
    return log(value_of(sum));
}

/* A log price from what bandwidth is worth to the devices half way between their bounds. */
static double guess_of(Cell *cell)
{
    double sum = 0.0, known = 0.0;
    for (ptrdiff_t k = 0; k < cell->count; k++) {
        Phone *f = &cell->phone[k];
        double level = INFINITY;
        f->q = f->more;
        for (int n = 0; n < HALVINGS && !(level < INFINITY) && f->more > f->less; n++) {
            f->q = 0.5 * (f->q + f->less);
            look(cell, k, f->q);
            level = f->level;
        }
        if (level < INFINITY && level > -INFINITY) {
            sum -= level;
            known += 1.0;
        }
    }
    cell->asked++;
    return known > 0.0 ? most(least(sum / known, DEAREST), FREE) : 0.0;
}

/* What a device may prune to keep about q: 1 - rho must not round above the q that its bandwidth is made for. */
static double pruned_to_keep(const Clocked *d, double q)
{
    double rho = 1.0 - q;
    if (1.0 - rho > q) rho = nextafter(rho, 2.0);
    return most(least(rho, 1.0 - d->q_min), 0.0);
}

/* Moves every device by what it would move for a log price that is `more` higher, and leaves them where pruning ratios can tell;
 * the log of the bandwidth that this takes. `off` is how far a device that moves is from where it would stay at that price, beyond
 * what such a ratio can tell: the step was too long for a straight line. */
static double settle(Cell *cell, double more, double *off)
{
    Total sum = {0.0, 0.0};
    cell->asked++;
    *off = 0.0;
    for (ptrdiff_t k = 0; k < cell->count; k++) {
        Phone *f = &cell->phone[k];
        const int moves = f->pull > 0.0;
        const double steep = moves ? f->at.slope / f->pull : 0.0;
        const double q = moves ? f->q - (cell->log_price + f->level + more) / steep : f->q;
        f->rho = pruned_to_keep(&f->own, most(least(q, f->more), f->less));
        f->q = 1.0 - f->rho;
        look(cell, k, f->q);
        if (moves) *off = most(*off, fabs(cell->log_price + more + f->level) - ULPS * steep);
        add(&sum, f->at.b);
    }
    return log(value_of(sum));
}

/* The log price at which devices fill the cell: Newton's method in a bracket. Each is left with what it keeps. */
static double fill(Cell *cell)
{
    double low = FREE, high = DEAREST, x = guess_of(cell), before = INFINITY, step = 2.0, last = INFINITY, off;
    int below = 0, above = 0;
    for (int n = 0; n < PRICE_STEPS; n++) {
        cell->log_price = x;
        cell->rough = least(ROUGH, 10.0 * ROUGH * (x - before) * (x - before));
        before = x;
        in_parallel(cell->team, keep_chunk, cell, (cell->count + CHUNK - 1) / CHUNK);
        cell->asked++;
        const double total = sum_of(cell, 0), pull = sum_of(cell, 1), gain = log(total);
        const double more = pull > 0.0 ? gain * total / pull : 0.0;
        const int cheap = total > 1.0, slow = fabs(gain) > 0.5 * last;
        for (ptrdiff_t k = 0; k < cell->count; k++) {
            Phone *f = &cell->phone[k];
            if (cheap) f->more = f->high;
            else f->less = f->low;
        }
        if (cheap) low = x, below = 1;
        else high = x, above = 1;
        /* The last step moves all at once. */
        if (fabs(gain) <= LAST && fabs(more) <= LAST) {
            const double left = settle(cell, more, &off);
            if ((fabs(left) <= SETTLED && off <= SETTLED) || fabs(gain) <= FILLED) return x + more;
        }
        if (high - low <= 2e-16 * most(1.0, fabs(x))) break;
        last = fabs(gain);
        const double newton = x + more;
        if (more != 0.0 && fabs(more) <= step && newton > low && newton < high && !(slow && below && above)) x = newton;
        else if (below && above) x = 0.5 * (low + high);
        else {
            x = most(least(cheap ? x + step : x - step, DEAREST), FREE);
            step *= 2.0;
        }
    }
    left_over(cell, find_root(left_over, cell, 0.5, 0.0, 1.0, FILLED, 0.0).at);
    settle(cell, 0.0, &off);
    return high;
}

/* What is found of a device, in SI units; `regime` as Python has it. */
static void write_device(const Cell *cell, ptrdiff_t k, const ClockAnswer *out)
{
    const Phone *f = &cell->phone[k];
    const Problem *plain = &cell->problem->problem;
    const ptrdiff_t i = cell->row * cell->count + k;
    const double rho_max = device_value(plain, PRUNING_RATIO_MAX, cell->row, k), rho = f->rho;
    const Point at = f->at;
    const double kept = 1.0 - rho, B = cell_value(plain, BANDWIDTH_HZ, cell->row), noise = cell_value(plain, NOISE_PSD_W_PER_HZ, cell->row);
    const double b = least(at.b, f->own.b_max) * B, p = at.p * device_value(plain, TX_POWER_MAX_W, cell->row, k);
    const double bits = device_value(plain, PAYLOAD_BITS, cell->row, k) * kept + device_value(plain, OVERHEAD_BITS, cell->row, k);
    const double carried = b > 0.0 ? b * log1p(device_value(plain, CHANNEL_GAIN, cell->row, k) * p / (noise * b)) / LN2 : 0.0;
    const double upload = bits > 0.0 ? bits / carried : 0.0;
    const double work = device_value(plain, PRUNED_COMPUTE_S, cell->row, k) * kept + own_value(cell->problem, FIXED_COMPUTE_S, cell->row, k);
    const double heat = device_value(plain, PRUNED_COMPUTE_J, cell->row, k) * kept + own_value(cell->problem, FIXED_COMPUTE_J, cell->row, k);
    const double drawn = p / device_value(plain, PA_EFFICIENCY, cell->row, k) + own_value(cell->problem, CIRCUIT_POWER_W, cell->row, k);
    out->pruning_ratio[i] = rho;
    out->bandwidth_hz[i] = b;
    out->tx_power_w[i] = p;
    out->upload_s[i] = upload;
    out->latency_s[i] = device_value(plain, FIXED_LATENCY_S, cell->row, k) + work / at.clock + upload;
    out->energy_j[i] = device_value(plain, FIXED_ENERGY_J, cell->row, k) + heat * at.clock * at.clock + (upload > 0.0 ? drawn * upload : 0.0);
    out->clock[i] = at.clock;
    const int full = at.b >= f->own.b_max * (1.0 - WITHIN);
    out->regime[i] = (signed char)(rho >= rho_max ? AT_FLOOR : rho <= 0.0 ? AT_TOP : full ? AT_BANDWIDTH_MAX : at.regime);
}

/* Whether the problem is feasible, and so solved. */
static int solve_one(Cell *cell, const ClockAnswer *out)
{
    const ptrdiff_t row = cell->row, K = cell->count;
    Total floors = {0.0, 0.0}, tops = {0.0, 0.0};
    for (ptrdiff_t k = 0; k < K; k++) {
        Phone *f = &cell->phone[k];
        *f = (Phone){.own = clocked_form(cell->problem, row, k), .seen = NAN};
        f->less = f->own.q_min;
        look(cell, k, f->less);
        if (!(f->at.b < INFINITY) || f->at.b > f->own.b_max * (1.0 + WITHIN)) return 0;
        add(&floors, least(f->at.b, f->own.b_max));
    }
    if (!(value_of(floors) <= 1.0 + WITHIN)) return 0;
    for (ptrdiff_t k = 0; k < K; k++) {
        Phone *f = &cell->phone[k];
        f->q = f->more = f->own.b_max < INFINITY ? most_kept(cell, k, f->own.b_max) : 1.0;
        look(cell, k, f->q);
        add(&tops, f->at.b);
    }
    cell->asked = 2;
    const int scarce = !(value_of(tops) <= 1.0 + WITHIN);
    double off;
    const double price = scarce ? exp(fill(cell)) : 0.0;
    if (!scarce) settle(cell, 0.0, &off);
    Total objective = {0.0, 0.0};
    for (ptrdiff_t k = 0; k < K; k++) {
        write_device(cell, k, out);
        const double rho = out->pruning_ratio[row * K + k];
        add(&objective, cell->phone[k].own.weight * error_value(&cell->problem->problem.curve, row, k, rho));
    }
    out->objective[row] = value_of(objective);
    out->price_per_hz[row] = price / cell_value(&cell->problem->problem, BANDWIDTH_HZ, row);
    return 1;
}

int keep_clocks(const ClockProblem *problem, double log_price, double *out)
{
    const ptrdiff_t K = problem->problem.devices, size = problem->problem.problems * K;
    Phone *phone = malloc((size_t)K * sizeof *phone + 1);
    if (!phone) return 0;
    for (ptrdiff_t i = 0; i < size; i++) {
        const Cell cell = {.problem = problem, .row = i / K, .count = K, .phone = phone, .log_price = log_price};
        const ptrdiff_t k = i % K;
        Phone *f = &phone[k];
        *f = (Phone){.own = clocked_form(problem, cell.row, k), .seen = NAN};
        f->less = f->more = f->own.q_min;
        look(&cell, k, f->less);
        if (f->at.b < f->own.b_max) {
            f->more = f->own.b_max < INFINITY ? most_kept(&cell, k, f->own.b_max) : 1.0;
            f->q = f->more;
            keep(&cell, k);
            /* A keep ratio that its pruning ratio does not tell from 0 sends nothing. */
            if (1.0 - f->q == 1.0 && f->own.rate0 == 0.0) f->q = 0.0;
            look(&cell, k, f->q);
        } else f->q = f->less;
        out[i] = 1.0 - f->q;
        out[size + i] = f->at.b;
        out[2 * size + i] = f->at.p;
        out[3 * size + i] = f->at.clock;
    }
    free(phone);
    return 1;
}

typedef struct {
    const ClockProblem *problem;
    const ClockAnswer *out;
    int failed;
} Batch;

static void solve_row(const Batch *batch, ptrdiff_t row, Team *team)
{
    const ptrdiff_t K = batch->problem->problem.devices, chunks = (K + CHUNK - 1) / CHUNK;
    Phone *phone = malloc((size_t)K * sizeof *phone + 2 * (size_t)chunks * sizeof(Total) + 1);
    Cell cell = {.problem = batch->problem, .row = row, .count = K, .phone = phone, .team = team};
    if (!phone) {
        __atomic_store_n(&((Batch *)batch)->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    cell.total = (Total *)(phone + K);
    batch->out->state[row] = solve_one(&cell, batch->out) ? SOLVED : INFEASIBLE;
    batch->out->prices_tried[row] = (double)cell.asked;
    free(phone);
}

static void solve_item(void *context, ptrdiff_t row) { solve_row(context, row, NULL); }

int solve_clocks(const ClockProblem *problem, const ClockAnswer *out, int threads)
{
    const ptrdiff_t N = problem->problem.problems, K = problem->problem.devices;
    Batch batch = {problem, out, 0};
    if (K > CHUNK) {
        Team *team = start_team(threads, (K + CHUNK - 1) / CHUNK);
        for (ptrdiff_t row = 0; row < N; row++) solve_row(&batch, row, team);
        end_team(team);
    } else {
        Team *team = start_team(threads, N);
        in_parallel(team, solve_item, &batch, N);
        end_team(team);
    }
    return !batch.failed;
}
