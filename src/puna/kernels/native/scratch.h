// Memory that a thread keeps between calls, one for each `use`, from the beginning of a cache line on.
#pragma once
#include <memory>
#include <new>

enum Use {
    INTEGERS, WIDE_INTEGERS, SCALES, STARTS_OF_Q8, STARTS_OF_Q6, STARTS_OF_Q4, STARTS_OF_Q4M, INPUTS, NORMED, SUMS,
    BYTES_IN_TILES, SCALES_IN_TILES, NARROWED,  // linear.h
    QUERIES, KEYS_OF_ROWS, VALUES_OF_ROWS, ATTENDED, HIDDEN, GATED,  // layer.h
    GATHERED, PARTS, TILE_QUERIES, TILE_KEYS, TILE_VALUES, TILE_WEIGHTS, TILE_SCORES, TILE_UNITS,  // attention
};

template <class T, Use use> static T* scratch(long count) {
    struct Free {
        void operator()(T* memory) const { operator delete[](memory, std::align_val_t(64)); }
    };
    thread_local std::unique_ptr<T[], Free> memory;
    thread_local long there = 0;
    if (there < count) {
        memory.reset();  // first, so that old and new are never there together
        memory.reset((T*)operator new[](count * sizeof(T), std::align_val_t(64)));
        there = count;
    }
    return memory.get();
}
