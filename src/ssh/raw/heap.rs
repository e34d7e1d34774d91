//! The C library's heap, which libssh2 allocates from on every thread.

/// Arenas to be shared by all threads.
#[cfg(target_env = "gnu")]
const ARENAS: std::ffi::c_int = 2;

/// Has all threads share two arenas of the C library's heap; the GNU C library makes up to eight for each processor otherwise.
///
/// A thread for each host in flight fills every arena there is, and what is freed in one is of no use in another: with fifty hosts that
/// write without end a third of the memory was that, and on larger machines it is more. For the whole process and all of its later
/// threads, so a library never does it unasked. With another C library it does nothing.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number under the heap's own lock. That it may be refused (0) is no harm: then the arenas stay as many.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}
