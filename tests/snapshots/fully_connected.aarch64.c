/* What the end of a matrix kernel needs, as vectors: zero point, clamp, flip. */
typedef struct t_finish_vectors {
    int16_t zero[8];
    int8_t low[16], high[16], flip[16];
} t_finish_vectors;

/* The empty asm keeps the compiler from turning the loop into a call of memset. */
static void t_fill(void *to, int value, size_t bytes)
{
    uint8_t *t = (uint8_t *)to;
    const uint8x16_t v = vdupq_n_u8((uint8_t)value);
    for (; bytes >= 16; bytes -= 16, t += 16) {
        vst1q_u8(t, v);
        __asm__ volatile("" : : : "memory");
    }
    for (; bytes > 0; --bytes) {
        *t++ = (uint8_t)value;
        __asm__ volatile("" : : : "memory");
    }
}

/* Copy 20 bytes; the last move overlaps where it must. */
static inline void t_gather_20(int8_t *to, const void *from)
{
    const int8_t *f = (const int8_t *)from;
    vst1q_s8(to, vld1q_s8(f));
    vst1q_s8(to + 4, vld1q_s8(f + 4));
}

#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Woverlength-strings"
#endif
/* 1 rows x 4 output channels (Appendix B): acc[i][j] = sum of a[i][k] * w[j][k], four partial sums
 * per register. registers: a v0-v1 | product v8 | b v12-v15 | acc v16-v19
 * Int16 lanes take 4 products between SADALPs in blocks whose weights allow it, else 2 (Q16).
 *   a      rows of `row` bytes, a multiple of 8
 *   w      blocks of 4 channels: [row / 32][4][32], then [4][16] and [4][8] as `row` needs them
 *   q      per block: {4 products per lane?, 0, 0, 0}, bias[4], M0[4], shift[4], m1[4]
 *   y      first of 4 channels of each row; blocks follow each other */
static void t_gemm_1x4_nearest(
    const int8_t *const *a, const int8_t *w, const int32_t *q, int8_t *const *y,
    size_t blocks, size_t row, const t_finish_vectors *out)
{
    const int8_t *a0 = a[0];
    int8_t *y0 = y[0];
    size_t left;
    __asm__ volatile(
        "1:\n\t"
        "ldr %w[left], [%[q]], #16\n\t"
        "cmp %[row], #32\n\t"
        "b.lo 6f\n\t"
        "cbz %w[left], 4f\n\t"
        /* Four products per lane. */
        "ldp q0, q1, [%[a0]], #32\n\t"
        "lsr %[left], %[row], #5\n\t"
        "ldp q12, q13, [%[w]], #128\n\t"
        "ldp q14, q15, [%[w], #-96]\n\t"
        "smull v8.8h, v0.8b, v12.8b\n\t"
        "smlal2 v8.8h, v0.16b, v12.16b\n\t"
        "smlal v8.8h, v1.8b, v13.8b\n\t"
        "smlal2 v8.8h, v1.16b, v13.16b\n\t"
        "ldp q12, q13, [%[w], #-64]\n\t"
        "saddlp v16.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v14.8b\n\t"
        "smlal2 v8.8h, v0.16b, v14.16b\n\t"
        "smlal v8.8h, v1.8b, v15.8b\n\t"
        "smlal2 v8.8h, v1.16b, v15.16b\n\t"
        "ldp q14, q15, [%[w], #-32]\n\t"
        "saddlp v17.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v12.8b\n\t"
        "smlal2 v8.8h, v0.16b, v12.16b\n\t"
        "smlal v8.8h, v1.8b, v13.8b\n\t"
        "smlal2 v8.8h, v1.16b, v13.16b\n\t"
        "saddlp v18.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v14.8b\n\t"
        "smlal2 v8.8h, v0.16b, v14.16b\n\t"
        "smlal v8.8h, v1.8b, v15.8b\n\t"
        "smlal2 v8.8h, v1.16b, v15.16b\n\t"
        "saddlp v19.4s, v8.8h\n\t"
        "b 3f\n\t"
        "2:\n\t"
        "ldp q0, q1, [%[a0]], #32\n\t"
        "ldp q12, q13, [%[w]], #128\n\t"
        "ldp q14, q15, [%[w], #-96]\n\t"
        "smull v8.8h, v0.8b, v12.8b\n\t"
        "smlal2 v8.8h, v0.16b, v12.16b\n\t"
        "smlal v8.8h, v1.8b, v13.8b\n\t"
        "smlal2 v8.8h, v1.16b, v13.16b\n\t"
        "ldp q12, q13, [%[w], #-64]\n\t"
        "sadalp v16.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v14.8b\n\t"
        "smlal2 v8.8h, v0.16b, v14.16b\n\t"
        "smlal v8.8h, v1.8b, v15.8b\n\t"
        "smlal2 v8.8h, v1.16b, v15.16b\n\t"
        "ldp q14, q15, [%[w], #-32]\n\t"
        "sadalp v17.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v12.8b\n\t"
        "smlal2 v8.8h, v0.16b, v12.16b\n\t"
        "smlal v8.8h, v1.8b, v13.8b\n\t"
        "smlal2 v8.8h, v1.16b, v13.16b\n\t"
        "sadalp v18.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v14.8b\n\t"
        "smlal2 v8.8h, v0.16b, v14.16b\n\t"
        "smlal v8.8h, v1.8b, v15.8b\n\t"
        "smlal2 v8.8h, v1.16b, v15.16b\n\t"
        "sadalp v19.4s, v8.8h\n\t"
        "3:\n\t"
        "subs %[left], %[left], #1\n\t"
        "b.ne 2b\n\t"
        "b 7f\n\t"
        "4:\n\t"
        "ldp q0, q1, [%[a0]], #32\n\t"
        "lsr %[left], %[row], #5\n\t"
        "ldp q12, q13, [%[w]], #128\n\t"
        "ldp q14, q15, [%[w], #-96]\n\t"
        "smull v8.8h, v0.8b, v12.8b\n\t"
        "smlal2 v8.8h, v0.16b, v12.16b\n\t"
        "saddlp v16.4s, v8.8h\n\t"
        "smull v8.8h, v1.8b, v13.8b\n\t"
        "smlal2 v8.8h, v1.16b, v13.16b\n\t"
        "ldp q12, q13, [%[w], #-64]\n\t"
        "sadalp v16.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v14.8b\n\t"
        "smlal2 v8.8h, v0.16b, v14.16b\n\t"
        "saddlp v17.4s, v8.8h\n\t"
        "smull v8.8h, v1.8b, v15.8b\n\t"
        "smlal2 v8.8h, v1.16b, v15.16b\n\t"
        "ldp q14, q15, [%[w], #-32]\n\t"
        "sadalp v17.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v12.8b\n\t"
        "smlal2 v8.8h, v0.16b, v12.16b\n\t"
        "saddlp v18.4s, v8.8h\n\t"
        "smull v8.8h, v1.8b, v13.8b\n\t"
        "smlal2 v8.8h, v1.16b, v13.16b\n\t"
        "sadalp v18.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v14.8b\n\t"
        "smlal2 v8.8h, v0.16b, v14.16b\n\t"
        "saddlp v19.4s, v8.8h\n\t"
        "smull v8.8h, v1.8b, v15.8b\n\t"
        "smlal2 v8.8h, v1.16b, v15.16b\n\t"
        "sadalp v19.4s, v8.8h\n\t"
        "b 51f\n\t"
        "5:\n\t"
        "ldp q0, q1, [%[a0]], #32\n\t"
        "ldp q12, q13, [%[w]], #128\n\t"
        "ldp q14, q15, [%[w], #-96]\n\t"
        "smull v8.8h, v0.8b, v12.8b\n\t"
        "smlal2 v8.8h, v0.16b, v12.16b\n\t"
        "sadalp v16.4s, v8.8h\n\t"
        "smull v8.8h, v1.8b, v13.8b\n\t"
        "smlal2 v8.8h, v1.16b, v13.16b\n\t"
        "ldp q12, q13, [%[w], #-64]\n\t"
        "sadalp v16.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v14.8b\n\t"
        "smlal2 v8.8h, v0.16b, v14.16b\n\t"
        "sadalp v17.4s, v8.8h\n\t"
        "smull v8.8h, v1.8b, v15.8b\n\t"
        "smlal2 v8.8h, v1.16b, v15.16b\n\t"
        "ldp q14, q15, [%[w], #-32]\n\t"
        "sadalp v17.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v12.8b\n\t"
        "smlal2 v8.8h, v0.16b, v12.16b\n\t"
        "sadalp v18.4s, v8.8h\n\t"
        "smull v8.8h, v1.8b, v13.8b\n\t"
        "smlal2 v8.8h, v1.16b, v13.16b\n\t"
        "sadalp v18.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v14.8b\n\t"
        "smlal2 v8.8h, v0.16b, v14.16b\n\t"
        "sadalp v19.4s, v8.8h\n\t"
        "smull v8.8h, v1.8b, v15.8b\n\t"
        "smlal2 v8.8h, v1.16b, v15.16b\n\t"
        "sadalp v19.4s, v8.8h\n\t"
        "51:\n\t"
        "subs %[left], %[left], #1\n\t"
        "b.ne 5b\n\t"
        "b 7f\n\t"
        /* Short rows. */
        "6:\n\t"
        "tbz %[row], #4, 61f\n\t"
        "ldr q0, [%[a0]], #16\n\t"
        "ldr q12, [%[w]], #64\n\t"
        "ldr q14, [%[w], #-48]\n\t"
        "smull v8.8h, v0.8b, v12.8b\n\t"
        "smlal2 v8.8h, v0.16b, v12.16b\n\t"
        "ldr q12, [%[w], #-32]\n\t"
        "saddlp v16.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v14.8b\n\t"
        "smlal2 v8.8h, v0.16b, v14.16b\n\t"
        "ldr q14, [%[w], #-16]\n\t"
        "saddlp v17.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v12.8b\n\t"
        "smlal2 v8.8h, v0.16b, v12.16b\n\t"
        "saddlp v18.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v14.8b\n\t"
        "smlal2 v8.8h, v0.16b, v14.16b\n\t"
        "saddlp v19.4s, v8.8h\n\t"
        "b 8f\n\t"
        "61:\n\t"
        "movi v16.4s, #0\n\t"
        "movi v17.4s, #0\n\t"
        "movi v18.4s, #0\n\t"
        "movi v19.4s, #0\n\t"
        "b 8f\n\t"
        /* What is left of a row: 16 and 8 products. */
        "7:\n\t"
        "tbz %[row], #4, 8f\n\t"
        "ldr q0, [%[a0]], #16\n\t"
        "ldr q12, [%[w]], #64\n\t"
        "ldr q14, [%[w], #-48]\n\t"
        "smull v8.8h, v0.8b, v12.8b\n\t"
        "smlal2 v8.8h, v0.16b, v12.16b\n\t"
        "ldr q12, [%[w], #-32]\n\t"
        "sadalp v16.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v14.8b\n\t"
        "smlal2 v8.8h, v0.16b, v14.16b\n\t"
        "ldr q14, [%[w], #-16]\n\t"
        "sadalp v17.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v12.8b\n\t"
        "smlal2 v8.8h, v0.16b, v12.16b\n\t"
        "sadalp v18.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v14.8b\n\t"
        "smlal2 v8.8h, v0.16b, v14.16b\n\t"
        "sadalp v19.4s, v8.8h\n\t"
        "8:\n\t"
        "tbz %[row], #3, 9f\n\t"
        "ldr d0, [%[a0]], #8\n\t"
        "ldp d12, d13, [%[w]], #32\n\t"
        "ldp d14, d15, [%[w], #-16]\n\t"
        "smull v8.8h, v0.8b, v12.8b\n\t"
        "sadalp v16.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v13.8b\n\t"
        "sadalp v17.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v14.8b\n\t"
        "sadalp v18.4s, v8.8h\n\t"
        "smull v8.8h, v0.8b, v15.8b\n\t"
        "sadalp v19.4s, v8.8h\n\t"
        /* Partial sums to sums: one register of 4 channels per row. */
        /* (Q4): 64-bit product, rounded once, ties away from zero. */
        /* Narrow with saturation, add the zero point, store 4 bytes per row. */
        "9:\n\t"
        "addp v16.4s, v16.4s, v17.4s\n\t"
        "addp v18.4s, v18.4s, v19.4s\n\t"
        "movi v19.4s, #31\n\t"
        "ldr q0, [%[out]]\n\t"
        "subs %[blocks], %[blocks], #1\n\t"
        "sub %[a0], %[a0], %[row]\n\t"
        "addp v8.4s, v16.4s, v18.4s\n\t"
        "ldp q12, q13, [%[q]], #64\n\t"
        "ldr q15, [%[q], #-16]\n\t"
        "ldr q14, [%[q], #-32]\n\t"
        "add v8.4s, v8.4s, v12.4s\n\t"
        "sub v14.4s, v14.4s, v19.4s\n\t"
        "smull v16.2d, v8.2s, v13.2s\n\t"
        "smull v18.2d, v8.2s, v15.2s\n\t"
        "smull2 v17.2d, v8.4s, v13.4s\n\t"
        "ssra v16.2d, v18.2d, #22\n\t"
        "shl v18.2d, v18.2d, #42\n\t"
        "cmlt v19.2d, v16.2d, #0\n\t"
        "cmeq v18.2d, v18.2d, #0\n\t"
        "and v19.16b, v19.16b, v18.16b\n\t"
        "sshll v18.2d, v14.2s, #0\n\t"
        "add v16.2d, v16.2d, v19.2d\n\t"
        "srshl v16.2d, v16.2d, v18.2d\n\t"
        "smull2 v18.2d, v8.4s, v15.4s\n\t"
        "sqxtn v8.2s, v16.2d\n\t"
        "ssra v17.2d, v18.2d, #22\n\t"
        "shl v18.2d, v18.2d, #42\n\t"
        "cmlt v19.2d, v17.2d, #0\n\t"
        "cmeq v18.2d, v18.2d, #0\n\t"
        "and v19.16b, v19.16b, v18.16b\n\t"
        "sshll2 v18.2d, v14.4s, #0\n\t"
        "add v17.2d, v17.2d, v19.2d\n\t"
        "srshl v17.2d, v17.2d, v18.2d\n\t"
        "sqxtn2 v8.4s, v17.2d\n\t"
        "sqxtn v8.4h, v8.4s\n\t"
        "sqadd v8.8h, v8.8h, v0.8h\n\t"
        "sqxtn v8.8b, v8.8h\n\t"
        "st1 {v8.s}[0], [%[y0]], #4\n\t"
        "b.ne 1b\n\t"
        : [a0] "+&r"(a0), [y0] "+&r"(y0), [w] "+&r"(w), [q] "+&r"(q), [blocks] "+&r"(blocks),
                [left] "=&r"(left)
        : [row] "r"(row), [out] "r"(out)
        : "v0", "v1", "v8", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "cc", "memory");
}
#if defined(__clang__)
#pragma clang diagnostic pop
#endif

/* fully_connected "y"  <model>   kernel qs8_fully_connected__neon_4x4c32
 * Every row of x against every row of w.
 * x i8[1, 20] zero 0; y i8[1, 5] zero 0
 * accumulator in [-102870, 103680], inside int32
 * int16 lanes (Q16): 4 products in 2 of 2 blocks, 2 in the others; at most 11776 of 32767
 * zero points folded into the bias (Q15); no row sums
 * regs: a v0-v1 | product v8 | b v12-v15 | acc v16-v19 */
/* w' in reading order: see the kernel */
static const int8_t t_w_00[192] = {
    -50, -49, -48, -47, -46, -45, -44, -43, -42, -41, -40, -39, -38, -37, -36, -35,
    -30, -29, -28, -27, -26, -25, -24, -23, -22, -21, -20, -19, -18, -17, -16, -15,
    -10, -9, -8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5,
    10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
    -34, -33, -32, -31, 0, 0, 0, 0, -14, -13, -12, -11, 0, 0, 0, 0,
    6, 7, 8, 9, 0, 0, 0, 0, 26, 27, 28, 29, 0, 0, 0, 0,
    -30, -29, -28, -27, -26, -25, -24, -23, -22, -21, -20, -19, -18, -17, -16, -15,
    -10, -9, -8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5,
    10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
    30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45,
    -14, -13, -12, -11, 0, 0, 0, 0, 6, 7, 8, 9, 0, 0, 0, 0,
    26, 27, 28, 29, 0, 0, 0, 0, 46, 47, 48, 49, 0, 0, 0, 0,
};

/* per block of channels: see the kernel */
static const int32_t t_q_00[40] = {
    1, 0, 0, 0,
    0, 10, 20, 30,
    1374389504, 1374389504, 1374389504, 1374389504,
    -6, -6, -6, -6,
    0, 0, 0, 0,
    1, 0, 0, 0,
    10, 20, 30, 40,
    1374389504, 1374389504, 1374389504, 1374389504,
    -6, -6, -6, -6,
    0, 0, 0, 0,
};

T_OP static void t_00_y(const int8_t *x, int8_t *y, int8_t *scratch)
{
    static const t_finish_vectors out = {
        { 0, 0, 0, 0, 0, 0, 0, 0 },
        { -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128,
                -128 },
        { 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127 },
        { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 },
    };
    int32_t tile, i;
    /* Bytes behind a row meet zero weights, but must be initialised. */
    t_fill(scratch, 0, 24);
    for (tile = 0; tile < 1; ++tile) {
        /* The last tile overlaps its neighbour instead of needing a kernel of its own. */
        const int32_t first = tile * 1 < 0 ? tile * 1 : 0;
        const int8_t *a[1];
        int8_t *to[1];
        for (i = 0; i < 1; ++i) {
            t_gather_20(scratch + i * 24, x + (first + i) * 20);
            a[i] = scratch + i * 24;
            to[i] = (int8_t *)y + (first + i) * 5;
        }
        t_gemm_1x4_nearest(a, t_w_00, t_q_00, to, 1, 24, &out);
        for (i = 0; i < 1; ++i) {
            to[i] = (int8_t *)y + (first + i) * 5 + 1;
        }
        t_gemm_1x4_nearest(a, t_w_00 + 96, t_q_00 + 20, to, 1, 24, &out);
    }
}
