/* SGD on chains of linear layers and convolutions, with ReLU and max-pooling between, under softmax cross-entropy.
 *
 * Samples lie side by side in memory, PANEL of them: every value of the network is a row of PANEL floats, so that a
 * layer is a matrix product whose columns are samples, whatever the batch, and vectors run over samples. A batch
 * is cut into panels; unused columns hold zeros, and their slopes are zero. */
#ifndef FLTRAIN_CHAIN_H
#define FLTRAIN_CHAIN_H

#include <stddef.h>
#include <stdint.h>

enum { PANEL = 32, MOST_LAYERS = 64 };

/* What SGD does to a parameter: rate 0 leaves it alone, a mask (or NULL) multiplies its slope. */
typedef struct {
    float *value;
    const float *mask;
    float rate;
} Parameter;

/* A linear layer is a 1 x 1 convolution of a 1 x 1 image. Stride 1; then ReLU if asked; then the greatest value of
 * each rectangle of the pool, what is left over at the edges dropped. */
typedef struct {
    int inputs, outputs;        /* channels */
    int height, width;          /* of the input */
    int kernel[2], padding[2];  /* rows, columns */
    int pool[2], relu;          /* rows, columns */
    int rows, columns;          /* of the output, after pooling */
    Parameter weight, bias;     /* weight: [outputs][inputs][kernel rows][kernel columns] */
} Layer;

typedef struct {
    int layers;
    Layer layer[MOST_LAYERS];
} Chain;

/* Instruction sets this machine has: 1 is what every machine has, higher is faster. */
int chain_sets(void);

/* One step per row of batches [steps][size]; loss [steps]. Returns 0 where memory ran out. */
int chain_train(const Chain *chain, int set, const float *x, const int64_t *y, const int64_t *batches, ptrdiff_t steps,
                ptrdiff_t size, float *loss);

/* Outputs [samples][...] of the last layer, without softmax. Returns 0 where memory ran out. */
int chain_outputs(const Chain *chain, int set, const float *x, ptrdiff_t samples, float *out);

#endif
