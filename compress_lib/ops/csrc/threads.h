// Tasks on several threads: those that PyTorch's OpenMP keeps waiting, where it is GNU's; else new ones.
#pragma once
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#if defined(__linux__)
// Found in the process, not linked: a second OpenMP beside PyTorch's would keep a second set of threads spinning.
extern "C" __attribute__((weak)) void GOMP_parallel(void (*)(void*), void*, unsigned, unsigned);
#endif

// Calls run(task, thread) for tasks from 0; threads are numbered from 0. It must not throw.
template <class Run>
void parallel(std::int64_t tasks, std::int64_t threads, const Run& run) {
    threads = threads < tasks ? threads : tasks;
    struct Job {
        const Run& run;
        std::int64_t tasks;
        std::atomic<std::int64_t> task{0}, thread{0};

        void work() {
            const std::int64_t own = thread++;
            for (std::int64_t i; (i = task++) < tasks;) run(i, own);
        }
    } job{run, tasks};
    if (threads <= 1) return job.work();
#if defined(__linux__)
    if (GOMP_parallel)
        return GOMP_parallel([](void* p) { static_cast<Job*>(p)->work(); }, &job, static_cast<unsigned>(threads), 0);
#endif
    std::vector<std::thread> others;
    for (std::int64_t i = 1; i < threads; ++i) others.emplace_back([&job] { job.work(); });
    job.work();
    for (std::thread& other : others) other.join();
}
