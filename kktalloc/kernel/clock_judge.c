/* Judges devices with a clock and electronics: the compiled twin of `_certificate/clocked.py`, where the bound is derived, and
 * of `_certify_clocked`. It knows the original variables and weak duality; nothing of how they were found. */
#include "clock_problem.h"
#include "device.h"
#include "error.h"

#define KEEP_RATIO 1e-15  /* half an ulp of rho decides no more than this of the keep ratio */
#define EPS 2.220446049250313e-16
#define ROUNDED 1e-14  /* relative, of what a device may radiate */
/* Of y and of omega: where tau, or what the budget leaves to carry, is all rounding they would leave no bound. */
static const double SHIFTS[][2] = {{1.0, 1.0}, {1.0 + 1e-12, 1.0}, {1.0 + 1e-10, 1.0}, {1.0, 1.0 - 2e-15}, {1.0, 1.0 - 1e-11}};
enum { CANDIDATES = 5, SHIFTED = 5 };

/* A device and its allocation in SI units. */
typedef struct {
    double alpha, S, L, c, j, w_s, w_j, g, T, E, P, eta, p_c, low, high, own, q_min;
    double rho, q, b, p, clock;
    double kappa, slowest, y, f, G, t, steep, flat, room;
    int works, budget;
} Seen;

/* `Terms` of Python: what prices make of a device. */
typedef struct {
    double value, least, off, price, energy, peak_power, time, circuit_power, clock_max, clock_min;
} Term;

/* At an efficiency and a share of the price of radiated energy that the budget carries. */
typedef struct {
    double f, per_j, tau;
} Worth;

static double clipped(double x, double low, double high) { return x > low ? (x < high ? x : high) : low; }

static Worth worth_at(const Seen *v, double y, double omega)
{
    const double f = phi_at(y, -expm1(-y)), G = v->g * exp(-y);
    return (Worth){f, G * omega * v->eta, most(v->b * f + G * ((1.0 - omega) * v->P - omega * v->eta * v->p_c), 0.0)};
}

static double best_clock(const Seen *v, double per_j, double tau)
{
    if (!v->works) return v->low;
    const double turn = per_j * v->kappa;
    return turn > 0.0 ? clipped(cbrt(tau / (2.0 * turn)), v->slowest, v->high) : clipped(v->high, v->slowest, v->high);
}

static double beyond(const Seen *v, double per_j, double tau)
{
    const double s = best_clock(v, per_j, tau);
    const double heat = per_j > 0.0 ? per_j * ((v->budget ? v->E : 0.0) - v->w_j * s * s) : 0.0;
    return heat + tau * (v->T - (v->w_s > 0.0 ? v->w_s / s : 0.0)) - v->L;
}

/* A lower bound on the bandwidth, Hz: what may be carried is convex in tau, and so below a chord between two of them, the lower of
 * which falls short. That is 0, or where half of the upload's time is left: with less tau the clock is slower. */
static double least_hz(const Seen *v, double y, double omega)
{
    const Worth w = worth_at(v, y, omega);
    const double here = beyond(v, w.per_j, w.tau);
    if (!(w.tau > 0.0 && (v->budget || omega == 0.0))) return -INFINITY;
    if (here <= 0.0) return v->b;
    const double s = best_clock(v, w.per_j, w.tau), slower = v->w_s / (0.5 * (v->T + v->w_s / s)) / s;
    const double less[] = {0.0, w.tau * clipped(slower * slower * slower, 0.5, 1.0)};
    double best = -INFINITY;
    for (int n = 0; n < 2; n++) {
        const double low = beyond(v, w.per_j, less[n]), bound = v->b - here * (w.tau - less[n]) / ((here - low) * w.f);
        if (low < 0.0 && bound > best) best = least(bound, v->b);
    }
    return best;
}

/* The slope of the least bandwidth that belongs to these prices. */
static double slope_at(const Seen *v, double omega)
{
    const Worth w = worth_at(v, v->y, omega);
    /* The clock at which the first bit of work would be done, where there is none. */
    const double s = v->w_s > 0.0 ? v->clock : best_clock(v, w.per_j, w.tau);
    return (v->S + w.per_j * v->j * s * s + w.tau * v->c / s) / (v->t * w.f);
}

/* What a device gains at most that sends nothing: it would keep no more than it takes to send at the efficiency at which its
 * first bit just pays. */
static double idle_gain(const Seen *v, double lam)
{
    const double left = v->E - v->w_j * v->slowest * v->slowest;
    const double longest = fmin(v->T - v->w_s / fmin(v->high, sqrt(v->E / v->w_j)), left / v->p_c);
    const double z = lam * v->S / (v->steep * longest), first = fmin(z + 1.0 - exp(-z), 690.0);
    const double energy = v->budget ? v->eta * left : INFINITY, most_sent = v->P * longest;
    const double sent = most_sent < energy ? most_sent : energy;
    const double share = first > 0.0 ? first / expm1(first) : 1.0;  /* of what any bandwidth would carry */
    const double kept = v->g * sent * share / v->S;
    return v->steep == 0.0 || longest <= 0.0 ? 0.0 : v->steep * (kept < 1.0 ? kept : 1.0);
}

/* Whether all of its own bandwidth is used, but for what an ulp of rho may leave of it. */
static int at_own_limit(const Seen *v, double slope) 
{
    return v->own < INFINITY && v->own - v->b <= 1e-9 * v->own + KEEP_RATIO * slope;
}

static Term term_at(const Seen *v, double lam, double value)
{
    const double sending = most(v->low, v->T != 0.0 ? v->w_s / v->T : INFINITY);
    /* Who can radiate nothing stays where it is. */
    const int mute = v->g * v->P <= 0.0 || v->own <= 0.0 || v->E - v->w_j * sending * sending <= 0.0 || v->T <= 0.0;
    const int sends = v->b > 0.0;
    const double idle = mute || sends ? 0.0 : idle_gain(v, lam);
    Term best = {mute || !sends ? v->alpha * value - idle : -INFINITY, 0.0, idle, lam, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
    if (mute || !sends) return best;
    const double whole = v->b * v->f + v->G * v->P, s = v->clock, per_c = v->c / s;
    /* Half an ulp of rho moves the slope of B by about this much of it, d ln phi / d ln(load of the radiated energy) and of the
     * upload's time: next to the wideband limit, or where little energy or time is left to radiate, by far more than an ulp. */
    const double fallen = -expm1(-v->y), growth = v->y < 1e-2 ? 0.5 + v->y / 12.0 : 1.0 / fallen - 1.0 / v->y;
    const double load_q = v->S / v->L + (per_c * (v->p + v->eta * v->p_c) + v->eta * v->j * s * s) / (v->p * v->t);
    const double blur = KEEP_RATIO * (load_q * fallen / (v->f * growth) + per_c / v->t);
    const double at_peak = slope_at(v, 0.0), worth = at_own_limit(v, at_peak) ? most(v->flat, lam * at_peak) : v->steep;
    const double omegas[CANDIDATES] = {
        0.0, 1.0, whole / (v->G * (v->P + v->eta * (v->p_c + 2.0 * v->kappa * s * s * s))),
        whole / (v->G * (v->P + v->eta * v->p_c)),
        /* The one at which the device would stay at this price, where peak, energy and clock all bind. */
        (worth * v->t * v->f / lam - v->S - whole * per_c) / (v->G * (v->eta * v->j * s * s - (v->P + v->eta * v->p_c) * per_c)),
    };
    for (int n = 0; n < CANDIDATES; n++) {
        const double omega = omegas[n] == omegas[n] ? clipped(omegas[n], 0.0, 1.0) : 0.0, slope = slope_at(v, omega);
        const double price = at_own_limit(v, slope) ? most(lam, v->flat / slope) : lam, gain = price * slope;
        const double down = gain * (1.0 - blur) - v->steep, up = v->flat - gain * (1.0 + blur);
        const double off = most(most(down * (v->q - v->q_min), up * v->room), 0.0);
        for (int i = 0; i < SHIFTED; i++) {
            const double bound = least_hz(v, v->y * SHIFTS[i][0], omega * SHIFTS[i][1]), paid = price > 0.0 ? price * bound : 0.0;
            const double reached = v->alpha * value + paid - off - (price > lam ? (price - lam) * v->own : 0.0);
            if (!(reached > best.value)) continue;
            const Worth w = worth_at(v, v->y, omega);
            const double unit = price / (v->t * w.f), bend = unit * (w.tau * v->w_s / (s * s) - 2.0 * w.per_j * v->w_j * s);
            best = (Term){
                reached, bound, off, price, unit * w.per_j, unit * (v->G * (1.0 - omega)) * v->t, unit * w.tau,
                unit * w.per_j * v->t, s >= v->high * (1.0 - 1e-9) ? most(bend, 0.0) : 0.0,
                s <= v->low * (1.0 + 1e-9) ? most(-bend, 0.0) : 0.0,
            };
            if (bound == v->b) {  /* as tight as it can be */
                if (off == 0.0 && price == lam) return best;
                break;
            }
        }
    }
    return best;
}

/* What is no number is the worst there is, and stays so. */
static void worsen(double *worst, double value)
{
    if (*worst == *worst && !(value <= *worst)) *worst = value;
}

static double relative(double got, double want)
{
    return got == want ? 0.0 : fabs(got - want) / (fabs(want) > 0.0 ? fabs(want) : 1.0);
}

/* How far a device is from the limit that it is said to sit at, 1 for a limit that does not exist. */
static double regime_off(const Seen *v, int regime, double energy_j, double budget, double latency_s, double deadline)
{
    const double past = v->q - v->q_min, at_peak = fabs(v->p - v->P) / most(v->P, 1e-300);
    const double at_own = v->own < INFINITY ? fabs(v->b - v->own) / most(v->own, 1e-300) : 1.0;
    const double at_budget = (budget < INFINITY ? fabs(energy_j - budget) / most(budget, 1e-300) : 1.0) * past;
    const double slowest = fabs(v->clock - v->low) / v->low, in_time = fabs(latency_s - deadline) / deadline;
    const double between = v->clock >= v->low && v->clock <= v->high ? 0.0 : 1.0;
    switch (regime) {
    case AT_FLOOR: return past;
    case ON_ENERGY: return at_budget;
    case AT_KINK: return most(at_peak * past, at_budget);
    case ON_PEAK: return at_peak * past;
    case AT_TOP: return 1.0 - v->q;
    case ON_TOTAL_POWER: return v->alpha == 0.0 || v->rho <= 0.0 ? 0.0 : 1.0;
    case AT_BANDWIDTH_MAX: return at_own * past;
    case ON_CLOCK: return most(at_budget, (between + in_time) * past);
    case ON_CLOCK_MIN: return most(at_budget, (slowest + in_time) * past);
    case FINISHED_EARLY: return most(at_budget, slowest * past);
    default: return 1.0;
    }
}

typedef struct {
    double worst[CLOCK_VERDICTS];
    Total handed_out, radiated, held, objective, scale, value, unused, later, owned;
} Sums;

/* How much more all the bandwidth of the world would carry in the time that a clock leaves, and with the energy. */
static double in_time(const Seen *v, double s)
{
    const double taken = v->w_s > 0.0 ? v->w_s / s : 0.0, sent = v->L / v->g * (1.0 - ROUNDED);
    return (v->P * (v->T * (1.0 + ROUNDED) - taken) - sent) / (v->P * v->c / s + v->S / v->g);
}

static double on_budget(const Seen *v, double s)
{
    const double each = 1.0 / v->eta + v->p_c / v->P, sent = v->L / v->g * (1.0 - ROUNDED);
    if (!v->budget) return INFINITY;
    return ((v->E * (1.0 + ROUNDED) - v->w_j * s * s) / each - sent) / (v->j * s * s / each + v->S / v->g);
}

static Seen seen_of(const ClockProblem *p, const ClockAnswer *given, ptrdiff_t row, ptrdiff_t k)
{
    const Problem *plain = &p->problem;
    const ptrdiff_t i = row * plain->devices + k;
    double bend;
    Seen v = {
        .alpha = device_value(plain, WEIGHT, row, k), .S = device_value(plain, PAYLOAD_BITS, row, k) * LN2,
        .c = device_value(plain, PRUNED_COMPUTE_S, row, k), .j = device_value(plain, PRUNED_COMPUTE_J, row, k),
        .g = device_value(plain, CHANNEL_GAIN, row, k) / cell_value(plain, NOISE_PSD_W_PER_HZ, row),
        .T = cell_value(plain, DEADLINE_S, row) - device_value(plain, FIXED_LATENCY_S, row, k),
        .E = device_value(plain, ENERGY_BUDGET_J, row, k) - device_value(plain, FIXED_ENERGY_J, row, k),
        .P = device_value(plain, TX_POWER_MAX_W, row, k), .eta = device_value(plain, PA_EFFICIENCY, row, k),
        .p_c = own_value(p, CIRCUIT_POWER_W, row, k), .low = own_value(p, CLOCK_MIN, row, k),
        .high = own_value(p, CLOCK_MAX, row, k), .own = own_value(p, BANDWIDTH_MAX_HZ, row, k),
        .q_min = 1.0 - device_value(plain, PRUNING_RATIO_MAX, row, k), .rho = given->pruning_ratio[i],
        .b = given->bandwidth_hz[i], .p = given->tx_power_w[i], .clock = given->clock[i],
    };
    const double c0 = own_value(p, FIXED_COMPUTE_S, row, k), j0 = own_value(p, FIXED_COMPUTE_J, row, k);
    const Curve *curve = &plain->curve;
    v.q = 1.0 - v.rho;
    v.L = v.S * v.q + device_value(plain, OVERHEAD_BITS, row, k) * LN2;
    v.w_s = v.c * v.q + c0;
    v.w_j = v.j * v.q + j0;
    v.works = c0 + v.c > 0.0;
    v.kappa = v.works ? (j0 + v.j) / (c0 + v.c) : 0.0;
    v.budget = v.E < INFINITY && v.E > -INFINITY;
    /* No upload takes less than no time. */
    v.slowest = least(most(v.low, v.w_s > 0.0 ? v.w_s / v.T : 0.0), v.high);
    /* A faster clock leaves more time to radiate and less energy: at any clock the larger of both bounds what may be added. */
    const double either = most(in_time(&v, v.clock), on_budget(&v, v.clock));
    v.room = clipped(least(either, least(in_time(&v, v.high), on_budget(&v, v.slowest))), 0.0, 1.0 - v.q);
    const int sends = v.b > 0.0;
    v.y = sends ? log1p(v.g * v.p / v.b) : 1.0;
    v.t = sends ? v.L / (v.b * v.y) : 0.0;
    v.f = phi_at(v.y, -expm1(-v.y));
    v.G = v.g * exp(-v.y);
    v.steep = v.alpha * error_slope(curve, row, k, clipped(v.rho + KEEP_RATIO, 0.0, 1.0), &bend);
    v.flat = v.rho > 0.0 ? v.alpha * error_slope(curve, row, k, clipped(v.rho - KEEP_RATIO, 0.0, 1.0), &bend) : 0.0;
    return v;
}

/* Whether a field holds what is no finite number: written there since it was validated. */
static int spoilt(const ClockProblem *p, ptrdiff_t row, ptrdiff_t k)
{
    for (int i = 0; i < DEVICE_FIELDS; i++) {
        const double x = device_value(&p->problem, i, row, k);
        if (!(fabs(x) < INFINITY) && !(i == ENERGY_BUDGET_J && x == INFINITY)) return 1;
    }
    for (int i = 0; i < CLOCK_FIELDS; i++) {
        const double x = own_value(p, i, row, k);
        if (!(fabs(x) < INFINITY) && !(i == BANDWIDTH_MAX_HZ && x == INFINITY)) return 1;
    }
    return 0;
}

static void judge_device(const ClockProblem *p, const ClockAnswer *given, const ClockJudgement *out, ptrdiff_t row, ptrdiff_t k,
                         Sums *sums)
{
    const Problem *plain = &p->problem;
    const ptrdiff_t i = row * plain->devices + k;
    const Seen v = seen_of(p, given, row, k);
    const double B = cell_value(plain, BANDWIDTH_HZ, row), deadline = cell_value(plain, DEADLINE_S, row);
    const double budget = device_value(plain, ENERGY_BUDGET_J, row, k), lam = most(given->price_per_hz[row], 0.0);
    const Curve *curve = &plain->curve;
    const double error = error_value(curve, row, k, v.rho);

    /* What the allocation implies. */
    const double bits = v.L / LN2, rate = v.b > 0.0 ? v.b * log1p(v.g * v.p / v.b) / LN2 : 0.0;
    const double upload = bits > 0.0 ? bits / rate : 0.0, drawn = upload > 0.0 ? (v.p / v.eta + v.p_c) * upload : 0.0;
    const double compute = v.w_s / v.clock, latency = device_value(plain, FIXED_LATENCY_S, row, k) + compute + upload;
    const double energy = device_value(plain, FIXED_ENERGY_J, row, k) + v.w_j * v.clock * v.clock + drawn;
    add(&sums->handed_out, most(v.b, 0.0));
    add(&sums->radiated, most(v.p, 0.0));
    add(&sums->held, v.b);
    add(&sums->objective, v.alpha * error);
    add(&sums->scale, v.alpha * (error_value(curve, row, k, 1.0) - error_value(curve, row, k, 0.0)));

    double *worst = sums->worst;
    worsen(&worst[CLOCK_RATE], (upload - (v.T - compute)) / most(v.T, 1e-300));
    if (budget < INFINITY) worsen(&worst[CLOCK_ENERGY], (energy - budget) / most(budget, 1e-300));
    worsen(&worst[CLOCK_PEAK_POWER], v.p > v.P ? (v.p - v.P) / most(v.P, 1e-300) : -v.p / most(v.P, 1e-300));
    worsen(&worst[CLOCK_BANDWIDTH], -v.b / B);
    if (v.own < INFINITY) worsen(&worst[CLOCK_BANDWIDTH_MAX], (v.b - v.own) / (v.own > 0.0 ? v.own : B));
    worsen(&worst[CLOCK_PRUNING], v.q_min - v.q);
    worsen(&worst[CLOCK_PRUNING], v.q - 1.0);
    worsen(&worst[CLOCK_PRUNING], -v.q);
    if (spoilt(p, row, k)) worst[CLOCK_PRUNING] = INFINITY;
    worsen(&worst[CLOCK_RANGE], most(v.low - v.clock, v.clock - v.high) / v.high);
    worsen(&worst[CLOCK_CONSISTENCY], relative(given->upload_s[i], upload));
    worsen(&worst[CLOCK_CONSISTENCY], relative(given->latency_s[i], latency));
    worsen(&worst[CLOCK_CONSISTENCY], relative(given->energy_j[i], energy));
    worsen(&worst[CLOCK_CONSISTENCY], regime_off(&v, given->regime[i], energy, budget, latency, deadline));

    const Term best = term_at(&v, lam, error);
    const double limit = most(best.price - lam, 0.0);
    worsen(&worst[CLOCK_STATIONARITY], best.off);
    const double unused = (best.price > 0.0 ? best.price * (v.b - best.least) : 0.0) + (limit > 0.0 ? limit * (v.own - v.b) : 0.0);
    add(&sums->unused, most(unused, 0.0));
    add(&sums->value, best.value);
    add(&sums->later, best.time);
    add(&sums->owned, (best.energy > 0.0 ? best.energy * budget : 0.0) + best.peak_power * v.P + (limit > 0.0 ? limit * v.own : 0.0));
    out->energy_per_j[i] = best.energy;
    out->peak_power_per_w[i] = best.peak_power;
    out->bandwidth_max_per_hz[i] = limit;
    out->clock_max[i] = best.clock_max;
    out->clock_min[i] = best.clock_min;
    out->circuit_power_per_w[i] = best.circuit_power;
}

typedef struct {
    const ClockProblem *problem;
    const ClockAnswer *given;
    const ClockJudgement *out;
} Hearing;

static void judge_row(void *context, ptrdiff_t row)
{
    const Hearing *h = context;
    const Problem *plain = &h->problem->problem;
    const ptrdiff_t N = plain->problems;
    Sums sums = {0};
    for (ptrdiff_t k = 0; k < plain->devices; k++) judge_device(h->problem, h->given, h->out, row, k, &sums);
    const double B = cell_value(plain, BANDWIDTH_HZ, row), watts = cell_value(plain, TOTAL_POWER_W, row);
    const double per_hz = h->given->price_per_hz[row], lam = most(per_hz, 0.0), paid = lam * B;
    const double full = value_of(sums.scale), scale = full > 0.0 ? full : 1.0, objective = value_of(sums.objective);
    const double later = value_of(sums.later), radiated = value_of(sums.radiated);
    double *worst = sums.worst;
    worsen(&worst[CLOCK_BANDWIDTH], (value_of(sums.handed_out) - B) / B);
    worsen(&worst[CLOCK_TOTAL_POWER], radiated > watts ? (radiated - watts) / most(watts, 1e-300) : 0.0);
    worsen(&worst[CLOCK_CONSISTENCY], relative(h->given->objective[row], objective));
    worst[CLOCK_DUAL] = -per_hz * B > 0.0 ? -per_hz * B : 0.0;
    worst[CLOCK_COMPLEMENTARITY] = (value_of(sums.unused) + most(lam * (B - value_of(sums.held)), 0.0)) / scale;
    worst[CLOCK_STATIONARITY] /= scale;
    worst[CLOCK_GAP] = (objective - (value_of(sums.value) - paid)) / scale;
    const double moved = paid + value_of(sums.owned) + fabs(later) * cell_value(plain, DEADLINE_S, row);
    worst[CLOCK_RESOLUTION] = 8.0 * EPS * (most(1.0, fabs(objective) / scale) + moved / scale);
    for (int i = 0; i < CLOCK_VERDICTS; i++) h->out->verdict[i * N + row] = worst[i] == worst[i] ? worst[i] : INFINITY;
    h->out->deadline_per_s[row] = later;
}

void judge_clocks(const ClockProblem *problem, const ClockAnswer *given, const ClockJudgement *out, int threads)
{
    Hearing hearing = {problem, given, out};
    Team *team = start_team(threads, problem->problem.problems);
    in_parallel(team, judge_row, &hearing, problem->problem.problems);
    end_team(team);
}
