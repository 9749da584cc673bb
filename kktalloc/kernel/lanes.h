/* Devices in lanes: every per-device formula is written once, for one lane, free of branches, and the compiler turns
 * the loops over LANES of them into vector code. Nothing here knows the allocation problem. */
#ifndef KKTALLOC_LANES_H
#define KKTALLOC_LANES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Several vectors abreast, for a formula is a long chain of operations that wait for each other. */
enum { LANES = 32, VECTOR = 8 };

#define INLINE static inline __attribute__((always_inline))
#define EACH(i) for (int i = 0; i < LANES; i++)

/* Lanes that hold `count` of something, in whole vectors. */
INLINE int whole_vectors(int count) { return (count + VECTOR - 1) & -VECTOR; }

/* One compilation per instruction set, chosen when the module is loaded: by a feature of glibc (musl has none), under names
 * that GCC knows from 12 on; 11 chooses by single features. Elsewhere there is one compilation, for what the flags say, as under
 * sanitizers, which wake up after the choice; and where the builder wants one set alone (-DFOR_EVERY_CPU=). */
#if defined(FOR_EVERY_CPU)
#elif !defined(__x86_64__) || !defined(__GLIBC__) || !defined(__GNUC__) || defined(__clang__) || __GNUC__ < 11 \
    || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FOR_EVERY_CPU
#elif __GNUC__ == 11
#define FOR_EVERY_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EVERY_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#endif

#if defined(__GNUC__)
#define LANE_LOOP FOR_EVERY_CPU __attribute__((unused)) static
#else
#define LANE_LOOP static
#endif

typedef double Lanes[LANES] __attribute__((aligned(64)));

/* Lanes are copied in place: to call memmove for 32 of them costs a twentieth of a large problem. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-tree-loop-distribute-patterns")
#endif

/* For a loop that reads lanes of a block by a pointer and writes others of it: as it might read what it writes, the compiler would
 * take it one lane at a time. */
INLINE void copy_lanes(double *restrict to, const double *restrict from)
{
    EACH(i) to[i] = from[i];
}

/* A float64 array broadcast to (problems, devices); strides in bytes, 0 where it does not vary. */
typedef struct {
    const char *data;
    ptrdiff_t row, step;
} Column;

/* What the lanes stand for: `count` devices of one problem from (row, device) on, or, `across`, that device of `count`
 * problems; the next strip of a problem lies `hop` devices on. */
typedef struct {
    ptrdiff_t row, device, hop;
    int count, across;
} Strip;

#if defined(__GNUC__)
#define SOON(address) __builtin_prefetch(address)
#define SOON_WRITTEN(address) __builtin_prefetch(address, 1)
#else
#define SOON(address) ((void)(address))
#define SOON_WRITTEN(address) ((void)(address))
#endif

/* The lanes of a strip; the last one fills what is left. Strips follow each other too slowly for the processor to see
 * that they do: the next is asked for here. */
INLINE void load(double *restrict lanes, const Column *c, const Strip *at)
{
    const char *from = c->data + at->row * c->row + at->device * c->step;
    const ptrdiff_t stride = at->across ? c->row : c->step;
    if (stride == 0) {
        const double value = *(const double *)from;
        EACH(i) lanes[i] = value;
    } else if (stride == sizeof(double) && at->count == LANES) {
        const char *next = from + at->hop * (ptrdiff_t)sizeof(double);
        for (size_t line = 0; line <= LANES * sizeof(double); line += 64) SOON(next + line);
        EACH(i) lanes[i] = ((const double *)from)[i];
    } else {
        const int width = whole_vectors(at->count);
        for (int i = 0; i < width; i++) lanes[i] = *(const double *)(from + (i < at->count ? i : at->count - 1) * stride);
    }
}

/* From the part of a C-ordered array that a strip of one problem stands for. */
LANE_LOOP void gather(double *lanes, const double *from, const Strip *at)
{
    load(lanes, &(Column){(const char *)from, 0, sizeof *from}, &(Strip){0, 0, at->hop, at->count, 0});
}

/* To the part of an array of `row_length` that a strip stands for; across problems only where `here` says so. */
LANE_LOOP void scatter(double *to, const double *lanes, const double *here, const Strip *at, ptrdiff_t row_length)
{
    if (at->across) {
        for (int i = 0; i < at->count; i++) if (here[i] > 0.0) to[i * row_length] = lanes[i];
    } else {
        const char *next = (const char *)(to + at->hop);
        for (size_t line = 0; line <= LANES * sizeof(double); line += 64) SOON_WRITTEN(next + line);
        if (at->count == LANES) EACH(i) to[i] = lanes[i];
        else memcpy(to, lanes, (size_t)at->count * sizeof *to);
    }
}

/* The same for arrays of small integers. */
LANE_LOOP void gather_codes(double *lanes, const signed char *from, const Strip *at, ptrdiff_t row_length)
{
    const ptrdiff_t stride = at->across ? row_length : 1;
    if (at->count == LANES && stride == 1) EACH(i) lanes[i] = from[i];
    else for (int i = 0; i < LANES; i++) lanes[i] = from[(i < at->count ? i : at->count - 1) * stride];
}

LANE_LOOP void scatter_codes(signed char *to, const double *lanes, const double *here, const Strip *at, ptrdiff_t row_length)
{
    const ptrdiff_t stride = at->across ? row_length : 1;
    if (at->count == LANES && !at->across) EACH(i) to[i] = (signed char)(int)lanes[i];
    else for (int i = 0; i < at->count; i++) if (here[i] > 0.0) to[i * stride] = (signed char)lanes[i];
}

/* Those of one problem for arrays of small whole numbers that need more room. */
LANE_LOOP void gather_shorts(double *lanes, const short *from, const Strip *at)
{
    EACH(i) lanes[i] = from[i < at->count ? i : at->count - 1];
}

LANE_LOOP void scatter_shorts(short *to, const double *lanes, const Strip *at)
{
    for (int i = 0; i < at->count; i++) to[i] = (short)lanes[i];
}

INLINE double bits_to_double(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE uint64_t double_to_bits(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE double least(double a, double b) { return a < b ? a : b; }
INLINE double most(double a, double b) { return a > b ? a : b; }

#define LN2 0.693147180559945309417
#define PER_LN2 1.44269504088896340736
#define LN2_HIGH 0x1.62e42fefa38p-1  /* trailing zeros: exact times any exponent */
#define LN2_LOW 0x1.ef35793c7673p-45

/* exp(-y) and 1 - exp(-y), each to a few ulp, for 0 <= y <= 700. */
INLINE void decay(double y, double *e, double *em)
{
    const double magic = 0x1.8p52;  /* adding it rounds to an integer and leaves that in the low bits */
    const double shifted = -y * (1.0 / LN2) + magic, n = shifted - magic;
    const double r = (-y - n * LN2_HIGH) - n * LN2_LOW;
    /* Taylor, |r| < 0.35: (expm1(r) - r) / r^2, in three threads that the processor runs abreast. */
    const double r3 = r * r * r;
    const double p = ((1.0 / 39916800.0 * r3 + 1.0 / 40320.0) * r3 + 1.0 / 120.0) * r3 + 0.5;
    const double q = ((1.0 / 479001600.0 * r3 + 1.0 / 362880.0) * r3 + 1.0 / 720.0) * r3 + 1.0 / 6.0;
    const double t = ((1.0 / 6227020800.0 * r3 + 1.0 / 3628800.0) * r3 + 1.0 / 5040.0) * r3 + 1.0 / 24.0;
    const double grown = (p + (q + t * r) * r) * (r * r) + r;
    const double scale = bits_to_double((double_to_bits(shifted) + 1023) << 52);  /* 2^n */
    *e = scale * grown + scale;
    *em = (1.0 - scale) - scale * grown;
}

/* Natural logarithm to a few ulp; near -709 at and below the smallest normal number. */
INLINE double natural_log(double x)
{
    const uint64_t bits = double_to_bits(x), half_root = 0x3fe6a09e667f3bcd;  /* sqrt(1/2) */
    const uint64_t biased = (bits - half_root + (1024ull << 52)) >> 52;
    const double n = bits_to_double(biased | 0x4330000000000000ull) - (0x1p52 + 1024.0);
    const double f = bits_to_double(bits - (biased << 52) + (1024ull << 52)) - 1.0;  /* in (-0.3, 0.42) */
    const double s = f / (2.0 + f), z = s * s;  /* ln(1 + f) = 2 artanh(s) */
    const double zz = z * z;
    const double even = (((2.0 / 19.0 * zz + 2.0 / 15.0) * zz + 2.0 / 11.0) * zz + 2.0 / 7.0) * zz + 2.0 / 3.0;
    const double odd = (((2.0 / 21.0 * zz + 2.0 / 17.0) * zz + 2.0 / 13.0) * zz + 2.0 / 9.0) * zz + 2.0 / 5.0;
    const double p = even + odd * z;
    const double value = n * LN2_HIGH + (2.0 * s + (s * z * p + n * LN2_LOW));
    return x < INFINITY ? value : x;
}

/* ln(1 + x) for x >= 0. */
INLINE double natural_log1p(double x)
{
    const double u = 1.0 + x;
    return u < INFINITY ? natural_log(u) + (x - (u - 1.0)) / u : u;
}

/* The same to 7 %: chords between powers of two, bent by m (1 - m). */
INLINE double rough_log1p(double x)
{
    const uint64_t bits = double_to_bits(1.0 + x), exponent = bits >> 52;
    const double n = bits_to_double(exponent | 0x4330000000000000ull) - (0x1p52 + 1023.0);
    const double m = bits_to_double((bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull) - 1.0;
    return LN2 * (n + m * (1.0 + 0.3466 * (1.0 - m)));
}

/* Sum of the first `width` lanes. */
LANE_LOOP double sum_lanes(const double *lanes, int width)
{
    Lanes sum = {0};
    for (int from = 0; from < width; from += VECTOR)
        for (int i = 0; i < VECTOR; i++) sum[i] += lanes[from + i];
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

/* Whether one of the first `width` lanes is not +0. */
LANE_LOOP int any(const double *lanes, int width)
{
    uint64_t bits = 0;
    for (int i = 0; i < width; i++) bits |= double_to_bits(lanes[i]);
    return bits != 0;
}

/* Running sum whose rounding errors are carried along (Neumaier). */
typedef struct {
    double sum, carry;
} Total;

INLINE void add(Total *t, double x)
{
    const double s = t->sum + x;
    t->carry += fabs(t->sum) >= fabs(x) ? (t->sum - s) + x : (x - s) + t->sum;
    t->sum = s;
}

INLINE double value_of(Total t) { return t.sum + t.carry; }

/* One such sum in every lane (Knuth's form, free of branches). */
typedef struct {
    Lanes sum, carry;
} LaneTotal;

INLINE void add_lane(LaneTotal *t, int i, double x)
{
    const double before = t->sum[i], s = before + x, moved = s - before;
    t->carry[i] += (before - (s - moved)) + (x - moved);
    t->sum[i] = s;
}

/* Over the first `width` lanes; the input is overwritten. */
INLINE Total total_of(LaneTotal *t, int width)
{
    for (int from = VECTOR; from < width; from += VECTOR)
        for (int i = 0; i < VECTOR; i++) add_lane(t, i, t->sum[from + i]);
    for (int i = 0; i < 4; i++) add_lane(t, i, t->sum[i + 4]);
    for (int i = 0; i < 2; i++) add_lane(t, i, t->sum[i + 2]);
    add_lane(t, 0, t->sum[1]);
    return (Total){t->sum[0], sum_lanes(t->carry, width)};
}

#endif
