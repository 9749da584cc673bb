/* Python's side of the chains: arrays in and out by the buffer protocol, the lock released while they run. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "chain.h"

/* Of what the functions take and return: raised with every change of it, here and in fltrain/chain.py, so that a module of older
 * sources is refused. */
enum { INTERFACE = 2 };

/* PANEL values each can be counted in 32 bits, MOST_COUNT things of MOST_VALUES values in what a size is counted in. */
enum { MOST_BUFFERS = 4 * MOST_LAYERS + 4, MOST_VALUES = 1 << 24, MOST_WEIGHTS = 1 << 30 };
static const Py_ssize_t MOST_COUNT = PY_SSIZE_T_MAX / MOST_VALUES / 8;

typedef struct {
    Py_buffer held[MOST_BUFFERS];
    int count;
} Buffers;

static void let_go(Buffers *buffers)
{
    while (buffers->count) PyBuffer_Release(&buffers->held[--buffers->count]);
}

/* The memory of a C-contiguous array of `size` numbers of this format ('f', or 'q' for int64); -1: of any size. */
static void *memory(Buffers *buffers, PyObject *array, int writable, char format, ptrdiff_t size)
{
    Py_buffer *b = &buffers->held[buffers->count];
    if (PyObject_GetBuffer(array, b, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0))) return NULL;
    buffers->count++;
    const char given = !b->format || b->format[1] ? 0 : b->format[0];
    const int same = given == format || (format == 'q' && given == 'l' && b->itemsize == 8);
    if (!same || (size >= 0 && b->len != size * b->itemsize)) {
        PyErr_Format(PyExc_ValueError, "an array of %zd bytes and format %s where %zd numbers of format %c are due", b->len,
                     b->format ? b->format : "B", size, format);
        return NULL;
    }
    return b->buf;
}

/* (value, rate, mask or None) */
static int parameter_of(Buffers *buffers, PyObject *given, ptrdiff_t size, Parameter *out)
{
    PyObject *value, *mask;
    if (!PyArg_ParseTuple(given, "OfO", &value, &out->rate, &mask)) return 0;
    out->mask = NULL;
    return (out->value = memory(buffers, value, 1, 'f', size))
        && (mask == Py_None || (out->mask = memory(buffers, mask, 0, 'f', size)));
}

/* (inputs, outputs, height, width, kernel rows, columns, padding rows, columns, pool rows, columns, relu, weight,
 * bias) */
static int layer_of(Buffers *buffers, PyObject *given, Layer *out)
{
    PyObject *weight, *bias;
    if (!PyArg_ParseTuple(given, "iiiiiiiiiipOO", &out->inputs, &out->outputs, &out->height, &out->width, &out->kernel[0],
                          &out->kernel[1], &out->padding[0], &out->padding[1], &out->pool[0], &out->pool[1],
                          &out->relu, &weight, &bias))
        return 0;
    const int sizes[] = {out->inputs, out->outputs, out->height, out->width, out->kernel[0], out->kernel[1], out->pool[0],
                         out->pool[1], out->padding[0] + 1, out->padding[1] + 1};
    int sane = 1;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) sane &= sizes[i] >= 1 && sizes[i] <= MOST_VALUES;
    if (sane) {
        const int high = out->height + 2 * out->padding[0], wide = out->width + 2 * out->padding[1];
        out->rows = (high - out->kernel[0] + 1) / out->pool[0];
        out->columns = (wide - out->kernel[1] + 1) / out->pool[1];
        const int channels = out->inputs > out->outputs ? out->inputs : out->outputs;
        sane = (double)out->pool[0] * out->pool[1] <= INT8_MAX  /* a tap of the pool must fit a signed byte */
            && out->rows >= 1 && out->columns >= 1 && (double)channels * high * wide <= MOST_VALUES
            && (double)out->inputs * out->outputs * out->kernel[0] * out->kernel[1] <= MOST_WEIGHTS;
    }
    if (!sane) {
        PyErr_SetString(PyExc_ValueError, "a layer of impossible size");
        return 0;
    }
    const ptrdiff_t weights = (ptrdiff_t)out->inputs * out->outputs * out->kernel[0] * out->kernel[1];
    return parameter_of(buffers, weight, weights, &out->weight) && parameter_of(buffers, bias, out->outputs, &out->bias);
}

static int chain_of(Buffers *buffers, PyObject *given, Chain *out)
{
    if (!PyTuple_Check(given) || PyTuple_Size(given) < 1 || PyTuple_Size(given) > MOST_LAYERS) {
        PyErr_Format(PyExc_ValueError, "a tuple of 1 to %d layers is due", MOST_LAYERS);
        return 0;
    }
    out->layers = (int)PyTuple_Size(given);
    for (int i = 0; i < out->layers; i++) {
        Layer *l = &out->layer[i];
        if (!layer_of(buffers, PyTuple_GetItem(given, i), l)) return 0;
        if (i && l->inputs * l->height * l->width != l[-1].outputs * l[-1].rows * l[-1].columns) {
            PyErr_Format(PyExc_ValueError, "layer %d does not take what layer %d gives", i, i - 1);
            return 0;
        }
    }
    return 1;
}

static int all_below(const int64_t *numbers, ptrdiff_t count, ptrdiff_t limit)
{
    for (ptrdiff_t i = 0; i < count; i++)
        if (numbers[i] < 0 || numbers[i] >= limit) {
            PyErr_Format(PyExc_ValueError, "%lld where a number from 0 to %zd is due", (long long)numbers[i], limit - 1);
            return 0;
        }
    return 1;
}

static int check_set(int set)
{
    if (set >= 1 && set <= chain_sets()) return 1;
    PyErr_Format(PyExc_ValueError, "instruction set %d of %d", set, chain_sets());
    return 0;
}

static PyObject *py_train(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *layers, *x, *y, *batches, *loss;
    Py_ssize_t samples, steps, size;
    int set, done = 0;
    if (!PyArg_ParseTuple(args, "OiOOnOnnO", &layers, &set, &x, &y, &samples, &batches, &steps, &size, &loss)) return NULL;
    Buffers buffers = {.count = 0};
    Chain chain;
    const float *of_x;
    const int64_t *of_y, *of_batches;
    float *of_loss;
    const Layer *last = &chain.layer[0], *first = &chain.layer[0];
    int ready = check_set(set) && chain_of(&buffers, layers, &chain);
    if (ready) {
        last = &chain.layer[chain.layers - 1];
        ready = last->rows == 1 && last->columns == 1 && samples >= 0 && samples <= MOST_COUNT && steps >= 0
            && steps <= MOST_COUNT && size >= 1 && size <= MOST_VALUES;
        if (!ready) PyErr_SetString(PyExc_ValueError, "classes, or a batch, of impossible size");
    }
    if (ready && (of_x = memory(&buffers, x, 0, 'f', samples * first->inputs * first->height * first->width))
        && (of_y = memory(&buffers, y, 0, 'q', samples)) && (of_batches = memory(&buffers, batches, 0, 'q', steps * size))
        && (of_loss = memory(&buffers, loss, 1, 'f', steps)) && all_below(of_y, samples, last->outputs)
        && all_below(of_batches, steps * size, samples)) {
        Py_BEGIN_ALLOW_THREADS
        done = chain_train(&chain, set, of_x, of_y, of_batches, steps, size, of_loss);
        Py_END_ALLOW_THREADS
        if (!done) PyErr_NoMemory();
    }
    let_go(&buffers);
    if (!done) return NULL;
    Py_RETURN_NONE;
}

static PyObject *py_outputs(PyObject *self, PyObject *args)
{
    (void)self;
    PyObject *layers, *x, *out;
    Py_ssize_t samples;
    int set, done = 0;
    if (!PyArg_ParseTuple(args, "OiOnO", &layers, &set, &x, &samples, &out)) return NULL;
    Buffers buffers = {.count = 0};
    Chain chain;
    const float *of_x;
    float *of_out;
    if (check_set(set) && chain_of(&buffers, layers, &chain)) {
        const Layer *first = &chain.layer[0], *last = &chain.layer[chain.layers - 1];
        if (samples < 0 || samples > MOST_COUNT) PyErr_Format(PyExc_ValueError, "%zd samples cannot be counted", samples);
        else if ((of_x = memory(&buffers, x, 0, 'f', samples * first->inputs * first->height * first->width))
            && (of_out = memory(&buffers, out, 1, 'f', samples * last->outputs * last->rows * last->columns))) {
            Py_BEGIN_ALLOW_THREADS
            done = chain_outputs(&chain, set, of_x, samples, of_out);
            Py_END_ALLOW_THREADS
            if (!done) PyErr_NoMemory();
        }
    }
    let_go(&buffers);
    if (!done) return NULL;
    Py_RETURN_NONE;
}

static PyObject *py_sets(PyObject *self, PyObject *nothing)
{
    (void)self, (void)nothing;
    return PyLong_FromLong(chain_sets());
}

static PyMethodDef methods[] = {
    {"train", py_train, METH_VARARGS, "Steps of SGD, in place."},
    {"outputs", py_outputs, METH_VARARGS, "What the last layer gives for all samples."},
    {"sets", py_sets, METH_NOARGS, "How many instruction sets there are to choose from; the last is the fastest."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_chain", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__chain(void)
{
    PyObject *made = PyModule_Create(&module);
    if (made && PyModule_AddIntConstant(made, "interface", INTERFACE)) Py_CLEAR(made);
#ifdef Py_GIL_DISABLED
    /* Nothing is kept between calls; what a call is given is the caller's to guard, as it is while the lock is free. */
    if (made) PyUnstable_Module_SetGIL(made, Py_MOD_GIL_NOT_USED);
#endif
    return made;
}
