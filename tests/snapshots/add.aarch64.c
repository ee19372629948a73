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

/* The last `count` < 8 bytes of a tensor, without touching what lies behind it. */
static int8x8_t t_load_part(const void *from, int32_t count)
{
    const int8_t *f = (const int8_t *)from;
    int8x8_t v = vdup_n_s8(0);
    int8_t part[8];
    int32_t i;
    vst1_s8(part, v);
    for (i = 0; i < count; ++i) {
        part[i] = f[i];
    }
    return vld1_s8(part);
}

static void t_store_part(void *to, int8x8_t v, int32_t count)
{
    int8_t *t = (int8_t *)to;
    int8_t part[8];
    int32_t i;
    vst1_s8(part, v);
    for (i = 0; i < count; ++i) {
        t[i] = part[i];
    }
}

/* v * m0 * 2^(shift - 31) for shift <= 0, (Q3): SQRDMULH, then SRSHL with ties away from zero. */
static inline int32x4_t t_requantize_s32_gemmlowp(int32x4_t v, int32x4_t m0, int32x4_t shift)
{
    v = vqrdmulhq_s32(v, m0);
    v = vqaddq_s32(v, vshrq_n_s32(vandq_s32(v, shift), 31));
    return vrshlq_s32(v, shift);
}

/* add "y"  <model>   kernel q8_add__neon_8
 * y = clamp(Z_y + M_y * (M_a * 2^20 * (a - Z_a) + M_b * 2^20 * (b - Z_b)))   (Q6)
 * a i8[1, 13] zero 1; b i8[1, 13] zero 2; y i8[1, 13] zero -7 */
T_OP static void t_00_y(const int8_t *a, const int8_t *b, int8_t *y)
{
    static const t_finish finish = { -7, -128, 127, 0 };
    const int32x4_t m_a = vdupq_n_s32(1073741824), shift_a = vdupq_n_s32(0);
    const int32x4_t m_b = vdupq_n_s32(1717986944), shift_b = vdupq_n_s32(-2);
    const int32x4_t m_y = vdupq_n_s32(1073741824), shift_y = vdupq_n_s32(-18);
    int32_t i;
    for (i = 0; i < 8; i += 8) {
        int8x8_t out;
        const int8x8_t va = vld1_s8(a + i);
        const int8x8_t vb = vld1_s8(b + i);
        {
            const int16x8_t wide_a = vsubl_s8(va, vdup_n_s8(1));
            const int16x8_t wide_b = vsubl_s8(vb, vdup_n_s8(2));
            int32x4_t a0 = vshlq_n_s32(vmovl_s16(vget_low_s16(wide_a)), 20);
            int32x4_t a1 = vshlq_n_s32(vmovl_s16(vget_high_s16(wide_a)), 20);
            int32x4_t b0 = vshlq_n_s32(vmovl_s16(vget_low_s16(wide_b)), 20);
            int32x4_t b1 = vshlq_n_s32(vmovl_s16(vget_high_s16(wide_b)), 20);
            a0 = vaddq_s32(t_requantize_s32_gemmlowp(a0, m_a, shift_a),
                    t_requantize_s32_gemmlowp(b0, m_b, shift_b));
            a1 = vaddq_s32(t_requantize_s32_gemmlowp(a1, m_a, shift_a),
                    t_requantize_s32_gemmlowp(b1, m_b, shift_b));
            out = t_narrow(t_requantize_s32_gemmlowp(a0, m_y, shift_y),
                    t_requantize_s32_gemmlowp(a1, m_y, shift_y), finish);
        }
        vst1_s8(y + i, out);
    }
    {
        int8x8_t out;
        const int8x8_t va = t_load_part(a + 8, 5);
        const int8x8_t vb = t_load_part(b + 8, 5);
        {
            const int16x8_t wide_a = vsubl_s8(va, vdup_n_s8(1));
            const int16x8_t wide_b = vsubl_s8(vb, vdup_n_s8(2));
            int32x4_t a0 = vshlq_n_s32(vmovl_s16(vget_low_s16(wide_a)), 20);
            int32x4_t a1 = vshlq_n_s32(vmovl_s16(vget_high_s16(wide_a)), 20);
            int32x4_t b0 = vshlq_n_s32(vmovl_s16(vget_low_s16(wide_b)), 20);
            int32x4_t b1 = vshlq_n_s32(vmovl_s16(vget_high_s16(wide_b)), 20);
            a0 = vaddq_s32(t_requantize_s32_gemmlowp(a0, m_a, shift_a),
                    t_requantize_s32_gemmlowp(b0, m_b, shift_b));
            a1 = vaddq_s32(t_requantize_s32_gemmlowp(a1, m_a, shift_a),
                    t_requantize_s32_gemmlowp(b1, m_b, shift_b));
            out = t_narrow(t_requantize_s32_gemmlowp(a0, m_y, shift_y),
                    t_requantize_s32_gemmlowp(a1, m_y, shift_y), finish);
        }
        t_store_part(y + 8, out, 5);
    }
}
