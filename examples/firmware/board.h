/* What the program needs of the board: a cycle counter, text output, an end. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

/* Cycles since start-up; only differences mean anything, they are right modulo 2^32. */
static inline uint32_t board_cycles(void)
{
#if defined(__aarch64__)
    uint64_t cycles;
    __asm__ volatile("isb\n\tmrs %0, pmccntr_el0" : "=r"(cycles) : : "memory");
    return (uint32_t)cycles;
#else
    uint32_t cycles;
    __asm__ volatile("isb\n\tmrc p15, 0, %0, c9, c13, 0" : "=r"(cycles) : : "memory");
    return cycles;
#endif
}

/* Write text, which ends with a zero, to the debugger's console. */
void board_print(const char *text);

/* End the program; the debugger exits with `code`. */
_Noreturn void leave(int code);

/* An exception that nobody expects: its cause, place and address, then the end. */
_Noreturn void fault(uintptr_t cause, uintptr_t place, uintptr_t address);

#endif
