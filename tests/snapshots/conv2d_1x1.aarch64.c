/* Constants of the end of a kernel: multiplier, zero point, clamp, flip, shift; see targets/finish.py. */
typedef struct t_finish_constants {
    int32_t m0[4];
    int16_t zero[8];
    int8_t low[16], high[16], flip[16];
    int32_t shift[4];
} t_finish_constants;

#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Woverlength-strings"
#endif
/* 3 rows x 4 output channels (Appendix B): acc[i][j] = sum of a[i][k] * w[j][k], four partial sums
 * per register. registers: a v0-v5 | product v6-v11 | b v12-v19 | acc v20-v31
 * Bits tell which steps of 32 products take 4 per int16 lane between SADALPs (Q16).
 *   a      rows of `row` bytes, a multiple of 8, each behind the other
 *   w      blocks of 4 channels: [row / 32][4][32], then [4][16] and [4][8] as `row` needs them
 *   q      per block: bias[4], bits of the steps, first step on top, ended by a 1
 *   y      rows of `channels` bytes; blocks follow each other */
static void t_gemm_3x4_tail24_shr6_low(
    const int8_t *a, const int8_t *weights, const int32_t *parameters, int8_t *y,
    size_t tiles, size_t count, size_t row, size_t channels, const t_finish_constants *out)
{
    for (; tiles > 0; --tiles) {
        const int8_t *w = weights, *a0 = a, *v;
        const int32_t *q = parameters;
        int8_t *y0 = y;
        const int8_t *a1 = a0 + row;
        int8_t *y1 = y0 + channels;
        const int8_t *a2 = a1 + row;
        int8_t *y2 = y1 + channels;
        size_t blocks = count;
        uint64_t flags;
        __asm__ volatile(
            /* Accumulators start at the bias, which lies in their first lanes. */
            "1:\n\t"
            "ldp s22, s23, [%[q], #8]\n\t"
            "ldp s26, s27, [%[q], #8]\n\t"
            "ldp s30, s31, [%[q], #8]\n\t"
            "ldp s20, s21, [%[q]]\n\t"
            "ldp s24, s25, [%[q]]\n\t"
            "ldp s28, s29, [%[q]], #16\n\t"
            "add %[v], %[w], #64\n\t"
            "ldr %[flags], [%[q]], #8\n\t"
            "2:\n\t"
            "adds %[flags], %[flags], %[flags]\n\t"
            "b.ls 4f\n\t"
            /* 32 products, 4 products per lane. */
            /* budget: 84 cycles / 384 MACs (cortex-a53) */
            "3:\n\t"
            "ld1 {v12.16b-v15.16b}, [%[w]]\n\t"
            "ld1 {v0.16b, v1.16b}, [%[a0]], #32\n\t"
            "ld1 {v2.16b, v3.16b}, [%[a1]], #32\n\t"
            "ld1 {v4.16b, v5.16b}, [%[a2]], #32\n\t"
            "smull v6.8h, v0.8b, v12.8b\n\t"
            "smull v7.8h, v0.8b, v14.8b\n\t"
            "smull v8.8h, v2.8b, v12.8b\n\t"
            "smull v9.8h, v2.8b, v14.8b\n\t"
            "smull v10.8h, v4.8b, v12.8b\n\t"
            "smull v11.8h, v4.8b, v14.8b\n\t"
            "smlal2 v6.8h, v0.16b, v12.16b\n\t"
            "smlal2 v7.8h, v0.16b, v14.16b\n\t"
            "smlal2 v8.8h, v2.16b, v12.16b\n\t"
            "smlal2 v9.8h, v2.16b, v14.16b\n\t"
            "smlal2 v10.8h, v4.16b, v12.16b\n\t"
            "smlal2 v11.8h, v4.16b, v14.16b\n\t"
            "smlal v6.8h, v1.8b, v13.8b\n\t"
            "smlal v7.8h, v1.8b, v15.8b\n\t"
            "smlal v8.8h, v3.8b, v13.8b\n\t"
            "smlal v9.8h, v3.8b, v15.8b\n\t"
            "smlal v10.8h, v5.8b, v13.8b\n\t"
            "smlal v11.8h, v5.8b, v15.8b\n\t"
            "ld1 {v16.16b-v19.16b}, [%[v]]\n\t"
            "smlal2 v6.8h, v1.16b, v13.16b\n\t"
            "smlal2 v7.8h, v1.16b, v15.16b\n\t"
            "smlal2 v8.8h, v3.16b, v13.16b\n\t"
            "smlal2 v9.8h, v3.16b, v15.16b\n\t"
            "smlal2 v10.8h, v5.16b, v13.16b\n\t"
            "smlal2 v11.8h, v5.16b, v15.16b\n\t"
            "sadalp v20.4s, v6.8h\n\t"
            "sadalp v21.4s, v7.8h\n\t"
            "sadalp v24.4s, v8.8h\n\t"
            "sadalp v25.4s, v9.8h\n\t"
            "sadalp v28.4s, v10.8h\n\t"
            "sadalp v29.4s, v11.8h\n\t"
            "smull v6.8h, v0.8b, v16.8b\n\t"
            "smull v7.8h, v0.8b, v18.8b\n\t"
            "smull v8.8h, v2.8b, v16.8b\n\t"
            "smull v9.8h, v2.8b, v18.8b\n\t"
            "smull v10.8h, v4.8b, v16.8b\n\t"
            "smull v11.8h, v4.8b, v18.8b\n\t"
            "smlal2 v6.8h, v0.16b, v16.16b\n\t"
            "smlal2 v7.8h, v0.16b, v18.16b\n\t"
            "smlal2 v8.8h, v2.16b, v16.16b\n\t"
            "smlal2 v9.8h, v2.16b, v18.16b\n\t"
            "smlal2 v10.8h, v4.16b, v16.16b\n\t"
            "smlal2 v11.8h, v4.16b, v18.16b\n\t"
            "smlal v6.8h, v1.8b, v17.8b\n\t"
            "smlal v7.8h, v1.8b, v19.8b\n\t"
            "smlal v8.8h, v3.8b, v17.8b\n\t"
            "smlal v9.8h, v3.8b, v19.8b\n\t"
            "smlal v10.8h, v5.8b, v17.8b\n\t"
            "smlal v11.8h, v5.8b, v19.8b\n\t"
            "add %[w], %[w], #128\n\t"
            "smlal2 v6.8h, v1.16b, v17.16b\n\t"
            "smlal2 v7.8h, v1.16b, v19.16b\n\t"
            "smlal2 v8.8h, v3.16b, v17.16b\n\t"
            "smlal2 v9.8h, v3.16b, v19.16b\n\t"
            "smlal2 v10.8h, v5.16b, v17.16b\n\t"
            "smlal2 v11.8h, v5.16b, v19.16b\n\t"
            "sadalp v22.4s, v6.8h\n\t"
            "sadalp v23.4s, v7.8h\n\t"
            "sadalp v26.4s, v8.8h\n\t"
            "sadalp v27.4s, v9.8h\n\t"
            "sadalp v30.4s, v10.8h\n\t"
            "sadalp v31.4s, v11.8h\n\t"
            "add %[v], %[v], #128\n\t"
            "adds %[flags], %[flags], %[flags]\n\t"
            "b.hi 3b\n\t"
            "4:\n\t"
            "b.eq 6f\n\t"
            /* 32 products, 2 products per lane. */
            "5:\n\t"
            "ld1 {v12.16b-v15.16b}, [%[w]]\n\t"
            "ld1 {v0.16b, v1.16b}, [%[a0]], #32\n\t"
            "ld1 {v2.16b, v3.16b}, [%[a1]], #32\n\t"
            "ld1 {v4.16b, v5.16b}, [%[a2]], #32\n\t"
            "smull v6.8h, v0.8b, v12.8b\n\t"
            "smull v7.8h, v0.8b, v14.8b\n\t"
            "smull v8.8h, v2.8b, v12.8b\n\t"
            "smull v9.8h, v2.8b, v14.8b\n\t"
            "smull v10.8h, v4.8b, v12.8b\n\t"
            "smull v11.8h, v4.8b, v14.8b\n\t"
            "smlal2 v6.8h, v0.16b, v12.16b\n\t"
            "smlal2 v7.8h, v0.16b, v14.16b\n\t"
            "smlal2 v8.8h, v2.16b, v12.16b\n\t"
            "smlal2 v9.8h, v2.16b, v14.16b\n\t"
            "smlal2 v10.8h, v4.16b, v12.16b\n\t"
            "smlal2 v11.8h, v4.16b, v14.16b\n\t"
            "sadalp v20.4s, v6.8h\n\t"
            "sadalp v21.4s, v7.8h\n\t"
            "sadalp v24.4s, v8.8h\n\t"
            "sadalp v25.4s, v9.8h\n\t"
            "sadalp v28.4s, v10.8h\n\t"
            "sadalp v29.4s, v11.8h\n\t"
            "smull v6.8h, v1.8b, v13.8b\n\t"
            "smull v7.8h, v1.8b, v15.8b\n\t"
            "smull v8.8h, v3.8b, v13.8b\n\t"
            "smull v9.8h, v3.8b, v15.8b\n\t"
            "smull v10.8h, v5.8b, v13.8b\n\t"
            "smull v11.8h, v5.8b, v15.8b\n\t"
            "ld1 {v16.16b-v19.16b}, [%[v]]\n\t"
            "smlal2 v6.8h, v1.16b, v13.16b\n\t"
            "smlal2 v7.8h, v1.16b, v15.16b\n\t"
            "smlal2 v8.8h, v3.16b, v13.16b\n\t"
            "smlal2 v9.8h, v3.16b, v15.16b\n\t"
            "smlal2 v10.8h, v5.16b, v13.16b\n\t"
            "smlal2 v11.8h, v5.16b, v15.16b\n\t"
            "sadalp v20.4s, v6.8h\n\t"
            "sadalp v21.4s, v7.8h\n\t"
            "sadalp v24.4s, v8.8h\n\t"
            "sadalp v25.4s, v9.8h\n\t"
            "sadalp v28.4s, v10.8h\n\t"
            "sadalp v29.4s, v11.8h\n\t"
            "smull v6.8h, v0.8b, v16.8b\n\t"
            "smull v7.8h, v0.8b, v18.8b\n\t"
            "smull v8.8h, v2.8b, v16.8b\n\t"
            "smull v9.8h, v2.8b, v18.8b\n\t"
            "smull v10.8h, v4.8b, v16.8b\n\t"
            "smull v11.8h, v4.8b, v18.8b\n\t"
            "smlal2 v6.8h, v0.16b, v16.16b\n\t"
            "smlal2 v7.8h, v0.16b, v18.16b\n\t"
            "smlal2 v8.8h, v2.16b, v16.16b\n\t"
            "smlal2 v9.8h, v2.16b, v18.16b\n\t"
            "smlal2 v10.8h, v4.16b, v16.16b\n\t"
            "smlal2 v11.8h, v4.16b, v18.16b\n\t"
            "sadalp v22.4s, v6.8h\n\t"
            "sadalp v23.4s, v7.8h\n\t"
            "sadalp v26.4s, v8.8h\n\t"
            "sadalp v27.4s, v9.8h\n\t"
            "sadalp v30.4s, v10.8h\n\t"
            "sadalp v31.4s, v11.8h\n\t"
            "smull v6.8h, v1.8b, v17.8b\n\t"
            "smull v7.8h, v1.8b, v19.8b\n\t"
            "smull v8.8h, v3.8b, v17.8b\n\t"
            "smull v9.8h, v3.8b, v19.8b\n\t"
            "smull v10.8h, v5.8b, v17.8b\n\t"
            "smull v11.8h, v5.8b, v19.8b\n\t"
            "smlal2 v6.8h, v1.16b, v17.16b\n\t"
            "smlal2 v7.8h, v1.16b, v19.16b\n\t"
            "smlal2 v8.8h, v3.16b, v17.16b\n\t"
            "smlal2 v9.8h, v3.16b, v19.16b\n\t"
            "smlal2 v10.8h, v5.16b, v17.16b\n\t"
            "smlal2 v11.8h, v5.16b, v19.16b\n\t"
            "sadalp v22.4s, v6.8h\n\t"
            "sadalp v23.4s, v7.8h\n\t"
            "sadalp v26.4s, v8.8h\n\t"
            "sadalp v27.4s, v9.8h\n\t"
            "sadalp v30.4s, v10.8h\n\t"
            "sadalp v31.4s, v11.8h\n\t"
            "add %[w], %[w], #128\n\t"
            "add %[v], %[v], #128\n\t"
            "adds %[flags], %[flags], %[flags]\n\t"
            "b.hi 3b\n\t"
            "b.ne 5b\n\t"
            /* 16 products, 2 products per lane. */
            /* 8 products. */
            /* Partial sums to sums: one register of 4 channels per row. */
            /* Constants of the end. */
            /* (Q3): SQRDMULH, negative ties are clamped away (Q3c); shift by 6 as it narrows */
            "6:\n\t"
            "ldr q0, [%[a0]], #16\n\t"
            "ldr q2, [%[a1]], #16\n\t"
            "ldr q4, [%[a2]], #16\n\t"
            "ldp q12, q13, [%[w]], #96\n\t"
            "ldp q14, q15, [%[w], #-64]\n\t"
            "smull v6.8h, v0.8b, v12.8b\n\t"
            "smull v7.8h, v0.8b, v13.8b\n\t"
            "smull v8.8h, v2.8b, v12.8b\n\t"
            "smull v9.8h, v2.8b, v13.8b\n\t"
            "smull v10.8h, v4.8b, v12.8b\n\t"
            "smull v11.8h, v4.8b, v13.8b\n\t"
            "smlal2 v6.8h, v0.16b, v12.16b\n\t"
            "smlal2 v7.8h, v0.16b, v13.16b\n\t"
            "smlal2 v8.8h, v2.16b, v12.16b\n\t"
            "smlal2 v9.8h, v2.16b, v13.16b\n\t"
            "smlal2 v10.8h, v4.16b, v12.16b\n\t"
            "smlal2 v11.8h, v4.16b, v13.16b\n\t"
            "sadalp v20.4s, v6.8h\n\t"
            "sadalp v21.4s, v7.8h\n\t"
            "sadalp v24.4s, v8.8h\n\t"
            "sadalp v25.4s, v9.8h\n\t"
            "sadalp v28.4s, v10.8h\n\t"
            "sadalp v29.4s, v11.8h\n\t"
            "smull v6.8h, v0.8b, v14.8b\n\t"
            "smull v7.8h, v0.8b, v15.8b\n\t"
            "smull v8.8h, v2.8b, v14.8b\n\t"
            "smull v9.8h, v2.8b, v15.8b\n\t"
            "smull v10.8h, v4.8b, v14.8b\n\t"
            "smull v11.8h, v4.8b, v15.8b\n\t"
            "smlal2 v6.8h, v0.16b, v14.16b\n\t"
            "smlal2 v7.8h, v0.16b, v15.16b\n\t"
            "smlal2 v8.8h, v2.16b, v14.16b\n\t"
            "smlal2 v9.8h, v2.16b, v15.16b\n\t"
            "smlal2 v10.8h, v4.16b, v14.16b\n\t"
            "smlal2 v11.8h, v4.16b, v15.16b\n\t"
            "sadalp v22.4s, v6.8h\n\t"
            "sadalp v23.4s, v7.8h\n\t"
            "sadalp v26.4s, v8.8h\n\t"
            "sadalp v27.4s, v9.8h\n\t"
            "sadalp v30.4s, v10.8h\n\t"
            "sadalp v31.4s, v11.8h\n\t"
            "ldr d0, [%[a0]], #8\n\t"
            "ldr d1, [%[a1]], #8\n\t"
            "ldr d2, [%[a2]], #8\n\t"
            "ldp d12, d13, [%[w], #-32]\n\t"
            "ldp d14, d15, [%[w], #-16]\n\t"
            "smull v6.8h, v0.8b, v12.8b\n\t"
            "smull v7.8h, v0.8b, v13.8b\n\t"
            "smull v8.8h, v1.8b, v12.8b\n\t"
            "smull v9.8h, v1.8b, v13.8b\n\t"
            "smull v10.8h, v2.8b, v12.8b\n\t"
            "smull v11.8h, v2.8b, v13.8b\n\t"
            "sadalp v20.4s, v6.8h\n\t"
            "sadalp v21.4s, v7.8h\n\t"
            "sadalp v24.4s, v8.8h\n\t"
            "sadalp v25.4s, v9.8h\n\t"
            "sadalp v28.4s, v10.8h\n\t"
            "sadalp v29.4s, v11.8h\n\t"
            "smull v6.8h, v0.8b, v14.8b\n\t"
            "smull v7.8h, v0.8b, v15.8b\n\t"
            "smull v8.8h, v1.8b, v14.8b\n\t"
            "smull v9.8h, v1.8b, v15.8b\n\t"
            "smull v10.8h, v2.8b, v14.8b\n\t"
            "smull v11.8h, v2.8b, v15.8b\n\t"
            "sadalp v22.4s, v6.8h\n\t"
            "sadalp v23.4s, v7.8h\n\t"
            "sadalp v26.4s, v8.8h\n\t"
            "sadalp v27.4s, v9.8h\n\t"
            "sadalp v30.4s, v10.8h\n\t"
            "sadalp v31.4s, v11.8h\n\t"
            "addp v20.4s, v20.4s, v21.4s\n\t"
            "addp v24.4s, v24.4s, v25.4s\n\t"
            "addp v28.4s, v28.4s, v29.4s\n\t"
            "addp v22.4s, v22.4s, v23.4s\n\t"
            "addp v26.4s, v26.4s, v27.4s\n\t"
            "addp v30.4s, v30.4s, v31.4s\n\t"
            "addp v6.4s, v20.4s, v22.4s\n\t"
            "addp v7.4s, v24.4s, v26.4s\n\t"
            "addp v8.4s, v28.4s, v30.4s\n\t"
            "ldr q4, [%[out], #0]\n\t"
            "ldr q0, [%[out], #16]\n\t"
            "ldr q1, [%[out], #32]\n\t"
            "sqrdmulh v6.4s, v6.4s, v4.4s\n\t"
            "sqrdmulh v7.4s, v7.4s, v4.4s\n\t"
            "sqrdmulh v8.4s, v8.4s, v4.4s\n\t"
            "sqrshrn v6.4h, v6.4s, #6\n\t"
            "sqrshrn v8.4h, v8.4s, #6\n\t"
            "sqrshrn2 v6.8h, v7.4s, #6\n\t"
            "sqadd v6.8h, v6.8h, v0.8h\n\t"
            "sqadd v8.8h, v8.8h, v0.8h\n\t"
            "sqxtn v6.8b, v6.8h\n\t"
            "sqxtn2 v6.16b, v8.8h\n\t"
            "smax v6.16b, v6.16b, v1.16b\n\t"
            "subs %[blocks], %[blocks], #1\n\t"
            "sub %[a0], %[a0], %[row]\n\t"
            "st1 {v6.s}[0], [%[y0]], #4\n\t"
            "sub %[a1], %[a1], %[row]\n\t"
            "st1 {v6.s}[1], [%[y1]], #4\n\t"
            "sub %[a2], %[a2], %[row]\n\t"
            "st1 {v6.s}[2], [%[y2]], #4\n\t"
            "b.ne 1b\n\t"
            : [a0] "+&r"(a0), [a1] "+&r"(a1), [a2] "+&r"(a2), [y0] "+&r"(y0), [y1] "+&r"(y1),
                    [y2] "+&r"(y2), [w] "+&r"(w), [q] "+&r"(q), [blocks] "+&r"(blocks),
                    [v] "=&r"(v), [flags] "=&r"(flags)
            : [row] "r"(row), [out] "r"(out)
            : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12",
                    "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23",
                    "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31", "cc", "memory");
        a += 3 * row;
        y += 3 * channels;
    }
}
#if defined(__clang__)
#pragma clang diagnostic pop
#endif

/* conv2d "y"  <model>   kernel qs8_conv2d__neon_3x4c32
 * y[n, i, j, o] = requantize(sum over kh, kw, c of (x - Z_x) * (w[o] - Z_w) + b[o]).
 * x i8[1, 2, 3, 24] zero -3; y i8[1, 2, 3, 6] zero 4
 * accumulator in [-129010, 125990], inside int32
 * int16 lanes (Q16): 4 products in 0 of 0 steps of 32, 2 in the others; at most 11776 of 32767
 * zero points folded into the bias (Q15); no row sums
 * end (Q3): SQRDMULH, negative ties are clamped away (Q3c); shift by 6 as it narrows
 * regs: a v0-v5 | product v6-v11 | b v12-v19 | acc v20-v31 */
/* w' in reading order: see the kernel */
static const int8_t t_w_00[192] = {
    -50, -49, -48, -47, -46, -45, -44, -43, -42, -41, -40, -39, -38, -37, -36, -35,
    -26, -25, -24, -23, -22, -21, -20, -19, -18, -17, -16, -15, -14, -13, -12, -11,
    -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,
    22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37,
    -34, -33, -32, -31, -30, -29, -28, -27, -10, -9, -8, -7, -6, -5, -4, -3,
    14, 15, 16, 17, 18, 19, 20, 21, 38, 39, 40, 41, 42, 43, 44, 45,
    -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,
    22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37,
    46, 47, 48, 49, -50, -49, -48, -47, -46, -45, -44, -43, -42, -41, -40, -39,
    -30, -29, -28, -27, -26, -25, -24, -23, -22, -21, -20, -19, -18, -17, -16, -15,
    14, 15, 16, 17, 18, 19, 20, 21, 38, 39, 40, 41, 42, 43, 44, 45,
    -38, -37, -36, -35, -34, -33, -32, -31, -14, -13, -12, -11, -10, -9, -8, -7,
};

/* per block of channels: see the kernel */
static const int32_t t_q_00[12] = {
    -2772, -1034, 704, 2442,
    0, (-2147483647 - 1), 704, 2442,
    -1820, -1282, 0, (-2147483647 - 1),
};

T_OP static void t_00_y(const int8_t *x, int8_t *y)
{
    static const t_finish_constants out = {
        { 1374389504, 1374389504, 1374389504, 1374389504 },
        { 4, 4, 4, 4, 4, 4, 4, 4 },
        { 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4 },
        { 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127 },
        { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 },
        { 0, 0, 0, 0 },
    };
    t_gemm_3x4_tail24_shr6_low(x, t_w_00, t_q_00, (int8_t *)y, 2, 1, 24, 6, &out);
    t_gemm_3x4_tail24_shr6_low(x, t_w_00 + 96, t_q_00 + 6, (int8_t *)y + 2, 2, 1, 24, 6, &out);
}
