/* Forward and backward through a chain. Included once for every instruction set, after tile.h. */

INLINE V NAME(relu)(V x) { return NAME(masked)(~(x < 0.0f), x); }  /* NaN stays */

/* rows of PANEL floats: out = bias, then += weight * in, then ReLU. */
static void NAME(linear)(const Layer *l, const float *in, float *out)
{
    for (int o = 0; o < l->outputs; o++)
        EACH(b) AT(out + o * PANEL + b) = (V){0} + l->bias.value[o];
    NAME(product)(l->outputs, PANEL, (NAME(Product)){.k = l->inputs, .a = l->weight.value, .a_row = l->inputs,
                  .a_step = 1, .b = in, .c = out, .c_row = PANEL, .alpha = 1.0f});
    if (l->relu)
        for (int i = 0; i < l->outputs * PANEL; i += VEC) AT(out + i) = NAME(relu)(FROM(out + i));
}

/* Offsets of the inputs under a filter that starts at (y, x); those beyond the edge lie in the row of zeros. */
static void NAME(tap_offsets)(const Layer *l, int y, int x, int32_t *table)
{
    for (int c = 0; c < l->inputs; c++)
        for (int i = 0; i < l->kernel[0]; i++)
            for (int j = 0; j < l->kernel[1]; j++) {
                const int inside = y + i >= 0 && y + i < l->height && x + j >= 0 && x + j < l->width;
                *table++ = PANEL * (inside ? (c * l->height + y + i) * l->width + x + j : zero_row(layer_inputs(l)));
            }
}

/* The greatest of each rectangle of the pool, from one band of rows, and where it was: -1 if ReLU stopped it. */
static void NAME(pool)(const Layer *l, const float *band, int row, float *out, int8_t *argmax)
{
    const int s = l->pool[0], across = l->columns * l->pool[1];
    for (int o = 0; o < l->outputs; o++)
        for (int x = 0; x < l->columns; x++) {
            const ptrdiff_t at = (((ptrdiff_t)o * l->rows + row) * l->columns + x) * PANEL;
            const float *first = band + ((ptrdiff_t)o * s * across + x * l->pool[1]) * PANEL;
            EACH(b) {
                V best = FROM(first + b);
                NAME(Order) tap = {0};
                for (int t = 1; t < pool_taps(l); t++) {
                    const V other = FROM(first + (t / l->pool[1] * across + t % l->pool[1]) * PANEL + b);
                    const NAME(Order) more = (other > best) | (other != other);
                    best = (V)(((NAME(Order))best & ~more) | ((NAME(Order))other & more));
                    tap = (tap & ~more) | (more & t);
                }
                if (l->relu) {
                    tap |= ~(best > 0.0f);
                    best = NAME(relu)(best);
                }
                AT(out + at + b) = best;
                *(NAME(Taps) *)(argmax + at + b) = __builtin_convertvector(tap, NAME(Taps));
            }
        }
}

static void NAME(convolution)(const Layer *l, const Scratch *w, const float *in, float *out, int8_t *argmax)
{
    const int s = l->pool[0], across = l->columns * l->pool[1], padded = l->padding[0] || l->padding[1];
    const int k = l->inputs * l->kernel[0] * l->kernel[1];
    NAME(tap_offsets)(l, 0, 0, w->table);
    for (int row = 0; row < l->rows; row++) {
        for (int o = 0; o < l->outputs; o++)
            for (int i = 0; i < s * across * PANEL; i += VEC)
                AT(w->band + (ptrdiff_t)o * s * across * PANEL + i) = (V){0} + l->bias.value[o];
        for (int i = 0; i < s * across; i++) {
            const int y = row * s + i / across, x = i % across;
            if (padded) NAME(tap_offsets)(l, y - l->padding[0], x - l->padding[1], w->table);
            NAME(product)(l->outputs, PANEL, (NAME(Product)){.k = k, .a = l->weight.value, .a_row = k, .a_step = 1,
                          .b = padded ? in : in + (y * l->width + x) * PANEL, .table = w->table,
                          .c = w->band + i * PANEL, .c_row = s * across * PANEL, .alpha = 1.0f});
        }
        NAME(pool)(l, w->band, row, out, argmax);
    }
}

/* Slope of the values before pooling and ReLU, for one band of rows. */
static void NAME(unpool)(const Layer *l, const float *slope, const int8_t *argmax, int row, float *band)
{
    const int s = l->pool[0], across = l->columns * l->pool[1];
    for (int o = 0; o < l->outputs; o++)
        for (int x = 0; x < l->columns; x++) {
            const ptrdiff_t at = (((ptrdiff_t)o * l->rows + row) * l->columns + x) * PANEL;
            float *first = band + ((ptrdiff_t)o * s * across + x * l->pool[1]) * PANEL;
            EACH(b) {
                const NAME(Order) tap = __builtin_convertvector(*(const NAME(Taps) *)(argmax + at + b), NAME(Order));
                for (int t = 0; t < pool_taps(l); t++)
                    AT(first + (t / l->pool[1] * across + t % l->pool[1]) * PANEL + b)
                        = NAME(masked)(tap == t, FROM(slope + at + b));
            }
        }
}

/* += slope of the weights, one band of rows: w->gradient is [outputs / PANEL][inputs][kernel][PANEL outputs]. */
static void NAME(weight_gradient)(const Layer *l, const Scratch *w, const float *in, int row)
{
    const int s = l->pool[0], across = l->columns * l->pool[1];
    const int rows = l->kernel[0], columns = l->kernel[1], taps = rows * columns;
    for (int panel = 0; panel * PANEL < l->outputs; panel++) {
        for (int i = 0; i < s * across; i++)  /* samples and channels change places */
            NAME(transpose_block)(w->band + ((ptrdiff_t)panel * PANEL * s * across + i) * PANEL, s * across * PANEL,
                       w->turned + (ptrdiff_t)i * PANEL * PANEL, PANEL);
        float *gradient = w->gradient + (ptrdiff_t)panel * l->inputs * taps * PANEL;
        for (int j = 0; j < s * rows; j++) {
            const int i = j % rows, y = row * s + j / rows + i - l->padding[0];
            const float *slope = w->turned + (ptrdiff_t)(j / rows) * across * PANEL * PANEL;
            if (y < 0 || y >= l->height) continue;
            if (l->inputs < columns && !l->padding[1]) {  /* rows of the product: taps, as channels are too few */
                for (int c = 0; c < l->inputs; c++)
                    NAME(product)(columns, PANEL, (NAME(Product)){.k = across * PANEL,
                                  .a = in + (c * l->height + y) * l->width * PANEL, .a_row = PANEL, .a_step = 1,
                                  .b = slope, .c = gradient + (c * taps + i * columns) * PANEL, .c_row = PANEL, .alpha = 1.0f});
                continue;
            }
            for (int t = 0; t < columns; t++) {
                const int shift = t - l->padding[1], left = shift < 0 ? -shift : 0;
                const int right = l->width - shift < across ? l->width - shift : across;
                NAME(product)(l->inputs, PANEL, (NAME(Product)){.k = (right - left) * PANEL,
                              .a = in + (y * l->width + left + shift) * PANEL, .a_row = l->height * l->width * PANEL,
                              .a_step = 1, .b = slope + (ptrdiff_t)left * PANEL * PANEL,
                              .c = gradient + (i * columns + t) * PANEL, .c_row = taps * PANEL, .alpha = 1.0f});
            }
        }
    }
}

/* += slope of the inputs, one band of rows; w->packed is weight as [inputs][kernel][outputs]. */
static void NAME(input_gradient)(const Layer *l, const Scratch *w, int row, float *below)
{
    const int s = l->pool[0], across = l->columns * l->pool[1];
    for (int o = 0; o < l->outputs; o++) w->table[o] = o * s * across * PANEL;
    for (int i = 0; i < s * across; i++)
        for (int t = 0; t < l->kernel[0] * l->kernel[1]; t++) {
            const int y = row * s + i / across + t / l->kernel[1] - l->padding[0];
            const int x = i % across + t % l->kernel[1] - l->padding[1];
            if (y < 0 || y >= l->height || x < 0 || x >= l->width) continue;
            NAME(product)(l->inputs, PANEL, (NAME(Product)){.k = l->outputs,
                          .a = w->packed + (ptrdiff_t)t * l->outputs,
                          .a_row = (ptrdiff_t)l->kernel[0] * l->kernel[1] * l->outputs, .a_step = 1,
                          .b = w->band + i * PANEL, .table = w->table, .c = below + (y * l->width + x) * PANEL,
                          .c_row = l->height * l->width * PANEL, .alpha = 1.0f});
        }
}

/* Take one step on a bias, given the slopes [outputs][per] of one panel. */
static void NAME(bias_step)(const Parameter *bias, int outputs, const float *slope, int per, float rate)
{
    for (int o = 0; o < outputs; o++) {
        float sum[PANEL] = {0};
        for (int i = 0; i < per; i += PANEL)
            for (int b = 0; b < PANEL; b++) sum[b] += slope[(ptrdiff_t)o * per + i + b];
        float all = 0.0f;
        for (int b = 0; b < PANEL; b++) all += sum[b];
        bias->value[o] -= rate * all * (bias->mask ? bias->mask[o] : 1.0f);
    }
}

static void NAME(linear_backward)(const Layer *l, int first, const Space *space, int index, int lowest, float size)
{
    const float rate = l->weight.rate / size;
    for (int p = 0; p < space->panels; p++) {
        const Panel *panel = &space->panel[p];
        float *slope = panel->slope[index + 1];
        if (l->relu)
            for (int i = 0; i < l->outputs * PANEL; i += VEC)
                AT(slope + i) = NAME(masked)(FROM(panel->value[index + 1] + i) > 0.0f, FROM(slope + i));
        if (lowest) continue;
        memset(panel->slope[index], 0, sizeof(float) * l->inputs * PANEL);
        NAME(product)(l->inputs, PANEL, (NAME(Product)){.k = l->outputs, .a = l->weight.value, .a_row = 1,
                      .a_step = l->inputs, .b = slope, .c = panel->slope[index], .c_row = PANEL, .alpha = 1.0f});
    }
    for (int p = 0; p < space->panels; p++) {  /* only now, for the slopes below are of the weights as they were */
        const Panel *panel = &space->panel[p];
        const float *slope = panel->slope[index + 1];
        if (l->bias.rate != 0.0f) NAME(bias_step)(&l->bias, l->outputs, slope, PANEL, l->bias.rate / size);
        if (rate == 0.0f) continue;
        float *right = first ? panel->given : space->scratch.turned;
        for (ptrdiff_t j = 0; !first && j < l->inputs; j += PANEL)
            NAME(transpose_block)(panel->value[index] + j * PANEL, PANEL, right + j * PANEL, PANEL);
        NAME(product)(l->outputs, l->inputs, (NAME(Product)){.k = PANEL, .a = slope, .a_row = PANEL, .a_step = 1,
                      .b = right, .c = l->weight.value, .c_row = l->inputs, .alpha = -rate, .mask = l->weight.mask});
    }
}

static void NAME(convolution_backward)(const Layer *l, const Space *space, int index, int lowest, float size)
{
    const Scratch *w = &space->scratch;
    const int k = l->inputs * l->kernel[0] * l->kernel[1], per = pool_taps(l) * l->columns * PANEL;
    const float rate = l->weight.rate / size;
    memset(w->gradient, 0, sizeof(float) * panels_of(l->outputs) * PANEL * k);
    if (!lowest) NAME(transpose)(l->weight.value, l->outputs, k, k, w->packed);
    for (int p = 0; p < space->panels; p++) {
        const Panel *panel = &space->panel[p];
        if (!lowest) memset(panel->slope[index], 0, sizeof(float) * layer_inputs(l) * PANEL);
        for (int row = 0; row < l->rows; row++) {
            NAME(unpool)(l, panel->slope[index + 1], panel->argmax[index], row, w->band);
            if (l->bias.rate != 0.0f) NAME(bias_step)(&l->bias, l->outputs, w->band, per, l->bias.rate / size);
            if (rate != 0.0f) NAME(weight_gradient)(l, w, panel->value[index], row);
            if (!lowest) NAME(input_gradient)(l, w, row, panel->slope[index]);
        }
    }
    for (int from = 0; rate != 0.0f && from < l->outputs; from += PANEL) {
        const int rows = l->outputs - from < PANEL ? l->outputs - from : PANEL;
        const ptrdiff_t at = (ptrdiff_t)from * k;
        NAME(transpose)(w->gradient + at, k, PANEL, PANEL, w->packed);
        for (ptrdiff_t i = 0; i < (ptrdiff_t)rows * k; i++)
            l->weight.value[at + i] -= rate * w->packed[i] * (l->weight.mask ? l->weight.mask[at + i] : 1.0f);
    }
}

/* exp(x) for x <= 0, to 2 ulp; NaN stays. */
INLINE float NAME(exp_of_negative)(float x)
{
    const float magic = 0x1.8p23f;  /* adding it rounds to an integer and leaves that in the low bits */
    const float y = x < -87.0f ? -87.0f : x, shifted = y * 1.44269504f + magic, n = shifted - magic;
    const float r = (y - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
    const float q = ((1.0f / 5040.0f * r + 1.0f / 720.0f) * r + 1.0f / 120.0f) * r + 1.0f / 24.0f;
    const float p = (q * r + 1.0f / 6.0f) * r + 0.5f;
    union {
        float value;
        uint32_t bits;
    } scale = {.value = shifted};
    scale.bits = (scale.bits + 127) << 23;  /* 2^n */
    return (p * r * r + r + 1.0f) * scale.value;
}

/* Slope of the summed loss in the logits, zero in unused columns; returns the summed loss. */
static float NAME(cross_entropy)(int classes, const float *logits, const int64_t *y, const int64_t *rows, int used,
                                 float *slope)
{
    float most[PANEL], sum[PANEL] = {0}, loss = 0.0f;
    memcpy(most, logits, sizeof most);
    for (int c = 1; c < classes; c++)
        for (int b = 0; b < PANEL; b++) most[b] = logits[c * PANEL + b] > most[b] ? logits[c * PANEL + b] : most[b];
    for (int c = 0; c < classes; c++)
        for (int b = 0; b < PANEL; b++) {
            const float e = NAME(exp_of_negative)(logits[c * PANEL + b] - most[b]);
            slope[c * PANEL + b] = e;
            sum[b] += e;
        }
    for (int b = 0; b < used; b++) loss += logf(sum[b]) + most[b] - logits[y[rows[b]] * PANEL + b];
    for (int b = 0; b < PANEL; b++) sum[b] = 1.0f / sum[b];
    for (int c = 0; c < classes; c++)
        for (int b = 0; b < PANEL; b++) slope[c * PANEL + b] = b < used ? slope[c * PANEL + b] * sum[b] : 0.0f;
    for (int b = 0; b < used; b++) slope[y[rows[b]] * PANEL + b] -= 1.0f;
    return loss;
}

static void NAME(forward)(const Chain *chain, const Scratch *scratch, const Panel *panel)
{
    for (int i = 0; i < chain->layers; i++) {
        const Layer *l = &chain->layer[i];
        if (is_linear(l)) NAME(linear)(l, panel->value[i], panel->value[i + 1]);
        else NAME(convolution)(l, scratch, panel->value[i], panel->value[i + 1], panel->argmax[i]);
    }
}

/* Samples rows[0 .. used) of x, side by side; rows NULL: the first ones. */
static void NAME(gather)(const Chain *chain, const Panel *panel, const float *x, const int64_t *rows, int used)
{
    const int n = layer_inputs(&chain->layer[0]), whole = n / PANEL * PANEL;
    for (int b = 0; b < used; b++) {
        const float *from = x + (rows ? rows[b] : b) * n;
        float *to = panel->given + b * PANEL;
        for (int j = 0; j < whole; j += PANEL) EACH(i) AT(to + j * PANEL + i) = FROM(from + j + i);
        for (int j = whole; j < n; j++) to[whole * PANEL + j - whole] = from[j];  /* the rest of the row stays zero */
    }
    for (int j = 0; j < n; j += PANEL) {
        const ptrdiff_t block = (ptrdiff_t)j * PANEL;
        NAME(transpose_block)(panel->given + block, PANEL, panel->value[0] + block, PANEL);
    }
}

static void NAME(train)(const Chain *chain, const Space *space, int lowest, const float *x, const int64_t *y,
                        const int64_t *batches, ptrdiff_t steps, ptrdiff_t size, float *losses)
{
    const int last = chain->layers, classes = chain->layer[last - 1].outputs;
    for (ptrdiff_t step = 0; step < steps; step++) {
        const int64_t *rows = batches + step * size;
        float loss = 0.0f;
        for (int p = 0; p < space->panels; p++) {
            const Panel *panel = &space->panel[p];
            const int used = size - p * PANEL < PANEL ? (int)(size - p * PANEL) : PANEL;
            NAME(gather)(chain, panel, x, rows + p * PANEL, used);
            NAME(forward)(chain, &space->scratch, panel);
            loss += NAME(cross_entropy)(classes, panel->value[last], y, rows + p * PANEL, used, panel->slope[last]);
        }
        losses[step] = loss / (float)size;
        for (int i = last - 1; i >= lowest; i--) {
            const Layer *l = &chain->layer[i];
            if (is_linear(l)) NAME(linear_backward)(l, i == 0, space, i, i == lowest, (float)size);
            else NAME(convolution_backward)(l, space, i, i == lowest, (float)size);
        }
    }
}

static void NAME(outputs)(const Chain *chain, const Space *space, const float *x, ptrdiff_t samples, float *out)
{
    const Layer *top = &chain->layer[chain->layers - 1];
    const Panel *panel = &space->panel[0];
    const ptrdiff_t inputs = layer_inputs(&chain->layer[0]), n = layer_outputs(top);
    for (ptrdiff_t from = 0; from < samples; from += PANEL) {
        const int used = samples - from < PANEL ? (int)(samples - from) : PANEL;
        NAME(gather)(chain, panel, x + from * inputs, NULL, used);
        NAME(forward)(chain, &space->scratch, panel);
        for (ptrdiff_t j = 0; j < n; j += PANEL) {
            const ptrdiff_t width = n - j < PANEL ? n - j : PANEL;
            NAME(transpose_block)(panel->value[chain->layers] + j * PANEL, PANEL, space->scratch.turned, PANEL);
            for (int b = 0; b < used; b++)
                memcpy(out + (from + b) * n + j, space->scratch.turned + b * PANEL, sizeof(float) * width);
        }
    }
}

#undef SET
#undef VEC
#undef ROWS
#undef COLS
#undef ZIP_LOW
#undef ZIP_HIGH
