/* A few rows times a matrix, every weight read once: see few_rows.py. */

#include "numbers.h"

#if defined(BF16) && defined(__AVX512BF16__)
#include <immintrin.h>
#include <stdlib.h>

enum { LANES = 32, EIGHT = 8 };
enum { BLOCK = 1024 }; /* inputs at a time: eight rows of them stay in the first cache */
enum { AHEAD = 6 };    /* rows of the weight that are asked for before their turn */

static inline __m512 pairs(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
}

static inline __m512 fours(__m512 a, __m512 b) {
    const __m512d x = _mm512_castps_pd(a), y = _mm512_castps_pd(b);
    return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
}

static inline __m512 quarters(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}

/* The sums of 16 vectors, in their order: each step adds neighbours within all of them, and leaves half as many. */
static inline __m512 totals(const __m512 *v) {
    __m512 some[4];
    for (int i = 0; i < 4; i++)
        some[i] = fours(pairs(v[4 * i], v[4 * i + 1]), pairs(v[4 * i + 2], v[4 * i + 3]));
    return quarters(quarters(some[0], some[1]), quarters(some[2], some[3]));
}

/* For processors that multiply pairs of bfloat16: n inputs of eight rows times two outputs, whose 16 sums stay in
   registers and are added to y. What the processor fetches of the weight by itself comes too late; the second cache is
   where it is asked to be ahead of time, as there is more room to wait in than in the first. */
static void eight_by_two(const number *row, const number *x, int64_t n, int64_t inputs, float *y, int64_t step) {
    __m512 sums[2 * EIGHT];
    for (int r = 0; r < 2 * EIGHT; r++) sums[r] = _mm512_setzero_ps();
    for (int64_t i = 0; i < n; i += LANES) {
        const number *at = row + i, *later = at + AHEAD * inputs;
        const __m512bh w1 = (__m512bh)_mm512_loadu_si512(at), w2 = (__m512bh)_mm512_loadu_si512(at + inputs);
        __builtin_prefetch(later, 0, 2), __builtin_prefetch(later + inputs, 0, 2);
#pragma GCC unroll 8
        for (int r = 0; r < EIGHT; r++) {
            const __m512bh values = (__m512bh)_mm512_loadu_si512(x + r * inputs + i);
            sums[r] = _mm512_dpbf16_ps(sums[r], w1, values);
            sums[EIGHT + r] = _mm512_dpbf16_ps(sums[EIGHT + r], w2, values);
        }
    }
    float found[2 * EIGHT];
    _mm512_storeu_ps(found, totals(sums));
    for (int r = 0; r < EIGHT; r++) y[r * step] += found[r], y[r * step + 1] += found[EIGHT + r];
}

/* The same of all outputs; 0 where it is not eight rows of a suitable size, and nothing is done. */
static int multiply_eight(const number *weight, const float *x, float *y, int64_t inputs, int64_t outputs,
                          int64_t rows, int threads) {
    if (rows != EIGHT || inputs % LANES || outputs % 2) return 0;
    number *halves = malloc(sizeof(number) * EIGHT * inputs);
    if (!halves) return 0;
    for (int64_t i = 0; i < EIGHT * inputs; i++) halves[i] = narrow(x[i]); /* exact: they were bfloat16 */
    memset(y, 0, sizeof(float) * EIGHT * outputs);
#pragma omp parallel num_threads(threads)
    for (int64_t i = 0; i < inputs; i += BLOCK) {
        const int64_t n = inputs - i < BLOCK ? inputs - i : BLOCK;
#pragma omp for schedule(static) nowait /* a thread has the same outputs in every block */
        for (int64_t o = 0; o < outputs; o += 2)
            eight_by_two(weight + o * inputs + i, halves + i, n, inputs, y + o, outputs);
    }
    free(halves);
    return 1;
}
#endif

static void four_dots(const number *row, const float *x, int64_t n, float *y, int64_t step) {
    const float *x1 = x + n, *x2 = x1 + n, *x3 = x2 + n;
    float y0 = 0, y1 = 0, y2 = 0, y3 = 0;
    for (int64_t i = 0; i < n; i++) {
        const float w = wide(row[i]);
        y0 += w * x[i], y1 += w * x1[i], y2 += w * x2[i], y3 += w * x3[i];
    }
    y[0] = y0, y[step] = y1, y[2 * step] = y2, y[3 * step] = y3;
}

/* y (rows, outputs) = x (rows, inputs) times the rows of weight (outputs, inputs). */
void multiply(const number *weight, const float *x, float *y, int64_t inputs, int64_t outputs, int64_t rows,
              int threads) {
#if defined(BF16) && defined(__AVX512BF16__)
    if (multiply_eight(weight, x, y, inputs, outputs, rows, threads)) return;
#endif
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t o = 0; o < outputs; o++) {
        const number *row = weight + o * inputs;
        int64_t r = 0;
        for (; r + 4 <= rows; r += 4) four_dots(row, x + r * inputs, inputs, y + r * outputs + o, outputs);
        for (; r < rows; r++) y[r * outputs + o] = dot(row, x + r * inputs, inputs);
    }
}
