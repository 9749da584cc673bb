/* What devices answer to a price, counted and added up. */
#ifndef KKTALLOC_TALLY_H
#define KKTALLOC_TALLY_H

#include "block.h"

/* What a problem's devices answer to a price, together. */
typedef struct {
    Total bandwidth, moving, value, objective;  /* sum b, sum -db / d ln price, sum ln m, sum weight * rho */
    double nearest;  /* ln(price at which the first device leaves its floor / price); -inf where none can */
    /* How far the log price has to move for the first device to leave its corner: down, to keep more; up, to keep less. */
    double cheaper, dearer;
    double pending, doubt;  /* the largest relative step that is to be taken, and sum b x^2 of those of b */
    double devices, valued, at_floor, fresh, at_top, hopeless;  /* how many; fresh: at a floor since this sweep */
} Sums;

/* The same of the devices that share a lane. */
typedef struct {
    LaneTotal bandwidth, moving, value, objective;
    Lanes nearest, cheaper, dearer, pending, doubt, devices, valued, at_floor, fresh, at_top, hopeless;
} Tally;

LANE_LOOP void clear_tally(Tally *t)
{
    memset(t, 0, sizeof *t);
    EACH(i) t->nearest[i] = t->cheaper[i] = -INFINITY;
    EACH(i) t->dearer[i] = INFINITY;
}

/* What efficiencies at equal shares say of the price. */
LANE_LOOP void tally_guess(Tally *restrict t, const Block *restrict v, const double *restrict here)
{
    EACH_OF(v, i) {
        const double worth = v->field[WEIGHT][i] > 0.0 ? here[i] : 0.0, finite = fabs(v->excess[i]) < INFINITY ? worth : 0.0;
        const double value = finite > 0.0 ? v->excess[i] : 0.0;
        t->valued[i] += finite;
        add_lane(&t->value, i, value);
    }
}

LANE_LOOP void tally_answer(Tally *restrict t, const Block *restrict v, const double *restrict here)
{
    Lanes beyond;  /* ln(m / price) on the piece above a break */
    if (v->curve->kind == TABLE) EACH_OF(v, i) beyond[i] = natural_log(most(1.0 + v->across[i], 0.0));
    else EACH_OF(v, i) beyond[i] = 0.0;
    EACH_OF(v, i) {
        const double one = here[i], corner = v->corner[i], pinned = v->pinned[i], step = v->step[i];
        /* Who would go on to a piece where keeping more is worth nothing has enough. */
        const double content = corner == BREAK ? (v->flatter[i] > 0.0 ? 0.0 : one) : 0.0;
        const double floor = corner == FLOOR ? one : 0.0, top = corner == SATURATED ? one : content;
        const double bend = v->bend[i], asked = v->b[i], excess = v->excess[i], fresh = v->fresh[i], hopeless = v->hopeless[i];
        const double turned = bend * step, ahead = step != 0.0 ? turned : 0.0, b = one > 0.0 ? asked : 0.0;
        /* When it leaves its floor is known from the second sweep that finds it there. */
        const double may_leave = floor * (1.0 - pinned) * (1.0 - fresh);
        const double nearest = t->nearest[i], leaves = may_leave > 0.0 ? excess : -INFINITY;
        t->nearest[i] = most(nearest, leaves);
        /* When a device leaves its corner is known from the second sweep that finds it there. */
        const double known = one * (1.0 - fresh), at_kink = corner == KINK ? known : 0.0, at_break = corner == BREAK ? known : 0.0;
        const double up = at_break > 0.0 ? beyond[i] : excess, cheaper = t->cheaper[i], dearer = t->dearer[i];
        const double down = at_kink > 0.0 ? v->across[i] : excess, saturated = corner == SATURATED ? known : 0.0;
        t->cheaper[i] = most(cheaper, at_break + at_kink + may_leave > 0.0 ? up : -INFINITY);
        t->dearer[i] = least(dearer, at_break + at_kink + saturated > 0.0 ? down : INFINITY);
        const double pending = t->pending[i], by = fabs(step) / v->y[i], larger = most(fabs(ahead), by);
        const double due = one > 0.0 ? larger : 0.0;
        t->pending[i] = most(pending, due);
        t->doubt[i] += b * ahead * ahead;
        t->devices[i] += one;
        t->at_floor[i] += floor;
        t->fresh[i] += fresh * floor;
        t->at_top[i] += pinned > 0.0 ? one : top;
        t->hopeless[i] += hopeless > 0.0 ? one : 0.0;
        const double x = least(ahead, 1.0);
        add_lane(&t->bandwidth, i, b * (1.0 - x + 0.5 * x * x));
        add_lane(&t->moving, i, b * bend * v->per_slope[i]);
    }
}

/* Of all lanes together. */
static Sums sum_up(Tally *t, int width)
{
    Sums sums = {.nearest = -INFINITY, .cheaper = -INFINITY, .dearer = INFINITY};
    for (int i = 0; i < width; i++) {
        sums.nearest = most(sums.nearest, t->nearest[i]);
        sums.cheaper = most(sums.cheaper, t->cheaper[i]);
        sums.dearer = least(sums.dearer, t->dearer[i]);
        sums.pending = most(sums.pending, t->pending[i]);
        sums.doubt += t->doubt[i];
    }
    sums.bandwidth = total_of(&t->bandwidth, width);
    sums.moving = total_of(&t->moving, width);
    sums.value = total_of(&t->value, width);
    sums.objective = total_of(&t->objective, width);
    sums.devices = sum_lanes(t->devices, width);
    sums.valued = sum_lanes(t->valued, width);
    sums.at_floor = sum_lanes(t->at_floor, width);
    sums.fresh = sum_lanes(t->fresh, width);
    sums.at_top = sum_lanes(t->at_top, width);
    sums.hopeless = sum_lanes(t->hopeless, width);
    return sums;
}

/* Of one lane. */
static Sums sum_of(const Tally *t, int i)
{
    const Sums sums = {
        {t->bandwidth.sum[i], t->bandwidth.carry[i]}, {t->moving.sum[i], t->moving.carry[i]},
        {t->value.sum[i], t->value.carry[i]}, {t->objective.sum[i], t->objective.carry[i]},
        t->nearest[i], t->cheaper[i], t->dearer[i], t->pending[i], t->doubt[i], t->devices[i], t->valued[i],
        t->at_floor[i], t->fresh[i], t->at_top[i], t->hopeless[i],
    };
    return sums;
}

#endif
