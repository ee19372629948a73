/* Constants of the end of a kernel: multiplier, zero point, clamp, flip, shift; see targets/finish.py. */
typedef struct t_finish_constants {
    int32_t m0[4];
    int16_t zero[8];
    int8_t low[16], high[16], flip[16];
    int32_t shift[4];
} t_finish_constants;

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
/* 1 row x 4 output channels (Appendix B): acc[i][j] = sum of a[i][k] * w[j][k], four partial sums
 * per register. registers: a v0-v7 | product v8-v11 | b v12-v19 | acc v20-v23
 * Bits tell which steps of 32 products take 4 per int16 lane between SADALPs (Q16).
 *   a      rows of `row` bytes, a multiple of 8, each behind the other
 *   w      blocks of 4 channels: [row / 32][4][32], then [4][16] and [4][8] as `row` needs them
 *   q      per block: bias[4], bits of the steps, first step on top, ended by a 1
 *   y      rows of `channels` bytes; blocks follow each other */
static void t_gemm_1x4_tail24_shr6_once(
    const int8_t *a, const int8_t *weights, const int32_t *parameters, int8_t *y,
    size_t tiles, size_t count, size_t row, size_t channels, const t_finish_constants *out)
{
    for (; tiles > 0; --tiles) {
        const int8_t *w = weights, *a0 = a;
        const int32_t *q = parameters;
        int8_t *y0 = y;
        size_t blocks = count;
        uint64_t flags;
        __asm__ volatile(
            /* Accumulators start at the bias, which lies in their first lanes. */
            "1:\n\t"
            "ldp s22, s23, [%[q], #8]\n\t"
            "ldp s20, s21, [%[q]], #16\n\t"
            "ldr %[flags], [%[q]], #8\n\t"
            "2:\n\t"
            "adds %[flags], %[flags], %[flags]\n\t"
            "b.ls 4f\n\t"
            /* 32 products, 4 products per lane. */
            /* budget: 49 cycles / 128 MACs (cortex-a53) */
            "3:\n\t"
            "ldp q0, q1, [%[a0]], #32\n\t"
            "ld1 {v12.16b-v15.16b}, [%[w]], #64\n\t"
            "ld1 {v16.16b-v19.16b}, [%[w]], #64\n\t"
            "smull v8.8h, v0.8b, v12.8b\n\t"
            "smull v9.8h, v0.8b, v14.8b\n\t"
            "smull v10.8h, v0.8b, v16.8b\n\t"
            "smull v11.8h, v0.8b, v18.8b\n\t"
            "smlal2 v8.8h, v0.16b, v12.16b\n\t"
            "smlal2 v9.8h, v0.16b, v14.16b\n\t"
            "smlal2 v10.8h, v0.16b, v16.16b\n\t"
            "smlal2 v11.8h, v0.16b, v18.16b\n\t"
            "smlal v8.8h, v1.8b, v13.8b\n\t"
            "smlal v9.8h, v1.8b, v15.8b\n\t"
            "smlal v10.8h, v1.8b, v17.8b\n\t"
            "smlal v11.8h, v1.8b, v19.8b\n\t"
            "smlal2 v8.8h, v1.16b, v13.16b\n\t"
            "smlal2 v9.8h, v1.16b, v15.16b\n\t"
            "smlal2 v10.8h, v1.16b, v17.16b\n\t"
            "smlal2 v11.8h, v1.16b, v19.16b\n\t"
            "sadalp v20.4s, v8.8h\n\t"
            "sadalp v21.4s, v9.8h\n\t"
            "sadalp v22.4s, v10.8h\n\t"
            "sadalp v23.4s, v11.8h\n\t"
            "adds %[flags], %[flags], %[flags]\n\t"
            "b.hi 3b\n\t"
            "4:\n\t"
            "b.eq 6f\n\t"
            /* 32 products, 2 products per lane. */
            "5:\n\t"
            "ldp q0, q1, [%[a0]], #32\n\t"
            "ld1 {v12.16b-v15.16b}, [%[w]], #64\n\t"
            "ld1 {v16.16b-v19.16b}, [%[w]], #64\n\t"
            "smull v8.8h, v0.8b, v12.8b\n\t"
            "smull v9.8h, v0.8b, v14.8b\n\t"
            "smull v10.8h, v0.8b, v16.8b\n\t"
            "smull v11.8h, v0.8b, v18.8b\n\t"
            "smlal2 v8.8h, v0.16b, v12.16b\n\t"
            "smlal2 v9.8h, v0.16b, v14.16b\n\t"
            "smlal2 v10.8h, v0.16b, v16.16b\n\t"
            "smlal2 v11.8h, v0.16b, v18.16b\n\t"
            "sadalp v20.4s, v8.8h\n\t"
            "sadalp v21.4s, v9.8h\n\t"
            "sadalp v22.4s, v10.8h\n\t"
            "sadalp v23.4s, v11.8h\n\t"
            "smull v8.8h, v1.8b, v13.8b\n\t"
            "smull v9.8h, v1.8b, v15.8b\n\t"
            "smull v10.8h, v1.8b, v17.8b\n\t"
            "smull v11.8h, v1.8b, v19.8b\n\t"
            "smlal2 v8.8h, v1.16b, v13.16b\n\t"
            "smlal2 v9.8h, v1.16b, v15.16b\n\t"
            "smlal2 v10.8h, v1.16b, v17.16b\n\t"
            "smlal2 v11.8h, v1.16b, v19.16b\n\t"
            "sadalp v20.4s, v8.8h\n\t"
            "sadalp v21.4s, v9.8h\n\t"
            "sadalp v22.4s, v10.8h\n\t"
            "sadalp v23.4s, v11.8h\n\t"
            "adds %[flags], %[flags], %[flags]\n\t"
            "b.hi 3b\n\t"
            "b.ne 5b\n\t"
            /* 16 products, 2 products per lane. */
            /* 8 products. */
            /* Partial sums to sums: one register of 4 channels per row. */
            /* Constants of the end. */
            /* (Q4): SQDMULH truncates, the shift rounds once; shift by 6 as it narrows */
            "6:\n\t"
            "ldr q0, [%[a0]], #16\n\t"
            "ldp q12, q13, [%[w]], #96\n\t"
            "ldp q14, q15, [%[w], #-64]\n\t"
            "smull v8.8h, v0.8b, v12.8b\n\t"
            "smull v9.8h, v0.8b, v13.8b\n\t"
            "smull v10.8h, v0.8b, v14.8b\n\t"
            "smull v11.8h, v0.8b, v15.8b\n\t"
            "smlal2 v8.8h, v0.16b, v12.16b\n\t"
            "smlal2 v9.8h, v0.16b, v13.16b\n\t"
            "smlal2 v10.8h, v0.16b, v14.16b\n\t"
            "smlal2 v11.8h, v0.16b, v15.16b\n\t"
            "ldp d12, d13, [%[w], #-32]\n\t"
            "ldr d0, [%[a0]], #8\n\t"
            "ldp d14, d15, [%[w], #-16]\n\t"
            "sadalp v20.4s, v8.8h\n\t"
            "sadalp v21.4s, v9.8h\n\t"
            "sadalp v22.4s, v10.8h\n\t"
            "sadalp v23.4s, v11.8h\n\t"
            "smull v8.8h, v0.8b, v12.8b\n\t"
            "smull v9.8h, v0.8b, v13.8b\n\t"
            "smull v10.8h, v0.8b, v14.8b\n\t"
            "smull v11.8h, v0.8b, v15.8b\n\t"
            "sadalp v20.4s, v8.8h\n\t"
            "sadalp v21.4s, v9.8h\n\t"
            "sadalp v22.4s, v10.8h\n\t"
            "sadalp v23.4s, v11.8h\n\t"
            "addp v20.4s, v20.4s, v21.4s\n\t"
            "addp v22.4s, v22.4s, v23.4s\n\t"
            "ldr q4, [%[out], #0]\n\t"
            "addp v8.4s, v20.4s, v22.4s\n\t"
            "ldr q0, [%[out], #16]\n\t"
            "sqdmulh v8.4s, v8.4s, v4.4s\n\t"
            "sqrshrn v8.4h, v8.4s, #6\n\t"
            "sqadd v8.8h, v8.8h, v0.8h\n\t"
            "sqxtn v8.8b, v8.8h\n\t"
            "st1 {v8.s}[0], [%[y0]], #4\n\t"
            "subs %[blocks], %[blocks], #1\n\t"
            "sub %[a0], %[a0], %[row]\n\t"
            "b.ne 1b\n\t"
            : [a0] "+&r"(a0), [y0] "+&r"(y0), [w] "+&r"(w), [q] "+&r"(q), [blocks] "+&r"(blocks),
                    [flags] "=&r"(flags)
            : [row] "r"(row), [out] "r"(out)
            : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12",
                    "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23",
                    "cc", "memory");
        a += row;
        y += channels;
    }
}
#if defined(__clang__)
#pragma clang diagnostic pop
#endif

/* fully_connected "y"  <model>   kernel qs8_fully_connected__neon_4x4c32
 * Every row of x against every row of w.
 * x i8[1, 20] zero 0; y i8[1, 5] zero 0
 * accumulator in [-102870, 103680], inside int32
 * int16 lanes (Q16): 4 products in 0 of 0 steps of 32, 2 in the others; at most 11776 of 32767
 * zero points folded into the bias (Q15); no row sums
 * end (Q4): SQDMULH truncates, the shift rounds once; shift by 6 as it narrows
 * regs: a v0-v7 | product v8-v11 | b v12-v15 | acc v16-v31 */
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
static const int32_t t_q_00[12] = {
    0, 10, 20, 30,
    0, (-2147483647 - 1), 10, 20,
    30, 40, 0, (-2147483647 - 1),
};

T_OP static void t_00_y(const int8_t *x, int8_t *y, int8_t *scratch)
{
    static const t_finish_constants out = {
        { 1374389504, 1374389504, 1374389504, 1374389504 },
        { 0, 0, 0, 0, 0, 0, 0, 0 },
        { -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128,
                -128 },
        { 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127 },
        { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 },
        { 0, 0, 0, 0 },
    };
    int32_t i;
    /* Bytes behind a row meet zero weights, but must be initialised. */
    t_fill(scratch, 0, 24);
    for (i = 0; i < 1; i += 1) {
        t_gather_20(scratch + 0, x + (i + 0) * 20);
        t_gemm_1x4_tail24_shr6_once(scratch, t_w_00, t_q_00, (int8_t *)y + i * 5, 1, 1, 24, 5,
                &out);
        t_gemm_1x4_tail24_shr6_once(scratch, t_w_00 + 96, t_q_00 + 6, (int8_t *)y + i * 5 + 1, 1,
                1, 24, 5, &out);
    }
}
