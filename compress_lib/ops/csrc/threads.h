// Tasks on several threads: those that PyTorch's OpenMP keeps waiting, where it is GNU's; else new ones.
#pragma once
#include <pthread.h>

#include <atomic>
#include <cstdint>
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

        static void* work(void* self) {
            Job& job = *static_cast<Job*>(self);
            const std::int64_t own = job.thread++;
            for (std::int64_t i; (i = job.task++) < job.tasks;) job.run(i, own);
            return nullptr;
        }
    } job{run, tasks};
    if (threads <= 1) return void(Job::work(&job));
#if defined(__linux__)
    if (GOMP_parallel)
        return GOMP_parallel([](void* self) { Job::work(self); }, &job, static_cast<unsigned>(threads), 0);
#endif
    std::vector<pthread_t> others;
    others.reserve(threads);
    for (pthread_t other; static_cast<std::int64_t>(others.size()) + 1 < threads; others.push_back(other))
        if (pthread_create(&other, nullptr, Job::work, &job)) break;  // those that there are do all tasks
    Job::work(&job);
    for (pthread_t other : others) pthread_join(other, nullptr);
}
