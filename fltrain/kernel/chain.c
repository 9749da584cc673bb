/* Memory for a chain, and the choice of the instruction set. */
#include "chain.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* Values are rows of PANEL floats: as many as the layer has, up to a multiple of PANEL, then a row of zeros. */
typedef struct {
    float *value[MOST_LAYERS + 1], *slope[MOST_LAYERS + 1];
    int8_t *argmax[MOST_LAYERS];   /* which tap of the pool each output came from, -1 if ReLU stopped it */
    float *given;                 /* the samples, [inputs / PANEL][PANEL samples][PANEL] */
} Panel;

typedef struct {
    float *band, *turned, *gradient, *packed;
    int32_t *table;
} Scratch;

typedef struct {
    int panels;
    Panel *panel;
    Scratch scratch;
} Space;

static ptrdiff_t panels_of(ptrdiff_t n) { return (n + PANEL - 1) / PANEL; }
static int zero_row(ptrdiff_t n) { return (int)(panels_of(n) * PANEL); }
static ptrdiff_t layer_inputs(const Layer *l) { return (ptrdiff_t)l->inputs * l->height * l->width; }
static ptrdiff_t layer_outputs(const Layer *l) { return (ptrdiff_t)l->outputs * l->rows * l->columns; }

static int pool_taps(const Layer *l) { return l->pool[0] * l->pool[1]; }

static int is_linear(const Layer *l)
{
    return l->height == 1 && l->width == 1 && l->kernel[0] == 1 && l->kernel[1] == 1 && pool_taps(l) == 1
        && !l->padding[0] && !l->padding[1];
}

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(name) JOIN(name, SET)
#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (NAME(Order)){__VA_ARGS__})
#endif

#define SET baseline
#define VEC 4
#define ROWS 6
#define COLS 2
#define ZIP_LOW 0, 4, 1, 5
#define ZIP_HIGH 2, 6, 3, 7
#include "tile.h"
#include "steps.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define X86
#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi2")
#define SET avx2
#define VEC 8
#define ROWS 6
#define COLS 2
#define ZIP_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define ZIP_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#include "tile.h"
#include "steps.h"
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma,bmi2,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#define SET avx512
#define VEC 16
#define ROWS 14
#define COLS 2
#define ZIP_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define ZIP_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#include "tile.h"
#include "steps.h"
#pragma GCC pop_options
#endif

int chain_sets(void)
{
#ifdef X86
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2")) return 1;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") ? 3 : 2;
#else
    return 1;
#endif
}

/* Room for `count` things of `size` bytes, on a cache line of its own; counts only while there is no memory. */
static void *room(char *memory, size_t *used, ptrdiff_t count, size_t size)
{
    void *at = memory ? memory + *used : NULL;
    *used += ((size_t)count * size + 63) / 64 * 64;
    return at;
}

static ptrdiff_t most(ptrdiff_t a, ptrdiff_t b) { return a > b ? a : b; }

/* `lowest`: the first layer that slopes reach; as many as there are layers for none. */
static size_t lay_out(const Chain *chain, int lowest, Space *space, char *memory)
{
    size_t used = 0;
    ptrdiff_t band = 1, turned = 1, gradient = 1, table = 1;
    space->panel = room(memory, &used, space->panels, sizeof(Panel));
    for (int p = 0; p < space->panels; p++) {
        Panel panel = {0};
        panel.given = room(memory, &used, panels_of(layer_inputs(&chain->layer[0])) * PANEL * PANEL, sizeof(float));
        for (int i = 0; i <= chain->layers; i++) {
            const ptrdiff_t n = i ? layer_outputs(&chain->layer[i - 1]) : layer_inputs(&chain->layer[0]);
            panel.value[i] = room(memory, &used, (zero_row(n) + 1) * PANEL, sizeof(float));
            if (i > lowest) panel.slope[i] = room(memory, &used, n * PANEL, sizeof(float));
            if (i < chain->layers && !is_linear(&chain->layer[i]))
                panel.argmax[i] = room(memory, &used, layer_outputs(&chain->layer[i]) * PANEL, 1);
        }
        if (memory) space->panel[p] = panel;
    }
    for (int i = 0; i < chain->layers; i++) {
        const Layer *l = &chain->layer[i];
        const ptrdiff_t outputs = panels_of(l->outputs) * PANEL, taps = (ptrdiff_t)l->kernel[0] * l->kernel[1];
        const ptrdiff_t pooled = (ptrdiff_t)pool_taps(l) * l->columns;
        turned = most(turned, (is_linear(l) ? panels_of(l->inputs) : pooled) * PANEL * PANEL);
        if (is_linear(l)) continue;
        band = most(band, outputs * pooled * PANEL);
        table = most(table, most(l->inputs * taps, l->outputs));
        if (i >= lowest) gradient = most(gradient, outputs * l->inputs * taps);
    }
    space->scratch.band = room(memory, &used, band, sizeof(float));
    space->scratch.turned = room(memory, &used, turned, sizeof(float));
    space->scratch.gradient = room(memory, &used, gradient, sizeof(float));
    space->scratch.packed = room(memory, &used, gradient, sizeof(float));
    space->scratch.table = room(memory, &used, table, sizeof(int32_t));
    return used;
}

static char *acquire(const Chain *chain, int lowest, ptrdiff_t size, Space *space)
{
    space->panels = (int)panels_of(size);
    const size_t bytes = lay_out(chain, lowest, space, NULL);
    char *held = calloc(bytes + 64, 1);  /* zeros: the rows beyond a picture's edge, and what no channel fills */
    if (held) lay_out(chain, lowest, space, held + (64 - (uintptr_t)held % 64));
    return held;
}

int chain_train(const Chain *chain, int set, const float *x, const int64_t *y, const int64_t *batches, ptrdiff_t steps,
                ptrdiff_t size, float *loss)
{
    int lowest = 0;
    for (; lowest < chain->layers - 1; lowest++)
        if (chain->layer[lowest].weight.rate != 0.0f || chain->layer[lowest].bias.rate != 0.0f) break;
    Space space;
    char *held = acquire(chain, lowest, size, &space);
    if (!held) return 0;
#ifdef X86
    if (set == 3) train_avx512(chain, &space, lowest, x, y, batches, steps, size, loss);
    else if (set == 2) train_avx2(chain, &space, lowest, x, y, batches, steps, size, loss);
    else
#endif
        train_baseline(chain, &space, lowest, x, y, batches, steps, size, loss);
    free(held);
    return 1;
}

int chain_outputs(const Chain *chain, int set, const float *x, ptrdiff_t samples, float *out)
{
    Space space;
    char *held = acquire(chain, chain->layers, 1, &space);
    if (!held) return 0;
#ifdef X86
    if (set == 3) outputs_avx512(chain, &space, x, samples, out);
    else if (set == 2) outputs_avx2(chain, &space, x, samples, out);
    else
#endif
        outputs_baseline(chain, &space, x, samples, out);
    free(held);
    return 1;
}
