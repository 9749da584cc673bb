/* The one matrix product: C[m][n] += alpha A B (* mask), B cut into panels [n / PANEL][k][PANEL]. Included once for
 * every instruction set, with VEC floats to a register and ROWS x COLS accumulators that fit its registers. */

typedef float NAME(Vec) __attribute__((vector_size(4 * VEC), aligned(4)));
typedef int32_t NAME(Order) __attribute__((vector_size(4 * VEC)));
typedef int8_t NAME(Taps) __attribute__((vector_size(VEC), aligned(1)));
#define V NAME(Vec)
#define UNROLLED _Pragma("GCC unroll 16")

#define EACH(j) for (int j = 0; j < PANEL; j += VEC)
#define AT(p) (*(V *)(p))
#define FROM(p) (*(const V *)(p))

/* x where the comparison held, else 0. */
INLINE V NAME(masked)(NAME(Order) held, V x) { return (V)((NAME(Order))x & held); }

/* A's element (i, p) is a[i * a_row + p * a_step]. With a table, for one panel, B's row p is b + table[p]. */
typedef struct {
    int k;
    const float *a;
    ptrdiff_t a_row, a_step;
    const float *b;
    const int32_t *table;
    float *c;
    ptrdiff_t c_row;
    float alpha;
    const float *mask;  /* laid out as C, or NULL */
} NAME(Product);

INLINE void NAME(tile)(const int rows, const int by_table, const NAME(Product) *g)
{
    const float *a = g->a, *b = g->b;
    const int32_t *table = g->table;
    const ptrdiff_t a_row = g->a_row, a_step = g->a_step;
    V sum[ROWS][COLS];
    UNROLLED for (int i = 0; i < rows; i++)
        UNROLLED for (int j = 0; j < COLS; j++) sum[i][j] = (V){0};
    for (int p = 0; p < g->k; p++) {
        const float *from = by_table ? b + table[p] : b;
        V right[COLS];
        UNROLLED for (int j = 0; j < COLS; j++) right[j] = FROM(from + j * VEC);
        UNROLLED for (int i = 0; i < rows; i++) {
            const float left = a[i * a_row];
            UNROLLED for (int j = 0; j < COLS; j++) sum[i][j] += left * right[j];
        }
        a += a_step;
        if (!by_table) b += PANEL;
    }
    UNROLLED for (int i = 0; i < rows; i++) {
        UNROLLED for (int j = 0; j < COLS; j++) {
            V *at = (V *)(g->c + i * g->c_row + j * VEC);
            const V change = g->alpha * sum[i][j];
            *at += g->mask ? change * FROM(g->mask + i * g->c_row + j * VEC) : change;
        }
    }
}

#define CASE(r) \
    case r: \
        if (r <= ROWS) NAME(tile)(r <= ROWS ? r : 1, by_table, g); \
        break;
#define TILE_OF(name, table) \
    static __attribute__((noinline)) void NAME(name)(int rows, const NAME(Product) *g) \
    { \
        const int by_table = table; \
        switch (rows) { \
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) \
            CASE(13) CASE(14) \
        } \
    }
TILE_OF(tile_in_order, 0)
TILE_OF(tile_by_table, 1)

/* Rows are shared out evenly: few of them alone would leave the multipliers waiting. Columns go by within: whole rows
 * of C are read and written in turn, for C may be larger than the caches. */
static void NAME(product)(int m, int n, NAME(Product) g)
{
    const int blocks = (m + ROWS - 1) / ROWS;
    for (int t = 0; t < blocks; t++) {
        const int from = (int)((int64_t)m * t / blocks), rows = (int)((int64_t)m * (t + 1) / blocks) - from;
        for (int j = 0; j < n; j += COLS * VEC) {
            const ptrdiff_t at = from * g.c_row + j;
            const int width = n - j < COLS * VEC ? n - j : COLS * VEC;
            float edge[ROWS * COLS * VEC];
            NAME(Product) part = g;
            part.a += from * g.a_row;
            part.b += (ptrdiff_t)(j / PANEL) * g.k * PANEL + j % PANEL;
            part.c += at;
            if (g.mask) part.mask += at;
            if (width < COLS * VEC) {
                memset(edge, 0, sizeof edge);
                part.c = edge;
                part.c_row = COLS * VEC;
                part.mask = NULL;
            }
            if (g.table) NAME(tile_by_table)(rows, &part);
            else NAME(tile_in_order)(rows, &part);
            if (width == COLS * VEC) continue;
            for (int i = 0; i < rows; i++)
                for (int s = 0; s < width; s++) {
                    const ptrdiff_t here = at + i * g.c_row + s;
                    g.c[here] += edge[i * COLS * VEC + s] * (g.mask ? g.mask[here] : 1.0f);
                }
        }
    }
}

/* A square of PANEL x PANEL turned over its diagonal; rows lie `row` and `to_row` apart. */
static void NAME(transpose_block)(const float *from, ptrdiff_t row, float *to, ptrdiff_t to_row)
{
    for (int top = 0; top < PANEL; top += VEC)
        for (int left = 0; left < PANEL; left += VEC) {
            V held[VEC], next[VEC];
            UNROLLED for (int i = 0; i < VEC; i++) held[i] = FROM(from + (top + i) * row + left);
            UNROLLED for (int stage = 1; stage < VEC; stage *= 2) {
                UNROLLED for (int i = 0; i < VEC / 2; i++) {
                    next[2 * i] = SHUFFLE(held[i], held[i + VEC / 2], ZIP_LOW);
                    next[2 * i + 1] = SHUFFLE(held[i], held[i + VEC / 2], ZIP_HIGH);
                }
                UNROLLED for (int i = 0; i < VEC; i++) held[i] = next[i];
            }
            UNROLLED for (int i = 0; i < VEC; i++) AT(to + (left + i) * to_row + top) = held[i];
        }
}

/* to[columns][rows] = from[rows][columns], whose rows lie `row` apart. */
static void NAME(transpose)(const float *from, int rows, int columns, ptrdiff_t row, float *to)
{
    for (int top = 0; top < rows; top += PANEL)
        for (int left = 0; left < columns; left += PANEL) {
            const int high = rows - top < PANEL ? rows - top : PANEL;
            const int wide = columns - left < PANEL ? columns - left : PANEL;
            const float *block = from + top * row + left;
            float *turned = to + (ptrdiff_t)left * rows + top;
            if (high == PANEL && wide == PANEL) NAME(transpose_block)(block, row, turned, rows);
            else
                for (int i = 0; i < high; i++)
                    for (int j = 0; j < wide; j++) turned[(ptrdiff_t)j * rows + i] = block[i * row + j];
        }
}
