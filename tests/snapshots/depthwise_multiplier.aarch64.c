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

/* What the end of a kernel needs: zero point and clamp in int8; flip is -128 for uint8 results. */
typedef struct t_finish {
    int16_t zero;
    int8_t low, high, flip;
} t_finish;

/* Copy bytes, flipping their top bits where the source is uint8. Rows of a patch are short: 16 or 8
 * at a time, the last overlapping; the empty asm keeps the compiler from calling memcpy. Not inlined:
 * gcc 12 sees more turns of the loop of bytes than there can be. */
T_OP static void t_gather(int8_t *to, const void *from, int32_t bytes, int8_t flip)
{
    const int8_t *f = (const int8_t *)from;
    const int8x16_t top = vdupq_n_s8(flip);
    int32_t i;
    if (bytes >= 16) {
        for (i = 0; i < bytes - 16; i += 16) {
            vst1q_s8(to + i, veorq_s8(vld1q_s8(f + i), top));
            __asm__ volatile("" : : : "memory");
        }
        vst1q_s8(to + bytes - 16, veorq_s8(vld1q_s8(f + bytes - 16), top));
    } else if (bytes >= 8) {
        vst1_s8(to, veor_s8(vld1_s8(f), vget_low_s8(top)));
        vst1_s8(to + bytes - 8, veor_s8(vld1_s8(f + bytes - 8), vget_low_s8(top)));
    } else {
        for (i = 0; i < bytes; ++i) {
            to[i] = (int8_t)(f[i] ^ flip);
            __asm__ volatile("" : : : "memory");
        }
    }
}

/* Eight int32 to eight bytes: narrow with saturation, add the zero point, clamp, flip. */
static inline int8x8_t t_narrow(int32x4_t a, int32x4_t b, t_finish out)
{
    const int16x8_t wide = vcombine_s16(vqmovn_s32(a), vqmovn_s32(b));
    int8x8_t v = vqmovn_s16(vqaddq_s16(wide, vdupq_n_s16(out.zero)));
    v = vmin_s8(vmax_s8(v, vdup_n_s8(out.low)), vdup_n_s8(out.high));
    return veor_s8(v, vdup_n_s8(out.flip));
}

/* v * m0 * 2^(shift - 31) for shift <= 0, (Q3): SQRDMULH, then SRSHL with ties away from zero. */
static inline int32x4_t t_requantize_s32_gemmlowp(int32x4_t v, int32x4_t m0, int32x4_t shift)
{
    v = vqrdmulhq_s32(v, m0);
    v = vqaddq_s32(v, vshrq_n_s32(vandq_s32(v, shift), 31));
    return vrshlq_s32(v, shift);
}

/* depthwise_conv2d "y"  <model>   kernel qs8_depthwise_conv2d__neon_spread
 * y[n, i, j, c*m + k] = requantize(sum over kh, kw of (x[.., c] - Z_x) * (w - Z_w) + b).
 * x i8[1, 3, 4, 2] zero 5; y i8[1, 3, 4, 8] zero 0
 * accumulator in [-18544, 20216], inside int32
 * int16 lanes (Q16): runs of 4 taps; at most 19456 of 32767
 * zero point folded into the bias (Q15); padding holds the stored zero point */
/* [block][tap][8]; a tap comes twice where it leaves int8 */
static const int8_t t_w_00[32] = {
    -50, -49, -48, -47, -46, -45, -44, -43, -42, -41, -40, -39, -38, -37, -36, -35,
    -34, -33, -32, -31, -30, -29, -28, -27, -26, -25, -24, -23, -22, -21, -20, -19,
};

/* per block: bias[8], M0[8], shift[8] */
static const int32_t t_q_00[24] = {
    760, 750, 740, 730,
    720, 710, 700, 690,
    1374389504, 1374389504, 1374389504, 1374389504,
    1374389504, 1374389504, 1374389504, 1374389504,
    -6, -6, -6, -6,
    -6, -6, -6, -6,
};

/* input channel of each lane of a block */
static const uint8_t t_lane_00[8] = {
    0, 0, 0, 0, 1, 1, 1, 1,
};

T_OP static void t_00_y(const int8_t *x, int8_t *y, int8_t *scratch)
{
    static const t_finish finish = { 0, -128, 127, 0 };
    int32_t oy, ox, ky;
    /* The sides of all rows stay as they are; each row of the result refills what is between. */
    t_fill(scratch, 5, 20);
    for (oy = 0; oy < 3; ++oy) {
        int8_t *results = y + oy * 32;
        for (ky = 0; ky < 2; ++ky) {
            const int32_t iy = oy + ky;
            int8_t *inside = scratch + ky * 10;
            if (iy < 0 || iy >= 3) {
                t_fill(inside, 5, 8);
                continue;
            }
            t_gather(inside, x + iy * 8, 8, 0);
        }
        for (ox = 0; ox < 4; ox += 4) {
            const int32_t at = ox;
            {
                const int32_t c = 0;
                const int8_t *px0 = scratch + at * 2;
                const int8_t *px1 = px0 + 2;
                const int8_t *px2 = px0 + 4;
                const int8_t *px3 = px0 + 6;
                const int8_t *w = t_w_00;
                const int32_t *q = t_q_00;
                const uint8x8_t lane = vld1_u8(t_lane_00);
                int32x4_t a0_0 = vld1q_s32(q);
                int32x4_t a0_1 = vld1q_s32(q + 4);
                int32x4_t a1_0 = a0_0, a1_1 = a0_1;
                int32x4_t a2_0 = a0_0, a2_1 = a0_1;
                int32x4_t a3_0 = a0_0, a3_1 = a0_1;
                int8_t *to = results + at * 8 + c;
                int32x4_t m, s;
                int8x8_t v, w0;
                int16x8_t s0_0;
                int16x8_t s1_0;
                int16x8_t s2_0;
                int16x8_t s3_0;
                w0 = vld1_s8(w);
                v = vqtbl1_s8(vld1q_s8(px0), lane);
                s0_0 = vmull_s8(v, w0);
                v = vqtbl1_s8(vld1q_s8(px1), lane);
                s1_0 = vmull_s8(v, w0);
                v = vqtbl1_s8(vld1q_s8(px2), lane);
                s2_0 = vmull_s8(v, w0);
                v = vqtbl1_s8(vld1q_s8(px3), lane);
                s3_0 = vmull_s8(v, w0);
                w0 = vld1_s8(w + 8);
                v = vqtbl1_s8(vld1q_s8(px0 + 2), lane);
                s0_0 = vmlal_s8(s0_0, v, w0);
                v = vqtbl1_s8(vld1q_s8(px1 + 2), lane);
                s1_0 = vmlal_s8(s1_0, v, w0);
                v = vqtbl1_s8(vld1q_s8(px2 + 2), lane);
                s2_0 = vmlal_s8(s2_0, v, w0);
                v = vqtbl1_s8(vld1q_s8(px3 + 2), lane);
                s3_0 = vmlal_s8(s3_0, v, w0);
                w0 = vld1_s8(w + 16);
                v = vqtbl1_s8(vld1q_s8(px0 + 10), lane);
                s0_0 = vmlal_s8(s0_0, v, w0);
                v = vqtbl1_s8(vld1q_s8(px1 + 10), lane);
                s1_0 = vmlal_s8(s1_0, v, w0);
                v = vqtbl1_s8(vld1q_s8(px2 + 10), lane);
                s2_0 = vmlal_s8(s2_0, v, w0);
                v = vqtbl1_s8(vld1q_s8(px3 + 10), lane);
                s3_0 = vmlal_s8(s3_0, v, w0);
                w0 = vld1_s8(w + 24);
                v = vqtbl1_s8(vld1q_s8(px0 + 12), lane);
                s0_0 = vmlal_s8(s0_0, v, w0);
                v = vqtbl1_s8(vld1q_s8(px1 + 12), lane);
                s1_0 = vmlal_s8(s1_0, v, w0);
                v = vqtbl1_s8(vld1q_s8(px2 + 12), lane);
                s2_0 = vmlal_s8(s2_0, v, w0);
                v = vqtbl1_s8(vld1q_s8(px3 + 12), lane);
                s3_0 = vmlal_s8(s3_0, v, w0);
                a0_0 = vaddw_s16(a0_0, vget_low_s16(s0_0));
                a0_1 = vaddw_high_s16(a0_1, s0_0);
                a1_0 = vaddw_s16(a1_0, vget_low_s16(s1_0));
                a1_1 = vaddw_high_s16(a1_1, s1_0);
                a2_0 = vaddw_s16(a2_0, vget_low_s16(s2_0));
                a2_1 = vaddw_high_s16(a2_1, s2_0);
                a3_0 = vaddw_s16(a3_0, vget_low_s16(s3_0));
                a3_1 = vaddw_high_s16(a3_1, s3_0);
                m = vld1q_s32(q + 8);
                s = vld1q_s32(q + 16);
                a0_0 = t_requantize_s32_gemmlowp(a0_0, m, s);
                a1_0 = t_requantize_s32_gemmlowp(a1_0, m, s);
                a2_0 = t_requantize_s32_gemmlowp(a2_0, m, s);
                a3_0 = t_requantize_s32_gemmlowp(a3_0, m, s);
                m = vld1q_s32(q + 12);
                s = vld1q_s32(q + 20);
                a0_1 = t_requantize_s32_gemmlowp(a0_1, m, s);
                a1_1 = t_requantize_s32_gemmlowp(a1_1, m, s);
                a2_1 = t_requantize_s32_gemmlowp(a2_1, m, s);
                a3_1 = t_requantize_s32_gemmlowp(a3_1, m, s);
                vst1_s8(to, t_narrow(a0_0, a0_1, finish));
                vst1_s8(to + 8, t_narrow(a1_0, a1_1, finish));
                vst1_s8(to + 16, t_narrow(a2_0, a2_1, finish));
                vst1_s8(to + 24, t_narrow(a3_0, a3_1, finish));
            }
        }
    }
}
