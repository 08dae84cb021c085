/* A few rows times a matrix, every weight read once: see few_rows.py. */

#include "numbers.h"

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
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t o = 0; o < outputs; o++) {
        const number *row = weight + o * inputs;
        int64_t r = 0;
        for (; r + 4 <= rows; r += 4) four_dots(row, x + r * inputs, inputs, y + r * outputs + o, outputs);
        for (; r < rows; r++) y[r * outputs + o] = dot(row, x + r * inputs, inputs);
    }
}
