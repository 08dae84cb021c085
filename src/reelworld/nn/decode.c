/* Decoding on a CPU: products that read every weight once, attention to a shared prefix, and one token through a whole
   decoder. See decode.py and compiled_decoder.py.

   Weights, keys and values are float, or bfloat16 with -DBF16. Sums are float32.

   Shapes: B streams, D width, H heads, L tokens of a cache, E F width of a head's keys and values, S layers */

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef BF16
typedef uint16_t number;

static inline float wide(number n) {
    uint32_t bits = (uint32_t)n << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline number narrow(float value) { /* to the nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return isnan(value) ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
#else
typedef float number;

static inline float wide(number n) { return n; }
static inline number narrow(float value) { return value; }
#endif

typedef struct { int64_t first, end; } Range;

/* The part of n items that the calling thread computes. */
static Range share(int64_t n) {
    int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
    return (Range){n * thread / threads, n * (thread + 1) / threads};
}

static float dot(const number *row, const float *x, int64_t n) {
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum += wide(row[i]) * x[i];
    return sum;
}

/* expf to about 1e-7, in a form that compilers vectorize. */
static inline float exponential(float x) {
    x = x < -87 ? -87 : x > 88 ? 88 : x;
    const float n = rintf(x * 1.44269504f), r = x - n * 0.69314718f; /* x = n log 2 + r */
    const int32_t power = ((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &power, sizeof scale);
    return scale * (1 + r * (1 + r * (1 / 2.f + r * (1 / 6.f + r * (1 / 24.f + r * (1 / 120.f + r * (1 / 720.f)))))));
}

/* The same for x <= 0, to about 2e-7: half the work. */
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

/* ---------------------------------------------------------------- one or few rows times a matrix */

#if defined(BF16) && defined(__AVX512BF16__)
#include <immintrin.h>

enum { LANES = 32, EIGHT = 8 };
enum { BLOCK = 1024 }; /* inputs at a time: eight rows of them fit in the first-level cache */
enum { AHEAD = 6 };    /* rows of the weight that are prefetched */

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

/* For processors that multiply pairs of bfloat16: n inputs of eight rows times two outputs. The 16 sums stay in
   registers and are added to y. The hardware prefetcher comes too late; the prefetch goes to the second-level cache,
   which has more room for outstanding reads than the first. */
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

/* The same for all outputs; 0, with nothing done, unless there are eight rows of a suitable size. */
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

/* ---------------------------------------------------------------- attention to a shared prefix and own tokens */

#ifndef BF16
typedef struct {
    const float *prefix, *own; /* keys (heads, width, n_prefix) or values (heads, n_prefix, width) that all rows share;
                                  of each row (rows, heads, n_own, width) */
    int64_t head, own_row, own_head; /* strides of heads and rows */
} Table;

/* y (width) += weights (n) times values (n, width), whose rows are ``stride`` apart. */
static inline __attribute__((always_inline)) void add_rows(float *restrict y, const float *weights, const float *values,
                                                           int64_t stride, int64_t n, int64_t width) {
    enum { TOGETHER = 64 };
    int64_t d = 0;
    for (; d + TOGETHER <= width; d += TOGETHER) {
        float sums[TOGETHER] = {0};
        for (int64_t i = 0; i < n; i++)
            for (int j = 0; j < TOGETHER; j++) sums[j] += weights[i] * values[i * stride + d + j];
        for (int j = 0; j < TOGETHER; j++) y[d + j] += sums[j];
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = d; j < width; j++) y[j] += weights[i] * values[i * stride + j];
}

/* The prefix is read once, in pieces that stay in the cache while all rows read them. */
static inline __attribute__((always_inline)) void one_head(const float *q, Table keys, Table values, float *y,
                                                           float *scores, int64_t h, int64_t rows, int64_t heads,
                                                           int64_t width, int64_t n_prefix, int64_t n_own,
                                                           float scale) {
    enum { PIECE = 64 };
    const int64_t n = n_prefix + n_own, stride = heads * width;
    const float *prefix_keys = keys.prefix + h * keys.head, *prefix_values = values.prefix + h * values.head;
    q += h * width, y += h * width;
    memset(scores, 0, sizeof(float) * rows * n);
    for (int64_t i = 0; i < n_prefix; i += PIECE)
        for (int64_t r = 0; r < rows; r++)
            if (i + PIECE <= n_prefix) /* a length that the compiler knows */
                add_rows(scores + r * n + i, q + r * stride, prefix_keys + i, n_prefix, width, PIECE);
            else
                add_rows(scores + r * n + i, q + r * stride, prefix_keys + i, n_prefix, width, n_prefix - i);
    for (int64_t r = 0; r < rows; r++) {
        const float *own = keys.own + r * keys.own_row + h * keys.own_head;
        for (int64_t i = 0; i < n_own; i++) scores[r * n + n_prefix + i] = dot(own + i * width, q + r * stride, width);
        softmax(scores + r * n, n, scale);
        memset(y + r * stride, 0, sizeof(float) * width);
        own = values.own + r * values.own_row + h * values.own_head;
        add_rows(y + r * stride, scores + r * n + n_prefix, own, width, n_own, width);
    }
    for (int64_t i = 0; i < n_prefix; i += PIECE)
        for (int64_t r = 0; r < rows; r++)
            add_rows(y + r * stride, scores + r * n + i, prefix_values + i * width, width,
                     n_prefix - i < PIECE ? n_prefix - i : PIECE, width);
}

/* y (rows, heads, width) of queries q of the same shape; 0, with nothing done, if there is no memory. */
int attend_prefix(const float *q, const Table *keys, const Table *values, float *y, int64_t rows, int64_t heads,
                  int64_t width, int64_t n_prefix, int64_t n_own, float scale, int threads) {
    const int64_t n = rows * (n_prefix + n_own);
    float *scores = malloc(sizeof(float) * n * threads);
    if (!scores) return 0;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int t = 0; t < threads; t++)
        for (int64_t h = t; h < heads; h += threads) /* the usual width gets loops of a length known to the compiler */
            if (width == 64)
                one_head(q, *keys, *values, y, scores + n * t, h, rows, heads, 64, n_prefix, n_own, scale);
            else
                one_head(q, *keys, *values, y, scores + n * t, h, rows, heads, width, n_prefix, n_own, scale);
    free(scores);
    return 1;
}
#endif

/* ---------------------------------------------------------------- one token of every stream through a decoder */

typedef struct { const float *gain, *bias; } Norm; /* (classes, D) */
typedef struct { const number *weight, *bias; int64_t inputs, outputs; } Linear; /* (outputs, inputs); bias or NULL */
typedef struct { Norm norm; Linear in, out; } Attention;
typedef struct { Attention self, cross; Norm norm; Linear up, down; } Block; /* cross: unused without a memory */
typedef struct { const Block *blocks; Norm norm; Linear head; int64_t layers, heads; } Decoder;
typedef struct { number *keys, *values; int64_t length, key_width, value_width; } Cache; /* (S, B, H, L, E or F) */
typedef struct { const int64_t *blocks; int64_t size, count; } Visible; /* the first ``count`` tokens of some blocks */

/* y = w x + bias, or y += ...; this thread's outputs. */
static void product(const Linear *w, const float *x, float *y, int64_t streams, int adds) {
    Range rows = share(w->outputs);
    for (int64_t o = rows.first; o < rows.end; o++) {
        const float bias = w->bias ? wide(w->bias[o]) : 0;
        for (int64_t b = 0; b < streams; b++) {
            float *out = y + b * w->outputs + o;
            *out = (adds ? *out : 0) + bias + dot(w->weight + o * w->inputs, x + b * w->inputs, w->inputs);
        }
    }
}

/* LateEpsilonNorm of decoder.py. Every thread computes all of it: cheaper than waiting. */
static void normalise(const Norm *norm, const int64_t *class_id, const float *x, float *y, int64_t streams,
                      int64_t width) {
    for (int64_t b = 0; b < streams; b++, x += width, y += width) {
        const float *gain = norm->gain + class_id[b] * width, *bias = norm->bias + class_id[b] * width;
        float mean = 0, variance = 0;
        for (int64_t i = 0; i < width; i++) mean += x[i];
        mean /= width;
        for (int64_t i = 0; i < width; i++) variance += (x[i] - mean) * (x[i] - mean);
        const float scale = 1e-5f + 1 / sqrtf(variance / width + 1e-20f);
        for (int64_t i = 0; i < width; i++) y[i] = (x[i] - mean) * scale * gain[i] + bias[i];
    }
}

/* QuickGELU, x * sigmoid(1.702 x), of this thread's outputs of ``up``. */
static void activate(float *h, int64_t streams, int64_t width) {
    Range own = share(width);
    for (int64_t b = 0; b < streams; b++, h += width) {
        for (int64_t i = own.first; i < own.end; i++) h[i] = h[i] / (1 + exponential(-1.702f * h[i]));
    }
}

/* One head of one stream: mix the values (L, F) of the visible tokens. */
static void mix(const number *keys, const number *values, int64_t E, int64_t F, const Visible *visible,
                const float *query, float *restrict mixed, float *scores) {
    const int64_t size = visible->size, count = visible->count;
    for (int64_t i = 0, block = 0; i < count; block++) {
        const number *key = keys + visible->blocks[block] * size * E;
        for (const int64_t end = i + size < count ? i + size : count; i < end; i++, key += E)
            scores[i] = dot(key, query, E);
    }
    softmax(scores, count, 1 / sqrtf(E));
    memset(mixed, 0, F * sizeof *mixed);
    for (int64_t i = 0, block = 0; i < count; block++) {
        const number *value = values + visible->blocks[block] * size * F;
        for (const int64_t end = i + size < count ? i + size : count; i < end; i++, value += F)
            for (int64_t f = 0; f < F; f++) mixed[f] += scores[i] * wide(value[f]);
    }
}

/* Queries (B, D), or queries, keys and values (B, 3 D), to mixed values (B, H * F): this thread's heads.
   Keys and values are stored at ``position`` first, unless it is negative. */
static void attend(const Cache *cache, int64_t layer, const Visible *visible, const float *in, int64_t in_width,
                   float *mixed, float *scores, int64_t streams, int64_t heads, int64_t position) {
    const int64_t E = cache->key_width, F = cache->value_width, D = heads * E, L = cache->length;
    Range own = share(streams * heads);
    for (int64_t i = own.first; i < own.end; i++) {
        const float *query = in + i / heads * in_width + i % heads * E;
        number *keys = cache->keys + (layer * streams * heads + i) * L * E;
        number *values = cache->values + (layer * streams * heads + i) * L * F;
        if (position >= 0) {
            for (int64_t e = 0; e < E; e++) keys[position * E + e] = narrow(query[D + e]);
            for (int64_t f = 0; f < F; f++) values[position * F + f] = narrow(query[2 * D + f]);
        }
        mix(keys, values, E, F, visible, query, mixed + i * F, scores);
    }
}

/* x (B, D) of the token at a position to its logits (B, codes); x is overwritten. ``memory`` is what cross attention
   reads, or NULL. Returns 0, with nothing done, if there is no memory for workspaces. */
int decode_token(const Decoder *m, const Cache *tokens, const Cache *memory, const Visible *visible,
                 const int64_t *class_id, int64_t position, float *x, float *logits, int64_t streams, int threads) {
    const int64_t B = streams, D = m->head.inputs, H = m->heads, zero = 0;
    const int64_t most = memory && memory->length > tokens->length ? memory->length : tokens->length;
    const int64_t value_width = memory && memory->value_width > tokens->value_width ? memory->value_width
                                                                                     : tokens->value_width;
    const int64_t n_hidden = B * m->blocks->up.outputs, n_mixed = B * H * value_width, n_own = B * D + most;
    float *hidden = malloc(sizeof(float) * (n_hidden + n_mixed + threads * n_own)), *mixed = hidden + n_hidden;
    if (!hidden) return 0;
    const Visible all = {&zero, most, memory ? memory->length : 0};
#pragma omp parallel num_threads(threads)
    {
        float *normed = mixed + n_mixed + omp_get_thread_num() * n_own, *scores = normed + B * D;
        for (int64_t layer = 0; layer < m->layers; layer++) {
            const Block *block = m->blocks + layer;
            for (int cross = 0; cross <= (memory != NULL); cross++) {
                const Attention *part = cross ? &block->cross : &block->self;
                normalise(&part->norm, class_id, x, normed, B, D);
                product(&part->in, normed, hidden, B, 0);
#pragma omp barrier
                attend(cross ? memory : tokens, layer, cross ? &all : visible, hidden, part->in.outputs, mixed, scores,
                       B, H, cross ? -1 : position);
#pragma omp barrier
                product(&part->out, mixed, x, B, 1);
#pragma omp barrier
            }
            normalise(&block->norm, class_id, x, normed, B, D);
            product(&block->up, normed, hidden, B, 0);
            activate(hidden, B, block->up.outputs);
#pragma omp barrier
            product(&block->down, hidden, x, B, 1);
#pragma omp barrier
        }
        normalise(&m->norm, class_id, x, normed, B, D);
        product(&m->head, normed, logits, B, 0);
    }
    free(hidden);
    return 1;
}
