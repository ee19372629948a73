/* The native half of Digits.java. Nothing is allocated or copied here: input, output and arena are
 * direct buffers that the Java object owns, so every object has its own state. */
#include <jni.h>

#define DIGITS_SELFTEST
#define DIGITS_IMPLEMENTATION
#include "digits.h"

/* Arena of the run and memory of the selftest, wherever the buffer begins. */
enum { MEMORY_BYTES = DIGITS_SELFTEST_BYTES + DIGITS_ARENA_ALIGN - 1 };

/* Address of a direct buffer of at least `bytes` bytes; NULL for anything else. */
static void *address(JNIEnv *env, jobject buffer, jlong bytes)
{
    if (buffer == NULL || (*env)->GetDirectBufferCapacity(env, buffer) < bytes) {
        return NULL;
    }
    return (*env)->GetDirectBufferAddress(env, buffer);
}

static void *aligned(void *memory)
{
    const uintptr_t past = (uintptr_t)memory % DIGITS_ARENA_ALIGN;
    if (memory == NULL || past == 0) {
        return memory;
    }
    return (unsigned char *)memory + (DIGITS_ARENA_ALIGN - past);
}

JNIEXPORT jint JNICALL Java_org_example_Digits_memoryBytes(JNIEnv *env, jclass type)
{
    (void)env;
    (void)type;
    return MEMORY_BYTES;
}

JNIEXPORT jint JNICALL Java_org_example_Digits_run(JNIEnv *env, jclass type, jobject image,
                                                   jobject scores, jobject memory)
{
    const int8_t *const x = (const int8_t *)address(env, image, DIGITS_INPUT_BYTES);
    int8_t *const y = (int8_t *)address(env, scores, DIGITS_OUTPUT_BYTES);
    void *const arena = aligned(address(env, memory, MEMORY_BYTES));
    (void)type;
    return digits_run(x, y, arena);
}

JNIEXPORT jint JNICALL Java_org_example_Digits_selftest(JNIEnv *env, jclass type, jobject memory)
{
    (void)type;
    return digits_selftest(aligned(address(env, memory, MEMORY_BYTES)));
}

/* Text for a result of run (negative) or of selftest (the op that differs). */
JNIEXPORT jstring JNICALL Java_org_example_Digits_text(JNIEnv *env, jclass type, jint result)
{
    (void)type;
    return (*env)->NewStringUTF(env, result > 0 ? digits_selftest_op(result)
                                                : digits_strerror(result));
}
