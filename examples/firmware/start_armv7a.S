/* Start-up for a 32-bit core (Cortex-A7, A15): from reset to main with FPU, MMU and caches on.
 *
 * Runs from any privileged mode and ends up in supervisor mode.
 * Memory is mapped to itself, peripherals as device, RAM as cached normal memory: device memory,
 * and all data while the MMU is off, faults on unaligned loads. These cores invalidate their
 * caches at reset; a Cortex-A8 or A9 needs a loop over sets and ways before the MMU is enabled. */

    .syntax unified
    .arm
    .fpu    neon
    .arch_extension virt

.equ DEVICE, 0x00000c16            /* section, read-write, device, never executed */
.equ NORMAL, 0x00001c0e            /* section, read-write, write-back with allocation */

.section .text.start, "ax"
.global start
start:
    mrc     p15, 0, r0, c0, c0, 5  /* MPIDR */
    tst     r0, #0xff
    bne     park                   /* one core runs, the others sleep */
    mrs     r0, cpsr
    and     r1, r0, #0x1f
    cmp     r1, #0x1a              /* hypervisor mode is left by an exception return alone */
    beq     hypervisor
    cpsid   if, #0x13              /* supervisor mode */
    b       supervisor

hypervisor:
    bic     r0, r0, #0x1f
    orr     r0, r0, #0xd3
    msr     spsr_cxsf, r0
    adr     r0, supervisor
    msr     elr_hyp, r0
    eret

supervisor:
    ldr     sp, =stack_top
    ldr     r0, =vectors
    mcr     p15, 0, r0, c12, c0, 0 /* VBAR */
    mrc     p15, 0, r0, c1, c0, 2  /* CPACR */
    orr     r0, r0, #0xf << 20     /* FPU and NEON do not trap */
    mcr     p15, 0, r0, c1, c0, 2
    isb
    mov     r0, #1 << 30
    vmsr    fpexc, r0

    ldr     r0, =bss_start
    ldr     r1, =bss_end
    mov     r2, #0
    mov     r3, #0
1:  cmp     r0, r1
    strdlo  r2, r3, [r0], #8       /* the linker script aligns both ends to 16 */
    blo     1b

    ldr     r0, =translation       /* one entry for each of 4096 MiB */
    ldr     r1, =DEVICE
    ldr     r2, =NORMAL
    mov     r3, #0
2:  lsr     r4, r3, #10            /* the second GiB is RAM */
    cmp     r4, #1
    orreq   r4, r2, r3, lsl #20
    orrne   r4, r1, r3, lsl #20
    str     r4, [r0, r3, lsl #2]
    add     r3, r3, #1
    cmp     r3, #4096
    bne     2b
    mcr     p15, 0, r0, c2, c0, 0  /* TTBR0 */
    mov     r0, #0
    mcr     p15, 0, r0, c2, c0, 2  /* TTBCR: TTBR0 alone */
    mov     r0, #1
    mcr     p15, 0, r0, c3, c0, 0  /* DACR: permissions are checked */
    mov     r0, #0
    mcr     p15, 0, r0, c8, c7, 0  /* invalidate TLB, */
    mcr     p15, 0, r0, c7, c5, 0  /* instruction cache */
    mcr     p15, 0, r0, c7, c5, 6  /* and branch predictor */
    dsb
    isb
    mrc     p15, 0, r0, c1, c0, 0  /* SCTLR */
    bic     r0, r0, #1 << 1        /* A: no alignment faults */
    orr     r0, r0, #1 << 12 | 1 << 11
    orr     r0, r0, #1 << 2 | 1    /* I, Z, C and M */
    mcr     p15, 0, r0, c1, c0, 0
    isb

    mov     r0, #1 << 31
    mcr     p15, 0, r0, c9, c12, 1 /* PMCNTENSET: the cycle counter */
    mov     r0, #5
    mcr     p15, 0, r0, c9, c12, 0 /* PMCR: E, C: enable, reset */
    isb
    bl      main
    bl      leave
park:
    wfe
    b       park

abort_data:
    sub     lr, lr, #4
abort_instruction:
    sub     lr, lr, #4
    mov     r1, lr
    mrc     p15, 0, r0, c5, c0, 0  /* DFSR */
    mrc     p15, 0, r2, c6, c0, 0  /* DFAR */
    cpsid   if, #0x13
    b       fault

    .balign 32
vectors:
    b       start
    b       abort_instruction      /* undefined instruction */
    b       abort_instruction      /* SVC that no debugger took */
    b       abort_instruction
    b       abort_data
    b       park
    b       park
    b       park

.section .bss.translation, "aw", %nobits
    .balign 16384
translation:
    .space  16384
