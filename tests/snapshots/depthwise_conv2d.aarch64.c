/* What the end of a kernel needs: zero point and clamp in int8; flip is -128 for uint8 results. */
typedef struct t_finish {
    int16_t zero;
    int8_t low, high, flip;
} t_finish;

/* Eight int32 to eight bytes: narrow with saturation, add the zero point, clamp, flip. */
static inline int8x8_t t_narrow(int32x4_t a, int32x4_t b, t_finish out)
{
    const int16x8_t wide = vcombine_s16(vqmovn_s32(a), vqmovn_s32(b));
    int8x8_t v = vqmovn_s16(vqaddq_s16(wide, vdupq_n_s16(out.zero)));
    v = vmin_s8(vmax_s8(v, vdup_n_s8(out.low)), vdup_n_s8(out.high));
    return veor_s8(v, vdup_n_s8(out.flip));
}

/* One tap of a depthwise window, eight channels: acc + (x - zx) * w. */
static inline int32x4x2_t t_tap(int32x4x2_t acc, int8x8_t x, int16x8_t w, int8x8_t zx)
{
    const int16x8_t v = vsubl_s8(x, zx);
    acc.val[0] = vmlal_s16(acc.val[0], vget_low_s16(v), vget_low_s16(w));
    acc.val[1] = vmlal_high_s16(acc.val[1], v, w);
    return acc;
}

/* v * m0 * 2^(shift - 31) for shift <= 0, (Q3): SQRDMULH, then SRSHL with ties away from zero. */
static inline int32x4_t t_requantize_s32_gemmlowp(int32x4_t v, int32x4_t m0, int32x4_t shift)
{
    v = vqrdmulhq_s32(v, m0);
    v = vqaddq_s32(v, vshrq_n_s32(vandq_s32(v, shift), 31));
    return vrshlq_s32(v, shift);
}

/* depthwise_conv2d "y"  <model>   kernel qs8_depthwise_conv2d__neon_8
 * y[n, i, j, c*m + k] = requantize(sum over kh, kw of (x[.., c] - Z_x) * (w - Z_w) + b).
 * x i8[1, 4, 4, 10] zero 5; y i8[1, 4, 4, 10] zero 0
 * accumulator in [-26280, 27270], inside int32 */
/* w - Zw: [block][tap][8] */
static const int16_t t_w_00[144] = {
    -50, -49, -48, -47, -46, -45, -44, -43,
    -40, -39, -38, -37, -36, -35, -34, -33,
    -30, -29, -28, -27, -26, -25, -24, -23,
    -20, -19, -18, -17, -16, -15, -14, -13,
    -10, -9, -8, -7, -6, -5, -4, -3,
    0, 1, 2, 3, 4, 5, 6, 7,
    10, 11, 12, 13, 14, 15, 16, 17,
    20, 21, 22, 23, 24, 25, 26, 27,
    30, 31, 32, 33, 34, 35, 36, 37,
    -48, -47, -46, -45, -44, -43, -42, -41,
    -38, -37, -36, -35, -34, -33, -32, -31,
    -28, -27, -26, -25, -24, -23, -22, -21,
    -18, -17, -16, -15, -14, -13, -12, -11,
    -8, -7, -6, -5, -4, -3, -2, -1,
    2, 3, 4, 5, 6, 7, 8, 9,
    12, 13, 14, 15, 16, 17, 18, 19,
    22, 23, 24, 25, 26, 27, 28, 29,
    32, 33, 34, 35, 36, 37, 38, 39,
};

/* per block: bias[8], M0[8], shift[8] */
static const int32_t t_q_00[48] = {
    0, 10, 20, 30,
    40, 50, 60, 70,
    1374389504, 1374389504, 1374389504, 1374389504,
    1374389504, 1374389504, 1374389504, 1374389504,
    -6, -6, -6, -6,
    -6, -6, -6, -6,
    20, 30, 40, 50,
    60, 70, 80, 90,
    1374389504, 1374389504, 1374389504, 1374389504,
    1374389504, 1374389504, 1374389504, 1374389504,
    -6, -6, -6, -6,
    -6, -6, -6, -6,
};

T_OP static void t_00_y(const int8_t *x, int8_t *y)
{
    static const t_finish finish = { 0, -128, 127, 0 };
    const int8x8_t zx = vdup_n_s8(5);
    int32_t oy, ox, block, ky, kx;
    for (oy = 0; oy < 4; ++oy) {
        const int32_t y0 = oy - 1;
        for (block = 0; block < 2; ++block) {
            /* The last block overlaps its neighbour instead of needing a kernel of its own. */
            const int32_t c = block * 8 < 2 ? block * 8 : 2;
            const int16_t *w = t_w_00 + block * 72;
            const int32_t *q = t_q_00 + block * 24;
            const int32x4_t b0 = vld1q_s32(q), b1 = vld1q_s32(q + 4);
            const int32x4_t m0 = vld1q_s32(q + 8), m1 = vld1q_s32(q + 12);
            const int32x4_t s0 = vld1q_s32(q + 16), s1 = vld1q_s32(q + 20);
            const int16x8_t w0 = vld1q_s16(w + 0);
            const int16x8_t w1 = vld1q_s16(w + 8);
            const int16x8_t w2 = vld1q_s16(w + 16);
            const int16x8_t w3 = vld1q_s16(w + 24);
            const int16x8_t w4 = vld1q_s16(w + 32);
            const int16x8_t w5 = vld1q_s16(w + 40);
            const int16x8_t w6 = vld1q_s16(w + 48);
            const int16x8_t w7 = vld1q_s16(w + 56);
            const int16x8_t w8 = vld1q_s16(w + 64);
            const int8_t *image = x + c;
            int8_t *to = y + oy * 40 + c;
            for (ox = 0; ox < 4; ++ox) {
                const int32_t x0 = ox - 1;
                int32x4x2_t acc = { { b0, b1 } };
                if (y0 >= 0 && y0 <= 1 && x0 >= 0 && x0 <= 1) {
                    const int8_t *px = image + (y0 * 4 + x0) * 10;
                    acc = t_tap(acc, vld1_s8(px), w0, zx);
                    acc = t_tap(acc, vld1_s8(px + 10), w1, zx);
                    acc = t_tap(acc, vld1_s8(px + 20), w2, zx);
                    acc = t_tap(acc, vld1_s8(px + 40), w3, zx);
                    acc = t_tap(acc, vld1_s8(px + 50), w4, zx);
                    acc = t_tap(acc, vld1_s8(px + 60), w5, zx);
                    acc = t_tap(acc, vld1_s8(px + 80), w6, zx);
                    acc = t_tap(acc, vld1_s8(px + 90), w7, zx);
                    acc = t_tap(acc, vld1_s8(px + 100), w8, zx);
                } else {
                    for (ky = 0; ky < 3; ++ky) {
                        const int32_t iy = y0 + ky;
                        for (kx = 0; kx < 3; ++kx) {
                            const int32_t ix = x0 + kx;
                            if (iy >= 0 && iy < 4 && ix >= 0 && ix < 4) {
                                const int8_t *px = image + (iy * 4 + ix) * 10;
                                acc = t_tap(acc, vld1_s8(px), vld1q_s16(w + (ky * 3 + kx) * 8), zx);
                            }
                        }
                    }
                }
                acc.val[0] = t_requantize_s32_gemmlowp(acc.val[0], m0, s0);
                acc.val[1] = t_requantize_s32_gemmlowp(acc.val[1], m1, s1);
                vst1_s8(to, t_narrow(acc.val[0], acc.val[1], finish));
                to += 10;
            }
        }
    }
}
