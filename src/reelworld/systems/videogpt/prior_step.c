/* One token of every stream through all blocks of an autoregressive prior, in one call: see prior_compiled.py.

   The map of ``Block.forward`` as plain loops. Every weight, key and value is read once, in the order in which it lies
   in memory; a thread computes a range of the rows of every matrix, and waits for the others where it needs what they
   computed. Sums are float32, whatever the type of the weights (float, or bfloat16 with -DBF16).

   Shapes: B streams, D width, H heads, E F width of a head's keys and values, L room of a cache */

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>

#include "../nn/numbers.h"

/* The structures of prior_compiled.py. */
typedef struct { const float *gain, *bias; } Norm; /* (B, D) */
typedef struct { const number *weight, *bias; int64_t inputs, outputs; } Matrix; /* (outputs, inputs); bias or NULL */
typedef struct { number *keys, *values; int64_t room, key_width, value_width; } Cache; /* (B, H, L, E), (B, H, L, F) */
typedef struct { Norm norm; Matrix in; Cache cache; Matrix out; } Attention;
typedef struct { Attention self, frames; Norm norm; Matrix up, down; } Block; /* frames.cache.room: 0 for none */
typedef struct { const Block *blocks; Norm norm; Matrix head; int64_t n_blocks, streams, heads; } Model;
typedef struct { const int64_t *blocks; int64_t size, count; } Seen; /* the first tokens of blocks of so many */

typedef struct { int64_t first, end; } Range;

static Range share(int64_t n) {
    int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
    return (Range){n * thread / threads, n * (thread + 1) / threads};
}

/* expf to some 1e-7, in a form that compilers turn into vector code. */
static inline float exponential(float x) {
    x = x < -87 ? -87 : x > 88 ? 88 : x;
    const float n = rintf(x * 1.44269504f), r = x - n * 0.69314718f; /* x = n log 2 + r */
    const int32_t power = ((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &power, sizeof scale);
    return scale * (1 + r * (1 + r * (1 / 2.f + r * (1 / 6.f + r * (1 / 24.f + r * (1 / 120.f + r * (1 / 720.f)))))));
}

/* y = w x + bias, or y += ...; this thread's share of the outputs. */
static void product(const Matrix *w, const float *x, float *y, int64_t streams, int adds) {
    Range rows = share(w->outputs);
    for (int64_t o = rows.first; o < rows.end; o++) {
        const float bias = w->bias ? wide(w->bias[o]) : 0;
        for (int64_t b = 0; b < streams; b++) {
            float *out = y + b * w->outputs + o;
            *out = (adds ? *out : 0) + bias + dot(w->weight + o * w->inputs, x + b * w->inputs, w->inputs);
        }
    }
}

/* Layer norm that adds its epsilon last (nn.transformer.LateEpsilonNorm), all of it: less work than waiting. */
static void normalise(const Norm *norm, const float *x, float *y, int64_t streams, int64_t width) {
    for (int64_t b = 0; b < streams; b++, x += width, y += width) {
        const float *gain = norm->gain + b * width, *bias = norm->bias + b * width;
        float mean = 0, variance = 0;
        for (int64_t i = 0; i < width; i++) mean += x[i];
        mean /= width;
        for (int64_t i = 0; i < width; i++) variance += (x[i] - mean) * (x[i] - mean);
        const float scale = 1e-5f + 1 / sqrtf(variance / width + 1e-20f);
        for (int64_t i = 0; i < width; i++) y[i] = (x[i] - mean) * scale * gain[i] + bias[i];
    }
}

/* x * sigmoid(1.702 x) for this thread's share of the outputs of ``up``. */
static void activate(float *h, int64_t streams, int64_t width) {
    Range own = share(width);
    for (int64_t b = 0; b < streams; b++, h += width) {
        for (int64_t i = own.first; i < own.end; i++) h[i] = h[i] / (1 + exponential(-1.702f * h[i]));
    }
}

/* One head of one stream: mix the values (L, F) of the tokens that are seen. */
static void mix(const Cache *cache, const number *keys, const number *values, const Seen *seen, const float *query,
                float *restrict mixed, float *scores) {
    const int64_t E = cache->key_width, F = cache->value_width, size = seen->size, count = seen->count;
    const float scale = 1 / sqrtf(E);
    float most = -INFINITY, sum = 0;
    for (int64_t i = 0, block = 0; i < count; block++) {
        const number *key = keys + seen->blocks[block] * size * E;
        for (const int64_t end = i + size < count ? i + size : count; i < end; i++, key += E) {
            scores[i] = scale * dot(key, query, E);
            most = fmaxf(most, scores[i]);
        }
    }
    for (int64_t i = 0; i < count; i++) {
        scores[i] = exponential(scores[i] - most);
        sum += scores[i];
    }
    memset(mixed, 0, F * sizeof *mixed);
    for (int64_t i = 0, block = 0; i < count; block++) {
        const number *value = values + seen->blocks[block] * size * F;
        for (const int64_t end = i + size < count ? i + size : count; i < end; i++, value += F) {
            const float weight = scores[i] / sum;
            for (int64_t f = 0; f < F; f++) mixed[f] += weight * wide(value[f]);
        }
    }
}

/* Queries (B, D), or queries, keys and values (B, 3 D), to mixed values (B, H * F): this thread's heads. */
static void attend(const Model *m, const Attention *layer, const Seen *seen, const float *in, float *mixed,
                   float *scores, int64_t position) {
    const Cache *cache = &layer->cache;
    const int64_t E = cache->key_width, F = cache->value_width, D = m->heads * E;
    Range own = share(m->streams * m->heads);
    for (int64_t i = own.first; i < own.end; i++) {
        const float *query = in + i / m->heads * layer->in.outputs + i % m->heads * E;
        number *keys = cache->keys + i * cache->room * E, *values = cache->values + i * cache->room * F;
        if (position >= 0) {
            for (int64_t e = 0; e < E; e++) keys[position * E + e] = narrow(query[D + e]);
            for (int64_t f = 0; f < F; f++) values[position * F + f] = narrow(query[2 * D + f]);
        }
        mix(cache, keys, values, seen, query, mixed + i * F, scores);
    }
}

/* Where the first thread's time goes; the order of prior_compiled.PHASES. */
enum { NORMS, PRODUCTS, ATTENTION, WAITING };
typedef struct { double *seconds, since; } Watch;

static void add(Watch *watch, int phase) {
    if (!watch->seconds) return;
    double now = omp_get_wtime();
    watch->seconds[phase] += now - watch->since;
    watch->since = now;
}

/* End a phase: wait for the other threads. */
static void finish(Watch *watch, int phase) {
    add(watch, phase);
#pragma omp barrier
    add(watch, WAITING);
}

/* x (B, D) of the token at a position to its logits (B, codes); x is written to.
   Workspaces: hidden (B, 4 D), mixed (B, the widest H * F), and for each thread ``size`` numbers: B * D and L.
   Seconds are added up by phase, or NULL. */
void step(const Model *m, const Seen *seen, const Seen *all_frames, int64_t position, float *x, float *logits,
          float *hidden, float *mixed, float *own, int64_t size, double *seconds, int threads) {
    const int64_t B = m->streams, D = m->head.inputs;
#pragma omp parallel num_threads(threads)
    {
        float *normed = own + omp_get_thread_num() * size, *scores = normed + B * D;
        Watch watch = {omp_get_thread_num() ? NULL : seconds, omp_get_wtime()};
        for (const Block *block = m->blocks; block < m->blocks + m->n_blocks; block++) {
            for (int frames = 0; frames <= (block->frames.cache.room > 0); frames++) {
                const Attention *layer = frames ? &block->frames : &block->self;
                normalise(&layer->norm, x, normed, B, D);
                add(&watch, NORMS);
                product(&layer->in, normed, hidden, B, 0);
                finish(&watch, PRODUCTS);
                attend(m, layer, frames ? all_frames : seen, hidden, mixed, scores, frames ? -1 : position);
                finish(&watch, ATTENTION);
                product(&layer->out, mixed, x, B, 1);
                finish(&watch, PRODUCTS);
            }
            normalise(&block->norm, x, normed, B, D);
            add(&watch, NORMS);
            product(&block->up, normed, hidden, B, 0);
            activate(hidden, B, block->up.outputs);
            finish(&watch, PRODUCTS);
            product(&block->down, hidden, x, B, 1);
            finish(&watch, PRODUCTS);
        }
        normalise(&m->norm, x, normed, B, D);
        add(&watch, NORMS);
        product(&m->head, normed, logits, B, 0);
        finish(&watch, PRODUCTS);
    }
}
