/* What the end of a kernel needs: zero point and clamp in int8; flip is -128 for uint8 results. */
typedef struct t_finish {
    int16_t zero;
    int8_t low, high, flip;
} t_finish;

/* 4 rows x 4 output channels, 16 products deep per step (Appendix B).
 *   acc[i][j] += a[i][0..15] . w[j][0..15], kept as four partial sums per register
 * registers: a v0-v3 | b v4-v7 | product v8-v11 | acc v16-v31
 * step: 4 + 2 loads, 32 SMULL/SMLAL, 16 SADALP for 256 products
 * Two products share an int16 lane before SADALP: each caller proves that they fit.
 *   a      rows of k16 * 16 + k8 * 8 bytes
 *   w      blocks of 4 channels: per 16 products [4][16], then for k8 [4][8]
 *   q      per block: bias[4], M0[4], shift[4]
 *   y      first of 4 channels of each row; blocks follow each other */
static void t_gemm_4x4(
    const int8_t *const *a, const int8_t *w, const int32_t *q, int8_t *const *y,
    size_t blocks, size_t k16, size_t k8, t_finish out)
{
    const int8_t *a0 = a[0];
    int8_t *y0 = y[0];
    const int8_t *a1 = a[1];
    int8_t *y1 = y[1];
    const int8_t *a2 = a[2];
    int8_t *y2 = y[2];
    const int8_t *a3 = a[3];
    int8_t *y3 = y[3];
    const int16x8_t zero = vdupq_n_s16(out.zero);
    const int8x16_t low = vdupq_n_s8(out.low);
    const int8x16_t high = vdupq_n_s8(out.high);
    const int8x16_t flip = vdupq_n_s8(out.flip);
    const size_t row = k16 * 16 + k8 * 8;
    size_t left;
    __asm__ volatile(
        "1:\n\t"
        "movi v16.4s, #0\n\t"
        "movi v17.4s, #0\n\t"
        "movi v18.4s, #0\n\t"
        "movi v19.4s, #0\n\t"
        "movi v20.4s, #0\n\t"
        "movi v21.4s, #0\n\t"
        "movi v22.4s, #0\n\t"
        "movi v23.4s, #0\n\t"
        "movi v24.4s, #0\n\t"
        "movi v25.4s, #0\n\t"
        "movi v26.4s, #0\n\t"
        "movi v27.4s, #0\n\t"
        "movi v28.4s, #0\n\t"
        "movi v29.4s, #0\n\t"
        "movi v30.4s, #0\n\t"
        "movi v31.4s, #0\n\t"
        "mov %[left], %[k16]\n\t"
        "cbz %[left], 3f\n\t"
        "2:\n\t"
        "ldr q0, [%[a0]], #16\n\t"
        "ldr q1, [%[a1]], #16\n\t"
        "ldr q2, [%[a2]], #16\n\t"
        "ldr q3, [%[a3]], #16\n\t"
        "ldp q4, q5, [%[w]], #32\n\t"
        "ldp q6, q7, [%[w]], #32\n\t"
        "subs %[left], %[left], #1\n\t"
        "smull v8.8h, v0.8b, v4.8b\n\t"
        "smull v9.8h, v1.8b, v4.8b\n\t"
        "smull v10.8h, v2.8b, v4.8b\n\t"
        "smull v11.8h, v3.8b, v4.8b\n\t"
        "smlal2 v8.8h, v0.16b, v4.16b\n\t"
        "smlal2 v9.8h, v1.16b, v4.16b\n\t"
        "smlal2 v10.8h, v2.16b, v4.16b\n\t"
        "smlal2 v11.8h, v3.16b, v4.16b\n\t"
        "sadalp v16.4s, v8.8h\n\t"
        "sadalp v20.4s, v9.8h\n\t"
        "sadalp v24.4s, v10.8h\n\t"
        "sadalp v28.4s, v11.8h\n\t"
        "smull v8.8h, v0.8b, v5.8b\n\t"
        "smull v9.8h, v1.8b, v5.8b\n\t"
        "smull v10.8h, v2.8b, v5.8b\n\t"
        "smull v11.8h, v3.8b, v5.8b\n\t"
        "smlal2 v8.8h, v0.16b, v5.16b\n\t"
        "smlal2 v9.8h, v1.16b, v5.16b\n\t"
        "smlal2 v10.8h, v2.16b, v5.16b\n\t"
        "smlal2 v11.8h, v3.16b, v5.16b\n\t"
        "sadalp v17.4s, v8.8h\n\t"
        "sadalp v21.4s, v9.8h\n\t"
        "sadalp v25.4s, v10.8h\n\t"
        "sadalp v29.4s, v11.8h\n\t"
        "smull v8.8h, v0.8b, v6.8b\n\t"
        "smull v9.8h, v1.8b, v6.8b\n\t"
        "smull v10.8h, v2.8b, v6.8b\n\t"
        "smull v11.8h, v3.8b, v6.8b\n\t"
        "smlal2 v8.8h, v0.16b, v6.16b\n\t"
        "smlal2 v9.8h, v1.16b, v6.16b\n\t"
        "smlal2 v10.8h, v2.16b, v6.16b\n\t"
        "smlal2 v11.8h, v3.16b, v6.16b\n\t"
        "sadalp v18.4s, v8.8h\n\t"
        "sadalp v22.4s, v9.8h\n\t"
        "sadalp v26.4s, v10.8h\n\t"
        "sadalp v30.4s, v11.8h\n\t"
        "smull v8.8h, v0.8b, v7.8b\n\t"
        "smull v9.8h, v1.8b, v7.8b\n\t"
        "smull v10.8h, v2.8b, v7.8b\n\t"
        "smull v11.8h, v3.8b, v7.8b\n\t"
        "smlal2 v8.8h, v0.16b, v7.16b\n\t"
        "smlal2 v9.8h, v1.16b, v7.16b\n\t"
        "smlal2 v10.8h, v2.16b, v7.16b\n\t"
        "smlal2 v11.8h, v3.16b, v7.16b\n\t"
        "sadalp v19.4s, v8.8h\n\t"
        "sadalp v23.4s, v9.8h\n\t"
        "sadalp v27.4s, v10.8h\n\t"
        "sadalp v31.4s, v11.8h\n\t"
        "b.ne 2b\n\t"
        "3:\n\t"
        "tbz %[row], #3, 4f\n\t"
        "ldr d0, [%[a0]], #8\n\t"
        "ldr d1, [%[a1]], #8\n\t"
        "ldr d2, [%[a2]], #8\n\t"
        "ldr d3, [%[a3]], #8\n\t"
        "ldp d4, d5, [%[w]], #16\n\t"
        "ldp d6, d7, [%[w]], #16\n\t"
        "smull v8.8h, v0.8b, v4.8b\n\t"
        "smull v9.8h, v1.8b, v4.8b\n\t"
        "smull v10.8h, v2.8b, v4.8b\n\t"
        "smull v11.8h, v3.8b, v4.8b\n\t"
        "sadalp v16.4s, v8.8h\n\t"
        "sadalp v20.4s, v9.8h\n\t"
        "sadalp v24.4s, v10.8h\n\t"
        "sadalp v28.4s, v11.8h\n\t"
        "smull v8.8h, v0.8b, v5.8b\n\t"
        "smull v9.8h, v1.8b, v5.8b\n\t"
        "smull v10.8h, v2.8b, v5.8b\n\t"
        "smull v11.8h, v3.8b, v5.8b\n\t"
        "sadalp v17.4s, v8.8h\n\t"
        "sadalp v21.4s, v9.8h\n\t"
        "sadalp v25.4s, v10.8h\n\t"
        "sadalp v29.4s, v11.8h\n\t"
        "smull v8.8h, v0.8b, v6.8b\n\t"
        "smull v9.8h, v1.8b, v6.8b\n\t"
        "smull v10.8h, v2.8b, v6.8b\n\t"
        "smull v11.8h, v3.8b, v6.8b\n\t"
        "sadalp v18.4s, v8.8h\n\t"
        "sadalp v22.4s, v9.8h\n\t"
        "sadalp v26.4s, v10.8h\n\t"
        "sadalp v30.4s, v11.8h\n\t"
        "smull v8.8h, v0.8b, v7.8b\n\t"
        "smull v9.8h, v1.8b, v7.8b\n\t"
        "smull v10.8h, v2.8b, v7.8b\n\t"
        "smull v11.8h, v3.8b, v7.8b\n\t"
        "sadalp v19.4s, v8.8h\n\t"
        "sadalp v23.4s, v9.8h\n\t"
        "sadalp v27.4s, v10.8h\n\t"
        "sadalp v31.4s, v11.8h\n\t"
        "4:\n\t"
        /* Partial sums to sums: one register of 4 channels per row. */
        "ldp q4, q5, [%[q]], #32\n\t"
        "ldr q6, [%[q]], #16\n\t"
        "addp v16.4s, v16.4s, v17.4s\n\t"
        "addp v18.4s, v18.4s, v19.4s\n\t"
        "addp v20.4s, v20.4s, v21.4s\n\t"
        "addp v22.4s, v22.4s, v23.4s\n\t"
        "addp v24.4s, v24.4s, v25.4s\n\t"
        "addp v26.4s, v26.4s, v27.4s\n\t"
        "addp v28.4s, v28.4s, v29.4s\n\t"
        "addp v30.4s, v30.4s, v31.4s\n\t"
        "addp v8.4s, v16.4s, v18.4s\n\t"
        "addp v9.4s, v20.4s, v22.4s\n\t"
        "addp v10.4s, v24.4s, v26.4s\n\t"
        "addp v11.4s, v28.4s, v30.4s\n\t"
        "add v8.4s, v8.4s, v4.4s\n\t"
        "add v9.4s, v9.4s, v4.4s\n\t"
        "add v10.4s, v10.4s, v4.4s\n\t"
        "add v11.4s, v11.4s, v4.4s\n\t"
        /* (Q3): SQRDMULH, then SRSHL with ties turned away from zero. */
        "sqrdmulh v8.4s, v8.4s, v5.4s\n\t"
        "sqrdmulh v9.4s, v9.4s, v5.4s\n\t"
        "sqrdmulh v10.4s, v10.4s, v5.4s\n\t"
        "sqrdmulh v11.4s, v11.4s, v5.4s\n\t"
        "and v20.16b, v8.16b, v6.16b\n\t"
        "and v21.16b, v9.16b, v6.16b\n\t"
        "and v22.16b, v10.16b, v6.16b\n\t"
        "and v23.16b, v11.16b, v6.16b\n\t"
        "sshr v20.4s, v20.4s, #31\n\t"
        "sshr v21.4s, v21.4s, #31\n\t"
        "sshr v22.4s, v22.4s, #31\n\t"
        "sshr v23.4s, v23.4s, #31\n\t"
        "sqadd v8.4s, v8.4s, v20.4s\n\t"
        "sqadd v9.4s, v9.4s, v21.4s\n\t"
        "sqadd v10.4s, v10.4s, v22.4s\n\t"
        "sqadd v11.4s, v11.4s, v23.4s\n\t"
        "srshl v8.4s, v8.4s, v6.4s\n\t"
        "srshl v9.4s, v9.4s, v6.4s\n\t"
        "srshl v10.4s, v10.4s, v6.4s\n\t"
        "srshl v11.4s, v11.4s, v6.4s\n\t"
        /* Narrow with saturation, add the zero point, clamp, store 4 bytes per row. */
        "sqxtn v8.4h, v8.4s\n\t"
        "sqxtn v10.4h, v10.4s\n\t"
        "sqxtn2 v8.8h, v9.4s\n\t"
        "sqxtn2 v10.8h, v11.4s\n\t"
        "sqadd v10.8h, v10.8h, %[zero].8h\n\t"
        "sqadd v8.8h, v8.8h, %[zero].8h\n\t"
        "sqxtn v8.8b, v8.8h\n\t"
        "sqxtn2 v8.16b, v10.8h\n\t"
        "smax v8.16b, v8.16b, %[low].16b\n\t"
        "smin v8.16b, v8.16b, %[high].16b\n\t"
        "eor v8.16b, v8.16b, %[flip].16b\n\t"
        "subs %[blocks], %[blocks], #1\n\t"
        "sub %[a0], %[a0], %[row]\n\t"
        "st1 {v8.s}[0], [%[y0]], #4\n\t"
        "sub %[a1], %[a1], %[row]\n\t"
        "st1 {v8.s}[1], [%[y1]], #4\n\t"
        "sub %[a2], %[a2], %[row]\n\t"
        "st1 {v8.s}[2], [%[y2]], #4\n\t"
        "sub %[a3], %[a3], %[row]\n\t"
        "st1 {v8.s}[3], [%[y3]], #4\n\t"
        "b.ne 1b\n\t"
        : [a0] "+&r"(a0), [a1] "+&r"(a1), [a2] "+&r"(a2), [a3] "+&r"(a3), [y0] "+&r"(y0),
                [y1] "+&r"(y1), [y2] "+&r"(y2), [y3] "+&r"(y3), [w] "+&r"(w), [q] "+&r"(q),
                [blocks] "+&r"(blocks), [left] "=&r"(left)
        : [k16] "r"(k16), [row] "r"(row), [zero] "w"(zero), [low] "w"(low), [high] "w"(high),
                [flip] "w"(flip)
        : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v16", "v17",
                "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31", "cc", "memory");
}

/* conv2d "y"  <model>   kernel qs8_conv2d__neon_4x4c16
 * y[n, i, j, o] = requantize(sum over kh, kw, c of (x - Z_x) * (w[o] - Z_w) + b[o]).
 * x i8[1, 2, 3, 24] zero -3; y i8[1, 2, 3, 6] zero 4
 * accumulator in [-129010, 125990], inside int32
 * int16 lanes: two products reach at most 11776 of 32767
 * zero points folded into the bias (Q15); no row sums
 * regs: a v0-v3 | b v4-v7 | product v8-v11 | acc v16-v31 */
/* w' in reading order: blocks of 4 channels, 16 products deep */
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

/* per block of 4 channels: bias, M0, shift, ... */
static const int32_t t_q_00[24] = {
    -2772, -1034, 704, 2442,
    1374389504, 1374389504, 1374389504, 1374389504,
    -6, -6, -6, -6,
    704, 2442, -1820, -1282,
    1374389504, 1374389504, 1374389504, 1374389504,
    -6, -6, -6, -6,
};

T_OP static void t_00_y(const int8_t *x, int8_t *y)
{
    static const t_finish out = { 4, 4, 127, 0 };
    int32_t tile, i;
    for (tile = 0; tile < 2; ++tile) {
        /* The last tile overlaps its neighbour instead of needing a kernel of its own. */
        const int32_t first = tile * 4 < 2 ? tile * 4 : 2;
        const int8_t *a[4];
        int8_t *to[4];
        for (i = 0; i < 4; ++i) {
            a[i] = x + (first + i) * 24;
            to[i] = (int8_t *)y + (first + i) * 6;
        }
        t_gemm_4x4(a, t_w_00, t_q_00, to, 1, 1, 1, out);
        for (i = 0; i < 4; ++i) {
            to[i] = (int8_t *)y + (first + i) * 6 + 2;
        }
        t_gemm_4x4(a, t_w_00 + 96, t_q_00 + 12, to, 1, 1, 1, out);
    }
}
