/* Runs a .tflite model N times with LiteRT's CPU kernels, to be counted under an emulator.
 *
 *   litert_peer MODEL xnn|ruy|ref N [heap]
 *
 * xnn  the default of LiteRT: the XNNPACK delegate, its own kernels for what it does not take.
 * ruy  the same kernels without delegate (BuiltinOpResolverWithoutDefaultDelegates in C++): matrix
 *      products by ruy.
 * ref  reference kernels.
 * One thread. Inputs are filled once with the bytes of a linear congruential generator. The bytes
 * of the outputs go to standard output after the last inference; with `heap`, instead, the bytes
 * that were on the heap then and not before the model was read.
 *
 * Links with libLiteRtRuntimeCApi.so of the ai-edge-litert wheel, which exports TensorFlow Lite's
 * C interface; what is needed of it is declared here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct TfLiteModel TfLiteModel;
typedef struct TfLiteInterpreterOptions TfLiteInterpreterOptions;
typedef struct TfLiteInterpreter TfLiteInterpreter;
typedef struct TfLiteTensor TfLiteTensor;
typedef struct TfLiteRegistration TfLiteRegistration;
typedef struct TfLiteDelegate TfLiteDelegate;

TfLiteModel *TfLiteModelCreateFromFile(const char *path);
TfLiteInterpreterOptions *TfLiteInterpreterOptionsCreate(void);
void TfLiteInterpreterOptionsSetNumThreads(TfLiteInterpreterOptions *options, int32_t threads);
void TfLiteInterpreterOptionsAddBuiltinOp(TfLiteInterpreterOptions *options, int op,
                                          const TfLiteRegistration *registration,
                                          int32_t min_version, int32_t max_version);
void TfLiteInterpreterOptionsAddDelegate(TfLiteInterpreterOptions *options,
                                         TfLiteDelegate *delegate);
TfLiteDelegate *TfLiteXNNPackDelegateCreate(const void *options);
TfLiteInterpreter *TfLiteInterpreterCreateWithSelectedOps(const TfLiteModel *model,
                                                          const TfLiteInterpreterOptions *options);
int TfLiteInterpreterAllocateTensors(TfLiteInterpreter *interpreter);
int TfLiteInterpreterInvoke(TfLiteInterpreter *interpreter);
int32_t TfLiteInterpreterGetInputTensorCount(const TfLiteInterpreter *interpreter);
int32_t TfLiteInterpreterGetOutputTensorCount(const TfLiteInterpreter *interpreter);
TfLiteTensor *TfLiteInterpreterGetInputTensor(const TfLiteInterpreter *interpreter, int32_t i);
const TfLiteTensor *TfLiteInterpreterGetOutputTensor(const TfLiteInterpreter *interpreter,
                                                     int32_t i);
size_t TfLiteTensorByteSize(const TfLiteTensor *tensor);
void *TfLiteTensorData(const TfLiteTensor *tensor);

/* Operator codes of the schema. A version above the kernel's own would be refused by the kernel's
 * preparation, so the upper limit here is only wide enough. */
static const struct {
    int code;
    const char *name;
} OPS[] = {
    {0, "ADD"}, {1, "AVERAGE_POOL_2D"}, {2, "CONCATENATION"},
    {3, "CONV_2D"}, {4, "DEPTHWISE_CONV_2D"}, {6, "DEQUANTIZE"},
    {9, "FULLY_CONNECTED"}, {14, "LOGISTIC"}, {17, "MAX_POOL_2D"},
    {18, "MUL"}, {19, "RELU"}, {21, "RELU6"},
    {22, "RESHAPE"}, {23, "RESIZE_BILINEAR"}, {25, "SOFTMAX"},
    {28, "TANH"}, {34, "PAD"}, {40, "MEAN"},
    {41, "SUB"}, {114, "QUANTIZE"},
};

static void fail(const char *what, const char *which) {
    fprintf(stderr, "litert_peer: %s %s\n", what, which);
    exit(1);
}

/* Kernels are registered one by one: an interpreter made so has no default delegates. The functions
 * that return a kernel are C++, hence found by their mangled names. */
static void add_kernels(TfLiteInterpreterOptions *options, const char *suffix) {
    for (size_t i = 0; i < sizeof OPS / sizeof *OPS; i++) {
        char plain[64], mangled[128];
        TfLiteRegistration *(*kernel)(void);
        snprintf(plain, sizeof plain, "Register_%s%s", OPS[i].name, suffix);
        snprintf(mangled, sizeof mangled, "_ZN6tflite3ops7builtin%zu%sEv", strlen(plain), plain);
        *(void **)&kernel = dlsym(RTLD_DEFAULT, mangled);
        if (!kernel && *suffix) {
            snprintf(plain, sizeof plain, "Register_%s", OPS[i].name);
            snprintf(mangled, sizeof mangled, "_ZN6tflite3ops7builtin%zu%sEv", strlen(plain),
                     plain);
            *(void **)&kernel = dlsym(RTLD_DEFAULT, mangled);
        }
        if (!kernel)
            fail("the library has no kernel for", OPS[i].name);
        TfLiteInterpreterOptionsAddBuiltinOp(options, OPS[i].code, kernel(), 1, 20);
    }
}

static size_t heap(void) {
    const struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

int main(int argc, char **argv) {
    uint32_t state = 1;
    if (argc != 4 && argc != 5)
        fail("usage:", "litert_peer MODEL xnn|ruy|ref N [heap]");
    const size_t before = heap();
    TfLiteModel *model = TfLiteModelCreateFromFile(argv[1]);
    if (!model)
        fail("cannot read", argv[1]);
    TfLiteInterpreterOptions *options = TfLiteInterpreterOptionsCreate();
    TfLiteInterpreterOptionsSetNumThreads(options, 1);
    TfLiteInterpreter *interpreter;
    if (strcmp(argv[2], "xnn") == 0)
        TfLiteInterpreterOptionsAddDelegate(options, TfLiteXNNPackDelegateCreate(NULL));
    else if (strcmp(argv[2], "ruy") != 0 && strcmp(argv[2], "ref") != 0)
        fail("no such kernels:", argv[2]);
    add_kernels(options, argv[2][2] == 'f' ? "_REF" : "");
    interpreter = TfLiteInterpreterCreateWithSelectedOps(model, options);
    if (!interpreter || TfLiteInterpreterAllocateTensors(interpreter) != 0)
        fail("cannot prepare", argv[1]);
    for (int32_t i = 0; i < TfLiteInterpreterGetInputTensorCount(interpreter); i++) {
        const TfLiteTensor *t = TfLiteInterpreterGetInputTensor(interpreter, i);
        unsigned char *bytes = TfLiteTensorData(t);
        for (size_t k = 0; k < TfLiteTensorByteSize(t); k++) {
            state = state * 1664525u + 1013904223u;
            bytes[k] = (unsigned char)(state >> 24);
        }
    }
    for (long n = atol(argv[3]); n > 0; n--)
        if (TfLiteInterpreterInvoke(interpreter) != 0)
            fail("cannot run", argv[1]);
    if (argc == 5) {
        printf("%zu\n", heap() - before);
        return 0;
    }
    for (int32_t i = 0; i < TfLiteInterpreterGetOutputTensorCount(interpreter); i++) {
        const TfLiteTensor *t = TfLiteInterpreterGetOutputTensor(interpreter, i);
        fwrite(TfLiteTensorData(t), 1, TfLiteTensorByteSize(t), stdout);
    }
    return 0;
}
