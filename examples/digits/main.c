/* Classify the sample images with the generated model and draw them.
 *
 *     qgen compile examples/digits/digits.qg --target portable -o build/digits.h
 *     cc -O2 -Ibuild examples/digits/main.c -o build/digits && build/digits
 *
 * Exits with 0 if the model ran on every image, with 1 otherwise. */
#include <stdio.h>

#define DIGITS_IMPLEMENTATION
#include "digits.h"
#include "samples.h"

enum { SIDE = 8, CLASSES = 10, COLUMNS = 5, GAP = 4 };

/* All memory the model needs beside its constants. */
static DIGITS_ALIGNED unsigned char arena[DIGITS_ARENA_BYTES];

static int largest(const int8_t *values)
{
    int best = 0, i;
    for (i = 1; i < CLASSES; ++i) {
        if (values[i] > values[best]) {
            best = i;
        }
    }
    return best;
}

int main(void)
{
    int first, i, x, y;
    for (first = 0; first < SAMPLES; first += COLUMNS) {
        const int count = SAMPLES - first < COLUMNS ? SAMPLES - first : COLUMNS;
        for (y = 0; y < SIDE; ++y) {
            for (i = 0; i < count; ++i) {
                for (x = 0; x < SIDE; ++x) {
                    const int grey = sample_image[first + i][y * SIDE + x] + 128;
                    const char ink = " .:-=+*#%@"[grey * 10 / 256];
                    putchar(ink);
                    putchar(ink);
                }
                printf("%*s", GAP, "");
            }
            putchar('\n');
        }
        for (i = 0; i < count; ++i) {
            int8_t probability[DIGITS_OUTPUT_BYTES];
            const int error = digits_run(sample_image[first + i], probability, arena);
            int digit, percent;
            if (error != 0) {
                fprintf(stderr, "digits_run: %s\n", digits_strerror(error));
                return 1;
            }
            digit = largest(probability);
            /* The output has scale 1/256 and zero point -128. */
            percent = ((probability[digit] + 128) * 100 + 128) / 256;
            printf("%d  %3d %%  %-*s", digit, percent, 2 * SIDE + GAP - 10,
                   digit == sample_label[first + i] ? "ok" : "WRONG");
        }
        printf("\n\n");
    }
    return 0;
}
