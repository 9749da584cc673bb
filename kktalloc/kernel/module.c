/* Python's side of the kernels: numbers, and arrays by the buffer protocol, in and out; the lock released while they run. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <float.h>
#include <stdlib.h>

#include "clock_problem.h"
#include "problem.h"

/* Of what the functions take and return: raised with every change of it, here and in _problem/kernel.py, so that a module of older
 * sources is refused. */
enum { INTERFACE = 3 };

enum { MOST_BUFFERS = 40 };

/* What a call was given: arrays to be let go of, and numbers, which columns point at. */
typedef struct {
    Py_buffer held[MOST_BUFFERS];
    double number[MOST_BUFFERS];
    int count, numbers;
} Buffers;

static void let_go(Buffers *buffers)
{
    while (buffers->count) PyBuffer_Release(&buffers->held[--buffers->count]);
}

static Py_buffer *hold(Buffers *buffers, PyObject *array, int flags, char format)
{
    if (buffers->count == MOST_BUFFERS) {
        PyErr_SetString(PyExc_ValueError, "too many arrays");
        return NULL;
    }
    Py_buffer *b = &buffers->held[buffers->count];
    if (PyObject_GetBuffer(array, b, flags | PyBUF_FORMAT)) return NULL;
    buffers->count++;
    if (!b->format || b->format[0] != format || b->format[1]) {
        PyErr_Format(PyExc_ValueError, "an array of type %s where %c is due", b->format ? b->format : "bytes", format);
        return NULL;
    }
    return b;
}

/* An array that broadcasts to (rows, columns, points); to fewer axes where a later count is negative. The distance of its points,
 * in bytes, is left in `step`. */
static int spread(Buffers *buffers, PyObject *array, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t points, Column *out,
                  ptrdiff_t *step)
{
    static const double nothing = 0.0;
    if (PyFloat_Check(array) && buffers->numbers < MOST_BUFFERS) {
        double *number = &buffers->number[buffers->numbers++];
        *number = PyFloat_AsDouble(array);
        *out = (Column){(const void *)number, 0, 0};
        *step = 0;
        return 1;
    }
    const Py_buffer *b = hold(buffers, array, PyBUF_STRIDES, 'd');
    if (!b) return 0;
    const ptrdiff_t shape[3] = {rows, columns, points};
    const int most = columns < 0 ? 1 : points < 0 ? 2 : 3;
    ptrdiff_t stride[3] = {0, 0, 0};
    int fits = b->ndim <= most;
    for (int i = 0; fits && i < b->ndim; i++) {
        const int axis = most - b->ndim + i;
        fits = b->shape[i] == shape[axis] || (b->shape[i] == 1 && axis < 2);
        stride[axis] = b->shape[i] == 1 ? 0 : b->strides[i];
    }
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "an array does not broadcast to the problem's shape");
        return 0;
    }
    *out = (Column){b->len ? b->buf : (const void *)&nothing, stride[0], stride[1]};
    *step = stride[2];
    return 1;
}

/* An array that broadcasts to (rows, columns); to (rows,) where `columns` is negative. */
static int column(Buffers *buffers, PyObject *array, ptrdiff_t rows, ptrdiff_t columns, Column *out)
{
    ptrdiff_t none;
    return spread(buffers, array, rows, columns, -1, out, &none);
}

/* None, or the kind of the curve and its arrays: exponents and scales, or the ratios, errors and slopes of tables. */
static int curve_of(Buffers *buffers, PyObject *given, ptrdiff_t N, ptrdiff_t K, Curve *out)
{
    *out = (Curve){.kind = LINEAR};
    if (given == Py_None) return 1;
    PyObject *first, *second, *third;
    if (!PyArg_ParseTuple(given, "iOOO", &out->kind, &first, &second, &third)) return 0;
    if (out->kind == POWER_LAW)
        return column(buffers, first, N, K, &out->exponent) && column(buffers, second, N, K, &out->scale);
    const Py_buffer *ratio = hold(buffers, first, PyBUF_STRIDES, 'd');
    const ptrdiff_t points = ratio && ratio->ndim ? ratio->shape[ratio->ndim - 1] : 0;
    if (!ratio) return 0;
    if (out->kind != TABLE || points < 2 || points > MOST_POINTS) {
        PyErr_SetString(PyExc_ValueError, "a curve that the kernel does not know");
        return 0;
    }
    out->points = (int)points;
    return spread(buffers, first, N, K, points, &out->ratio, &out->ratio_step)
        && spread(buffers, second, N, K, points, &out->error, &out->error_step)
        && spread(buffers, third, N, K, points - 1, &out->slope, &out->slope_step);
}

static void *output(Buffers *buffers, PyObject *array, ptrdiff_t size, char format)
{
    const Py_buffer *b = hold(buffers, array, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE, format);
    if (b && b->len != size * b->itemsize) {
        PyErr_SetString(PyExc_ValueError, "an output array of the wrong size");
        return NULL;
    }
    return b ? b->buf : NULL;
}

/* Whether N problems of K devices can be counted, with all that is kept of each. */
static int sane(Py_ssize_t N, Py_ssize_t K)
{
    const Py_ssize_t most = (Py_ssize_t)1 << (sizeof(Py_ssize_t) > 4 ? 40 : 22);
    if (N >= 0 && K >= 0 && N < most && K < most && (!N || K < most / N)) return 1;
    PyErr_Format(PyExc_ValueError, "%zd problems of %zd devices cannot be counted", N, K);
    return 0;
}

/* Tuples of the cell's and the devices' fields, in the order of problem.h, and the curve. */
static int problem_of(Buffers *buffers, PyObject *cell, PyObject *devices, PyObject *curve, ptrdiff_t N, ptrdiff_t K,
                      Problem *out)
{
    if (!PyTuple_Check(cell) || PyTuple_Size(cell) != CELL_FIELDS || !PyTuple_Check(devices)
        || PyTuple_Size(devices) != DEVICE_FIELDS) {
        PyErr_SetString(PyExc_ValueError, "tuples with the fields of a cell and of its devices are due");
        return 0;
    }
    if (!sane(N, K)) return 0;
    out->problems = N;
    out->devices = K;
    for (int i = 0; i < CELL_FIELDS; i++)
        if (!column(buffers, PyTuple_GetItem(cell, i), N, -1, &out->cell[i])) return 0;
    for (int i = 0; i < DEVICE_FIELDS; i++)
        if (!column(buffers, PyTuple_GetItem(devices, i), N, K, &out->device[i])) return 0;
    return curve_of(buffers, curve, N, K, &out->curve);
}

/* A column of an array in C order that the kernel has written. */
static Column written(const double *data, ptrdiff_t columns)
{
    return (Column){(const char *)data, columns * (ptrdiff_t)sizeof(double), sizeof(double)};
}

/* Whether a verdict is within the tolerance, row of a problem by row; the gap and complementarity, beyond what rounding the data
 * is worth. What is no number is not. */
static int accepted(const double *verdict, ptrdiff_t N, double tolerance)
{
    for (ptrdiff_t row = 0; row < N; row++) {
        const double blur = verdict[RESOLUTION * N + row];
        for (int i = 0; i <= DUALITY_GAP; i++) {
            const double allowed = tolerance + (i == COMPLEMENTARITY || i == DUALITY_GAP ? blur : 0.0);
            if (!(verdict[i * N + row] <= allowed)) return 0;
        }
    }
    return 1;
}

/* Judges what `kkt_solve` has written, and prices it over its scratch. 0 when memory ran out. */
static int judge_solution(const Problem *problem, const Allocation *out, int threads, double *deadline, double *verdict)
{
    const ptrdiff_t K = problem->devices;
    double *const per_device = out->scratch;
    const Judgement given = {
        .pruning_ratio = written(out->pruning_ratio, K), .bandwidth_hz = written(out->bandwidth_hz, K),
        .tx_power_w = written(out->tx_power_w, K), .price_per_hz = written(out->price_per_hz, 1),
        .price_per_w = written(out->price_per_w, 1),
        .claims = {[UPLOAD_S] = written(out->upload_s, K), [LATENCY_S] = written(out->latency_s, K),
                   [ENERGY_J] = written(out->energy_j, K)},
        .objective = written(out->objective, 1), .regime = out->regime, .verdict = verdict, .deadline_per_s = deadline,
        .energy_per_j = per_device, .peak_power_per_w = per_device + problem->problems * K,
    };
    return dual_judge(problem, &given, threads);
}

/* The tables of what `solve` writes into one block of float64: of N * K entries each, then of N. */
enum { DEVICE_TABLES = 8, PROBLEM_TABLES = 5 + VERDICTS };

static PyObject *py_solve(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *cell, *devices, *curve, *block, *codes;
    Py_ssize_t N, K;
    int threads;
    double tolerance;
    if (!PyArg_ParseTuple(args, "OOOnniOOd", &cell, &devices, &curve, &N, &K, &threads, &block, &codes, &tolerance)) return NULL;
    Buffers buffers = {.count = 0};
    Problem problem;
    double *to = NULL;
    signed char *code = NULL;
    if (problem_of(&buffers, cell, devices, curve, N, K, &problem)
        && (to = output(&buffers, block, DEVICE_TABLES * N * K + PROBLEM_TABLES * N, 'd')))
        code = output(&buffers, codes, N * K + N, 'b');
    if (!code) {
        let_go(&buffers);
        return NULL;
    }
    const ptrdiff_t size = N * K;
    double *const each = to + DEVICE_TABLES * size;
    const Allocation out = {
        .pruning_ratio = to, .bandwidth_hz = to + size, .tx_power_w = to + 2 * size, .upload_s = to + 3 * size,
        .latency_s = to + 4 * size, .energy_j = to + 5 * size, .scratch = to + 6 * size, .regime = code, .objective = each,
        .price_per_hz = each + N, .price_per_w = each + 2 * N, .prices_tried = each + 4 * N, .state = code + size,
        .piece = problem.curve.kind == TABLE ? malloc((size_t)size * sizeof(short) + 1) : NULL,
    };
    int enough = problem.curve.kind != TABLE || out.piece, solved = 1, certified = 0;
    double tried = 0.0;
    Py_BEGIN_ALLOW_THREADS
    enough = enough && kkt_solve(&problem, &out, threads);
    if (enough) for (ptrdiff_t row = 0; row < N; row++) {
        solved &= out.state[row] == SOLVED;
        tried += out.prices_tried[row];
    }
    if (enough && solved) {
        enough = judge_solution(&problem, &out, threads, each + 3 * N, each + 5 * N);
        certified = enough && accepted(each + 5 * N, N, tolerance);
    }
    free(out.piece);
    Py_END_ALLOW_THREADS
    let_go(&buffers);
    if (!enough) return PyErr_NoMemory();
    return Py_BuildValue("iid", solved, certified, tried);
}

/* The tables of what `solve_clocks` writes and of what the judge makes of it, in one block as those of `solve`. */
enum { CLOCK_DEVICE_TABLES = 13, CLOCK_PROBLEM_TABLES = 4 + CLOCK_VERDICTS };

typedef struct {
    ClockProblem problem;
    ClockAnswer found;
    ClockJudgement judged;
    int threads;
} ClockCall;

/* Cell, devices, what clocks add, and the curve. */
static int clock_problem_of(Buffers *buffers, PyObject *cell, PyObject *devices, PyObject *own, PyObject *curve, ptrdiff_t N, ptrdiff_t K,
                            ClockProblem *out)
{
    if (PyTuple_Size(own) != CLOCK_FIELDS) {
        PyErr_SetString(PyExc_ValueError, "a tuple with the fields that clocks add is due");
        return 0;
    }
    if (!problem_of(buffers, cell, devices, curve, N, K, &out->problem)) return 0;
    for (int i = 0; i < CLOCK_FIELDS; i++)
        if (!column(buffers, PyTuple_GetItem(own, i), N, K, &out->own[i])) return 0;
    return 1;
}

/* What both calls are given: the same, with N, K, threads, block and codes. */
static int clock_call(Buffers *buffers, PyObject *args, ClockCall *out)
{
    PyObject *cell, *devices, *own, *curve, *block, *codes;
    Py_ssize_t N, K;
    double *to;
    signed char *code;
    if (!PyArg_ParseTuple(args, "OOO!OnniOO", &cell, &devices, &PyTuple_Type, &own, &curve, &N, &K, &out->threads, &block, &codes))
        return 0;
    if (!clock_problem_of(buffers, cell, devices, own, curve, N, K, &out->problem)) return 0;
    if (!(to = output(buffers, block, CLOCK_DEVICE_TABLES * N * K + CLOCK_PROBLEM_TABLES * N, 'd'))) return 0;
    if (!(code = output(buffers, codes, N * K + N, 'b'))) return 0;
    const ptrdiff_t size = N * K;
    double *const each = to + CLOCK_DEVICE_TABLES * size;
    out->found = (ClockAnswer){
        .pruning_ratio = to, .bandwidth_hz = to + size, .tx_power_w = to + 2 * size, .upload_s = to + 3 * size,
        .latency_s = to + 4 * size, .energy_j = to + 5 * size, .clock = to + 6 * size, .regime = code, .objective = each,
        .price_per_hz = each + N, .prices_tried = each + 3 * N, .state = code + size,
    };
    out->judged = (ClockJudgement){
        .verdict = each + 4 * N, .deadline_per_s = each + 2 * N, .energy_per_j = to + 7 * size, .peak_power_per_w = to + 8 * size,
        .bandwidth_max_per_hz = to + 9 * size, .clock_max = to + 10 * size, .clock_min = to + 11 * size,
        .circuit_power_per_w = to + 12 * size,
    };
    return 1;
}

/* Whether all are solved, and then judged; how many prices were tried. */
static PyObject *py_solve_clocks(PyObject *self, PyObject *args)
{
    (void)self;
    Buffers buffers = {.count = 0};
    ClockCall call;
    int enough = 1, solved = 1;
    double tried = 0.0;
    const int ready = clock_call(&buffers, args, &call);
    if (ready) {
        const ptrdiff_t N = call.problem.problem.problems;
        Py_BEGIN_ALLOW_THREADS
        enough = solve_clocks(&call.problem, &call.found, call.threads);
        if (enough) for (ptrdiff_t row = 0; row < N; row++) {
            solved &= call.found.state[row] == SOLVED;
            tried += call.found.prices_tried[row];
        }
        if (enough && solved) judge_clocks(&call.problem, &call.found, &call.judged, call.threads);
        Py_END_ALLOW_THREADS
        if (!enough) PyErr_NoMemory();
    }
    let_go(&buffers);
    return ready && enough ? Py_BuildValue("id", solved, tried) : NULL;
}

static PyObject *py_judge_clocks(PyObject *self, PyObject *args)
{
    (void)self;
    Buffers buffers = {.count = 0};
    ClockCall call;
    const int ready = clock_call(&buffers, args, &call);
    if (ready) {
        Py_BEGIN_ALLOW_THREADS
        judge_clocks(&call.problem, &call.found, &call.judged, call.threads);
        Py_END_ALLOW_THREADS
    }
    let_go(&buffers);
    if (!ready) return NULL;
    Py_RETURN_NONE;
}

static PyObject *py_keep_clocks(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *cell, *devices, *own, *curve, *out;
    Py_ssize_t N, K;
    double log_price, *to = NULL;
    int enough = 1;
    if (!PyArg_ParseTuple(args, "OOO!OnndO", &cell, &devices, &PyTuple_Type, &own, &curve, &N, &K, &log_price, &out)) return NULL;
    Buffers buffers = {.count = 0};
    ClockProblem problem;
    if (clock_problem_of(&buffers, cell, devices, own, curve, N, K, &problem) && (to = output(&buffers, out, 4 * N * K, 'd'))) {
        Py_BEGIN_ALLOW_THREADS
        enough = keep_clocks(&problem, log_price, to);
        Py_END_ALLOW_THREADS
        if (!enough) PyErr_NoMemory();
    }
    let_go(&buffers);
    if (!to || !enough) return NULL;
    Py_RETURN_NONE;
}

/* A column that may be None. */
static int optional(Buffers *buffers, PyObject *array, ptrdiff_t rows, ptrdiff_t columns, Column *out)
{
    *out = (Column){NULL, 0, 0};
    return array == Py_None || column(buffers, array, rows, columns, out);
}

static PyObject *py_judge(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *cell, *devices, *curve, *rho, *b, *p, *price, *per_w, *claims[CLAIMS], *objective, *later, *regime, *verdict, *out[3];
    Py_ssize_t N, K;
    int threads;
    if (!PyArg_ParseTuple(args, "OOOnniOOOOOOOOOOOOOOOOO", &cell, &devices, &curve, &N, &K, &threads, &rho, &b, &p, &price,
                          &per_w, &claims[0], &claims[1], &claims[2], &claims[3], &claims[4], &objective, &later, &regime, &verdict, &out[0],
                          &out[1], &out[2]))
        return NULL;
    Buffers buffers = {.count = 0};
    Problem problem;
    Judgement given;
    int ready = problem_of(&buffers, cell, devices, curve, N, K, &problem)
        && column(&buffers, rho, N, K, &given.pruning_ratio) && column(&buffers, b, N, K, &given.bandwidth_hz)
        && column(&buffers, p, N, K, &given.tx_power_w) && column(&buffers, price, N, -1, &given.price_per_hz)
        && column(&buffers, per_w, N, -1, &given.price_per_w)
        && optional(&buffers, objective, N, -1, &given.objective) && optional(&buffers, later, N, -1, &given.deadline_claim)
        && (given.verdict = output(&buffers, verdict, VERDICTS * N, 'd'));
    for (int i = 0; ready && i < CLAIMS; i++) ready = optional(&buffers, claims[i], N, K, &given.claims[i]);
    given.regime = NULL;
    if (ready && regime != Py_None) {
        const Py_buffer *held = hold(&buffers, regime, PyBUF_C_CONTIGUOUS, 'b');
        ready = held && held->len == N * K;
        if (held && !ready) PyErr_SetString(PyExc_ValueError, "regimes of the wrong size");
        if (ready) given.regime = held->buf;
    }
    double **price_out[3] = {&given.deadline_per_s, &given.energy_per_j, &given.peak_power_per_w};
    for (int i = 0; ready && i < 3; i++) {
        *price_out[i] = NULL;
        if (out[i] != Py_None) ready = (*price_out[i] = output(&buffers, out[i], i ? N * K : N, 'd')) != NULL;
    }
    int enough = 1;
    if (ready) {
        Py_BEGIN_ALLOW_THREADS
        enough = dual_judge(&problem, &given, threads);
        Py_END_ALLOW_THREADS
        if (!enough) PyErr_NoMemory();
    }
    let_go(&buffers);
    if (!ready || !enough) return NULL;
    Py_RETURN_NONE;
}

/* What most problems are: one of K devices, fields numbers or float64 arrays of K in C order, each within its bounds. That K, or
 * None where something is unusual, which Python then looks at and names. A field that is None is left out. `bounds` holds lowest,
 * whether that is excluded, and highest of each field; `kinds` the types of array and of number that are taken. */
static PyObject *py_usual(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *fields, *bounds, *array_type, *number_type;
    if (!PyArg_ParseTuple(args, "O!OOO", &PyTuple_Type, &fields, &bounds, &array_type, &number_type)) return NULL;
    Buffers buffers = {.count = 0};
    const Py_ssize_t count = PyTuple_Size(fields);
    const Py_buffer *limits = hold(&buffers, bounds, PyBUF_C_CONTIGUOUS, 'd');
    if (!limits || limits->len != 3 * count * (Py_ssize_t)sizeof(double)) {
        if (limits) PyErr_SetString(PyExc_ValueError, "bounds of the wrong size");
        let_go(&buffers);
        return NULL;
    }
    Py_ssize_t K = -1;
    int fits = 1;
    for (Py_ssize_t i = 0; fits && i < count; i++) {
        PyObject *field = PyTuple_GetItem(fields, i);
        const double *bound = (const double *)limits->buf + 3 * i;
        if (field == Py_None) continue;
        if (PyFloat_CheckExact(field) || Py_TYPE(field) == (PyTypeObject *)number_type) {
            const double value = PyFloat_AsDouble(field);
            fits = all_in_range(&value, 1, bound[0], bound[1] > 0.0, bound[2]);
            continue;
        }
        Py_buffer given;
        fits = Py_TYPE(field) == (PyTypeObject *)array_type;
        if (!fits) break;
        if (PyObject_GetBuffer(field, &given, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)) {
            PyErr_Clear();  /* not in one piece */
            fits = 0;
            break;
        }
        fits = given.format && given.format[0] == 'd' && !given.format[1] && given.ndim == 1
            && (K < 0 || given.shape[0] == K) && (uintptr_t)given.buf % sizeof(double) == 0;
        if (fits) {
            K = given.shape[0];
            fits = all_in_range(given.buf, K, bound[0], bound[1] > 0.0, bound[2]);
        }
        PyBuffer_Release(&given);
    }
    let_go(&buffers);
    if (!fits || K < 1) Py_RETURN_NONE;
    return PyLong_FromSsize_t(K);
}

static PyObject *py_least(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *cell, *devices, *of_problem, *of_device;
    Py_ssize_t N, K;
    int question, enough = 0;
    if (!PyArg_ParseTuple(args, "iOOnnOO", &question, &cell, &devices, &N, &K, &of_problem, &of_device)) return NULL;
    Buffers buffers = {.count = 0};
    Problem problem;
    double *each, *one;
    if (question < 0 || question >= QUESTIONS) PyErr_Format(PyExc_ValueError, "no question %d", question);
    else if (problem_of(&buffers, cell, devices, Py_None, N, K, &problem)
             && (one = output(&buffers, of_problem, OF_PROBLEM * N, 'd'))
             && (each = output(&buffers, of_device, OF_DEVICE * N * K, 'd'))) {
        Py_BEGIN_ALLOW_THREADS
        enough = kkt_least(&problem, (enum Question)question, one, each);
        Py_END_ALLOW_THREADS
        if (!enough) PyErr_NoMemory();
    }
    let_go(&buffers);
    if (!enough) return NULL;
    Py_RETURN_NONE;
}

static PyObject *py_least_cost(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *cell, *devices, *rho, *hz, *per_w, *per_hz, *by_s, *cost;
    Py_ssize_t N, K;
    if (!PyArg_ParseTuple(args, "OOnnOOOOOO", &cell, &devices, &N, &K, &rho, &hz, &per_w, &per_hz, &by_s, &cost)) return NULL;
    Buffers buffers = {.count = 0};
    Problem problem;
    Uploads given;
    double *out = NULL;
    if (problem_of(&buffers, cell, devices, Py_None, N, K, &problem) && column(&buffers, rho, N, K, &given.pruning_ratio)
        && column(&buffers, hz, N, K, &given.at_hz) && column(&buffers, per_w, N, K, &given.per_w)
        && column(&buffers, per_hz, N, -1, &given.per_hz) && column(&buffers, by_s, N, -1, &given.by_s)
        && (out = output(&buffers, cost, N * K, 'd')))
        least_cost(&problem, &given, out);
    let_go(&buffers);
    if (!out) return NULL;
    Py_RETURN_NONE;
}

static PyObject *py_in_range(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *array;
    double low, high;
    int open;
    if (!PyArg_ParseTuple(args, "Odpd", &array, &low, &open, &high)) return NULL;
    Buffers buffers = {.count = 0};
    int inside = 0;
    const Py_buffer *b = hold(&buffers, array, PyBUF_C_CONTIGUOUS, 'd');
    if (b) inside = all_in_range(b->buf, b->len / (ptrdiff_t)sizeof(double), low, open, high);
    else PyErr_Clear();  /* not in one piece: not known to be inside */
    let_go(&buffers);
    return PyBool_FromLong(inside);
}

static PyObject *py_normalise(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *weight, *out;
    Py_ssize_t N, K;
    if (!PyArg_ParseTuple(args, "OnnO", &weight, &N, &K, &out)) return NULL;
    Buffers buffers = {.count = 0};
    Column w;
    double *share = NULL;
    int positive = 0;
    if (sane(N, K) && column(&buffers, weight, N, K, &w) && (share = output(&buffers, out, N * K, 'd')))
        positive = normalise(&w, N, K, share);
    let_go(&buffers);
    if (!share) return NULL;
    return PyBool_FromLong(positive);
}

static PyMethodDef methods[] = {
    {"in_range", py_in_range, METH_VARARGS, "Whether a contiguous array lies within bounds."},
    {"usual", py_usual, METH_VARARGS, "How many devices one problem of numbers and arrays has, if nothing is amiss; else None."},
    {"normalise", py_normalise, METH_VARARGS, "Weights over their sum; whether every problem has one above 0."},
    {"judge", py_judge, METH_VARARGS, "Certificate of an allocation at given prices."},
    {"solve", py_solve, METH_VARARGS, "Exact allocation of a batch of problems, judged: whether all are solved, and certified; how many prices were tried."},
    {"solve_clocks", py_solve_clocks, METH_VARARGS, "The same of devices with a clock and electronics, judged where all are solved."},
    {"judge_clocks", py_judge_clocks, METH_VARARGS, "The verdict on such an allocation, and its prices, written beside it."},
    {"keep_clocks", py_keep_clocks, METH_VARARGS, "What each device keeps at a price per cell, and how."},
    {"least_cost", py_least_cost, METH_VARARGS, "A bound on what each upload costs at given prices."},
    {"least", py_least, METH_VARARGS, "What the floors of every device take, and the least that serves them."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernel", NULL, -1, methods, NULL, NULL, NULL, NULL};

#if defined(__clang__)
#define COMPILER __VERSION__
#elif defined(__GNUC__)
#define COMPILER "GCC " __VERSION__
#else
#define COMPILER "another compiler than GCC or Clang"
#endif

PyMODINIT_FUNC PyInit__kernel(void)
{
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddStringConstant(made, "compiler", COMPILER) || PyModule_AddIntConstant(made, "interface", INTERFACE)))
        Py_CLEAR(made);
#ifdef Py_GIL_DISABLED
    /* Nothing is kept between calls; what a call is given is the caller's to guard, as it is while the lock is free. */
    if (made) PyUnstable_Module_SetGIL(made, Py_MOD_GIL_NOT_USED);
#endif
    return made;
}
