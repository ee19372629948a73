/* Output and end by semihosting: the debugger, here the emulator, does the work. */
#include "board.h"

enum { SYS_WRITE0 = 0x04, SYS_EXIT_EXTENDED = 0x20 };

static const uintptr_t APPLICATION_EXIT = 0x20026;

static void semihosting(uintptr_t operation, const void *parameter)
{
#if defined(__aarch64__)
    register uintptr_t op __asm__("x0") = operation;
    register const void *at __asm__("x1") = parameter;
    __asm__ volatile("hlt #0xf000" : "+r"(op) : "r"(at) : "memory");
#elif defined(__thumb__)
    register uintptr_t op __asm__("r0") = operation;
    register const void *at __asm__("r1") = parameter;
    __asm__ volatile("svc #0xab" : "+r"(op) : "r"(at) : "memory", "lr");
#else
    register uintptr_t op __asm__("r0") = operation;
    register const void *at __asm__("r1") = parameter;
    __asm__ volatile("svc #0x123456" : "+r"(op) : "r"(at) : "memory", "lr");
#endif
}

void board_print(const char *text)
{
    semihosting(SYS_WRITE0, text);
}

void leave(int code)
{
    const uintptr_t parameter[2] = {APPLICATION_EXIT, (uintptr_t)code};
    semihosting(SYS_EXIT_EXTENDED, parameter);
    for (;;) {
    }
}

static void print_hex(const char *name, uintptr_t value)
{
    char text[2 * sizeof value + 1];
    unsigned i;
    for (i = 0; i < 2 * sizeof value; ++i) {
        text[i] = "0123456789abcdef"[value >> 4 * (2 * sizeof value - 1 - i) & 15];
    }
    text[i] = 0;
    board_print(name);
    board_print(text);
}

void fault(uintptr_t cause, uintptr_t place, uintptr_t address)
{
    print_hex("fault: cause ", cause);
    print_hex(", at ", place);
    print_hex(", address ", address);
    board_print("\n");
    leave(1);
}
