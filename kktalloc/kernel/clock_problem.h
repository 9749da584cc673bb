/* Problems whose devices have a clock and electronics: what is given, and what is found and judged of them. */
#ifndef KKTALLOC_CLOCK_PROBLEM_H
#define KKTALLOC_CLOCK_PROBLEM_H

#include "problem.h"

/* What such devices have beside the fields of problem.h. */
enum { BANDWIDTH_MAX_HZ, CIRCUIT_POWER_W, CLOCK_MIN, CLOCK_MAX, FIXED_COMPUTE_S, FIXED_COMPUTE_J, CLOCK_FIELDS };

typedef struct {
    Problem problem;
    Column own[CLOCK_FIELDS];
} ClockProblem;

/* `Regime` of Python. */
enum {
    AT_FLOOR, ON_ENERGY, AT_KINK, ON_PEAK, AT_TOP, ON_TOTAL_POWER, AT_BANDWIDTH_MAX, ON_CLOCK, ON_CLOCK_MIN, FINISHED_EARLY
};

INLINE double own_value(const ClockProblem *p, int field, ptrdiff_t row, ptrdiff_t k)
{
    const Column *c = &p->own[field];
    return *(const double *)(c->data + row * c->row + k * c->step);
}

/* What `solve_clocks` writes: (problems, devices) arrays in C order, then (problems,) arrays. */
typedef struct {
    double *pruning_ratio, *bandwidth_hz, *tx_power_w, *upload_s, *latency_s, *energy_j, *clock;
    signed char *regime;
    double *objective, *price_per_hz, *prices_tried;
    signed char *state;
} ClockAnswer;

/* 0 when memory ran out. The price of the cap on total power is not looked at. */
int solve_clocks(const ClockProblem *problem, const ClockAnswer *out, int threads);

/* What each device keeps at the logarithm of a price per cell of bandwidth, and how: pruning ratio, least bandwidth in cells, power in
 * peaks and clock, (4, problems, devices). The bandwidth is infinite where none serves a device's floor. 0 when memory ran out. */
int keep_clocks(const ClockProblem *problem, double log_price, double *out);

enum {
    CLOCK_RATE, CLOCK_ENERGY, CLOCK_PEAK_POWER, CLOCK_BANDWIDTH, CLOCK_BANDWIDTH_MAX, CLOCK_TOTAL_POWER, CLOCK_PRUNING,
    CLOCK_RANGE, CLOCK_CONSISTENCY, CLOCK_DUAL, CLOCK_COMPLEMENTARITY, CLOCK_STATIONARITY, CLOCK_GAP, CLOCK_RESOLUTION,
    CLOCK_VERDICTS
};

/* What `judge_clocks` finds: (CLOCK_VERDICTS, problems), prices of the deadline, (problems,), and of the devices' own limits. */
typedef struct {
    double *verdict, *deadline_per_s;
    double *energy_per_j, *peak_power_per_w, *bandwidth_max_per_hz, *clock_max, *clock_min, *circuit_power_per_w;
} ClockJudgement;

void judge_clocks(const ClockProblem *problem, const ClockAnswer *given, const ClockJudgement *out, int threads);

#endif
