/* Start-up for a 64-bit core: from reset to main with FPU, MMU and caches on.
 *
 * Runs from EL3, EL2 or EL1 and ends up in EL1. Memory is mapped to itself, peripherals as device,
 * RAM as cached normal memory: device memory, and all data while the MMU is off, faults on the
 * unaligned loads that the generated code and the compiler make. */

.equ SCTLR_RES1, 0x30d00800
.equ MODE_EL1H, 0x3c5              /* EL1 with its own stack pointer, interrupts masked */

.section .text.start, "ax"
.global start
start:
    mrs     x0, mpidr_el1
    tst     x0, #0xff
    b.ne    park                   /* one core runs, the others sleep */
    mrs     x0, CurrentEL
    cmp     x0, #2 << 2
    b.lo    el1
    b.eq    el2
    mov     x0, #0x431             /* SCR_EL3: RW (EL1 is 64-bit), RES1, NS */
    msr     scr_el3, x0
    msr     cptr_el3, xzr          /* FPU does not trap */
    mov     x0, #MODE_EL1H
    msr     spsr_el3, x0
    adr     x0, el1
    msr     elr_el3, x0
el2:
    mov     x0, #1 << 31
    msr     hcr_el2, x0            /* RW: EL1 is 64-bit */
    mov     x0, #0x33ff
    msr     cptr_el2, x0           /* FPU does not trap */
    mov     x0, #MODE_EL1H
    msr     spsr_el2, x0
    adr     x0, el1
    msr     elr_el2, x0
    ldr     x0, =SCTLR_RES1
    msr     sctlr_el1, x0
    eret

el1:
    adrp    x0, stack_top
    add     x0, x0, :lo12:stack_top
    mov     sp, x0
    adrp    x0, vectors
    add     x0, x0, :lo12:vectors
    msr     vbar_el1, x0
    mov     x0, #3 << 20
    msr     cpacr_el1, x0          /* FPEN: FPU and NEON do not trap */

    ldr     x0, =0xff04            /* attribute 0: device nGnRE; 1: normal, write-back */
    msr     mair_el1, x0
    ldr     x0, =0x803520          /* TCR: 4 GiB by TTBR0, 4 KiB granule, write-back walks */
    msr     tcr_el1, x0
    adrp    x0, translation
    add     x0, x0, :lo12:translation
    msr     ttbr0_el1, x0
    tlbi    vmalle1
    ic      iallu
    dsb     sy
    isb
    ldr     x0, =(SCTLR_RES1 | 1 << 12 | 1 << 2 | 1)   /* I, C and M */
    msr     sctlr_el1, x0
    isb

    adrp    x0, bss_start
    add     x0, x0, :lo12:bss_start
    adrp    x1, bss_end
    add     x1, x1, :lo12:bss_end
1:  cmp     x0, x1
    b.hs    2f
    stp     xzr, xzr, [x0], #16    /* the linker script aligns both ends to 16 */
    b       1b
2:
    msr     pmccfiltr_el0, xzr     /* count in every exception level */
    mov     x0, #1 << 31
    msr     pmcntenset_el0, x0
    mov     x0, #0x45              /* PMCR: E, C, LC: enable, reset, 64-bit */
    msr     pmcr_el0, x0
    isb
    bl      main
    bl      leave
park:
    wfe
    b       park

trap:
    mrs     x0, esr_el1
    mrs     x1, elr_el1
    mrs     x2, far_el1
    b       fault

    .balign 2048
vectors:
    .rept   16
    .balign 128
    b       trap
    .endr

/* Blocks of 1 GiB: address, access flag, attribute; device memory is never executed. */
.section .rodata.translation, "a"
    .balign 32
translation:
    .quad   0x00000000 | 3 << 53 | 1 << 10 | 0 << 2 | 1
    .quad   0x40000000 | 1 << 10 | 3 << 8 | 1 << 2 | 1
    .quad   0, 0
