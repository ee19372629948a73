/* Thumb code that is not optimized finds too few registers for the operands of a kernel; code of the
 * other state does. */
#if defined(__thumb__) && !defined(__OPTIMIZE__)
#define T_KERNEL __attribute__((target("arm")))
#else
#define T_KERNEL
#endif

/* What the end of a matrix kernel needs: M0 of all channels, flip, clamp, zero point. The order is
 * that of the registers into which one VLDM loads them. */
typedef struct t_finish_quads {
    int32_t m0[4];
    int8_t flip[16], low[16], high[16];
    int16_t zero[8];
} t_finish_quads;

#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Woverlength-strings"
#endif
/* 2 rows x 8 output channels (Appendix B), rows side by side: a half register of 4 products of rows
 * (0, 1) times one of channels (c, c') belongs to sums (0, c) and (1, c'); turned to rows (1, 0), to
 * sums (1, c) and (0, c'). Two partial sums per sum. registers: a q0-q3 | b q4-q5 | product q6-q7 | acc q8-q15
 * Int16 lanes take 4 products between VPADALs (Q16).
 *   a      two rows of `row` bytes as pair_rows_steps_tail leaves them; row is 16 to 31, 8 more than a multiple of 16
 *   w      blocks of 8 channels: per 16 products (or 8) [pair of channels][k / 4][2][4]
 *   q      per block: bias[16], of channels
 *          (c, c', c', c) for each pair
 *   y      first of 8 channels of each row; blocks follow each other */
T_KERNEL static void t_mlal_2x8_d4_k1_t8_shr6_unsigned_flip(
    const int8_t *a, const int8_t *w, const int32_t *q, int8_t *const *y,
    size_t blocks, size_t row, const t_finish_quads *ends)
{
    int8_t *y0 = y[0];
    int8_t *y1 = y[1];
    size_t left;
    __asm__ volatile(
        ".syntax unified\n\t"
        "1:\n\t"
        "vldm %[a]!, {d0-d7}\n\t"
        "vld1.8 {d8-d11}, [%[w]]!\n\t"
        "vmull.s8 q6, d0, d8\n\t"
        "vmull.s8 q7, d4, d8\n\t"
        "vmlal.s8 q6, d2, d9\n\t"
        "vmlal.s8 q7, d6, d9\n\t"
        "vmlal.s8 q6, d1, d10\n\t"
        "vmlal.s8 q7, d5, d10\n\t"
        "vmlal.s8 q6, d3, d11\n\t"
        "vmlal.s8 q7, d7, d11\n\t"
        "vpaddl.s16 q8, q6\n\t"
        "vpaddl.s16 q9, q7\n\t"
        "vld1.8 {d8-d11}, [%[w]]!\n\t"
        "vmull.s8 q6, d0, d8\n\t"
        "vmull.s8 q7, d4, d8\n\t"
        "vmlal.s8 q6, d2, d9\n\t"
        "vmlal.s8 q7, d6, d9\n\t"
        "vmlal.s8 q6, d1, d10\n\t"
        "vmlal.s8 q7, d5, d10\n\t"
        "vmlal.s8 q6, d3, d11\n\t"
        "vmlal.s8 q7, d7, d11\n\t"
        "vpaddl.s16 q10, q6\n\t"
        "vpaddl.s16 q11, q7\n\t"
        "vld1.8 {d8-d11}, [%[w]]!\n\t"
        "vmull.s8 q6, d0, d8\n\t"
        "vmull.s8 q7, d4, d8\n\t"
        "vmlal.s8 q6, d2, d9\n\t"
        "vmlal.s8 q7, d6, d9\n\t"
        "vmlal.s8 q6, d1, d10\n\t"
        "vmlal.s8 q7, d5, d10\n\t"
        "vmlal.s8 q6, d3, d11\n\t"
        "vmlal.s8 q7, d7, d11\n\t"
        "vpaddl.s16 q12, q6\n\t"
        "vpaddl.s16 q13, q7\n\t"
        "vld1.8 {d8-d11}, [%[w]]!\n\t"
        "vmull.s8 q6, d0, d8\n\t"
        "vmull.s8 q7, d4, d8\n\t"
        "vmlal.s8 q6, d2, d9\n\t"
        "vmlal.s8 q7, d6, d9\n\t"
        "vmlal.s8 q6, d1, d10\n\t"
        "vmlal.s8 q7, d5, d10\n\t"
        "vmlal.s8 q6, d3, d11\n\t"
        "vmlal.s8 q7, d7, d11\n\t"
        "vpaddl.s16 q14, q6\n\t"
        "vpaddl.s16 q15, q7\n\t"
        "vldm %[a]!, {d0-d3}\n\t"
        "vld1.8 {d8-d11}, [%[w]]!\n\t"
        "vmull.s8 q6, d0, d8\n\t"
        "vmull.s8 q7, d2, d8\n\t"
        "vmlal.s8 q6, d1, d9\n\t"
        "vmlal.s8 q7, d3, d9\n\t"
        "vpadal.s16 q8, q6\n\t"
        "vpadal.s16 q9, q7\n\t"
        "vmull.s8 q6, d0, d10\n\t"
        "vmull.s8 q7, d2, d10\n\t"
        "vmlal.s8 q6, d1, d11\n\t"
        "vmlal.s8 q7, d3, d11\n\t"
        "vpadal.s16 q10, q6\n\t"
        "vpadal.s16 q11, q7\n\t"
        "vld1.8 {d8-d11}, [%[w]]!\n\t"
        "vmull.s8 q6, d0, d8\n\t"
        "vmull.s8 q7, d2, d8\n\t"
        "vmlal.s8 q6, d1, d9\n\t"
        "vmlal.s8 q7, d3, d9\n\t"
        "vpadal.s16 q12, q6\n\t"
        "vpadal.s16 q13, q7\n\t"
        "vmull.s8 q6, d0, d10\n\t"
        "vmull.s8 q7, d2, d10\n\t"
        "vmlal.s8 q6, d1, d11\n\t"
        "vmlal.s8 q7, d3, d11\n\t"
        "vpadal.s16 q14, q6\n\t"
        "vpadal.s16 q15, q7\n\t"
        /* Partial sums to sums: of rows 0, 1, 0, 1 and channels c, c', c', c. */
        "vldm %[q]!, {d0-d7}\n\t"
        "vpadd.i32 d16, d16, d17\n\t"
        "vpadd.i32 d17, d19, d18\n\t"
        "vpadd.i32 d20, d20, d21\n\t"
        "vpadd.i32 d21, d23, d22\n\t"
        "vpadd.i32 d24, d24, d25\n\t"
        "vpadd.i32 d25, d27, d26\n\t"
        "vpadd.i32 d28, d28, d29\n\t"
        "vpadd.i32 d29, d31, d30\n\t"
        "vadd.i32 q8, q8, q0\n\t"
        "vadd.i32 q10, q10, q1\n\t"
        "vadd.i32 q12, q12, q2\n\t"
        "vadd.i32 q14, q14, q3\n\t"
        /* (Q3): VQRDMULH, negative ties are clamped away (Q3c); shift by 6 as it narrows; unsigned, no zero point to add */
        "vldm %[ends], {d6-d9}\n\t"
        "vqrdmulh.s32 q8, q8, d6[0]\n\t"
        "vqrdmulh.s32 q10, q10, d6[0]\n\t"
        "vqrdmulh.s32 q12, q12, d6[0]\n\t"
        "vqrdmulh.s32 q14, q14, d6[0]\n\t"
        "vqrshrun.s32 d16, q8, #6\n\t"
        "vqrshrun.s32 d17, q10, #6\n\t"
        "vqrshrun.s32 d18, q12, #6\n\t"
        "vqrshrun.s32 d19, q14, #6\n\t"
        "vqmovn.u16 d16, q8\n\t"
        "vqmovn.u16 d17, q9\n\t"
        "veor q8, q8, q4\n\t"
        /* Rows apart, and the channels of row 1 in order. */
        "vuzp.8 d16, d17\n\t"
        "vrev16.8 d17, d17\n\t"
        "vst1.8 {d16}, [%[y0]]!\n\t"
        "vst1.8 {d17}, [%[y1]]!\n\t"
        "sub %[a], %[a], %[row], lsl #2\n\t"
        "subs %[blocks], %[blocks], #1\n\t"
        "bne 1b\n\t"
        : [a] "+&r"(a), [y0] "+&r"(y0), [y1] "+&r"(y1), [w] "+&r"(w), [q] "+&r"(q),
                [blocks] "+&r"(blocks), [left] "=&r"(left)
        : [row] "r"(row), [ends] "r"(ends)
        : "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8", "q9", "q10", "q11", "q12", "q13",
                "q14", "q15", "cc", "memory");
}
#if defined(__clang__)
#pragma clang diagnostic pop
#endif

/* Lays two rows side by side for the products by pairs: per 16 products 4 of row 0 and 4 of row 1,
 * four times, then the same with the rows exchanged; 8 that are left over likewise. The order of k is
 * 0, 8, 4, 12. registers: a q0-q1 | turned q2-q3 | wide q4-q5 | sum q6-q7 */
T_KERNEL static void t_pair_rows_steps_tail(const int8_t *const *a, int8_t *to, size_t row)
{
    const int8_t *a0 = a[0];
    const int8_t *a1 = a[1];
    size_t left = row / 16;
    __asm__ volatile(
        ".syntax unified\n\t"
        "1:\n\t"
        "vld1.8 {d0-d1}, [%[a0]]!\n\t"
        "vld1.8 {d2-d3}, [%[a1]]!\n\t"
        "vtrn.32 q0, q1\n\t"
        "subs %[left], %[left], #1\n\t"
        "vrev64.32 q2, q0\n\t"
        "vrev64.32 q3, q1\n\t"
        "vst1.8 {d0-d3}, [%[to]]!\n\t"
        "vst1.8 {d4-d7}, [%[to]]!\n\t"
        "bne 1b\n\t"
        "vld1.8 {d0}, [%[a0]]\n\t"
        "vld1.8 {d1}, [%[a1]]\n\t"
        "vtrn.32 d0, d1\n\t"
        "vrev64.32 q1, q0\n\t"
        "vst1.8 {d0-d3}, [%[to]]!\n\t"
        : [a0] "+&r"(a0), [a1] "+&r"(a1), [to] "+&r"(to), [left] "+&r"(left)
        :
        : "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "cc", "memory");
}

/* conv2d "y"  <model>   kernel qs8_conv2d__neon32_2x8c16
 * y[n, i, j, o] = requantize(sum over kh, kw, c of (x - Z_x) * (w[o] - Z_w) + b[o]).
 * x i8[1, 2, 3, 24] zero -3; y i8[1, 2, 3, 8] zero -128
 * accumulator in [-129010, 125990], inside int32
 * int16 lanes (Q16): 4 products in 1 of 1 blocks, 2 in the others; at most 23506 of 32767
 * zero points folded into the bias (Q15); no row sums
 * regs: a q0-q3 | b q4-q5 | product q6-q7 | acc q8-q15 */
/* w' in reading order: see the kernel */
static const int8_t t_w_00[192] = {
    -50, -49, -48, -47, -26, -25, -24, -23, -46, -45, -44, -43, -22, -21, -20, -19,
    -42, -41, -40, -39, -18, -17, -16, -15, -38, -37, -36, -35, -14, -13, -12, -11,
    -2, -1, 0, 1, 22, 23, 24, 25, 2, 3, 4, 5, 26, 27, 28, 29,
    6, 7, 8, 9, 30, 31, 32, 33, 10, 11, 12, 13, 34, 35, 36, 37,
    46, 47, 48, 49, -30, -29, -28, -27, -50, -49, -48, -47, -26, -25, -24, -23,
    -46, -45, -44, -43, -22, -21, -20, -19, -42, -41, -40, -39, -18, -17, -16, -15,
    -6, -5, -4, -3, 18, 19, 20, 21, -2, -1, 0, 1, 22, 23, 24, 25,
    2, 3, 4, 5, 26, 27, 28, 29, 6, 7, 8, 9, 30, 31, 32, 33,
    -34, -33, -32, -31, -10, -9, -8, -7, -30, -29, -28, -27, -6, -5, -4, -3,
    14, 15, 16, 17, 38, 39, 40, 41, 18, 19, 20, 21, 42, 43, 44, 45,
    -38, -37, -36, -35, -14, -13, -12, -11, -34, -33, -32, -31, -10, -9, -8, -7,
    10, 11, 12, 13, 34, 35, 36, 37, 14, 15, 16, 17, 38, 39, 40, 41,
};

/* per block of channels: see the kernel */
static const int32_t t_q_00[16] = {
    -2772, -1034, -1034, -2772,
    704, 2442, 2442, 704,
    -1820, -1282, -1282, -1820,
    456, 2194, 2194, 456,
};

T_OP static void t_00_y(const int8_t *x, int8_t *y, int8_t *scratch)
{
    static const t_finish_quads out = {
        { 1374389504, 1374389504, 1374389504, 1374389504 },
        { -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128,
                -128 },
        { -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128,
                -128 },
        { 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127 },
        { -128, -128, -128, -128, -128, -128, -128, -128 },
    };
    int32_t tile, i;
    for (tile = 0; tile < 3; ++tile) {
        /* The last tile overlaps its neighbour instead of needing a kernel of its own. */
        const int32_t first = tile * 2 < 4 ? tile * 2 : 4;
        const int8_t *a[2];
        int8_t *to[2];
        for (i = 0; i < 2; ++i) {
            to[i] = (int8_t *)y + (first + i) * 8;
            a[i] = x + (first + i) * 24;
        }
        t_pair_rows_steps_tail(a, scratch, 24);
        t_mlal_2x8_d4_k1_t8_shr6_unsigned_flip(scratch, t_w_00, t_q_00, to, 1, 24, &out);
    }
}
