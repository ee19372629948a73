/* x times the 53-bit multiplier (m0 * 2^22 + m1) * 2^(shift - 53), (Q4): the exact product,
 * rounded once, ties away from zero. */
static int32_t t_requantize_nearest(int32_t x, int32_t m0, int32_t shift, int32_t m1)
{
    const int32_t total = 31 - shift;
    const int64_t low = (int64_t)x * m1;
    int64_t v = (int64_t)x * m0 + (low >> 22);
    v -= v < 0 && (low & 4194303) == 0 ? 1 : 0;
    v = (v + ((int64_t)1 << (total - 1))) >> total;
    return v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : (int32_t)v;
}

static int32_t t_clamp(int32_t v, int32_t low, int32_t high)
{
    return v < low ? low : v > high ? high : v;
}

/* fully_connected "y"  <model>   kernel q8_fully_connected__c99
 * Every row of x against every row of w.
 * x i8[1, 20] zero 0; y i8[1, 5] zero 0
 * accumulator in [-102870, 103680], inside int32 */
/* as in the model */
static const int8_t t_w_00[100] = {
    -50, -49, -48, -47, -46, -45, -44, -43, -42, -41, -40, -39, -38, -37, -36, -35,
    -34, -33, -32, -31, -30, -29, -28, -27, -26, -25, -24, -23, -22, -21, -20, -19,
    -18, -17, -16, -15, -14, -13, -12, -11, -10, -9, -8, -7, -6, -5, -4, -3,
    -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,
    14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29,
    30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45,
    46, 47, 48, 49,
};

/* bias */
static const int32_t t_b_00[5] = {
    0, 10, 20, 30,
    40,
};

/* M0, eq. (6) */
static const int32_t t_m0_00[5] = {
    1374389504, 1374389504, 1374389504, 1374389504,
    1374389504,
};

/* positive: left */
static const int32_t t_shift_00[5] = {
    -6, -6, -6, -6,
    -6,
};

/* 22 bits below M0 */
static const int32_t t_m1_00[5] = {
    0, 0, 0, 0,
    0,
};

T_OP static void t_00_y(const int8_t *x, int8_t *y)
{
    int32_t m, o, i;
    for (m = 0; m < 1; ++m) {
        const int8_t *w = t_w_00;
        for (o = 0; o < 5; ++o) {
            int32_t acc = t_b_00[o];
            for (i = 0; i < 20; ++i) {
                acc += (x[i]) * (*w++);
            }
            acc = t_requantize_nearest(acc, t_m0_00[o], t_shift_00[o], t_m1_00[o]);
            *y++ = (int8_t)(t_clamp(acc, -128, 127));
        }
        x += 20;
    }
}
