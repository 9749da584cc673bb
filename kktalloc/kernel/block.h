/* A block of devices in reduced form: the compiled twin of `_device/reduced.py`. On a branch of the power limit, p = F0 + F1 s (the
 * peak branch has F0 = 1, F1 = 0), and with k = y / (e^y - 1) the ratios
 *
 *     f = gamma F0 / rate1,   c = gamma F1 / rate1,   d = gamma (A F0 - F1) / rate1 >= 0,
 *     o = rate0 / rate1,      r = 1 - A o = payload / (payload + A overhead)
 *
 * are all that response.h needs. */
#ifndef KKTALLOC_BLOCK_H
#define KKTALLOC_BLOCK_H

#include "curve.h"

/* Regime of Python; BREAK, where a table's slope jumps, is no regime: it is written as the branch that it lies on. */
enum { UNSET = -1, FLOOR, ENERGY, KINK, PEAK, SATURATED, TOTAL_POWER, BREAK };

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
    /* weight / rate1, times the slope of the table's piece or scale * exponent; o and r are `overhead` and `payload` */
    Lanes worth, compute, rate1, overhead, payload, gamma;
    Lanes power0, power1, f, c, d, d_peak;  /* of the energy branch; `f` and `d_peak` of the peak branch */
    Lanes s_min, s_max, s_kink, kinked, energy_first, hopeless, pinned;
    const Curve *curve;
    const Strip *at;  /* what the lanes stand for */
    Lanes power, quick;  /* of a power law: exponent - 1; -d ln b / d y or d ln rho / d y, whichever is more */
    /* Of a table: weight / rate1; the piece at the floor; the piece that the device is on, and the one that what follows belongs to;
     * its ratios and slope, and the slope of the next; that over its own; the s between which it lies, and whether they are the
     * floor and the s that keeps everything. */
    Lanes plain, floor_piece, piece, entered, starts, ends, slope, next_slope, flatter, piece_min, piece_max, first_piece, last_piece;
    /* What a device keeps grows with the bandwidth from the floor to saturation, in segments that end where the branch of the
     * power limit or the piece of a table changes: the s at the ends of the segment that a lane is on, and what they are. */
    Lanes bottom, top, below, above;
    Lanes y, second, corner;  /* state: efficiency, on the second branch, what holds the lane (FLOOR, KINK, ...) or UNSET */
    Lanes code, known, moves;  /* where the last sweep left off: regime, efficiency, its derivative in ln price */
    Lanes held;                /* the piece then; -1 - piece where the device was held at the upper end of it */
    Lanes low, high, across, flag, fresh, passed;  /* scratch of the searches */
    Lanes came;  /* 1 where the lane has entered its segment from below, -1 from above, 0 where it began there */
    /* At y: ln(m / price), or m / price - 1 where only that was asked for, one over its derivative, its second
     * derivative over the first, ..., e^-y / (1 - e^-y), -d ln b / d y; the pending step of y. `across` has the sign
     * that the excess has on the segment on the other side of a kink, or of the break at the upper end. */
    Lanes excess, per_slope, curl, s, p, b, decayed, bend, step;
} Block;

#define EFFICIENCY_MAX 690.0

/* A limit of power, in peaks, that never binds: the peak itself is below it. (Infinity would give NaN when multiplied by 0.) */
#define NO_LIMIT 2.0

/* Over the lanes in use. */
#define EACH_OF(v, i) for (int i = 0; i < ((v)->width & -VECTOR); i++)

/* The problems that the lanes belong to. */
LANE_LOOP void enter_cells(Block *v, const Problem *problem, const Strip *at)
{
    const Strip cells = {at->row, 0, 0, at->across ? at->count : 1, 1};
    Lanes noise;
    v->width = whole_vectors(at->count);
    v->curve = &problem->curve;
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

/* The reduced form, `reduced.reduce`, of the linear error. */
LANE_LOOP void reduce_lanes(Block *v, const Problem *problem, const Strip *at)
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

        const double finite = energy < INFINITY ? 1.0 : 0.0, limited = peak > 0.0 ? finite : 0.0;
        const double drain = eta * per_window / (peak > 0.0 ? peak : 1.0), heat = drain * compute_j;
        const double F0 = limited > 0.0 ? drain * energy : NO_LIMIT, F1 = limited > 0.0 ? A * F0 - heat : 0.0;
        const double mixed = limited > 0.0 ? heat : NO_LIMIT * A;  /* A F0 - F1 */
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

LANE_LOOP void bend(Block *v)
{
    Lanes scale;
    load(v->power, &v->curve->exponent, v->at);
    load(scale, &v->curve->scale, v->at);
    EACH_OF(v, i) {
        const double exponent = v->power[i], pinned = v->pinned[i], worth = v->worth[i] * scale[i] * exponent;
        v->worth[i] = worth;
        v->power[i] = exponent - 1.0;
        v->pinned[i] = worth > 0.0 ? pinned : 1.0;
    }
}

static void reduce(Block *v, const Problem *problem, const Strip *at)
{
    v->at = at;
    reduce_lanes(v, problem, at);
    if (v->curve->kind == POWER_LAW) bend(v);
    if (v->curve->kind != TABLE) return;
    for (int i = 0; i < v->width; i++) {
        const Pieces table = pieces_at(v->curve, at, i);
        const double rho_max = v->field[PRUNING_RATIO_MAX][i];
        const int floor = rho_max < 1.0 ? piece_at(&table, rho_max, 1) : table.pieces - 1;
        v->plain[i] = v->worth[i];
        v->floor_piece[i] = floor;
        v->entered[i] = -1.0;
        if (!(piece_slope(&table, floor) > 0.0)) v->pinned[i] = 1.0;
    }
}

/* The piece that a table's device is on, at the pruning ratio that s stands for; never one where keeping more is worth nothing,
 * unless there is no other. */
static void choose_pieces(Block *v)
{
    for (int i = 0; i < v->width; i++) {
        const Pieces table = pieces_at(v->curve, v->at, i);
        const double s = v->s[i], q = s / (1.0 + v->compute[i] * s);
        const int floor = (int)v->floor_piece[i];
        int j = s < v->s_max[i] ? piece_at(&table, most(1.0 - q, 0.0), 0) : 0;
        if (!(s > v->s_min[i]) || j > floor) j = floor;
        while (j < floor && !(piece_slope(&table, j) > 0.0)) j++;
        v->piece[i] = j;
    }
}

/* s at a pruning ratio. */
INLINE double s_at_ratio(double rho, double compute)
{
    const double q = 1.0 - rho, room = 1.0 - compute * q;
    return room > 0.0 ? q / room : INFINITY;
}

/* The limit of power at s, in peaks. */
INLINE double power_limit(const Block *v, int i, double s)
{
    return most(least(v->power0[i] + v->power1[i] * s, 1.0), 0.0);
}

/* Reads the pieces that the lanes are on, where those have changed; whether one has. */
static int read_pieces(Block *v)
{
    int changed = 0;
    for (int i = 0; i < v->width; i++) {
        if (v->entered[i] == v->piece[i]) continue;
        const Pieces table = pieces_at(v->curve, v->at, i);
        const int j = (int)v->piece[i];
        changed = 1;
        v->entered[i] = j;
        v->starts[i] = ratio_at(&table, j);
        v->ends[i] = ratio_at(&table, j + 1);
        v->slope[i] = piece_slope(&table, j);
        v->next_slope[i] = j ? piece_slope(&table, j - 1) : 0.0;
    }
    return changed;
}

/* What belongs to them. */
LANE_LOOP void bound_pieces(Block *v)
{
    EACH_OF(v, i) {
        const double slope = v->slope[i], next = v->next_slope[i], to = v->ends[i], rho_max = v->field[PRUNING_RATIO_MAX][i];
        const double s_min = v->s_min[i], s_max = v->s_max[i], A = v->compute[i];
        const double first = to < rho_max ? 0.0 : 1.0, last = v->piece[i] > 0.0 ? 0.0 : 1.0;
        const double begins = most(least(s_at_ratio(to, A), s_max), s_min);
        /* A piece whose end no bandwidth carries has none to reach: a step that seems to lead there must not be believed. */
        const double end = most(least(s_at_ratio(v->starts[i], A), s_max), s_min);
        const double asked = v->rate1[i] * (v->overhead[i] + end), heard = v->gamma[i] * power_limit(v, i, end);
        const double reached = asked < heard ? end : INFINITY;
        v->worth[i] = v->plain[i] * slope;
        v->flatter[i] = slope > 0.0 ? next / slope : 0.0;
        v->first_piece[i] = first;
        v->last_piece[i] = last;
        v->piece_min[i] = first > 0.0 ? s_min : begins;
        v->piece_max[i] = last > 0.0 ? s_max : reached;
    }
}

static void enter_pieces(Block *v)
{
    if (read_pieces(v)) bound_pieces(v);
}

static const Lanes ones = {1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0,
                           1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0};

/* The segments that the lanes are on, from their branches and pieces. */
LANE_LOOP void enter_segments(Block *v)
{
    const int table = v->curve->kind == TABLE;
    Lanes lowest, highest, first, last;
    copy_lanes(lowest, table ? v->piece_min : v->s_min);
    copy_lanes(highest, table ? v->piece_max : v->s_max);
    copy_lanes(first, table ? v->first_piece : ones);
    copy_lanes(last, table ? v->last_piece : ones);
    EACH_OF(v, i) {
        const double low = lowest[i], high = highest[i], first_piece = first[i], last_piece = last[i];
        const double s_kink = v->s_kink[i], kinked = v->kinked[i], was = kinked > 0.0 ? v->second[i] : 0.0;
        /* A piece beyond the kink, or before it, has no other branch. */
        const double past = low > s_kink ? kinked : was, beyond = high < s_kink ? 0.0 : past;
        /* The upper end of a piece is on the branch that ends there, wherever the lane has come from. */
        const double upper = high > s_kink ? kinked : 0.0, second = v->corner[i] == BREAK ? upper : beyond;
        const double down = first_piece > 0.0 ? FLOOR : BREAK, up = last_piece > 0.0 ? SATURATED : BREAK;
        const double reached = s_kink >= low ? 1.0 : 0.0, met = s_kink <= high ? 1.0 : 0.0;
        const double behind = second > 0.0 ? reached : 0.0, ahead = second < kinked ? met : 0.0;
        v->second[i] = second;
        v->bottom[i] = behind > 0.0 ? s_kink : low;
        v->top[i] = ahead > 0.0 ? s_kink : high;
        v->below[i] = behind > 0.0 ? KINK : down;
        v->above[i] = ahead > 0.0 ? KINK : up;
    }
}

/* The segments of lanes whose branch or piece has changed. */
static void enter(Block *v)
{
    if (v->curve->kind == TABLE) enter_pieces(v);
    enter_segments(v);
}

#endif
