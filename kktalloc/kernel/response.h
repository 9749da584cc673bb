/* What a block of devices answers to a price of bandwidth: the compiled twin of `at_price.py`. */
#ifndef KKTALLOC_RESPONSE_H
#define KKTALLOC_RESPONSE_H

#include "efficiency.h"

#define PLACED 1e-12  /* relative distance of a marginal value from its price that is none */

#define NO_BANDWIDTH 1e100  /* cells: held where no bandwidth carries a corner; finite, for sums stay numbers so */

/* Of Newton while the price moves: who needs more goes on in the next sweep. */
enum { SEARCH_STEPS = 12 };

INLINE double corner_s(const Block *v, int i, const double *s_break)
{
    const double s_min = v->s_min[i], s_kink = v->s_kink[i], s_max = v->s_max[i], corner = v->corner[i];
    const double at_break = s_break[i], upper = corner == BREAK ? at_break : s_max;
    const double inner = corner == KINK ? s_kink : upper;
    return corner == FLOOR ? s_min : inner;
}

/* Halley's step in y towards y / (e^y - 1) = theta, in logarithms: those of ratios near 1 need no more than three terms. */
INLINE double towards(double y, double theta)
{
    double e, em;
    decay(y, &e, &em);
    const double got = y * e, asked = em * theta, w = (got - asked) / (got + asked), ww = w * w;
    const double off = 2.0 * w * (1.0 + ww * (1.0 / 3.0 + ww * (1.0 / 5.0)));
    const double both = em * y, rise = (y - em) * both, newton = off * both * both;
    return newton * rise / (rise * rise + 0.5 * newton * (em * em - e * y * y));
}

/* The efficiency of the lanes that are fresh at their corner: y / (e^y - 1) = theta, `efficiency_for` of `_device/efficiency.py`. */
LANE_LOOP void corner_efficiencies(Block *v)
{
    Lanes s_break, theta, y;
    copy_lanes(s_break, v->curve->kind == TABLE ? v->piece_max : v->s_max);
    EACH_OF(v, i) {
        const double s = corner_s(v, i, s_break), rate = v->rate1[i] * (v->overhead[i] + s);
        theta[i] = rate / (v->gamma[i] * power_limit(v, i, s));
        const double loss = fabs(natural_log(least(theta[i], 1.0))), target = rate > 0.0 ? loss : EFFICIENCY_MAX;
        const double rough = target > 1e-8 ? rough_log1p(target) : target;
        y[i] = most(least(target + rough, EFFICIENCY_MAX), 1e-300);
    }
    /* The start is within 4 %, and exact to rounding below 1e-8; a step of Halley leaves 2e-6, the next nothing. */
    EACH_OF(v, i) y[i] = y[i] > 1e-8 ? most(y[i] + towards(y[i], theta[i]), 1e-8) : y[i];
    EACH_OF(v, i) {
        const double polished = y[i] + towards(y[i], theta[i]), nearest = y[i] > 1e-8 ? polished : y[i];
        const double corner_y = least(nearest, EFFICIENCY_MAX), y_before = v->y[i], decayed = v->decayed[i];
        const double carried = theta[i] / corner_y, corner_decayed = theta[i] < 1.0 ? carried : INFINITY;
        v->y[i] = v->fresh[i] > 0.0 ? corner_y : y_before;
        v->decayed[i] = v->fresh[i] > 0.0 ? corner_decayed : decayed;
    }
}

/* What a lane meets that leaves its segment upwards or downwards (`way` 1 or -1): 1.0 where another segment begins there and
 * the lane has not just come from it. That segment will say whether the device belongs there or is held between the two. A piece
 * of a table where keeping more is worth nothing is not entered; `flatter` is 1.0 where there is no table. */
INLINE double passes_on(const Block *v, int i, double way, const double *flatter)
{
    const double above = v->above[i], below = v->below[i], came = v->came[i], end = way > 0.0 ? above : below;
    const double inner = end == KINK ? 1.0 : 0.0, at_break = end == BREAK ? 1.0 : inner, ahead = came * way;
    const double next = flatter[i], up = way > 0.0 ? next : 1.0;
    const double worth = end == BREAK ? up : 1.0, open = ahead < 0.0 ? 0.0 : at_break;
    return worth > 0.0 ? open : 0.0;
}

/* Puts a lane that `passes` on the segment that lies that way; `enter` does the rest. */
INLINE void pass_on(Block *v, int i, double passes, double way)
{
    const double above = v->above[i], below = v->below[i], end = way > 0.0 ? above : below, second = v->second[i];
    const double came = v->came[i], piece = v->piece[i], turned = end == KINK ? 1.0 - second : second;
    const double next = end == BREAK ? piece - way : piece;
    v->second[i] = passes > 0.0 ? turned : second;
    v->piece[i] = passes > 0.0 ? next : piece;
    v->came[i] = passes > 0.0 ? way : came;
}

/* One step of `newton`, pending in `v->step`; which lanes have yet to move by more than the tolerance is left in
 * `v->flag`. The efficiency stays above 0; a step out of the bracket bisects. Who is beyond the end of the segment that the
 * root lies beyond has seen enough, or goes on in the next segment (`v->passed`). */
LANE_LOOP int propose(Block *v, int bisect)
{
    uint64_t unfinished = 0;
    const int power_law = v->curve->kind == POWER_LAW;
    const double trust = bisect ? 0.0 : 1.0, further = power_law ? 2.0 : 1.25;
    Lanes quick, flatter;
    copy_lanes(quick, power_law ? v->quick : v->bend);
    copy_lanes(flatter, v->curve->kind == TABLE ? v->flatter : ones);
    EACH_OF(v, i) {
        const double y = v->y[i], excess = v->excess[i], by = excess * v->per_slope[i], s = v->s[i], b = v->b[i];
        const double free = v->corner[i] == UNSET ? 1.0 : 0.0, top = v->top[i], bottom = v->bottom[i];
        const double low = excess <= 0.0 ? y : v->low[i], high = excess >= 0.0 ? y : v->high[i];
        /* Halley's step, or Newton's in 1/y where that is long; beyond half the bracket neither has seen enough. */
        const double turned = most(1.0 - 0.5 * by * v->curl[i], 0.8), near = by < 0.5 * y * turned ? 1.0 : 0.0;
        const double straight = y - (near > 0.0 ? by : by * y) / (near > 0.0 ? turned : y + by);
        const double closed = high < EFFICIENCY_MAX ? low : 0.0, halfway = 0.5 * (low + high);
        const double floor = closed > 0.0 ? halfway : 0.0, roof = closed > 0.0 ? halfway : EFFICIENCY_MAX;
        const double up = least(straight, roof), left = excess > -INFINITY ? up : further * y;
        const double proposed = excess > 0.0 ? most(straight, floor) : left;
        const double tolerance = v->paid.tolerance[i], close = fabs(by) <= tolerance * y ? 1.0 : 0.0;
        const double small = fabs(by) * quick[i] <= tolerance ? close : 0.0;
        const double above = proposed > low ? trust : 0.0, inside = proposed <= high ? above : 0.0;
        const double middle = low > 0.0 ? halfway : 0.25 * high;
        const double next = inside + small > 0.0 ? proposed : middle, step = next - y;
        /* Where the step leads: rate0 + rate1 s = b y. */
        const double ahead = small > 0.0 ? b * (1.0 - v->bend[i] * y) * step : 0.0, rate1 = v->rate1[i];
        const double over = ahead >= (top - s) * rate1 ? 1.0 : 0.0, under = ahead <= (bottom - s) * rate1 ? 1.0 : 0.0;
        const double more = excess >= 0.0 ? over : small * over, fewer = excess <= 0.0 ? under : small * under;
        const double beyond = excess > -INFINITY ? most(more, fewer) : 0.0, way = fewer > 0.0 ? -1.0 : 1.0;
        const double onward = passes_on(v, i, way, flatter), passes = free * beyond > 0.0 ? onward : 0.0, stays = passes > 0.0 ? 0.0 : 1.0;
        const double finished = most(small, beyond), open = high - low > 1e-15 * high ? 1.0 - finished : 0.0;
        const double stops = beyond > 0.0 ? 1.0 - small : 0.0, moves = free * stays * (1.0 - stops);
        pass_on(v, i, passes, way);
        v->low[i] = passes > 0.0 ? 0.0 : low;
        v->high[i] = passes > 0.0 ? EFFICIENCY_MAX : high;
        v->step[i] = moves > 0.0 ? step : 0.0;
        v->passed[i] = passes;
        const double flag = most(free * open * stays, passes);
        v->flag[i] = flag;
        unfinished |= double_to_bits(flag);
    }
    return unfinished != 0;
}

LANE_LOOP void take_step(Block *v)
{
    EACH_OF(v, i) {
        v->y[i] += v->step[i];
        v->step[i] = 0.0;
    }
}

/* Halley's steps in y for the lanes without a corner, until each pending one would change b by less than its
 * tolerance. */
static void newton(Block *v, int most_steps, int evaluated)
{
    EACH(i) {
        v->low[i] = 0.0;
        v->high[i] = EFFICIENCY_MAX;
    }
    for (int n = 0; n < most_steps; n++) {
        if (n || !evaluated) evaluate(v);
        const int unfinished = propose(v, n > 8 && n % 3 == 0);
        if (any(v->passed, v->width)) enter(v);
        if (n == most_steps - 1 || !unfinished) return;
        take_step(v);
    }
}

/* Gives up, and flags, corners that are not the answer at this price: the marginal value must not exceed it on the segment
 * above the corner, nor fall below it on the one beneath. A lane at a kink is on the segment above it, one at a break on the
 * segment beneath. At the price 0 everybody keeps all that it can. */
LANE_LOOP void leave_corners(Block *v)
{
    EACH_OF(v, i) {
        const double corner = v->corner[i], excess = v->excess[i], across = v->across[i], second = v->second[i];
        const double at_break = corner == BREAK ? 1.0 : 0.0, here_high = excess > 0.0 ? 1.0 : 0.0, here_low = excess < 0.0 ? 1.0 : 0.0;
        const double there_high = across > 0.0 ? 1.0 : 0.0, there_low = across < 0.0 ? 1.0 : 0.0;
        const double too_high = at_break > 0.0 ? there_high : here_high, off_floor = too_high * (1.0 - v->pinned[i]);
        const double too_low = at_break > 0.0 ? here_low : there_low, between = too_low + too_high;
        const double inner = corner == KINK ? 1.0 : at_break, at_end = corner == FLOOR ? off_floor : here_low;
        const double off = inner > 0.0 ? between : at_end, priced = v->paid.price[i] > 0.0 ? off : 0.0;
        const double gone = corner == UNSET ? 0.0 : priced, first = too_low > 0.0 ? 0.0 : 1.0, piece = v->piece[i];
        v->second[i] = corner == KINK ? first : second;
        v->piece[i] = at_break * gone * (1.0 - too_low) > 0.0 ? piece - 1.0 : piece;
        v->corner[i] = gone > 0.0 ? UNSET : corner;
        v->flag[i] = gone;
    }
}

/* Devices that cannot or need not leave their floor are put there, and at the price 0 the others where they keep most. */
LANE_LOOP void pin(Block *v)
{
    EACH_OF(v, i) {
        const double corner = v->corner[i], pinned = v->pinned[i], put = pinned > 0.0 ? FLOOR : SATURATED;
        const double idle = corner == UNSET ? pinned : 0.0, moved = corner == put ? 0.0 : 1.0;
        const double fresh = v->paid.price[i] > 0.0 ? idle : moved;
        v->corner[i] = fresh > 0.0 ? put : corner;
        v->fresh[i] = fresh;
        v->step[i] = 0.0;
        v->came[i] = 0.0;
    }
}

/* Puts lanes beyond the ends of their segment on its corners, for `corner_efficiencies` to find, or, flagged, on the segment that begins
 * there. */
LANE_LOOP void stop_at_corners(Block *v)
{
    Lanes flatter;
    copy_lanes(flatter, v->curve->kind == TABLE ? v->flatter : ones);
    EACH_OF(v, i) {
        const double held = v->corner[i], step = v->step[i], top = v->top[i], bottom = v->bottom[i], piece = v->piece[i];
        const double above = v->above[i], below = v->below[i];
        /* Where the pending step leads: rate0 + rate1 s = b y. */
        const double s = v->s[i] + v->b[i] * (1.0 - v->bend[i] * v->y[i]) * step / v->rate1[i];
        const double upper = s >= top ? above : UNSET, ended = s <= bottom ? below : upper, way = s <= bottom ? -1.0 : 1.0;
        const double end = v->flag[i] > 0.0 ? UNSET : ended;  /* Newton has not done with it */
        const double fresh = v->fresh[i], at_end = end == UNSET ? 0.0 : 1.0, reached = held == UNSET ? at_end : 0.0;
        const double onward = passes_on(v, i, way, flatter), passes = reached > 0.0 ? onward : 0.0;
        const double stops = passes > 0.0 ? 0.0 : reached, second = v->second[i], came = v->came[i];
        /* A break is the upper end of the piece beneath it. */
        const double beneath = way < 0.0 ? stops : 0.0, moved = passes > 0.0 ? -way : beneath;
        const double turned = end == KINK ? 1.0 - second : second;
        v->second[i] = passes > 0.0 ? turned : second;
        v->piece[i] = end == BREAK ? piece + moved : piece;
        v->came[i] = passes > 0.0 ? way : came;
        v->flag[i] = passes;
        v->fresh[i] = held == UNSET ? stops : fresh;
        v->corner[i] = stops > 0.0 ? end : held;
        v->step[i] = stops > 0.0 ? 0.0 : step;
    }
}

/* What a lane at a corner holds. */
LANE_LOOP void hold_corners(Block *v)
{
    Lanes s_break;
    copy_lanes(s_break, v->curve->kind == TABLE ? v->piece_max : v->s_max);
    EACH_OF(v, i) {
        const double corner = v->corner[i], free_s = v->s[i], held_s = corner_s(v, i, s_break);
        const double s = corner == UNSET ? free_s : held_s;
        /* Who cannot be heard says nothing. */
        const double most_p = power_limit(v, i, s), limit = v->gamma[i] > 0.0 ? most_p : 0.0;
        const double p = corner == UNSET ? v->p[i] : limit;
        const double sends = v->overhead[i] + s > 0.0 ? 1.0 : 0.0, decayed = v->decayed[i];
        const double carried = v->gamma[i] * p * decayed, enough = decayed < INFINITY ? carried : NO_BANDWIDTH;
        const double held = sends > 0.0 ? enough : 0.0;
        const double b = v->b[i], per_slope = v->per_slope[i];
        v->s[i] = s;
        v->p[i] = p;
        v->b[i] = corner == UNSET ? b : held;
        v->per_slope[i] = corner == UNSET ? per_slope : 0.0;  /* d y / d ln price */
    }
}

/* The rest of an answer, once Newton has had its say; whether a lane has passed a kink unseen. */
static int finish(Block *v)
{
    stop_at_corners(v);
    if (any(v->flag, v->width) || (v->curve->kind == TABLE && any(v->fresh, v->width))) enter(v);
    if (any(v->fresh, v->width)) corner_efficiencies(v);  /* before giving up: `pin` forgets who is fresh */
    if (any(v->flag, v->width)) return 0;
    hold_corners(v);
    return 1;
}

/* The answer of a block to its price, each efficiency to a pending step below its tolerance, or taken if `exact`. */
static void respond(Block *v, int exact)
{
    evaluate(v);
    leave_corners(v);
    int evaluated = !any(v->flag, v->width);
    if (!evaluated) enter(v);
    pin(v);
    do {
        newton(v, exact ? 100 : SEARCH_STEPS, evaluated);
        if (exact) {
            take_step(v);
            place(v);
        }
        evaluated = 0;
    } while (!finish(v));
}

/* Flags who is not where its price wants it, after `leave_corners`. */
LANE_LOOP void doubt(Block *v)
{
    EACH_OF(v, i) {
        const double free = v->corner[i] == UNSET ? 1.0 : 0.0, off = fabs(v->excess[i]) > PLACED ? free : 0.0;
        v->flag[i] = most(v->flag[i], off);
    }
}

/* The same where the efficiencies should be right. */
static void confirm(Block *v)
{
    const int exact = 1;
    check(v);
    leave_corners(v);
    doubt(v);
    const int wrong = any(v->flag, v->width);
    if (wrong) enter(v);
    else pin(v);
    if (wrong || !finish(v)) respond(v, exact);
}

/* Takes up a device where the last sweep left it: its regime and piece, and its efficiency, moved as its price has been
 * since. */
LANE_LOOP void recall(Block *v)
{
    const int table = v->curve->kind == TABLE, power_law = v->curve->kind == POWER_LAW;
    EACH_OF(v, i) {
        const double code = v->code[i], known = v->known[i], moves = v->moves[i], kinked = v->kinked[i], fresh_y = v->y[i];
        const double energy_second = 1.0 - v->energy_first[i];
        const double on_energy = code == ENERGY ? energy_second : 0.0;
        const double on_peak = code == PEAK ? 1.0 - energy_second : on_energy;
        const double chosen = code == UNSET ? v->second[i] : on_peak;  /* a start chose it */
        const double second = code == SATURATED ? 1.0 : code == KINK ? 1.0 : chosen;
        const double moving = code == ENERGY ? 1.0 : code == PEAK ? 1.0 : 0.0;
        /* Only the price 0 saturates a power law: it is taken up where it was before that was tried. */
        const double fades = power_law && code == SATURATED ? v->power[i] * v->paid.price[i] : 0.0;
        const double free = fades > 0.0 ? 1.0 : moving;
        const double shifted = known + (free > 0.0 ? moves * v->paid.moved[i] : 0.0);
        const double usable = shifted > 0.5 * known ? least(shifted, EFFICIENCY_MAX) : known;
        const double left = code != UNSET ? v->held[i] : v->piece[i], held = table ? left : 0.0;
        const double at_break = held < 0.0 ? 1.0 : 0.0;
        const double loose = at_break > 0.0 ? BREAK : UNSET;
        v->y[i] = code == UNSET ? fresh_y : usable;
        v->per_slope[i] = moves;
        v->second[i] = kinked > 0.0 ? second : 0.0;
        v->corner[i] = free > 0.0 ? loose : code;
        v->piece[i] = at_break > 0.0 ? -1.0 - held : held;
    }
    enter(v);
}

LANE_LOOP void leave_off(Block *v)
{
    const int power_law = v->curve->kind == POWER_LAW;
    EACH_OF(v, i) {
        const double branch = v->energy_first[i] != v->second[i] ? ENERGY : PEAK, corner = v->corner[i], piece = v->piece[i];
        const double at_break = corner == BREAK ? 1.0 : 0.0, code = corner == UNSET ? branch : corner;
        v->code[i] = at_break > 0.0 ? branch : code;
        v->held[i] = at_break > 0.0 ? -1.0 - piece : piece;
        const double fades = power_law ? v->power[i] : 0.0, kept = v->paid.price[i] > 0.0 ? 0.0 : fades;
        const double known = v->known[i], moves = v->moves[i];
        v->known[i] = kept > 0.0 ? known : v->y[i] + v->step[i];
        v->moves[i] = kept > 0.0 ? moves : v->per_slope[i];
    }
}

#endif
