"""Real compilers, emulators and ELF files; knows nothing of models or targets."""
