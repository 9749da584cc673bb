/* Python's side of the kernels: arrays in and out by the buffer protocol, the lock released while they run. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <float.h>

#include "problem.h"

enum { MOST_BUFFERS = 40 };

typedef struct {
    Py_buffer held[MOST_BUFFERS];
    int count;
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

static PyObject *py_solve(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *cell, *devices, *curve, *rho, *b, *p, *upload, *latency, *energy, *regime, *objective, *price, *per_w, *state;
    PyObject *scratch, *piece;
    Py_ssize_t N, K;
    int threads;
    if (!PyArg_ParseTuple(args, "OOOnniOOOOOOOOOOOOO", &cell, &devices, &curve, &N, &K, &threads, &rho, &b, &p, &upload,
                          &latency, &energy, &regime, &objective, &price, &per_w, &state, &scratch, &piece))
        return NULL;
    Buffers buffers = {.count = 0};
    Problem problem;
    Allocation out;
    int enough = 0;
    out.piece = NULL;
    if (problem_of(&buffers, cell, devices, curve, N, K, &problem)
        && (out.pruning_ratio = output(&buffers, rho, N * K, 'd'))
        && (out.bandwidth_hz = output(&buffers, b, N * K, 'd'))
        && (out.tx_power_w = output(&buffers, p, N * K, 'd'))
        && (out.upload_s = output(&buffers, upload, N * K, 'd'))
        && (out.latency_s = output(&buffers, latency, N * K, 'd'))
        && (out.energy_j = output(&buffers, energy, N * K, 'd'))
        && (out.regime = output(&buffers, regime, N * K, 'b'))
        && (out.objective = output(&buffers, objective, N, 'd'))
        && (out.price_per_hz = output(&buffers, price, N, 'd'))
        && (out.price_per_w = output(&buffers, per_w, N, 'd'))
        && (out.state = output(&buffers, state, N, 'b')) && (out.scratch = output(&buffers, scratch, 2 * N * K, 'd'))
        && (problem.curve.kind != TABLE || (out.piece = output(&buffers, piece, N * K, 'h')))) {
        Py_BEGIN_ALLOW_THREADS
        enough = kkt_solve(&problem, &out, threads);
        Py_END_ALLOW_THREADS
        if (!enough) PyErr_NoMemory();
    }
    let_go(&buffers);
    if (!enough) return NULL;
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
    {"normalise", py_normalise, METH_VARARGS, "Weights over their sum; whether every problem has one above 0."},
    {"judge", py_judge, METH_VARARGS, "Certificate of an allocation at given prices."},
    {"solve", py_solve, METH_VARARGS, "Exact allocation of a batch of problems."},
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
    if (made && PyModule_AddStringConstant(made, "compiler", COMPILER)) Py_CLEAR(made);
#ifdef Py_GIL_DISABLED
    /* Nothing is kept between calls; what a call is given is the caller's to guard, as it is while the lock is free. */
    if (made) PyUnstable_Module_SetGIL(made, Py_MOD_GIL_NOT_USED);
#endif
    return made;
}
