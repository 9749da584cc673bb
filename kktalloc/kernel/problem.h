/* What both kernels are given: the fields of a validated problem, in SI units, under their names in Python. */
#ifndef KKTALLOC_PROBLEM_H
#define KKTALLOC_PROBLEM_H

#include "lanes.h"

enum { BANDWIDTH_HZ, NOISE_PSD_W_PER_HZ, DEADLINE_S, TOTAL_POWER_W, CELL_FIELDS };  /* the last infinite where there is no cap */
enum {
    CHANNEL_GAIN, TX_POWER_MAX_W, PAYLOAD_BITS, PRUNED_COMPUTE_S, OVERHEAD_BITS, FIXED_LATENCY_S, ENERGY_BUDGET_J,
    PRUNED_COMPUTE_J, FIXED_ENERGY_J, PA_EFFICIENCY, PRUNING_RATIO_MAX, WEIGHT, DEVICE_FIELDS
};

/* The pruning error e(rho) of every device: rho itself; scale * rho^exponent; or straight lines between points, whose
 * ratios rise from 0 to 1 and whose slopes never fall. A column holds the first point, or slope, of each device. */
enum { LINEAR, POWER_LAW, TABLE };
enum { MOST_POINTS = 30000 };  /* pieces are counted in 16 bits */

typedef struct {
    int kind;
    Column exponent, scale;
    Column ratio, error, slope;
    ptrdiff_t ratio_step, error_step, slope_step;  /* bytes from a point to the next */
    int points;
} Curve;

typedef struct {
    Column cell[CELL_FIELDS], device[DEVICE_FIELDS];
    Curve curve;
    ptrdiff_t problems, devices;
} Problem;

INLINE double value_at(const Column *c, ptrdiff_t row) { return *(const double *)(c->data + row * c->row); }

INLINE double cell_value(const Problem *p, int field, ptrdiff_t row)
{
    return value_at(&p->cell[field], row);
}

/* Devices in one chunk, of which threads take turns; the sums of the chunks are added in order. */
enum { CHUNK = 4096 };

/* Whether lanes run across problems: small ones in numbers leave fewer lanes empty so, and sum without a reduction. */
INLINE int packed(const Problem *p) { return p->problems >= VECTOR && p->devices < 2 * LANES; }

/* What `solve` writes: (problems, devices) arrays in C order, then (problems,) arrays; `scratch` is two of the first.
 * `piece`, of the first shape too, is needed for tables alone. */
typedef struct {
    double *pruning_ratio, *bandwidth_hz, *tx_power_w, *upload_s, *latency_s, *energy_j;
    signed char *regime;
    double *objective, *price_per_hz, *price_per_w, *prices_tried;
    signed char *state;
    double *scratch;
    short *piece;
} Allocation;

/* The values of Allocation.state. */
enum { OPEN = -1, SOLVED, INFEASIBLE, UNRESOLVED };

/* Solves anew, with a price of total power, what is solved in more power than the cap allows; the part of `kkt_solve` that knows
 * of the cap. */
void within_cap(const Problem *problem, const Allocation *out, int threads);

/* 0 when memory ran out. */
int kkt_solve(const Problem *problem, const Allocation *out, int threads);

enum {
    PRIMAL_RATE, PRIMAL_ENERGY, PRIMAL_PEAK_POWER, PRIMAL_BANDWIDTH, PRIMAL_TOTAL_POWER, PRIMAL_PRUNING, DUAL,
    COMPLEMENTARITY, STATIONARITY, CONSISTENCY, DUALITY_GAP, RESOLUTION, VERDICTS
};

/* What may come with an allocation and must agree with it. */
enum { UPLOAD_S, LATENCY_S, ENERGY_J, ENERGY_PER_J, PEAK_POWER_PER_W, CLAIMS };

/* What `dual_judge` is given, claims without data being none, and what it finds: (VERDICTS, problems), and prices where
 * they are not NULL. */
typedef struct {
    Column pruning_ratio, bandwidth_hz, tx_power_w, price_per_hz, price_per_w;
    Column claims[CLAIMS], objective, deadline_claim;
    const signed char *regime;
    double *verdict, *deadline_per_s, *energy_per_j, *peak_power_per_w;
} Judgement;

/* 0 when memory ran out. */
int dual_judge(const Problem *problem, const Judgement *given, int threads);

/* A bound from below on what each device's upload costs, per_hz b + per_w p, whatever bandwidth b and power p it takes: the
 * compiled twin of `usage.py`. By tangents at the efficiencies that bandwidths `at_hz` lead to by the deadlines `by_s`. */
typedef struct {
    Column pruning_ratio, at_hz, per_w, per_hz, by_s;  /* the last two one per problem */
} Uploads;
void least_cost(const Problem *problem, const Uploads *given, double *cost);

/* What can be asked of the floors of every device. Each answer fills some of (OF_PROBLEM, problems) and (OF_DEVICE, problems,
 * devices) numbers, in the order given, in cells of bandwidth, peaks of power and caps of total power:
 *
 *   OF_FLOORS    sum of the least bandwidths, least power, ratio of the prices there |
 *                least bandwidth, what the device lacks, by itself or all together, b and p at the least power
 *   OF_CELLS     the least bandwidth
 *   OF_DEADLINE  the least deadline in seconds
 *   OF_ENERGY    prices of cell and cap and a bound on the energy of the uploads, all in joules | b, p
 *   OF_LEVEL     the least level, its fall per cell, ratio of the prices, what no level can be below, or NaN where the prices do not
 *                say that closely enough | rho, theta, b in Hz, p in W
 *   OF_SELECTION weight of the most that fit together, most weight of any selection |
 *                least bandwidth, what the device lacks by itself, whether it is one of these
 *
 * The last number of each problem is how often all its devices were asked. */
enum Question { OF_FLOORS, OF_CELLS, OF_DEADLINE, OF_ENERGY, OF_LEVEL, OF_SELECTION, QUESTIONS };
enum { OF_PROBLEM = 5, OF_DEVICE = 4 };

/* 0 when memory ran out. */
int kkt_least(const Problem *problem, enum Question question, double *of_problem, double *of_device);

int all_in_range(const double *x, ptrdiff_t count, double low, int open, double high);
int normalise(const Column *weight, ptrdiff_t rows, ptrdiff_t devices, double *out);

/* Threads that share the work of one call, at most `items` of them; NULL for one that works alone, also where no more could
 * be started. */
typedef struct Team Team;
Team *start_team(int threads, ptrdiff_t items);
void end_team(Team *team);

/* Calls work(shared, 0 .. items - 1), each once. */
void in_parallel(Team *team, void (*work)(void *shared, ptrdiff_t item), void *shared, ptrdiff_t items);

#endif
