/* What the end of a kernel needs: zero point and clamp in int8; flip is -128 for uint8 results. */
typedef struct t_finish {
    int16_t zero;
    int8_t low, high, flip;
} t_finish;

/* Sixteen int32 to sixteen bytes: narrow with saturation, add the zero point, clamp, flip. */
static inline int8x16_t t_narrow16(
    int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d, t_finish out)
{
    const int16x8_t zero = vdupq_n_s16(out.zero);
    const int16x8_t low = vqaddq_s16(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)), zero);
    const int16x8_t high = vqaddq_s16(vcombine_s16(vqmovn_s32(c), vqmovn_s32(d)), zero);
    int8x16_t v = vcombine_s8(vqmovn_s16(low), vqmovn_s16(high));
    v = vminq_s8(vmaxq_s8(v, vdupq_n_s8(out.low)), vdupq_n_s8(out.high));
    return veorq_s8(v, vdupq_n_s8(out.flip));
}

/* v * m0 * 2^(shift - 31) for shift <= 0, (Q3): SQRDMULH, then SRSHL with ties away from zero. */
static inline int32x4_t t_requantize_s32_gemmlowp(int32x4_t v, int32x4_t m0, int32x4_t shift)
{
    v = vqrdmulhq_s32(v, m0);
    v = vqaddq_s32(v, vshrq_n_s32(vandq_s32(v, shift), 31));
    return vrshlq_s32(v, shift);
}

/* mean "y"  <model>   kernel q8_mean__neon_lanes
 * y = sat(Z_y + M * sum(x - Z_x)) with M = (S_x / S_y) / N over the N elements of `axes`.
 * x i8[1, 3, 3, 20] zero 2; y i8[1, 20] zero -5
 * accumulator in [-1170, 1125], inside int32 */
T_OP static void t_00_y(const int8_t *x, int8_t *y)
{
    static const t_finish finish = { -5, -128, 127, 0 };
    const int32x4_t m = vdupq_n_s32(954437176), s = vdupq_n_s32(-2);
    int32_t i0, block;
    for (block = 0; block < 2; ++block) {
        /* The last block overlaps its neighbour instead of needing a kernel of its own. */
        const int32_t c = block * 16 < 4 ? block * 16 : 4;
        int32x4_t a0 = vdupq_n_s32(-18);
        int32x4_t a1 = a0;
        int32x4_t a2 = a0;
        int32x4_t a3 = a0;
        {
            const int8_t *px = x + c;
            int16x8_t s0 = vdupq_n_s16(0);
            int16x8_t s1 = s0;
            for (i0 = 0; i0 < 9; ++i0) {
                const int8x16_t v0 = vld1q_s8(px);
                s0 = vaddw_s8(s0, vget_low_s8(v0));
                s1 = vaddw_high_s8(s1, v0);
                px += 20;
            }
            a0 = vaddw_s16(a0, vget_low_s16(s0));
            a1 = vaddw_high_s16(a1, s0);
            a2 = vaddw_s16(a2, vget_low_s16(s1));
            a3 = vaddw_high_s16(a3, s1);
        }
        a0 = t_requantize_s32_gemmlowp(a0, m, s);
        a1 = t_requantize_s32_gemmlowp(a1, m, s);
        a2 = t_requantize_s32_gemmlowp(a2, m, s);
        a3 = t_requantize_s32_gemmlowp(a3, m, s);
        vst1q_s8(y + c, t_narrow16(a0, a1, a2, a3, finish));
    }
}
