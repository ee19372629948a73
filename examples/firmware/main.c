/* Classify the sample images on a bare board: the result, its bytes and the cycles it took.
 *
 * Exits with 0 if the model ran on every image, with 1 otherwise. */
#define DIGITS_IMPLEMENTATION
#include "digits.h"

#include "../digits/samples.h"
#include "board.h"

enum { CLASSES = DIGITS_OUTPUT_BYTES };

static DIGITS_ALIGNED unsigned char arena[DIGITS_ARENA_BYTES];

/* A value to the right of a field of `width` characters. */
static void print_number(uint32_t value, unsigned width)
{
    char text[12];
    unsigned at = sizeof text - 1;
    text[at] = 0;
    do {
        text[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    while (at > 0 && sizeof text - 1 - at < width) {
        text[--at] = ' ';
    }
    board_print(text + at);
}

static void print_bytes(const int8_t *values, unsigned count)
{
    unsigned i;
    for (i = 0; i < count; ++i) {
        const char text[4] = {' ', "0123456789abcdef"[(uint8_t)values[i] >> 4],
                              "0123456789abcdef"[values[i] & 15], 0};
        board_print(text);
    }
}

static unsigned largest(const int8_t *values)
{
    unsigned best = 0, i;
    for (i = 1; i < CLASSES; ++i) {
        if (values[i] > values[best]) {
            best = i;
        }
    }
    return best;
}

int main(void)
{
    unsigned i;
    for (i = 0; i < SAMPLES; ++i) {
        int8_t probability[CLASSES];
        const uint32_t before = board_cycles();
        const int error = digits_run(sample_image[i], probability, arena);
        const uint32_t cycles = board_cycles() - before;
        unsigned digit;
        if (error != DIGITS_SUCCESS) {
            board_print(digits_strerror(error));
            board_print("\n");
            leave(1);
        }
        digit = largest(probability);
        board_print("digit ");
        print_number(digit, 1);
        /* The output has scale 1/256 and zero point -128. */
        print_number(((uint32_t)(probability[digit] + 128) * 100 + 128) / 256, 4);
        board_print(" %");
        print_number(cycles, 8);
        board_print(" cycles, output");
        print_bytes(probability, CLASSES);
        board_print("\n");
    }
    leave(0);
}
