/* x * m0 * 2^(shift - 31), (Q3): SQRDMULH, then a right shift with ties away from zero. */
static int32_t t_requantize(int32_t x, int32_t m0, int32_t shift)
{
    const int32_t left = shift > 0 ? shift : 0;
    const int32_t right = left - shift;
    int64_t v = (int32_t)((uint32_t)x << left);
    v = (v * m0 + ((int64_t)1 << 30)) >> 31;
    v += (((int64_t)1 << right) >> 1) - (right > 0 && v < 0 ? 1 : 0);
    return (int32_t)(v >> right);
}

static int32_t t_clamp(int32_t v, int32_t low, int32_t high)
{
    return v < low ? low : v > high ? high : v;
}

/* conv2d "y"  <model>   kernel q8_conv2d__c99
 * y[n, i, j, o] = requantize(sum over kh, kw, c of (x - Z_x) * (w[o] - Z_w) + b[o]).
 * x i8[1, 5, 5, 3] zero -128; y i8[1, 3, 3, 4] zero 0
 * accumulator in [-254745, 193830], inside int32 */
/* as in the model */
static const int8_t t_w_00[108] = {
    -50, -49, -48, -47, -46, -45, -44, -43, -42, -41, -40, -39, -38, -37, -36, -35,
    -34, -33, -32, -31, -30, -29, -28, -27, -26, -25, -24, -23, -22, -21, -20, -19,
    -18, -17, -16, -15, -14, -13, -12, -11, -10, -9, -8, -7, -6, -5, -4, -3,
    -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,
    14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29,
    30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45,
    46, 47, 48, 49, -50, -49, -48, -47, -46, -45, -44, -43,
};

/* bias */
static const int32_t t_b_00[4] = {
    0, 10, 20, 30,
};

/* M0, eq. (6) */
static const int32_t t_m0_00[4] = {
    1374389504, 1374389504, 1374389504, 1374389504,
};

/* positive: left */
static const int32_t t_shift_00[4] = {
    -6, -6, -6, -6,
};

T_OP static void t_00_y(const int8_t *x, int8_t *y)
{
    int32_t oy, ox, oc, ky, kx, c;
    for (oy = 0; oy < 3; ++oy) {
        for (ox = 0; ox < 3; ++ox) {
            const int32_t y0 = oy * 2 - 1;
            const int32_t x0 = ox * 2 - 1;
            for (oc = 0; oc < 4; ++oc) {
                const int8_t *w = t_w_00 + oc * 27;
                int32_t acc = t_b_00[oc];
                for (ky = 0; ky < 3; ++ky) {
                    const int32_t iy = y0 + ky;
                    if (iy < 0 || iy >= 5) {
                        continue;
                    }
                    for (kx = 0; kx < 3; ++kx) {
                        const int32_t ix = x0 + kx;
                        const int8_t *px = x + (iy * 5 + ix) * 3;
                        const int8_t *pw = w + (ky * 3 + kx) * 3;
                        if (ix < 0 || ix >= 5) {
                            continue;
                        }
                        for (c = 0; c < 3; ++c) {
                            acc += (px[c] + 128) * (pw[c]);
                        }
                    }
                }
                acc = t_requantize(acc, t_m0_00[oc], t_shift_00[oc]);
                *y++ = (int8_t)(t_clamp(acc, -128, 127));
            }
        }
    }
}
