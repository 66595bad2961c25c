// A persistent pool of threads that share out numbered chunks of work.
//
// The caller works too. A worker spins for SPIN after a job, because the next one follows at once while
// a step runs and waking up costs as much as a small job, and then sleeps: an idle engine uses no
// processor time.
//
// The threads live as long as the process, and a Pool is never destroyed: when the program ends, a
// daemon thread of Python's may still be computing.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
static inline void relax() { _mm_pause(); }
#else
static inline void relax() { std::this_thread::yield(); }
#endif

class Pool {
    using Clock = std::chrono::steady_clock;
    static constexpr auto SPIN = std::chrono::microseconds(500);

public:
    explicit Pool(int threads) {
        try {
            for (; workers_ < threads - 1; workers_++) std::thread([this] { serve(); }).detach();
        } catch (const std::system_error&) {  // the system allows no more: those there are will do
        }
    }
    ~Pool() = delete;

    int threads() const { return workers_ + 1; }

    // Calls work(chunk) once for each chunk in 0..chunks-1 and returns when all are done.
    template <class Work> void run(long chunks, const Work& work) {
        if (!workers_ || chunks < 2) {
            for (long c = 0; c < chunks; c++) work(c);
            return;
        }
        std::lock_guard<std::mutex> one_job_at_a_time(caller_);
        call_ = [](const void* w, long c) { (*static_cast<const Work*>(w))(c); };
        work_ = &work;
        chunks_ = chunks;
        next_.store(0, std::memory_order_relaxed);
        busy_.store(workers_, std::memory_order_relaxed);
        job_.fetch_add(1, std::memory_order_seq_cst);
        if (asleep_.load(std::memory_order_seq_cst)) {
            std::lock_guard<std::mutex> hold(mutex_);
            wake_.notify_all();
        }
        take();
        for (int spin = 0; busy_.load(std::memory_order_acquire); spin++)
            if (spin < 2000) relax();
            else std::this_thread::yield();  // a worker has lost its processor: let it have this one
    }

private:
    void take() {
        for (long c; (c = next_.fetch_add(1, std::memory_order_relaxed)) < chunks_;)
            call_(work_, c);
    }
    void serve() {
        unsigned seen = 0;
        for (;;) {
            for (const auto end = Clock::now() + SPIN;
                 job_.load(std::memory_order_acquire) == seen && Clock::now() < end;)
                for (int i = 0; i < 16; i++) relax();
            if (job_.load(std::memory_order_acquire) == seen) {
                std::unique_lock<std::mutex> hold(mutex_);
                asleep_.fetch_add(1, std::memory_order_seq_cst);
                wake_.wait(hold, [&] { return job_.load(std::memory_order_seq_cst) != seen; });
                asleep_.fetch_sub(1, std::memory_order_relaxed);
            }
            seen = job_.load(std::memory_order_acquire);
            take();
            busy_.fetch_sub(1, std::memory_order_release);
        }
    }

    int workers_ = 0;
    std::mutex mutex_, caller_;
    std::condition_variable wake_;
    std::atomic<unsigned> job_{0};
    std::atomic<int> busy_{0}, asleep_{0};
    std::atomic<long> next_{0};
    void (*call_)(const void*, long) = nullptr;
    const void* work_ = nullptr;
    long chunks_ = 0;
};
