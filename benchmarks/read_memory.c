/* Read numbers once, on some threads, and add them up: as fast as memory is read. */
#include <stdint.h>

float read_memory(const float *numbers, int64_t n, int threads) {
    float sum = 0;
#pragma omp parallel for num_threads(threads) reduction(+ : sum) schedule(static)
    for (int64_t i = 0; i < n; i++) sum += numbers[i];
    return sum;
}
