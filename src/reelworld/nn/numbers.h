/* Numbers as weights are kept: float, or bfloat16 with -DBF16. Sums are float32, whatever the type. */

#include <math.h>
#include <stdint.h>
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

static float dot(const number *row, const float *x, int64_t n) {
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum += wide(row[i]) * x[i];
    return sum;
}
