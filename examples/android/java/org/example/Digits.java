package org.example;

import java.nio.ByteBuffer;

/** Reads a handwritten digit. Objects are independent; one of them serves one thread at a time. */
public final class Digits {
    public static final int IMAGE_BYTES = 64;
    public static final int CLASSES = 10;

    static {
        System.loadLibrary("digits");
    }

    private final ByteBuffer image = ByteBuffer.allocateDirect(IMAGE_BYTES);
    private final ByteBuffer scores = ByteBuffer.allocateDirect(CLASSES);
    private final ByteBuffer memory = ByteBuffer.allocateDirect(memoryBytes());

    /**
     * Runs the model once.
     *
     * @param grey 8 x 8 grey values minus 128, row by row
     * @return per digit q, where (q + 128) / 256 is its probability
     */
    public byte[] classify(byte[] grey) {
        image.clear();
        image.put(grey, 0, IMAGE_BYTES);
        final int result = run(image, scores, memory);
        if (result != 0) {
            throw new IllegalStateException(text(result));
        }
        final byte[] found = new byte[CLASSES];
        scores.clear();
        scores.get(found);
        return found;
    }

    /** Whether this device computes what the PC computed: null, or the first op that differs. */
    public String selftest() {
        final int result = selftest(memory);
        return result == 0 ? null : text(result);
    }

    private static native int memoryBytes();

    private static native int run(ByteBuffer image, ByteBuffer scores, ByteBuffer memory);

    private static native int selftest(ByteBuffer memory);

    private static native String text(int result);
}
