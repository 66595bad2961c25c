// Memory that a thread keeps between calls, one for each `use`.
#pragma once
#include <memory>

struct alignas(64) Line {  // of the cache
    unsigned char bytes[64];
};

template <class T, int use = 0> static T* scratch(long count) {
    thread_local std::unique_ptr<T[]> memory;
    thread_local long there = 0;
    if (there < count) {
        memory.reset();  // first, so that old and new are never there together
        memory.reset(new T[there = count]);
    }
    return memory.get();
}
