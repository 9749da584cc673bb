/* The exact solution, the compiled twin of `_engine/clearing.py`: the price of bandwidth at which the devices' answers fill it. Price
 * and efficiencies take their Newton steps together: a sweep over the devices evaluates each where the last sweep and
 * the price's move since leave it, and adds the bandwidth that its pending step asks for. */
#include "response.h"
#include "start.h"
#include "tally.h"

#include <stdlib.h>

#define ROUNDING 1e-12  /* of `tolerances.py`: floors that fill the bandwidth to within this count as feasible */
#define CLOSED 4e-15    /* bandwidth filled to this share is filled */
#define FIRST_STEP 0.5  /* the first step of ln(price) where nobody moves */

/* Devices that a large problem asks for its first price; each next sample is as many times larger. */
enum { SAMPLE = 1024, FINER = 4 };

/* A first guess of the price; a joint Newton step; the allocation written, from efficiencies that should be right and are
 * checked, or whatever they are. */
enum Task { GUESS, SEARCH, PLACE, ANSWER };

/* The price of one problem, on its way. */
typedef struct {
    double log_price, moved;  /* since the last sweep */
    double low, high, step, objective;  /* `step`: the next where nobody moves */
    enum Task task;
    int sweeps, answers, state;  /* `answers` in which the floors filled the bandwidth */
    int fading;                  /* a power law's worth of keeping more fades to nothing: no price but 0 may leave bandwidth over */
} Search;

typedef struct {
    const Problem *problem;
    const Allocation *out;
    ptrdiff_t row, stride;          /* every `stride`-th block of a single problem is asked */
    const Search *searches;         /* of that problem, or of those in the lanes */
    enum Task task;
    Sums *chunks;
} Sweep;

/* Whether a lane has no regime yet: UNSET alone is negative. */
LANE_LOOP int is_new(const Block *v)
{
    uint64_t bits = 0;
    EACH_OF(v, i) bits |= double_to_bits(v->code[i]);
    return bits >> 63 != 0;
}

/* The allocation in SI units. */
LANE_LOOP void allocate(const Block *restrict v, double (*restrict out)[LANES])
{
    EACH_OF(v, i) {
        const double s = v->s[i], q = s / (1.0 + v->compute[i] * s), rho_max = v->field[PRUNING_RATIO_MAX][i];
        /* 1 - rho must not round above the q that bandwidth and power were made for. */
        double kept = 1.0 - q;
        kept = 1.0 - kept > q ? kept + 0x1p-53 : kept;
        kept = most(least(kept, rho_max), 0.0);
        const double corner = v->corner[i], upper = corner == SATURATED ? 0.0 : kept, rho = corner == FLOOR ? rho_max : upper;
        const double b = v->b[i] * v->bandwidth[i], p = v->p[i] * v->field[TX_POWER_MAX_W][i];
        const double keep = 1.0 - rho, bits = v->field[PAYLOAD_BITS][i] * keep + v->field[OVERHEAD_BITS][i];
        const double sent = bits * LN2 / (b * v->y[i]), upload = bits > 0.0 ? sent : 0.0;
        out[0][i] = rho;
        out[1][i] = b;
        out[2][i] = p;
        out[3][i] = upload;
        out[4][i] = v->field[FIXED_LATENCY_S][i] + v->field[PRUNED_COMPUTE_S][i] * keep + upload;
        const double sent_j = p * upload / v->field[PA_EFFICIENCY][i];
        out[5][i] = v->field[FIXED_ENERGY_J][i] + v->field[PRUNED_COMPUTE_J][i] * keep + sent_j;
    }
}

/* What the devices lose. */
LANE_LOOP void lose(const Block *restrict v, Tally *restrict tally, const double *restrict here, const double *restrict rho)
{
    Lanes error;
    if (v->curve->kind == LINEAR) EACH_OF(v, i) error[i] = v->field[WEIGHT][i] * rho[i];
    if (v->curve->kind == POWER_LAW) EACH_OF(v, i) {
        const double n = v->power[i] + 1.0, some = rho[i] > 0.0 ? rho[i] : 1.0;
        double e, em;
        decay(least(-n * natural_log(some), 700.0), &e, &em);
        error[i] = rho[i] > 0.0 ? v->worth[i] * v->rate1[i] / n * e : 0.0;
    }
    if (v->curve->kind == TABLE) for (int i = 0; i < v->width; i++) {
        const Pieces table = pieces_at(v->curve, v->at, i);
        error[i] = v->field[WEIGHT][i] * error_on(&table, piece_at(&table, rho[i], 0), rho[i]);
    }
    EACH_OF(v, i) add_lane(&tally->objective, i, here[i] > 0.0 ? error[i] : 0.0);
}

static void write(const Allocation *out, double (*lanes)[LANES], const double *here, const Strip *at, ptrdiff_t K)
{
    double *arrays[] = {out->pruning_ratio, out->bandwidth_hz, out->tx_power_w, out->upload_s, out->latency_s, out->energy_j};
    for (int f = 0; f < 6; f++) scatter(arrays[f] + at->row * K + at->device, lanes[f], here, at, K);
}

/* What the sweep does with the devices of one strip; `here` is 1.0 in the lanes that stand for a device of a problem that
 * is still open. */
static void visit(const Sweep *w, Block *v, const Strip *at, const double *here, Tally *tally)
{
    const ptrdiff_t K = w->problem->devices, first = at->row * K + at->device;
    double *y = w->out->scratch + first, *by_price = y + w->problem->problems * K;  /* y, and d y / d ln price */
    signed char *regime = w->out->regime + first;
    const int table = v->curve->kind == TABLE;
    v->at = at;
    if (w->task == GUESS) {
        begin_at_shares(v, (double)K);
        begin(v);
        if (table) {
            place(v);
            choose_pieces(v);
            enter_pieces(v);
        }
        evaluate(v);
        tally_guess(tally, v, here);
        return;
    }
    if (!at->across) {
        gather_codes(v->code, regime, at, K);
        gather(v->known, y, at);
        gather(v->moves, by_price, at);
        if (table) gather_shorts(v->held, w->out->piece + first, at);
    }
    if (is_new(v)) set_out(v);
    recall(v);
    if (w->task == PLACE) confirm(v);
    else respond(v, w->task == ANSWER);
    tally_answer(tally, v, here);
    leave_off(v);
    if (!at->across) {
        scatter(y, v->known, here, at, K);
        scatter(by_price, v->moves, here, at, K);
        if (table) scatter_shorts(w->out->piece + first, v->held, at);
    }
    if (!at->across || w->task != SEARCH) scatter_codes(regime, v->code, here, at, K);
    if (w->task != SEARCH) {
        double lanes[6][LANES] __attribute__((aligned(64)));
        allocate(v, lanes);
        lose(v, tally, here, lanes[0]);
        write(w->out, lanes, here, at, K);
    }
}

/* The prices of the lanes, and how far an efficiency may be from its answer: that need not be found closer than the price
 * is known. Nothing is known of a price that has not moved yet; a sample knows it to a few parts in a hundred. */
static void quote(Prices *paid, const Search *searches, int count, int across, enum Task task, int sample)
{
    const double unknown = 0.3, sampled = 0.05, moving = 0.2, finest = 1e-6;
    for (int i = 0; i < LANES; i++) {
        const Search *s = &searches[!across ? 0 : i < count ? i : count - 1];
        const double moved = fabs(s->moved), close = moved < 5e-3 ? 0.01 * moved : moved, last = most(least(close, moving), finest);
        const double tolerance = !(moved > 0.0) ? unknown : sample || !s->sweeps ? sampled : last;
        paid->price[i] = task == GUESS ? 1.0 : across || i == 0 ? exp(s->log_price) : paid->price[0];
        paid->per_price[i] = 1.0 / paid->price[i];
        paid->moved[i] = s->moved;
        paid->tolerance[i] = task == SEARCH ? tolerance : finest;
    }
}

/* A chunk of one problem's devices. */
static void sweep_chunk(void *shared, ptrdiff_t chunk)
{
    const Sweep *w = shared;
    const ptrdiff_t K = w->problem->devices, hop = LANES * w->stride, from = chunk * CHUNK * w->stride;
    const ptrdiff_t end = from + CHUNK * w->stride, to = end < K ? end : K;
    Block block;
    Tally tally;
    Lanes here;
    Strip at = {w->row, from, hop, to - from < LANES ? (int)(to - from) : LANES, 0};
    const int width = whole_vectors(at.count);
    enter_cells(&block, w->problem, &at);
    quote(&block.paid, w->searches, LANES, 0, w->task, w->stride > 1);
    clear_tally(&tally);
    for (; at.device < to; at.device += hop) {
        if (K - at.device < LANES) at.count = (int)(K - at.device);
        EACH(i) here[i] = i < at.count ? 1.0 : 0.0;
        block.width = whole_vectors(at.count);
        reduce(&block, w->problem, &at);
        visit(w, &block, &at, here, &tally);
    }
    w->chunks[chunk] = sum_up(&tally, width);
}

static Search from(double log_price, double moved, int kind)
{
    return (Search){log_price, moved, -INFINITY, INFINITY, FIRST_STEP, 0.0, SEARCH, 0, 0, OPEN, kind == POWER_LAW};
}

static Search start(const Sums *guess, int kind)
{
    return from(guess->valued > 0.0 ? value_of(guess->value) / guess->valued : 0.0, 0.0, kind);
}

/* What a sweep of task `done` says of the price at which `share` of the devices use their share of the bandwidth. Newton on
 * ln sum b, safeguarded by a bracket; a price at which no device moves is left in growing steps. A sample only serves to
 * start from. */
static void advance(Search *s, const Sums *sums, enum Task done, double share, int sample)
{
    const double used = value_of(sums->bandwidth) / share, excess = log(used), price = s->log_price;
    const int floored = sums->at_floor == sums->devices, topped = sums->at_top == sums->devices;
    s->sweeps++;
    s->moved = 0.0;
    s->objective = value_of(sums->objective);
    if (sums->hopeless > 0.0 || (floored && used > 1.0 + ROUNDING)) {
        s->state = INFEASIBLE;
        return;
    }
    if (!(used >= 0.0) || s->sweeps > 200) {
        s->state = UNRESOLVED;
        return;
    }
    if (!sample && floored && used >= 1.0) {
        /* The floors fill the bandwidth: of the prices that hold everyone there the least. Who comes to its floor anew at
         * the same price has it where it would leave. */
        if (done == ANSWER && (sums->fresh == 0.0 || s->answers++)) {
            if (sums->fresh == 0.0 && sums->nearest > -INFINITY) s->log_price = price + sums->nearest;
            s->state = SOLVED;
        }
        s->task = ANSWER;
        return;
    }
    if (topped && used <= 1.0) {  /* bandwidth to spare is free */
        if (sample || done == ANSWER) {
            s->log_price = -INFINITY;
            s->state = SOLVED;
        }
        s->task = ANSWER;  /* to be sure of it */
        s->low = -INFINITY;
        s->high = INFINITY;
        return;
    }
    if (!sample && done != SEARCH && fabs(excess) <= CLOSED) {
        s->state = SOLVED;
        return;
    }
    if (!(price > -INFINITY)) {  /* nor is it free: back to the search */
        s->log_price = s->high;
        s->moved = -1.0;
        s->high = INFINITY;
        s->task = SEARCH;
        return;
    }
    const double slope = value_of(sums->moving) / value_of(sums->bandwidth);
    /* The error of a search step may hide the sign of a small excess, and of any where a device is still far from its answer. */
    if (done != SEARCH || (sums->pending < 0.5 && (fabs(excess) > 0.02 || !(slope > 0.0)))) {
        s->low = excess > 0.0 ? price : s->low;
        s->high = excess < 0.0 ? price : s->high;
    }
    double next = price + fmax(-20.0, fmin(20.0, excess / slope));
    if (!(slope > 0.0) || !(next > s->low && next < s->high)) {
        const int bracketed = s->low > -INFINITY && s->high < INFINITY;
        next = bracketed ? 0.5 * (s->low + s->high) : price + copysign(s->step, excess);
        s->step *= bracketed ? 1.0 : 2.0;
    }
    if (!(slope > 0.0)) {  /* nobody moves: a hair beyond the price at which the first device leaves its corner, if the bracket allows */
        const double leaves = price + (excess > 0.0 ? sums->dearer : sums->cheaper), hair = excess > 0.0 ? 1e-3 : -1e-3;
        const double end = excess > 0.0 ? s->high : s->low, inside = leaves > s->low && leaves < s->high;
        const int near = fabs(end - leaves) <= fabs(hair);
        if (inside && s->sweeps % 3) next = near ? 0.5 * (leaves + end) : leaves + hair;
    }
    /* Everyone at the floor, with bandwidth to spare: down to where the first device leaves it, and a hair beyond. */
    const double leaves = price + sums->nearest - 1e-3;
    if (floored && sums->nearest > -INFINITY && leaves > s->low) next = leaves;
    /* A price that has come to rest; where that leaves bandwidth over NumPy has the last word. */
    if (done != SEARCH && (fabs(next - price) <= 1e-15 * fmax(1.0, fabs(price)) || !(s->high > s->low))) {
        s->state = fabs(excess) <= 1e-10 ? SOLVED : UNRESOLVED;
        return;
    }
    if (s->fading && !sample && excess < 0.0 && !(s->low > -INFINITY) && (next - price < -15.0 || s->sweeps > 10)) {
        s->fading = 0;
        s->high = price;
        s->log_price = -INFINITY;
        s->task = ANSWER;
        return;
    }
    if (!(fabs(next) < 700.0)) {
        s->state = UNRESOLVED;
        return;
    }
    /* A sample of n knows the total to a few parts in sqrt(n). */
    if (sample && (excess * excess * sums->devices < 25.0 || s->sweeps == 20)) s->state = SOLVED;
    s->log_price = next;
    s->moved = next - price;
    if (sample) return;
    /* A step doubles the digits of the price and trebles those of an efficiency. */
    const int near = fabs(s->moved) < 1e-6 && sums->pending < 1e-3 && sums->doubt < 1e-11 && slope > 0.0;
    const int right = done == SEARCH ? near : fabs(s->moved) < 1e-7;
    s->task = right ? PLACE : done != SEARCH || s->sweeps > 12 ? ANSWER : SEARCH;
    if (s->task != SEARCH && done == SEARCH) {
        s->low = -INFINITY;  /* what was approximate is forgotten */
        s->high = INFINITY;
        s->step = FIRST_STEP;
    }
}

static Sums add_up(const Sweep *w)
{
    const ptrdiff_t span = CHUNK * w->stride, chunks = (w->problem->devices + span - 1) / span;
    Sums sums = {.nearest = -INFINITY, .cheaper = -INFINITY, .dearer = INFINITY};
    for (ptrdiff_t i = 0; i < chunks; i++) {
        const Sums *one = &w->chunks[i];
        add(&sums.bandwidth, value_of(one->bandwidth));
        add(&sums.moving, value_of(one->moving));
        add(&sums.value, value_of(one->value));
        add(&sums.objective, value_of(one->objective));
        sums.nearest = most(sums.nearest, one->nearest);
        sums.cheaper = most(sums.cheaper, one->cheaper);
        sums.dearer = least(sums.dearer, one->dearer);
        sums.pending = most(sums.pending, one->pending);
        sums.doubt += one->doubt;
        sums.devices += one->devices;
        sums.valued += one->valued;
        sums.at_floor += one->at_floor;
        sums.fresh += one->fresh;
        sums.at_top += one->at_top;
        sums.hopeless += one->hopeless;
    }
    return sums;
}

/* The first chunks, or all of them. */
static Sums sweep(Sweep *w, ptrdiff_t chunks, Team *team)
{
    const ptrdiff_t span = CHUNK * w->stride, all = (w->problem->devices + span - 1) / span;
    in_parallel(team, sweep_chunk, w, chunks < all ? chunks : all);
    return add_up(w);
}

/* Fills what is left of the bandwidth, once the price is right to 1e-12, without asking everyone again: the first chunks of
 * devices alone are answered anew, at a price that differs from that of all others by up to 1e-11, as many chunks as that takes.
 * The price that is reported is that of the others; the certificate's tolerance of 1e-9 covers the difference. */
static void fill(Sweep *w, Search *s, Sums *sums, Team *team)
{
    const ptrdiff_t half = w->problem->devices / (2 * CHUNK);
    const double price = s->log_price;
    const enum Task task = w->task;
    w->task = PLACE;
    for (int n = 0; n < 3 && s->state == OPEN; n++) {
        const double excess = value_of(sums->bandwidth) - 1.0;
        double moving = 0.0;
        ptrdiff_t some = 0;
        while (some < half && fabs(excess) > 1e-11 * moving) moving += value_of(w->chunks[some++].moving);
        if (!(fabs(excess) <= 1e-11 * moving)) break;
        s->moved = excess / moving;
        s->log_price += s->moved;
        *sums = sweep(w, some, team);
        if (fabs(value_of(sums->bandwidth) - 1.0) <= CLOSED) s->state = SOLVED;
    }
    w->task = task;
    s->log_price = price;
    s->moved = 0.0;
    s->objective = value_of(sums->objective);
}

/* A problem whose devices fill the lanes. */
static void solve_row(const Sweep *common, ptrdiff_t row, Sums *chunks, Team *team)
{
    const ptrdiff_t K = common->problem->devices;
    Search s;
    Sweep w = *common;
    double tried = 0.0;
    w.row = row;
    w.stride = 1;
    while (K >= SAMPLE * FINER * w.stride) w.stride *= FINER;
    w.searches = &s;
    w.chunks = chunks;
    w.task = GUESS;
    memset(w.out->regime + row * K, UNSET, (size_t)K);
    Sums sums = sweep(&w, K, team);
    s = start(&sums, common->problem->curve.kind);
    for (;; w.stride /= FINER) {
        while (s.state == OPEN) {
            w.task = s.task;
            sums = sweep(&w, K, team);
            if (w.task >= PLACE && K > 2 * CHUNK) fill(&w, &s, &sums, team);
            if (s.state == OPEN) advance(&s, &sums, w.task, sums.devices / (double)K, w.stride > 1);
        }
        tried += s.sweeps;
        if (w.stride == 1) break;
        /* The blocks of a sample are among those of the next. */
        const int known = s.state == SOLVED && fabs(s.log_price) < INFINITY;
        s = from(known ? s.log_price : 0.0, known ? s.moved : 0.0, common->problem->curve.kind);
    }
    w.out->state[row] = (signed char)s.state;
    w.out->objective[row] = s.objective;
    w.out->prices_tried[row] = tried;
    w.out->price_per_hz[row] = exp(s.log_price) / cell_value(w.problem, BANDWIDTH_HZ, row);
}

/* Problems side by side in the lanes; `blocks`, one for each device, keep their reduced forms and where each sweep leaves
 * them. */
static void solve_across(const Sweep *common, Block *blocks, ptrdiff_t row, int count)
{
    const ptrdiff_t K = common->problem->devices;
    Search s[LANES];
    Sweep w = *common;
    Prices paid;
    Tally tally;
    Lanes here;
    Strip at = {row, 0, 0, count, 1};
    w.searches = s;
    w.task = GUESS;
    memset(w.out->regime + row * K, UNSET, (size_t)(count * K));
    memset(s, 0, sizeof s);
    for (; at.device < K; at.device++) {
        enter_cells(&blocks[at.device], w.problem, &at);
        reduce(&blocks[at.device], w.problem, &at);
        EACH(i) blocks[at.device].code[i] = UNSET;
    }
    EACH(i) here[i] = i < count ? 1.0 : 0.0;
    for (int open = count; open;) {
        quote(&paid, s, count, 1, w.task, 0);
        clear_tally(&tally);
        for (at.device = 0; at.device < K; at.device++) {
            blocks[at.device].paid = paid;
            visit(&w, &blocks[at.device], &at, here, &tally);
        }
        int searching = 0, doubtful = 0;
        open = 0;
        for (int i = 0; i < count; i++) {
            const Sums sums = sum_of(&tally, i);
            if (w.task == GUESS) s[i] = start(&sums, w.problem->curve.kind);
            else if (s[i].state == OPEN) advance(&s[i], &sums, w.task, 1.0, 0);
            here[i] = s[i].state == OPEN ? 1.0 : 0.0;
            if (s[i].state != OPEN) continue;
            open++;
            searching |= s[i].task == SEARCH;
            doubtful |= s[i].task == ANSWER;
        }
        w.task = searching ? SEARCH : doubtful ? ANSWER : PLACE;
    }
    for (int i = 0; i < count; i++) {
        w.out->state[row + i] = (signed char)s[i].state;
        w.out->objective[row + i] = s[i].objective;
        w.out->prices_tried[row + i] = s[i].sweeps;
        w.out->price_per_hz[row + i] = exp(s[i].log_price) / cell_value(w.problem, BANDWIDTH_HZ, row + i);
    }
}

enum { GROUP = 4 };  /* blocks of problems that a thread takes at a time */

static void solve_group(void *shared, ptrdiff_t group)
{
    const Sweep *w = shared;
    const ptrdiff_t from = group * GROUP * LANES, end = from + GROUP * LANES, N = w->problem->problems;
    Block *blocks = aligned_alloc(64, (size_t)w->problem->devices * sizeof *blocks);
    for (ptrdiff_t row = from; row < end && row < N; row += LANES) {
        const int count = N - row < LANES ? (int)(N - row) : LANES;
        if (blocks) solve_across(w, blocks, row, count);
        else memset(w->out->state + row, UNRESOLVED, (size_t)count);
    }
    free(blocks);
}

typedef struct {
    const Sweep *sweep;
    ptrdiff_t rows;  /* of one group */
} Batch;

static void solve_rows(void *shared, ptrdiff_t group)
{
    const Batch *batch = shared;
    const ptrdiff_t from = group * batch->rows, end = from + batch->rows;
    Sums chunk;
    for (ptrdiff_t row = from; row < end && row < batch->sweep->problem->problems; row++)
        solve_row(batch->sweep, row, &chunk, NULL);
}

int kkt_solve(const Problem *problem, const Allocation *out, int threads)
{
    const ptrdiff_t N = problem->problems, K = problem->devices, chunks = (K + CHUNK - 1) / CHUNK;
    Sweep w = {.problem = problem, .out = out, .stride = 1};
    Batch batch = {&w, 1 + CHUNK / (K + 1)};
    const int across = packed(problem), alone = !across && chunks > 1;
    const ptrdiff_t groups = across ? (N + GROUP * LANES - 1) / (GROUP * LANES) : (N + batch.rows - 1) / batch.rows;
    Sums *sums = malloc((size_t)chunks * sizeof(Sums) + 1);
    if (!sums) return 0;
    Team *team = start_team(threads, alone ? chunks : groups);
    if (across) in_parallel(team, solve_group, &w, groups);
    else if (!alone) in_parallel(team, solve_rows, &batch, groups);
    else for (ptrdiff_t row = 0; row < N; row++) solve_row(&w, row, sums, team);
    end_team(team);
    free(sums);
    within_cap(problem, out, threads);
    return 1;
}
