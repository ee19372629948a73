/* Thumb code that is not optimized finds too few registers for the operands of a kernel; code of the
 * other state does. */
#if defined(__thumb__) && !defined(__OPTIMIZE__)
#define T_KERNEL __attribute__((target("arm")))
#else
#define T_KERNEL
#endif

#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Woverlength-strings"
#endif
/* A row of outputs of 3 x 3 taps, columns 1 apart, 8 channels. registers: columns q0-q2 | weights q3-q7 | sums q8-q11 | products q12-q13 | bias q14-q15
 *   a0-a2    rows of the image, s0, step, s2 bytes from column to column
 *   y        result, step bytes from column to column
 *   q        weights[9][8], bias[8], M0[2]
 *   pairs    steps of two outputs before the last */
T_KERNEL static void t_depthwise_3x3s1_left_right_loop_r9_z00_p05_shr6_ssra(
    const int8_t *a0, const int8_t *a1, const int8_t *a2, int8_t *y, const int32_t *q,
    size_t s0, size_t s2, size_t step, size_t pairs)
{
    __asm__ volatile(
        ".syntax unified\n\t"
        /* Weights, and the columns that a step finds in registers. */
        "vldm %[q]!, {d7-d15}\n\t"
        "vldm %[q]!, {d28-d31}\n\t"
        "vldr d6, [%[q]]\n\t"
        "vmov.i8 d0, #5\n\t"
        "vmov.i8 d1, #5\n\t"
        "vmov.i8 d2, #5\n\t"
        "vld1.8 {d3}, [%[a0]], %[s0]\n\t"
        "vld1.8 {d4}, [%[a1]], %[step]\n\t"
        "vld1.8 {d5}, [%[a2]], %[s2]\n\t"
        "1:\n\t"
        /* Two outputs: 9 taps. */
        "vmull.s8 q12, d0, d7\n\t"
        "vld1.8 {d0}, [%[a0]], %[s0]\n\t"
        "vmlal.s8 q12, d1, d8\n\t"
        "vld1.8 {d1}, [%[a1]], %[step]\n\t"
        "vmlal.s8 q12, d2, d9\n\t"
        "vld1.8 {d2}, [%[a2]], %[s2]\n\t"
        "vmlal.s8 q12, d3, d10\n\t"
        "vmull.s8 q13, d3, d7\n\t"
        "vld1.8 {d3}, [%[a0]], %[s0]\n\t"
        "vmlal.s8 q12, d4, d11\n\t"
        "vmlal.s8 q13, d4, d8\n\t"
        "vld1.8 {d4}, [%[a1]], %[step]\n\t"
        "vmlal.s8 q12, d5, d12\n\t"
        "vmlal.s8 q13, d5, d9\n\t"
        "vld1.8 {d5}, [%[a2]], %[s2]\n\t"
        "vmlal.s8 q12, d0, d13\n\t"
        "vmlal.s8 q13, d0, d10\n\t"
        "vmlal.s8 q12, d1, d14\n\t"
        "vmlal.s8 q13, d1, d11\n\t"
        "vmlal.s8 q12, d2, d15\n\t"
        "vaddw.s16 q8, q14, d24\n\t"
        "vaddw.s16 q9, q15, d25\n\t"
        "vmlal.s8 q13, d2, d12\n\t"
        "vmlal.s8 q13, d3, d13\n\t"
        "vmlal.s8 q13, d4, d14\n\t"
        "vmlal.s8 q13, d5, d15\n\t"
        "vaddw.s16 q10, q14, d26\n\t"
        "vaddw.s16 q11, q15, d27\n\t"
        /* (Q3): VQRDMULH, ties turned by VSRA; shift by 6 as it narrows */
        "vqrdmulh.s32 q8, q8, d6[0]\n\t"
        "vqrdmulh.s32 q9, q9, d6[0]\n\t"
        "vqrdmulh.s32 q10, q10, d6[0]\n\t"
        "vqrdmulh.s32 q11, q11, d6[0]\n\t"
        "vsra.s32 q8, q8, #31\n\t"
        "vsra.s32 q9, q9, #31\n\t"
        "vsra.s32 q10, q10, #31\n\t"
        "vsra.s32 q11, q11, #31\n\t"
        "vqrshrn.s32 d16, q8, #6\n\t"
        "vqrshrn.s32 d17, q9, #6\n\t"
        "vqrshrn.s32 d18, q10, #6\n\t"
        "vqrshrn.s32 d19, q11, #6\n\t"
        "vmov.i16 q13, #0\n\t"
        "vqadd.s16 q8, q8, q13\n\t"
        "vqadd.s16 q9, q9, q13\n\t"
        "vqmovn.s16 d16, q8\n\t"
        "vqmovn.s16 d17, q9\n\t"
        "vst1.8 {d16}, [%[y]], %[step]\n\t"
        "vst1.8 {d17}, [%[y]], %[step]\n\t"
        "subs %[pairs], %[pairs], #1\n\t"
        "bne 1b\n\t"
        /* Two outputs: 9 taps. */
        "vmull.s8 q12, d0, d7\n\t"
        "vld1.8 {d0}, [%[a0]], %[s0]\n\t"
        "vmlal.s8 q12, d1, d8\n\t"
        "vld1.8 {d1}, [%[a1]], %[step]\n\t"
        "vmlal.s8 q12, d2, d9\n\t"
        "vld1.8 {d2}, [%[a2]], %[s2]\n\t"
        "vmlal.s8 q12, d3, d10\n\t"
        "vmull.s8 q13, d3, d7\n\t"
        "vmov.i8 d3, #5\n\t"
        "vmlal.s8 q12, d4, d11\n\t"
        "vmlal.s8 q13, d4, d8\n\t"
        "vmov.i8 d4, #5\n\t"
        "vmlal.s8 q12, d5, d12\n\t"
        "vmlal.s8 q13, d5, d9\n\t"
        "vmov.i8 d5, #5\n\t"
        "vmlal.s8 q12, d0, d13\n\t"
        "vmlal.s8 q13, d0, d10\n\t"
        "vmlal.s8 q12, d1, d14\n\t"
        "vmlal.s8 q13, d1, d11\n\t"
        "vmlal.s8 q12, d2, d15\n\t"
        "vaddw.s16 q8, q14, d24\n\t"
        "vaddw.s16 q9, q15, d25\n\t"
        "vmlal.s8 q13, d2, d12\n\t"
        "vmlal.s8 q13, d3, d13\n\t"
        "vmlal.s8 q13, d4, d14\n\t"
        "vmlal.s8 q13, d5, d15\n\t"
        "vaddw.s16 q10, q14, d26\n\t"
        "vaddw.s16 q11, q15, d27\n\t"
        /* (Q3): VQRDMULH, ties turned by VSRA; shift by 6 as it narrows */
        "vqrdmulh.s32 q8, q8, d6[0]\n\t"
        "vqrdmulh.s32 q9, q9, d6[0]\n\t"
        "vqrdmulh.s32 q10, q10, d6[0]\n\t"
        "vqrdmulh.s32 q11, q11, d6[0]\n\t"
        "vsra.s32 q8, q8, #31\n\t"
        "vsra.s32 q9, q9, #31\n\t"
        "vsra.s32 q10, q10, #31\n\t"
        "vsra.s32 q11, q11, #31\n\t"
        "vqrshrn.s32 d16, q8, #6\n\t"
        "vqrshrn.s32 d17, q9, #6\n\t"
        "vqrshrn.s32 d18, q10, #6\n\t"
        "vqrshrn.s32 d19, q11, #6\n\t"
        "vmov.i16 q13, #0\n\t"
        "vqadd.s16 q8, q8, q13\n\t"
        "vqadd.s16 q9, q9, q13\n\t"
        "vqmovn.s16 d16, q8\n\t"
        "vqmovn.s16 d17, q9\n\t"
        "vst1.8 {d16}, [%[y]], %[step]\n\t"
        "vst1.8 {d17}, [%[y]], %[step]\n\t"
        : [a0] "+&r"(a0), [a1] "+&r"(a1), [a2] "+&r"(a2), [y] "+&r"(y), [q] "+&r"(q),
                [pairs] "+&r"(pairs)
        : [s0] "r"(s0), [s2] "r"(s2), [step] "r"(step)
        : "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8", "q9", "q10", "q11", "q12", "q13",
                "q14", "q15", "cc", "memory");
}
#if defined(__clang__)
#pragma clang diagnostic pop
#endif

/* depthwise_conv2d "y"  <model>   kernel qs8_depthwise_conv2d__neon32_3x3
 * y[n, i, j, c*m + k] = requantize(sum over kh, kw of (x[.., c] - Z_x) * (w - Z_w) + b).
 * x i8[1, 4, 4, 10] zero 5; y i8[1, 4, 4, 10] zero 0
 * accumulator in [-26280, 27270], inside int32
 * int16 lanes (Q16): runs of 9 taps; at most 26820 of 32767
 * zero point folded into the bias (Q15); padding reads the stored zero point
 * regs: columns q0-q2 | weights q3-q7 | sums q8-q11 | products q12-q13 | bias q14-q15 */
/* per block: weights, bias and what the end reads */
static const int32_t t_q_00[56] = {
    -774844466, -707472430, -269554196, -202182160,
    218893066, 286265102, -606414376, -539042340,
    -101124106, -33752070, 387323156, 454695192,
    -437984286, -370612250, 50462976, 117835012,
    555753246, 623125282, 450, 415,
    380, 345, 310, 275,
    240, 205, 1374389504, 1374389504,
    -741158448, -673786412, -235868178, -168496142,
    252579084, 319951120, -572728358, -505356322,
    -67438088, -66052, 421009174, 488381210,
    -404298268, -336926232, 84148994, 151521030,
    589439264, 656811300, 380, 345,
    310, 275, 240, 205,
    170, 135, 1374389504, 1374389504,
};

T_OP static void t_00_y(const int8_t *x, int8_t *y)
{
    /* Stands in for rows above and below the image. */
    static const int8_t outside[8] = { 5, 5, 5, 5, 5, 5, 5, 5 };
    int32_t oy, block;
    for (oy = 0; oy < 4; ++oy) {
        const int32_t y0 = oy - 1;
        const int32_t in0 = y0 >= 0;
        const int8_t *r0 = in0 ? x + y0 * 40 : outside;
        const size_t s0 = in0 ? 10 : 0;
        const int32_t in2 = y0 + 2 < 4;
        const int8_t *r2 = in2 ? x + (y0 + 2) * 40 : outside;
        const size_t s2 = in2 ? 10 : 0;
        const int8_t *r1 = x + (y0 + 1) * 40;
        int8_t *to = (int8_t *)y + oy * 40;
        for (block = 0; block < 2; ++block) {
            /* The last block overlaps its neighbour instead of needing a kernel of its own. */
            const int32_t c = block * 8 < 2 ? block * 8 : 2;
            const int32_t c0 = in0 ? c : 0, c2 = in2 ? c : 0;
            t_depthwise_3x3s1_left_right_loop_r9_z00_p05_shr6_ssra(r0 + c0, r1 + c, r2 + c2,
                    to + c, t_q_00 + block * 28, s0, s2, 10, 1);
        }
    }
}
