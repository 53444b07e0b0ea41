//! How binaries use mimalloc, which they allocate with.

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

/// `mi_option_purge_delay` of mimalloc.h, in milliseconds, or -1 for ever; the crate does not name it.
const PURGE_DELAY: mi_option_t = 15;

/// Has mimalloc keep what is freed until the process ends, unless MIMALLOC_PURGE_DELAY says otherwise: to be called first in `main`. It
/// would go back to the system after a second, by parts of large pages, and come back page by page: on a virtual machine a fit of
/// 20,000 x 384 that began a second after another took .059 s, and .045 s without that (medians of 27).
pub fn keep_freed_memory() {
    #[expect(unsafe_code, reason = "no safe wrapper knows this call")]
    // SAFETY: writes a number to mimalloc's table of options, which nothing but its frees reads, and those take either.
    unsafe {
        mi_option_set_default(PURGE_DELAY, -1);
    }
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::{PURGE_DELAY, keep_freed_memory};

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        #[expect(unsafe_code, reason = "no safe wrapper knows this call")]
        // SAFETY: reads a number.
        let delay = || unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(delay(), 1000, "mimalloc's default, where the environment has no MIMALLOC_PURGE_DELAY");
        keep_freed_memory();
        assert_eq!(delay(), -1);
    }
}
