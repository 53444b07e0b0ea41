//! How binaries use mimalloc, which they allocate with.

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

/// `mi_option_minimal_purge_size` of mimalloc.h, in KiB; the crate does not name it.
const MINIMAL_PURGE_SIZE: mi_option_t = 44;

/// Has mimalloc give what was freed a second ago back to the system in whole large pages only, unless MIMALLOC_MINIMAL_PURGE_SIZE says
/// otherwise: to be called first in `main`. What it gives back of a large page comes back in small ones, one by one: on a virtual machine that
/// took up to 20 ms of a fit of 20,000 x 384, which began a second after another. To give nothing back took half as much memory again in
/// training on 100,000 x 4096.
pub fn keep_large_pages_whole() {
    #[expect(unsafe_code, reason = "no safe wrapper knows this call")]
    // SAFETY: writes a number to mimalloc's table of options, which nothing but its frees reads, and those take either.
    unsafe {
        mi_option_set_default(MINIMAL_PURGE_SIZE, 2048);
    }
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::{_mi_option_last, mi_option_get};

    use super::{MINIMAL_PURGE_SIZE, keep_large_pages_whole};

    /// By its neighbours' defaults, for its own is 0, as is that of many.
    #[test]
    fn the_option_is_the_one_that_is_meant() {
        #[expect(unsafe_code, reason = "no safe wrapper knows this call")]
        // SAFETY: reads a number.
        let get = |option| unsafe { mi_option_get(option) };
        let [allow_thp, arena_max_object_size] = [MINIMAL_PURGE_SIZE - 1, MINIMAL_PURGE_SIZE + 1];
        assert_eq!((get(allow_thp), get(arena_max_object_size), _mi_option_last), (1, 2 << 20, 47));
        keep_large_pages_whole();
        assert_eq!(get(MINIMAL_PURGE_SIZE), 2048);
    }
}
