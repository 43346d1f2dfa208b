//! How the system's allocator treats what is freed.
//!
//! Left alone, glibc learns to keep ever larger pieces for next time, up to 32 MiB in an arena for each few threads: a process
//! whose epochs take and give back a hundred megabytes then keeps three hundred more than it uses. Large pieces are mapped
//! each for itself instead, so that what is given back is gone.
//!
//! What each micro-batch takes and gives back (a chunk of a file, its records, its columns) is smaller. Mapped anew each
//! time, its pages cost a third of all CPU time.
//!
//! Threads take from arenas of their own, of which glibc makes eight for each core, and each keeps what once was needed in it.
//! One for each core is no slower, and after an hour the demo is 270 MB instead of 450.
//!
//! Others instead of glibc's cost more: from a full topic, of which librdkafka makes what the workers free, jemalloc takes a
//! tenth more CPU time for each event, and mimalloc a quarter.

/// Before there are threads.
pub fn give_back_what_is_large() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE: libc::c_int = 8 << 20;
        /// What an arena may keep at its end.
        const KEPT: libc::c_int = 32 << 20;
        const ARENAS_MIN: usize = 2;
        let arenas =
            std::thread::available_parallelism().map_or(ARENAS_MIN, |cores| cores.get().max(ARENAS_MIN));
        // SAFETY: sets three numbers, and no other thread is there yet. With others than these it goes on as before.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, arenas as libc::c_int);
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        }
    }
}
