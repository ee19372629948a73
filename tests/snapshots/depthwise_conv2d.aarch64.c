/* Constants of the end of a kernel: multiplier, zero point, clamp, flip, shift; see targets/finish.py. */
typedef struct t_finish_constants {
    int32_t m0[4];
    int16_t zero[8];
    int8_t low[16], high[16], flip[16];
    int32_t shift[4];
} t_finish_constants;

/* What the programs for 3 x 3 depthwise convolution read of an op; see targets/depthwise_asm.py.
 *   outside  stands in for what lies outside the image
 *   height   rows of outputs, of which a call computes `band` at most
 *   sides    1: no row of the image above the first; 2: none below the last
 *   pairs    steps of two columns in a row
 *   step, pitch, advance, across: bytes to the next column, row, turn of rows, row of outputs */
typedef struct t_depthwise_shape {
    t_finish_constants out;
    int8_t outside[16];
    uint32_t height, band, sides, pairs, step, pitch, advance, across;
} t_depthwise_shape;

#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Woverlength-strings"
#endif
/* 3 x 3, columns 1 apart, 8 channels: y[c] = sum over taps of x[c] * w[tap][c].
 * SMULL and SMLAL, runs of taps in int16 lanes.
 * registers: column0 v0-v2 | column1 v3-v5 | sums v6-v9 | bias v10-v11 | weights v12-v20 | m0 v21 | zero v22
 *   image    int8, middle row of taps of the first row of outputs; y: these outputs
 *   w        per block: [tap][lane], in the order of the kernel
 *   q        per block: bias[8]
 *   channel  first one of each block, ended by -1
 *   left     rows of outputs from here to the last
 *   op       its pairs do not count the last step, whose last column is padding */
static void t_depthwise_smull_3x3s1c8_left_right_r9_shr6_ssra(
    const int8_t *image, int8_t *result, const int8_t *w, const int32_t *q,
    const int32_t *channel, const t_depthwise_shape *op, size_t left)
{
    const size_t lines = left < op->band ? left : op->band;
    const size_t sides = op->sides & ((left == op->height ? 1u : 0u) | (left <= op->band ? 2u : 0u));
    for (; *channel >= 0; ++channel) {
        const int8_t *x = image + *channel;
        int8_t *y = result + *channel;
        const t_finish_constants *out = &op->out;
        size_t rows = lines, edges = sides;
        __asm__ volatile(
            /* Weights and constants stay for all rows. */
            "ldp d12, d13, [%[w], #0]\n\t"
            "ldp d14, d15, [%[w], #16]\n\t"
            "ldp d16, d17, [%[w], #32]\n\t"
            "ldp d18, d19, [%[w], #48]\n\t"
            "ldr d20, [%[w], #64]\n\t"
            "ldr q21, [%[out], #0]\n\t"
            "ldr q22, [%[out], #16]\n\t"
            "ldp q10, q11, [%[q], #0]\n\t"
            "add x17, %[y], %[step]\n\t"
            "lsl x8, %[step], #1\n\t"
            /* Rows above and below the image: the zero point, again and again. */
            "1:\n\t"
            "sub x16, %[x], %[pitch]\n\t"
            "tst %[edges], #1\n\t"
            "csel x16, %[z], x16, ne\n\t"
            "csel x10, xzr, x8, ne\n\t"
            "and %[edges], %[edges], #2\n\t"
            "cmp %[rows], #1\n\t"
            "add x14, %[x], %[pitch]\n\t"
            "ccmp %[edges], #2, #0, eq\n\t"
            "csel x14, %[z], x14, eq\n\t"
            "mov x15, %[x]\n\t"
            "csel x9, xzr, x8, eq\n\t"
            "ldr d0, [%[z]]\n\t"
            "ldr d3, [x16]\n\t"
            "ldr d1, [%[z]]\n\t"
            "ldr d4, [x15]\n\t"
            "ldr d2, [%[z]]\n\t"
            "ldr d5, [x14]\n\t"
            "add x13, x16, x10\n\t"
            "add x16, x16, x10, lsr #1\n\t"
            "add x12, x15, x8\n\t"
            "add x15, x15, x8, lsr #1\n\t"
            "add x11, x14, x9\n\t"
            "add x14, x14, x9, lsr #1\n\t"
            "mov %[out], %[pairs]\n\t"
            "cbz %[out], 3f\n\t"
            /* Two outputs: 9 taps. */
            /* (Q3): SQRDMULH, ties turned by SSRA; shift by 6 as it narrows */
            /* budget: 134 cycles / 144 MACs (cortex-a53) */
            "2:\n\t"
            "smull v7.8h, v0.8b, v12.8b\n\t"
            "smull v9.8h, v3.8b, v12.8b\n\t"
            "smlal v7.8h, v1.8b, v13.8b\n\t"
            "smlal v9.8h, v4.8b, v13.8b\n\t"
            "smlal v7.8h, v2.8b, v14.8b\n\t"
            "smlal v9.8h, v5.8b, v14.8b\n\t"
            "smlal v7.8h, v3.8b, v15.8b\n\t"
            "ld1 {v0.8b}, [x16], x10\n\t"
            "smlal v7.8h, v4.8b, v16.8b\n\t"
            "smlal v9.8h, v0.8b, v15.8b\n\t"
            "ld1 {v1.8b}, [x15], x8\n\t"
            "smlal v7.8h, v5.8b, v17.8b\n\t"
            "smlal v9.8h, v1.8b, v16.8b\n\t"
            "ld1 {v2.8b}, [x14], x9\n\t"
            "smlal v7.8h, v0.8b, v18.8b\n\t"
            "smlal v9.8h, v2.8b, v17.8b\n\t"
            "ld1 {v3.8b}, [x13], x10\n\t"
            "smlal v7.8h, v1.8b, v19.8b\n\t"
            "smlal v9.8h, v3.8b, v18.8b\n\t"
            "ld1 {v4.8b}, [x12], x8\n\t"
            "smlal v7.8h, v2.8b, v20.8b\n\t"
            "smlal v9.8h, v4.8b, v19.8b\n\t"
            "ld1 {v5.8b}, [x11], x9\n\t"
            "saddw v6.4s, v10.4s, v7.4h\n\t"
            "smlal v9.8h, v5.8b, v20.8b\n\t"
            "saddw2 v7.4s, v11.4s, v7.8h\n\t"
            "saddw v8.4s, v10.4s, v9.4h\n\t"
            "sqrdmulh v6.4s, v6.4s, v21.4s\n\t"
            "saddw2 v9.4s, v11.4s, v9.8h\n\t"
            "sqrdmulh v7.4s, v7.4s, v21.4s\n\t"
            "sqrdmulh v8.4s, v8.4s, v21.4s\n\t"
            "ssra v6.4s, v6.4s, #31\n\t"
            "sqrdmulh v9.4s, v9.4s, v21.4s\n\t"
            "ssra v7.4s, v7.4s, #31\n\t"
            "ssra v8.4s, v8.4s, #31\n\t"
            "sqrshrn v6.4h, v6.4s, #6\n\t"
            "ssra v9.4s, v9.4s, #31\n\t"
            "sqrshrn v8.4h, v8.4s, #6\n\t"
            "sqrshrn2 v6.8h, v7.4s, #6\n\t"
            "sqrshrn2 v8.8h, v9.4s, #6\n\t"
            "sqadd v6.8h, v6.8h, v22.8h\n\t"
            "sqadd v8.8h, v8.8h, v22.8h\n\t"
            "sqxtn v6.8b, v6.8h\n\t"
            "sqxtn2 v6.16b, v8.8h\n\t"
            "st1 {v6.8b}, [%[y]], x8\n\t"
            "st1 {v6.d}[1], [x17], x8\n\t"
            "subs %[out], %[out], #1\n\t"
            "b.gt 2b\n\t"
            "b.lt 4f\n\t"
            /* The last step: its last column is padding. */
            "3:\n\t"
            "mov x13, %[z]\n\t"
            "mov x12, %[z]\n\t"
            "mov x11, %[z]\n\t"
            "b 2b\n\t"
            "4:\n\t"
            "add %[x], %[x], %[advance]\n\t"
            "subs %[rows], %[rows], #1\n\t"
            "b.ne 1b\n\t"
            : [x] "+&r"(x), [y] "+&r"(y), [out] "+&r"(out), [rows] "+&r"(rows), [edges] "+&r"(edges)
            : [w] "r"(w), [q] "r"(q), [z] "r"(op->outside), [pairs] "r"((size_t)op->pairs),
                    [step] "r"((size_t)op->step), [pitch] "r"((size_t)op->pitch),
                    [advance] "r"((size_t)op->advance)
            : "x17", "x16", "x15", "x14", "x13", "x12", "x11", "x10", "x9", "x8", "v0", "v1", "v2",
                    "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14",
                    "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "cc", "memory");
        w += 72;
        q += 8;
    }
}
#if defined(__clang__)
#pragma clang diagnostic pop
#endif

/* depthwise_conv2d "y"  <model>   kernel qs8_depthwise_conv2d__neon_3x3
 * y[n, i, j, c*m + k] = requantize(sum over kh, kw of (x[.., c] - Z_x) * (w - Z_w) + b).
 * x i8[1, 4, 4, 10] zero 5; y i8[1, 4, 4, 10] zero 0
 * accumulator in [-26280, 27270], inside int32
 * int16 lanes (Q16): runs of 9 taps in 2 blocks; at most 26820 of 32767
 * zero point folded into the bias (Q15); padding reads the stored zero point
 * regs: column0 v0-v2 | column1 v3-v5 | sums v6-v9 | bias v10-v11 | weights v12-v20 | m0 v21 | zero v22 */
/* per block: [tap][lane], in the order of the kernel */
static const int8_t t_w_00[144] = {
    -50, -49, -48, -47, -46, -45, -44, -43, -20, -19, -18, -17, -16, -15, -14, -13,
    10, 11, 12, 13, 14, 15, 16, 17, -40, -39, -38, -37, -36, -35, -34, -33,
    -10, -9, -8, -7, -6, -5, -4, -3, 20, 21, 22, 23, 24, 25, 26, 27,
    -30, -29, -28, -27, -26, -25, -24, -23, 0, 1, 2, 3, 4, 5, 6, 7,
    30, 31, 32, 33, 34, 35, 36, 37, -48, -47, -46, -45, -44, -43, -42, -41,
    -18, -17, -16, -15, -14, -13, -12, -11, 12, 13, 14, 15, 16, 17, 18, 19,
    -38, -37, -36, -35, -34, -33, -32, -31, -8, -7, -6, -5, -4, -3, -2, -1,
    22, 23, 24, 25, 26, 27, 28, 29, -28, -27, -26, -25, -24, -23, -22, -21,
    2, 3, 4, 5, 6, 7, 8, 9, 32, 33, 34, 35, 36, 37, 38, 39,
};

/* per block: bias[8] */
static const int32_t t_q_00[16] = {
    450, 415, 380, 345,
    310, 275, 240, 205,
    380, 345, 310, 275,
    240, 205, 170, 135,
};

/* first channel of each block, groups ended by -1 */
static const int32_t t_c_00[3] = {
    0, 2, -1,
};

T_OP static void t_00_y(const int8_t *x, int8_t *y)
{
    static const t_depthwise_shape shape = {
        {
            { 1374389504, 1374389504, 1374389504, 1374389504 },
            { 0, 0, 0, 0, 0, 0, 0, 0 },
            { -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128,
                    -128, -128 },
            { 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127 },
            { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 },
            { 0, 0, 0, 0 },
        },
        { 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5 },
        4, 4, 3, 1, 10, 40, 40, 40,
    };
    const int8_t *image = x;
    int8_t *to = (int8_t *)y;
    t_depthwise_smull_3x3s1c8_left_right_r9_shr6_ssra(image, to, t_w_00, t_q_00, t_c_00, &shape, 4);
}
