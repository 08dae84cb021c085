/* One query per row attends to what all rows have in common and to what is its own: see behind.py. */

#include <stdlib.h>

#include "numbers.h"

typedef struct {
    const float *common, *own; /* keys (heads, width, n_common) or values (heads, n_common, width); of each row
                                  (rows, heads, n_own, width) */
    int64_t head, own_row, own_head; /* how far apart heads and rows lie */
} table;

/* e to the power of x <= 0, in a form that becomes vector code; exact to about 2e-7. */
static inline float exp_below_0(float x) {
    x = x < -87.0f ? -87.0f : x;
    const int32_t n = (int32_t)(x * 1.44269504f - 0.5f); /* to the nearest: x is not above 0 */
    const float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    const uint32_t bits = (uint32_t)(n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    float sum = 8.3333333e-3f + r * 1.3888889e-3f;
    sum = 1.6666667e-1f + r * (4.1666667e-2f + r * sum);
    return scale * (1 + r * (1 + r * (0.5f + r * sum)));
}

static void softmax(float *scores, int64_t n, float scale) {
    float most = scores[0], sum = 0;
    for (int64_t i = 1; i < n; i++) most = scores[i] > most ? scores[i] : most;
    for (int64_t i = 0; i < n; i++) sum += scores[i] = exp_below_0(scale * (scores[i] - most));
    for (int64_t i = 0; i < n; i++) scores[i] /= sum;
}

/* Add weighted rows to a row: y (width) += weights (n) times values (n, width), whose rows lie so far apart. */
static inline __attribute__((always_inline)) void add_rows(float *restrict y, const float *weights, const float *values,
                                                           int64_t apart, int64_t n, int64_t width) {
    enum { TOGETHER = 64 };
    int64_t d = 0;
    for (; d + TOGETHER <= width; d += TOGETHER) {
        float sums[TOGETHER] = {0};
        for (int64_t i = 0; i < n; i++)
            for (int j = 0; j < TOGETHER; j++) sums[j] += weights[i] * values[i * apart + d + j];
        for (int j = 0; j < TOGETHER; j++) y[d + j] += sums[j];
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = d; j < width; j++) y[j] += weights[i] * values[i * apart + j];
}

/* In pieces that stay in the cache while all rows read them: what is common is read once. */
static inline __attribute__((always_inline)) void one_head(const float *q, table keys, table values, float *y,
                                                           float *scores, int64_t h, int64_t rows, int64_t heads,
                                                           int64_t width, int64_t n_common, int64_t n_own,
                                                           float scale) {
    enum { PIECE = 64 };
    const int64_t n = n_common + n_own, apart = heads * width;
    const float *common_keys = keys.common + h * keys.head, *common_values = values.common + h * values.head;
    q += h * width, y += h * width;
    memset(scores, 0, sizeof(float) * rows * n);
    for (int64_t i = 0; i < n_common; i += PIECE)
        for (int64_t r = 0; r < rows; r++)
            if (i + PIECE <= n_common) /* a length that the compiler knows */
                add_rows(scores + r * n + i, q + r * apart, common_keys + i, n_common, width, PIECE);
            else
                add_rows(scores + r * n + i, q + r * apart, common_keys + i, n_common, width, n_common - i);
    for (int64_t r = 0; r < rows; r++) {
        const float *own = keys.own + r * keys.own_row + h * keys.own_head;
        for (int64_t i = 0; i < n_own; i++) scores[r * n + n_common + i] = dot(own + i * width, q + r * apart, width);
        softmax(scores + r * n, n, scale);
        memset(y + r * apart, 0, sizeof(float) * width);
        own = values.own + r * values.own_row + h * values.own_head;
        add_rows(y + r * apart, scores + r * n + n_common, own, width, n_own, width);
    }
    for (int64_t i = 0; i < n_common; i += PIECE)
        for (int64_t r = 0; r < rows; r++)
            add_rows(y + r * apart, scores + r * n + i, common_values + i * width, width,
                     n_common - i < PIECE ? n_common - i : PIECE, width);
}

/* y (rows, heads, width) of queries q of the same shape; 0 if there is no memory, and nothing is done. */
int attend(const float *q, const table *keys, const table *values, float *y, int64_t rows, int64_t heads, int64_t width,
           int64_t n_common, int64_t n_own, float scale, int threads) {
    const int64_t n = rows * (n_common + n_own);
    float *scores = malloc(sizeof(float) * n * threads);
    if (!scores) return 0;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads; t++)
        for (int64_t h = t; h < heads; h += threads) /* the usual width has code of its own, with loops of known length */
            if (width == 64)
                one_head(q, *keys, *values, y, scores + n * t, h, rows, heads, 64, n_common, n_own, scale);
            else
                one_head(q, *keys, *values, y, scores + n * t, h, rows, heads, width, n_common, n_own, scale);
    free(scores);
    return 1;
}
