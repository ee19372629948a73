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
/* 8 rows x 8 output channels with SMMLA, 8 products of a sum at a time.
 * registers: a v0-v7 | w v8-v15 | acc v16-v31
 *   panel  tiles of 8 rows as packed for this kernel
 *   w      blocks of 8 channels: [K / 8][8][8]
 *   q      per block: bias
 *   y      result of the first row and channel; rows are `stride` bytes apart
 */
static void t_smmla_8x8_k24_shr6_unsigned_flip(
    const int8_t *panel, const int8_t *w, const int32_t *q, int8_t *y, size_t tiles,
    size_t blocks, size_t stride, const t_finish_constants *out)
{
    const int8_t *a, *v;
    int8_t *to;
    size_t tile;
    __asm__ volatile(
        "1:\n\t"
        "mov %[a], %[panel]\n\t"
        "mov %[to], %[y]\n\t"
        "mov %[tile], %[tiles]\n\t"
        /* (Q3): SQRDMULH, negative ties are clamped away (Q3c); shift by 6 as it narrows; unsigned, no zero point to add */
        /* budget: 119 cycles / 1536 MACs (cortex-a510) */
        "2:\n\t"
        "mov %[v], %[w]\n\t"
        "ld1 {v16.16b-v19.16b}, [%[q]]\n\t"
        "ld1 {v20.16b-v23.16b}, [%[q]]\n\t"
        "ld1 {v24.16b-v27.16b}, [%[q]]\n\t"
        "ld1 {v28.16b-v31.16b}, [%[q]]\n\t"
        "ld1 {v0.16b-v3.16b}, [%[a]], #64\n\t"
        "ld1 {v4.16b-v7.16b}, [%[a]], #64\n\t"
        "ld1 {v8.16b-v11.16b}, [%[v]], #64\n\t"
        "ld1 {v12.16b-v15.16b}, [%[v]], #64\n\t"
        "smmla v16.4s, v0.16b, v8.16b\n\t"
        "smmla v17.4s, v0.16b, v9.16b\n\t"
        "smmla v18.4s, v0.16b, v10.16b\n\t"
        "smmla v19.4s, v0.16b, v11.16b\n\t"
        "smmla v20.4s, v1.16b, v8.16b\n\t"
        "smmla v21.4s, v1.16b, v9.16b\n\t"
        "smmla v22.4s, v1.16b, v10.16b\n\t"
        "smmla v23.4s, v1.16b, v11.16b\n\t"
        "smmla v24.4s, v4.16b, v8.16b\n\t"
        "smmla v28.4s, v5.16b, v8.16b\n\t"
        "smmla v25.4s, v4.16b, v9.16b\n\t"
        "smmla v26.4s, v4.16b, v10.16b\n\t"
        "smmla v27.4s, v4.16b, v11.16b\n\t"
        "smmla v29.4s, v5.16b, v9.16b\n\t"
        "smmla v30.4s, v5.16b, v10.16b\n\t"
        "smmla v31.4s, v5.16b, v11.16b\n\t"
        "smmla v16.4s, v2.16b, v12.16b\n\t"
        "smmla v17.4s, v2.16b, v13.16b\n\t"
        "smmla v18.4s, v2.16b, v14.16b\n\t"
        "smmla v19.4s, v2.16b, v15.16b\n\t"
        "smmla v20.4s, v3.16b, v12.16b\n\t"
        "smmla v21.4s, v3.16b, v13.16b\n\t"
        "smmla v22.4s, v3.16b, v14.16b\n\t"
        "smmla v23.4s, v3.16b, v15.16b\n\t"
        "smmla v24.4s, v6.16b, v12.16b\n\t"
        "smmla v28.4s, v7.16b, v12.16b\n\t"
        "smmla v25.4s, v6.16b, v13.16b\n\t"
        "ld1 {v0.16b-v3.16b}, [%[a]], #64\n\t"
        "smmla v26.4s, v6.16b, v14.16b\n\t"
        "ld1 {v8.16b-v11.16b}, [%[v]], #64\n\t"
        "smmla v29.4s, v7.16b, v13.16b\n\t"
        "smmla v30.4s, v7.16b, v14.16b\n\t"
        "smmla v16.4s, v0.16b, v8.16b\n\t"
        "smmla v20.4s, v1.16b, v8.16b\n\t"
        "smmla v24.4s, v2.16b, v8.16b\n\t"
        "smmla v28.4s, v3.16b, v8.16b\n\t"
        "ldr q8, [%[out], #0]\n\t"
        "smmla v27.4s, v6.16b, v15.16b\n\t"
        "smmla v31.4s, v7.16b, v15.16b\n\t"
        "smmla v17.4s, v0.16b, v9.16b\n\t"
        "smmla v18.4s, v0.16b, v10.16b\n\t"
        "smmla v21.4s, v1.16b, v9.16b\n\t"
        "smmla v22.4s, v1.16b, v10.16b\n\t"
        "smmla v25.4s, v2.16b, v9.16b\n\t"
        "smmla v26.4s, v2.16b, v10.16b\n\t"
        "smmla v29.4s, v3.16b, v9.16b\n\t"
        "smmla v30.4s, v3.16b, v10.16b\n\t"
        "sqrdmulh v16.4s, v16.4s, v8.4s\n\t"
        "sqrdmulh v20.4s, v20.4s, v8.4s\n\t"
        "sqrdmulh v24.4s, v24.4s, v8.4s\n\t"
        "sqrdmulh v28.4s, v28.4s, v8.4s\n\t"
        "smmla v19.4s, v0.16b, v11.16b\n\t"
        "smmla v23.4s, v1.16b, v11.16b\n\t"
        "smmla v27.4s, v2.16b, v11.16b\n\t"
        "smmla v31.4s, v3.16b, v11.16b\n\t"
        "sqrdmulh v17.4s, v17.4s, v8.4s\n\t"
        "sqrdmulh v18.4s, v18.4s, v8.4s\n\t"
        "sqrdmulh v21.4s, v21.4s, v8.4s\n\t"
        "sqrdmulh v22.4s, v22.4s, v8.4s\n\t"
        "sqrdmulh v25.4s, v25.4s, v8.4s\n\t"
        "sqrdmulh v26.4s, v26.4s, v8.4s\n\t"
        "sqrdmulh v29.4s, v29.4s, v8.4s\n\t"
        "sqrdmulh v30.4s, v30.4s, v8.4s\n\t"
        "sqrshrun v16.4h, v16.4s, #6\n\t"
        "sqrshrun v20.4h, v20.4s, #6\n\t"
        "sqrshrun v24.4h, v24.4s, #6\n\t"
        "sqrshrun v28.4h, v28.4s, #6\n\t"
        "sqrdmulh v19.4s, v19.4s, v8.4s\n\t"
        "sqrdmulh v23.4s, v23.4s, v8.4s\n\t"
        "sqrdmulh v27.4s, v27.4s, v8.4s\n\t"
        "sqrdmulh v31.4s, v31.4s, v8.4s\n\t"
        "sqrshrun v18.4h, v18.4s, #6\n\t"
        "sqrshrun v22.4h, v22.4s, #6\n\t"
        "sqrshrun v26.4h, v26.4s, #6\n\t"
        "sqrshrun v30.4h, v30.4s, #6\n\t"
        "sqrshrun2 v16.8h, v17.4s, #6\n\t"
        "sqrshrun2 v20.8h, v21.4s, #6\n\t"
        "sqrshrun2 v24.8h, v25.4s, #6\n\t"
        "sqrshrun2 v28.8h, v29.4s, #6\n\t"
        "sqrshrun2 v18.8h, v19.4s, #6\n\t"
        "sqrshrun2 v22.8h, v23.4s, #6\n\t"
        "sqrshrun2 v26.8h, v27.4s, #6\n\t"
        "sqrshrun2 v30.8h, v31.4s, #6\n\t"
        "uqxtn v16.8b, v16.8h\n\t"
        "uqxtn v20.8b, v20.8h\n\t"
        "uqxtn v24.8b, v24.8h\n\t"
        "uqxtn v28.8b, v28.8h\n\t"
        "uqxtn2 v16.16b, v18.8h\n\t"
        "uqxtn2 v20.16b, v22.8h\n\t"
        "uqxtn2 v24.16b, v26.8h\n\t"
        "uqxtn2 v28.16b, v30.8h\n\t"
        "ldr q12, [%[out], #64]\n\t"
        "eor v16.16b, v16.16b, v12.16b\n\t"
        "eor v20.16b, v20.16b, v12.16b\n\t"
        "eor v24.16b, v24.16b, v12.16b\n\t"
        "eor v28.16b, v28.16b, v12.16b\n\t"
        "uzp1 v8.8h, v16.8h, v20.8h\n\t"
        "uzp2 v9.8h, v16.8h, v20.8h\n\t"
        "uzp1 v10.8h, v24.8h, v28.8h\n\t"
        "uzp2 v11.8h, v24.8h, v28.8h\n\t"
        "st1 {v8.d}[0], [%[to]], %[stride]\n\t"
        "st1 {v9.d}[0], [%[to]], %[stride]\n\t"
        "st1 {v8.d}[1], [%[to]], %[stride]\n\t"
        "st1 {v9.d}[1], [%[to]], %[stride]\n\t"
        "st1 {v10.d}[0], [%[to]], %[stride]\n\t"
        "st1 {v11.d}[0], [%[to]], %[stride]\n\t"
        "st1 {v10.d}[1], [%[to]], %[stride]\n\t"
        "st1 {v11.d}[1], [%[to]], %[stride]\n\t"
        "subs %[tile], %[tile], #1\n\t"
        "b.ne 2b\n\t"
        "mov %[w], %[v]\n\t"
        "add %[q], %[q], #64\n\t"
        "add %[y], %[y], #8\n\t"
        "subs %[blocks], %[blocks], #1\n\t"
        "b.ne 1b\n\t"
        : [w] "+&r"(w), [q] "+&r"(q), [y] "+&r"(y), [blocks] "+&r"(blocks), [a] "=&r"(a),
        [v] "=&r"(v), [to] "=&r"(to), [tile] "=&r"(tile)
        : [panel] "r"(panel), [tiles] "r"(tiles), [stride] "r"(stride), [out] "r"(out)
        : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13",
                "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25",
                "v26", "v27", "v28", "v29", "v30", "v31", "cc", "memory");
}
#if defined(__clang__)
#pragma clang diagnostic pop
#endif

/* Rows of a product and what its kernels are called with; see targets/panel.py.
 *   tiles    of rows, of which a panel holds `at_once`
 *   depth    bytes of a row
 *   blocks   of channels, of which a row of the result holds `channels`
 *   weights, words, excess: where those of the block begin that overlaps its neighbour */
typedef struct t_panel_shape {
    uint32_t tiles, at_once, depth, blocks, channels, weights, words, excess;
} t_panel_shape;

/* Packs rows that follow each other, 8 to a tile: LD1 reads 16 bytes of each, ST4 interleaves four.
 * `turns` of 16 bytes per row and 8 more; rows are `step` bytes long. */
T_OP static void t_pack_8x8_loop_k8(
    int8_t *to, const int8_t *from, size_t tiles, ptrdiff_t step, size_t turns)
{
    const ptrdiff_t back = 16 - 7 * step;
    size_t left;
    const ptrdiff_t next = 8 - step;
    __asm__ volatile(
        "1:\n\t"
        "mov %[left], %[turns]\n\t"
        "2:\n\t"
        "ld1 {v0.16b}, [%[from]], %[step]\n\t"
        "subs %[left], %[left], #1\n\t"
        "ld1 {v1.16b}, [%[from]], %[step]\n\t"
        "ld1 {v2.16b}, [%[from]], %[step]\n\t"
        "ld1 {v3.16b}, [%[from]], %[step]\n\t"
        "st4 {v0.2d-v3.2d}, [%[to]], #64\n\t"
        "ld1 {v4.16b}, [%[from]], %[step]\n\t"
        "ld1 {v5.16b}, [%[from]], %[step]\n\t"
        "ld1 {v6.16b}, [%[from]], %[step]\n\t"
        "ld1 {v7.16b}, [%[from]], %[back]\n\t"
        "st4 {v4.2d-v7.2d}, [%[to]], #64\n\t"
        "b.ne 2b\n\t"
        "ld1 {v0.8b}, [%[from]], %[step]\n\t"
        "subs %[tiles], %[tiles], #1\n\t"
        "ld1 {v1.8b}, [%[from]], %[step]\n\t"
        "ld1 {v2.8b}, [%[from]], %[step]\n\t"
        "ld1 {v3.8b}, [%[from]], %[step]\n\t"
        "st4 {v0.d-v3.d}[0], [%[to]], #32\n\t"
        "ld1 {v4.8b}, [%[from]], %[step]\n\t"
        "ld1 {v5.8b}, [%[from]], %[step]\n\t"
        "ld1 {v6.8b}, [%[from]], %[step]\n\t"
        "ld1 {v7.8b}, [%[from]], %[step]\n\t"
        "add %[from], %[from], %[next]\n\t"
        "st4 {v4.d-v7.d}[0], [%[to]], #32\n\t"
        "b.ne 1b\n\t"
        : [to] "+&r"(to), [from] "+&r"(from), [tiles] "+&r"(tiles), [left] "=&r"(left)
        : [step] "r"(step), [turns] "r"(turns), [back] "r"(back), [next] "r"(next)
        : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "cc", "memory");
}

/* Tiles of 8 rows that follow each other: some at a time are packed, and meet all blocks of channels. */
static void t_rows_8x8_loop_k8_edge_smmla_8x8_k24_shr6_unsigned_flip(
    const int8_t *x, int8_t *y, int8_t *panel, const int8_t *w, const int32_t *q,
    const t_panel_shape *op, const t_finish_constants *out)
{
    size_t left, tiles;
    for (left = op->tiles; left > 0; left -= tiles) {
        tiles = left < op->at_once ? left : op->at_once;
        t_pack_8x8_loop_k8(panel, x, tiles, (ptrdiff_t)op->depth, op->depth / 16);
        t_smmla_8x8_k24_shr6_unsigned_flip(panel, w, q, y, tiles, op->blocks, op->channels, out);
        t_smmla_8x8_k24_shr6_unsigned_flip(panel, w + op->weights, q + op->words,
                y + op->channels - 8, tiles, 1, op->channels, out);
        x += tiles * 8 * op->depth;
        y += tiles * 8 * op->channels;
    }
}

#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Woverlength-strings"
#endif
/* 4 rows x 8 output channels with SMMLA, 8 products of a sum at a time.
 * registers: a v0-v7 | w v8-v15 | acc v16-v23
 *   panel  tiles of 4 rows as packed for this kernel
 *   w      blocks of 8 channels: [K / 8][8][8]
 *   q      per block: bias
 *   y      result of the first row and channel; rows are `stride` bytes apart
 */
static void t_smmla_4x8_k24_shr6_unsigned_flip(
    const int8_t *panel, const int8_t *w, const int32_t *q, int8_t *y, size_t tiles,
    size_t blocks, size_t stride, const t_finish_constants *out)
{
    const int8_t *a, *v;
    int8_t *to;
    size_t tile;
    __asm__ volatile(
        "1:\n\t"
        "mov %[a], %[panel]\n\t"
        "mov %[to], %[y]\n\t"
        "mov %[tile], %[tiles]\n\t"
        /* (Q3): SQRDMULH, negative ties are clamped away (Q3c); shift by 6 as it narrows; unsigned, no zero point to add */
        /* budget: 78 cycles / 768 MACs (cortex-a510) */
        "2:\n\t"
        "mov %[v], %[w]\n\t"
        "ld1 {v16.16b-v19.16b}, [%[q]]\n\t"
        "ld1 {v20.16b-v23.16b}, [%[q]]\n\t"
        "ld1 {v0.16b-v3.16b}, [%[a]], #64\n\t"
        "ld1 {v8.16b-v11.16b}, [%[v]], #64\n\t"
        "ld1 {v12.16b-v15.16b}, [%[v]], #64\n\t"
        "smmla v16.4s, v0.16b, v8.16b\n\t"
        "smmla v20.4s, v1.16b, v8.16b\n\t"
        "smmla v17.4s, v0.16b, v9.16b\n\t"
        "smmla v18.4s, v0.16b, v10.16b\n\t"
        "smmla v19.4s, v0.16b, v11.16b\n\t"
        "smmla v21.4s, v1.16b, v9.16b\n\t"
        "smmla v22.4s, v1.16b, v10.16b\n\t"
        "smmla v23.4s, v1.16b, v11.16b\n\t"
        "smmla v16.4s, v2.16b, v12.16b\n\t"
        "smmla v20.4s, v3.16b, v12.16b\n\t"
        "smmla v17.4s, v2.16b, v13.16b\n\t"
        "ld1 {v0.16b-v1.16b}, [%[a]], #32\n\t"
        "smmla v18.4s, v2.16b, v14.16b\n\t"
        "ld1 {v8.16b-v11.16b}, [%[v]], #64\n\t"
        "smmla v21.4s, v3.16b, v13.16b\n\t"
        "smmla v22.4s, v3.16b, v14.16b\n\t"
        "smmla v16.4s, v0.16b, v8.16b\n\t"
        "smmla v20.4s, v1.16b, v8.16b\n\t"
        "ldr q8, [%[out], #0]\n\t"
        "smmla v19.4s, v2.16b, v15.16b\n\t"
        "smmla v23.4s, v3.16b, v15.16b\n\t"
        "smmla v17.4s, v0.16b, v9.16b\n\t"
        "smmla v18.4s, v0.16b, v10.16b\n\t"
        "smmla v21.4s, v1.16b, v9.16b\n\t"
        "smmla v22.4s, v1.16b, v10.16b\n\t"
        "sqrdmulh v16.4s, v16.4s, v8.4s\n\t"
        "sqrdmulh v20.4s, v20.4s, v8.4s\n\t"
        "smmla v19.4s, v0.16b, v11.16b\n\t"
        "smmla v23.4s, v1.16b, v11.16b\n\t"
        "sqrdmulh v17.4s, v17.4s, v8.4s\n\t"
        "sqrdmulh v18.4s, v18.4s, v8.4s\n\t"
        "sqrdmulh v21.4s, v21.4s, v8.4s\n\t"
        "sqrdmulh v22.4s, v22.4s, v8.4s\n\t"
        "sqrshrun v16.4h, v16.4s, #6\n\t"
        "sqrshrun v20.4h, v20.4s, #6\n\t"
        "sqrdmulh v19.4s, v19.4s, v8.4s\n\t"
        "sqrdmulh v23.4s, v23.4s, v8.4s\n\t"
        "sqrshrun v18.4h, v18.4s, #6\n\t"
        "sqrshrun v22.4h, v22.4s, #6\n\t"
        "sqrshrun2 v16.8h, v17.4s, #6\n\t"
        "sqrshrun2 v20.8h, v21.4s, #6\n\t"
        "sqrshrun2 v18.8h, v19.4s, #6\n\t"
        "sqrshrun2 v22.8h, v23.4s, #6\n\t"
        "uqxtn v16.8b, v16.8h\n\t"
        "uqxtn v20.8b, v20.8h\n\t"
        "uqxtn2 v16.16b, v18.8h\n\t"
        "uqxtn2 v20.16b, v22.8h\n\t"
        "ldr q12, [%[out], #64]\n\t"
        "eor v16.16b, v16.16b, v12.16b\n\t"
        "eor v20.16b, v20.16b, v12.16b\n\t"
        "uzp1 v8.8h, v16.8h, v20.8h\n\t"
        "uzp2 v9.8h, v16.8h, v20.8h\n\t"
        "st1 {v8.d}[0], [%[to]], %[stride]\n\t"
        "st1 {v9.d}[0], [%[to]], %[stride]\n\t"
        "st1 {v8.d}[1], [%[to]], %[stride]\n\t"
        "st1 {v9.d}[1], [%[to]], %[stride]\n\t"
        "subs %[tile], %[tile], #1\n\t"
        "b.ne 2b\n\t"
        "mov %[w], %[v]\n\t"
        "add %[q], %[q], #64\n\t"
        "add %[y], %[y], #8\n\t"
        "subs %[blocks], %[blocks], #1\n\t"
        "b.ne 1b\n\t"
        : [w] "+&r"(w), [q] "+&r"(q), [y] "+&r"(y), [blocks] "+&r"(blocks), [a] "=&r"(a),
        [v] "=&r"(v), [to] "=&r"(to), [tile] "=&r"(tile)
        : [panel] "r"(panel), [tiles] "r"(tiles), [stride] "r"(stride), [out] "r"(out)
        : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13",
                "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "cc",
                "memory");
}
#if defined(__clang__)
#pragma clang diagnostic pop
#endif

/* Packs rows that follow each other, 4 to a tile: LD1 reads 16 bytes of each, ST4 interleaves four.
 * `turns` of 16 bytes per row and 8 more; rows are `step` bytes long. */
T_OP static void t_pack_4x8_loop_k8(
    int8_t *to, const int8_t *from, size_t tiles, ptrdiff_t step, size_t turns)
{
    const ptrdiff_t back = 16 - 3 * step;
    size_t left;
    const ptrdiff_t next = 8 - step;
    __asm__ volatile(
        "1:\n\t"
        "mov %[left], %[turns]\n\t"
        "2:\n\t"
        "ld1 {v0.16b}, [%[from]], %[step]\n\t"
        "subs %[left], %[left], #1\n\t"
        "ld1 {v1.16b}, [%[from]], %[step]\n\t"
        "ld1 {v2.16b}, [%[from]], %[step]\n\t"
        "ld1 {v3.16b}, [%[from]], %[back]\n\t"
        "st4 {v0.2d-v3.2d}, [%[to]], #64\n\t"
        "b.ne 2b\n\t"
        "ld1 {v0.8b}, [%[from]], %[step]\n\t"
        "subs %[tiles], %[tiles], #1\n\t"
        "ld1 {v1.8b}, [%[from]], %[step]\n\t"
        "ld1 {v2.8b}, [%[from]], %[step]\n\t"
        "ld1 {v3.8b}, [%[from]], %[step]\n\t"
        "add %[from], %[from], %[next]\n\t"
        "st4 {v0.d-v3.d}[0], [%[to]], #32\n\t"
        "b.ne 1b\n\t"
        : [to] "+&r"(to), [from] "+&r"(from), [tiles] "+&r"(tiles), [left] "=&r"(left)
        : [step] "r"(step), [turns] "r"(turns), [back] "r"(back), [next] "r"(next)
        : "v0", "v1", "v2", "v3", "cc", "memory");
}

/* Tiles of 4 rows that follow each other: some at a time are packed, and meet all blocks of channels. */
static void t_rows_4x8_loop_k8_edge_smmla_4x8_k24_shr6_unsigned_flip(
    const int8_t *x, int8_t *y, int8_t *panel, const int8_t *w, const int32_t *q,
    const t_panel_shape *op, const t_finish_constants *out)
{
    size_t left, tiles;
    for (left = op->tiles; left > 0; left -= tiles) {
        tiles = left < op->at_once ? left : op->at_once;
        t_pack_4x8_loop_k8(panel, x, tiles, (ptrdiff_t)op->depth, op->depth / 16);
        t_smmla_4x8_k24_shr6_unsigned_flip(panel, w, q, y, tiles, op->blocks, op->channels, out);
        t_smmla_4x8_k24_shr6_unsigned_flip(panel, w + op->weights, q + op->words,
                y + op->channels - 8, tiles, 1, op->channels, out);
        x += tiles * 4 * op->depth;
        y += tiles * 4 * op->channels;
    }
}

/* conv2d "y"  <model>   kernel qs8_conv2d__neoni8mm_8x8_rows
 * y[n, i, j, o] = requantize(sum over kh, kw, c of (x - Z_x) * (w[o] - Z_w) + b[o]).
 * x i8[1, 3, 4, 24] zero -3; y i8[1, 3, 4, 9] zero -128
 * accumulator in [-133820, 132400], inside int32
 * tiles 1 of 8x8, 1 of 4x8, 8 products per sum and SMMLA; w - Zw: int8
 * zero points folded into the bias (Q15)
 * regs: a v0-v7 | w v8-v15 | acc v16-v31 */
/* w - Zw in reading order: see the kernel */
static const int8_t t_w_00[384] = {
    -50, -49, -48, -47, -46, -45, -44, -43, -26, -25, -24, -23, -22, -21, -20, -19,
    -2, -1, 0, 1, 2, 3, 4, 5, 22, 23, 24, 25, 26, 27, 28, 29,
    46, 47, 48, 49, -50, -49, -48, -47, -30, -29, -28, -27, -26, -25, -24, -23,
    -6, -5, -4, -3, -2, -1, 0, 1, 18, 19, 20, 21, 22, 23, 24, 25,
    -42, -41, -40, -39, -38, -37, -36, -35, -18, -17, -16, -15, -14, -13, -12, -11,
    6, 7, 8, 9, 10, 11, 12, 13, 30, 31, 32, 33, 34, 35, 36, 37,
    -46, -45, -44, -43, -42, -41, -40, -39, -22, -21, -20, -19, -18, -17, -16, -15,
    2, 3, 4, 5, 6, 7, 8, 9, 26, 27, 28, 29, 30, 31, 32, 33,
    -34, -33, -32, -31, -30, -29, -28, -27, -10, -9, -8, -7, -6, -5, -4, -3,
    14, 15, 16, 17, 18, 19, 20, 21, 38, 39, 40, 41, 42, 43, 44, 45,
    -38, -37, -36, -35, -34, -33, -32, -31, -14, -13, -12, -11, -10, -9, -8, -7,
    10, 11, 12, 13, 14, 15, 16, 17, 34, 35, 36, 37, 38, 39, 40, 41,
    -26, -25, -24, -23, -22, -21, -20, -19, -2, -1, 0, 1, 2, 3, 4, 5,
    22, 23, 24, 25, 26, 27, 28, 29, 46, 47, 48, 49, -50, -49, -48, -47,
    -30, -29, -28, -27, -26, -25, -24, -23, -6, -5, -4, -3, -2, -1, 0, 1,
    18, 19, 20, 21, 22, 23, 24, 25, 42, 43, 44, 45, 46, 47, 48, 49,
    -18, -17, -16, -15, -14, -13, -12, -11, 6, 7, 8, 9, 10, 11, 12, 13,
    30, 31, 32, 33, 34, 35, 36, 37, -46, -45, -44, -43, -42, -41, -40, -39,
    -22, -21, -20, -19, -18, -17, -16, -15, 2, 3, 4, 5, 6, 7, 8, 9,
    26, 27, 28, 29, 30, 31, 32, 33, -50, -49, -48, -47, -46, -45, -44, -43,
    -10, -9, -8, -7, -6, -5, -4, -3, 14, 15, 16, 17, 18, 19, 20, 21,
    38, 39, 40, 41, 42, 43, 44, 45, -38, -37, -36, -35, -34, -33, -32, -31,
    -14, -13, -12, -11, -10, -9, -8, -7, 10, 11, 12, 13, 14, 15, 16, 17,
    34, 35, 36, 37, 38, 39, 40, 41, -42, -41, -40, -39, -38, -37, -36, -35,
};

/* per block of channels: see the kernel */
static const int32_t t_q_00[32] = {
    -2772, -1034, -2772, -1034,
    704, 2442, 704, 2442,
    -1820, -1282, -1820, -1282,
    456, 2194, 456, 2194,
    -1034, 704, -1034, 704,
    2442, -1820, 2442, -1820,
    -1282, 456, -1282, 456,
    2194, -868, 2194, -868,
};

T_OP static void t_00_y(const int8_t *x, int8_t *y, int8_t *scratch)
{
    static const t_finish_constants out = {
        { 1374389504, 1374389504, 1374389504, 1374389504 },
        { -128, -128, -128, -128, -128, -128, -128, -128 },
        { -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128,
                -128 },
        { 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127, 127 },
        { -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128, -128,
                -128 },
        { 0, 0, 0, 0 },
    };
    {
        static const t_panel_shape shape = {
            1, 1, 24, 1, 9, 192, 16, 0
            };
        t_rows_8x8_loop_k8_edge_smmla_8x8_k24_shr6_unsigned_flip(x, y, scratch, t_w_00, t_q_00,
                &shape, &out);
    }
    {
        static const t_panel_shape shape = {
            1, 1, 24, 1, 9, 192, 16, 0
            };
        t_rows_4x8_loop_k8_edge_smmla_4x8_k24_shr6_unsigned_flip(x + 192, y + 72, scratch, t_w_00,
                t_q_00, &shape, &out);
    }
}
