/* Counts the guest instructions that a program executes: a QEMU TCG plugin, API version 1.
 *
 *   cc -shared -fPIC -O2 -o insn_count.so insn_count.c
 *   qemu-aarch64 -plugin ./insn_count.so,out=FILE[,ranges=FILE][,mark=ADDRESS][,blocks=1] PROGRAM
 *
 * out:    file for the result, standard error if absent: lines "mark N" and "block START END N" as
 *         they come, at the end a line "total N", then "N name" for each range in the order of
 *         their addresses.
 * ranges: lines "start end name", addresses in hexadecimal, end exclusive, ranges disjoint. Several
 *         may share a name; each keeps a line of its own.
 * mark:   address of a function, in hexadecimal. Whenever it is entered, the total so far is noted,
 *         with the function's first block included: differences are exact.
 * blocks: 1 to note, before each mark and at the end, how often each translation block was entered
 *         since the mark before. A stretch of code may be in several blocks.
 *
 * Whole translation blocks are counted as they are entered, a constant per block and range. This is
 * exact unless a signal leaves a block half-way, and cheap: one or two additions per block. The
 * additions are not atomic: count programs of one thread.
 *
 * Debian does not package qemu-plugin.h, so what is needed of it is declared here. QEMU 9 dropped
 * API version 1.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

#define NO_REGISTERS 0 /* what a callback may access: QEMU_PLUGIN_CB_NO_REGS */

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                           void (*cb)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, enum qemu_plugin_op op,
                                              void *counter, uint64_t imm);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
                                            void (*cb)(unsigned int vcpu, void *userdata),
                                            int flags, void *userdata);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t, void *),
                                    void *userdata);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

EXPORT extern int qemu_plugin_version;
EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv);

int qemu_plugin_version = 1;

struct range {
    uint64_t start, end, count;
    char *name;
};

/* Translated code holds the addresses of the counts: this table stays where it is once sorted. */
static struct range *ranges;
static size_t n_ranges;
static uint64_t total;
static uint64_t mark; /* 0: none */
static int want_blocks;
static FILE *out;

/* Translated code holds the addresses of the counts here too, so a block never moves or goes. */
struct block {
    uint64_t start, end, count, noted;
    struct block *next;
};

static struct block *blocks;

static struct range *find(uint64_t address) {
    size_t low = 0, high = n_ranges;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (address < ranges[middle].start)
            high = middle;
        else if (address >= ranges[middle].end)
            low = middle + 1;
        else
            return &ranges[middle];
    }
    return NULL;
}

static void note_blocks(void) {
    for (struct block *b = blocks; b; b = b->next) {
        if (b->count != b->noted)
            fprintf(out, "block %" PRIx64 " %" PRIx64 " %" PRIu64 "\n", b->start, b->end,
                    b->count - b->noted);
        b->noted = b->count;
    }
}

static void reached(unsigned int vcpu, void *userdata) {
    (void)vcpu;
    (void)userdata;
    note_blocks();
    fprintf(out, "mark %" PRIu64 "\n", total);
}

static void count_block(struct qemu_plugin_tb *tb, size_t n) {
    struct qemu_plugin_insn *last = qemu_plugin_tb_get_insn(tb, n - 1);
    struct block *b = calloc(1, sizeof *b);
    if (!b)
        abort();
    b->start = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, 0));
    b->end = qemu_plugin_insn_vaddr(last) + qemu_plugin_insn_size(last);
    b->next = blocks;
    blocks = b;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &b->count, 1);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    size_t n = qemu_plugin_tb_n_insns(tb);
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &total, n);
    if (want_blocks)
        count_block(tb, n);
    for (size_t i = 0; mark && i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        if (qemu_plugin_insn_vaddr(insn) == mark)
            qemu_plugin_register_vcpu_insn_exec_cb(insn, reached, NO_REGISTERS, NULL);
    }
    if (n_ranges == 0)
        return;
    /* A block may run over the end of a function: one addition per stretch in the same range. */
    for (size_t i = 0; i < n;) {
        struct range *r = find(qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, i)));
        size_t first = i++;
        while (i < n && find(qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, i))) == r)
            i++;
        if (r)
            qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &r->count,
                                                     i - first);
    }
}

static void at_exit(qemu_plugin_id_t id, void *userdata) {
    (void)id;
    (void)userdata;
    note_blocks();
    fprintf(out, "total %" PRIu64 "\n", total);
    for (size_t i = 0; i < n_ranges; i++)
        fprintf(out, "%" PRIu64 " %s\n", ranges[i].count, ranges[i].name);
    fflush(out);
}

static int by_start(const void *a, const void *b) {
    uint64_t x = ((const struct range *)a)->start, y = ((const struct range *)b)->start;
    return (x > y) - (x < y);
}

static int fail(const char *what, const char *which) {
    fprintf(stderr, "insn_count: %s %s\n", what, which);
    return -1;
}

static int read_ranges(const char *path) {
    char line[4096], name[4000];
    size_t room = 0;
    FILE *file = fopen(path, "r");
    if (!file)
        return fail("cannot read", path);
    while (fgets(line, sizeof line, file)) {
        struct range r = {0, 0, 0, NULL};
        if (line[strspn(line, " \t\r\n")] == '\0')
            continue;
        if (sscanf(line, "%" SCNx64 " %" SCNx64 " %3999[^\r\n]", &r.start, &r.end, name) != 3 ||
            r.start >= r.end) {
            fclose(file);
            return fail("not a range 'start end name':", line);
        }
        if (n_ranges == room) {
            struct range *more = realloc(ranges, (room = 2 * room + 64) * sizeof *ranges);
            if (!more)
                abort();
            ranges = more;
        }
        if (!(r.name = strdup(name)))
            abort();
        ranges[n_ranges++] = r;
    }
    fclose(file);
    if (n_ranges)
        qsort(ranges, n_ranges, sizeof *ranges, by_start);
    for (size_t i = 1; i < n_ranges; i++)
        if (ranges[i].start < ranges[i - 1].end)
            return fail("range overlaps the one before it:", ranges[i].name);
    return 0;
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv) {
    (void)info;
    out = stderr;
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "ranges=", 7) == 0) {
            if (read_ranges(argv[i] + 7) != 0)
                return -1;
        } else if (strncmp(argv[i], "mark=", 5) == 0) {
            char *end;
            mark = strtoull(argv[i] + 5, &end, 16);
            if (!mark || *end)
                return fail("not an address:", argv[i]);
        } else if (strcmp(argv[i], "blocks=1") == 0) {
            want_blocks = 1;
        } else if (strncmp(argv[i], "out=", 4) == 0) {
            if (!(out = fopen(argv[i] + 4, "w")))
                return fail("cannot write", argv[i] + 4);
        } else {
            return fail("unknown argument", argv[i]);
        }
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, at_exit, NULL);
    return 0;
}
