/* A window on kernel/response.h and kernel/start.h for test_kernel.py: blocks of devices made by hand, out of the reach of
 * whole problems. */
#include "response.h"
#include "start.h"

static const Curve linear = {.kind = LINEAR};

enum { PAYLOAD, OVERHEAD, POWER0, COMPUTE, C, D, D_PEAK, ENERGY_BRANCH, EFFICIENCY, INPUTS };

/* ln(m / price), its slope in y, and the second derivative over that. */
void probe_slopes(double (*in)[LANES], double (*out)[LANES])
{
    static Block block;
    Block *v = &block;
    memset(v, 0, sizeof *v);
    v->curve = &linear;
    v->width = LANES;
    EACH(i) {
        v->payload[i] = in[PAYLOAD][i];
        v->overhead[i] = in[OVERHEAD][i];
        v->power0[i] = in[POWER0][i];
        v->compute[i] = in[COMPUTE][i];
        v->c[i] = in[C][i];
        v->d[i] = in[D][i];
        v->d_peak[i] = in[D_PEAK][i];
        v->energy_first[i] = in[ENERGY_BRANCH][i];
        v->y[i] = in[EFFICIENCY][i];
        v->f[i] = v->gamma[i] = v->worth[i] = v->paid.per_price[i] = 1.0;
    }
    evaluate(v);
    EACH(i) {
        out[0][i] = v->excess[i];
        out[1][i] = 1.0 / v->per_slope[i];
        out[2][i] = v->curl[i];
    }
}

/* Devices whose answer to the price 1 is y = 2, on the peak branch. */
static void start(Block *v)
{
    memset(v, 0, sizeof *v);
    v->curve = &linear;
    v->width = VECTOR;
    EACH_OF(v, i) {
        v->payload[i] = v->rate1[i] = v->worth[i] = v->paid.price[i] = v->paid.per_price[i] = 1.0;
        v->paid.tolerance[i] = 1e-6;
        v->gamma[i] = v->f[i] = 3.0;
        v->d_peak[i] = 0.6;
        v->compute[i] = 0.2;
        v->power0[i] = 2.0;
        v->d[i] = 1.2;
        v->s_min[i] = 0.1;
        v->s_max[i] = v->s_kink[i] = 1.25;
        v->corner[i] = UNSET;
        v->y[i] = 2.0;
    }
    enter(v);
    evaluate(v);
    EACH_OF(v, i) v->worth[i] /= exp(v->excess[i]);
}

/* Where `confirm` leaves a device that was `moved` off its efficiency. */
double probe_moved(double moved)
{
    static Block block;
    start(&block);
    block.y[0] *= 1.0 + moved;
    confirm(&block);
    return block.y[0];
}

/* The same of a device held at a floor below its answer. */
double probe_held(void)
{
    static Block block;
    start(&block);
    block.y[0] = 4.0;
    evaluate(&block);
    block.s_min[0] = block.s[0];
    block.corner[0] = FLOOR;
    enter(&block);
    confirm(&block);
    return block.y[0];
}

/* How far b is from what the rate needs, relative, in a lane that comes to its floor beside one that passes its kink. */
double probe_beside_a_kink(void)
{
    static Block block;
    Block *v = &block;
    start(v);
    v->compute[1] = 1.2;
    v->power0[1] = v->power1[1] = 0.5;
    v->c[1] = 1.5;
    v->d[1] = 0.3;
    v->d_peak[1] = 3.6;
    v->s_max[1] = 5.0;
    v->s_kink[1] = v->kinked[1] = v->energy_first[1] = 1.0;
    enter(v);
    double low = 0.01, high = 6.0;
    for (int n = 0; n < 200; n++) {
        v->y[1] = 0.5 * (low + high);
        evaluate(v);
        if (v->s[1] > 1.0 + 1e-7) low = v->y[1];
        else high = v->y[1];
    }
    v->s_min[0] = v->s[0] * (1.0 + 1e-7);
    enter(v);
    evaluate(v);
    EACH_OF(v, i) v->worth[i] /= exp(v->excess[i]);
    confirm(v);
    return v->corner[0] == FLOOR ? v->b[0] * v->y[0] / (v->rate1[0] * (v->overhead[0] + v->s[0])) - 1.0 : NAN;
}

/* The efficiencies of corners at which y / (e^y - 1) = theta. */
void probe_corner_efficiencies(const double *theta, double *y)
{
    static Block block;
    Block *v = &block;
    memset(v, 0, sizeof *v);
    v->curve = &linear;
    v->width = LANES;
    EACH(i) {
        v->rate1[i] = v->gamma[i] = v->power0[i] = v->fresh[i] = 1.0;
        v->s_min[i] = theta[i];
        v->corner[i] = FLOOR;
    }
    corner_efficiencies(v);
    EACH(i) y[i] = v->y[i];
}

enum { GAMMA, RATE1, SHARE, FIRST_POWER, POWER_SLOPE, WORTH, IDLE, DEVICE };
enum { START, ROUGH, ANSWERED, CORNER, KINKED, ROUGH_BRANCH, BRANCH };

/* Where devices start at the price 1: before `approach` and after it; their answers; and whether the second of two branches
 * is where they start and end. */
void probe_approached(double (*in)[LANES], double (*out)[LANES])
{
    static Block block;
    Block *v = &block;
    memset(v, 0, sizeof *v);
    v->curve = &linear;
    v->width = LANES;
    EACH(i) {
        const double F0 = in[FIRST_POWER][i], F1 = in[POWER_SLOPE][i], A = in[SHARE][i], gamma = in[GAMMA][i];
        const double per_rate1 = 1.0 / in[RATE1][i], s_meet = (1.0 - F0) / F1;
        v->paid.price[i] = v->paid.per_price[i] = 1.0;
        v->paid.tolerance[i] = 1e-6;
        v->overhead[i] = in[IDLE][i];
        v->payload[i] = 1.0 - A * in[IDLE][i];
        v->worth[i] = in[WORTH][i];
        v->gamma[i] = gamma;
        v->rate1[i] = in[RATE1][i];
        v->compute[i] = A;
        v->power0[i] = F0;
        v->power1[i] = F1;
        v->f[i] = gamma * per_rate1;
        v->c[i] = gamma * F1 * per_rate1;
        v->d[i] = gamma * (A * F0 - F1) * per_rate1;
        v->d_peak[i] = gamma * A * per_rate1;
        v->s_max[i] = 1.0 / (1.0 - A);
        v->kinked[i] = s_meet > 0.0 && s_meet < v->s_max[i] ? 1.0 : 0.0;
        v->s_kink[i] = v->kinked[i] > 0.0 ? s_meet : v->s_max[i];
        v->energy_first[i] = s_meet > 0.0 ? (F1 > 0.0 ? 1.0 : 0.0) : (F1 < 0.0 ? 1.0 : 0.0);
    }
    EACH(i) v->code[i] = UNSET;
    begin_at_price(v);
    begin(v);
    EACH(i) out[START][i] = v->y[i];
    approach(v);
    recall(v);
    EACH(i) {
        out[ROUGH][i] = v->y[i];
        out[ROUGH_BRANCH][i] = v->second[i];
    }
    const int exact = 1;
    respond(v, exact);
    EACH(i) {
        out[ANSWERED][i] = v->y[i];
        out[CORNER][i] = v->corner[i];
        out[KINKED][i] = v->kinked[i];
        out[BRANCH][i] = v->second[i];
    }
}
