// Memory that a thread keeps between calls, one for each `use`, from the beginning of a cache line on.
#pragma once
#include <memory>
#include <new>

struct alignas(64) Line {  // of the cache
    unsigned char bytes[64];
};

template <class T, int use = 0> static T* scratch(long count) {
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
