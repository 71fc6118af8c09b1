//! An allocator for programs that run the network stack: a block as large as a
//! connection's ring is a mapping of its own, the rest is the system's.
//!
//! So a page of a ring that was never used costs nothing, and a connection
//! that is over gives its rings back. glibc maps large blocks only until the
//! first is freed; from then on they come from its heap, each zeroed in full
//! when it is asked for, and kept when it is freed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Blocks from this size on are mapped.
const MAPPED: usize = 16 << 10;

/// What pages are aligned to at least.
const PAGE: usize = 4 << 10;

/// After so many bytes that went back to the system's heap, it is asked for
/// the pages of which nothing is used. Keeps what thousands of connections
/// needed at a time from staying when they are gone.
const TRIM: usize = 16 << 20;

/// Bytes given back to the heap since it was last asked.
static FREED: AtomicUsize = AtomicUsize::new(0);

/// The allocator.
pub struct Mapped;

fn is_mapped(layout: Layout) -> bool {
    layout.size() >= MAPPED && layout.align() <= PAGE
}

fn map(size: usize) -> *mut u8 {
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
    // SAFETY: a mapping at an address of the kernel's choice disturbs nothing.
    let address = unsafe { libc::mmap(ptr::null_mut(), size, access, flags, -1, 0) };
    if address == libc::MAP_FAILED { ptr::null_mut() } else { address.cast() }
}

fn count_freed(size: usize) {
    if FREED.fetch_add(size, Ordering::Relaxed) + size >= TRIM {
        FREED.store(0, Ordering::Relaxed);
        // SAFETY: gives back only what nothing is in.
        unsafe { libc::malloc_trim(0) };
    }
}

// SAFETY: which of the two a block is from is told by its layout alone, which
// is the same when it is freed. Mappings are zeroed, as large as asked for and
// aligned to a page; they do not overlap others, and only `dealloc` and
// `realloc` end them.
unsafe impl GlobalAlloc for Mapped {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_mapped(layout) {
            return map(layout.size());
        }
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_mapped(layout) {
            return map(layout.size());
        }
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_mapped(layout) {
            // SAFETY: the mapping is the block's own, see `alloc`.
            unsafe { libc::munmap(block.cast(), layout.size()) };
            return;
        }
        // SAFETY: the block is from the system, see `alloc`.
        unsafe { System.dealloc(block, layout) };
        count_freed(layout.size());
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `size` is one for this alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (is_mapped(layout), is_mapped(wanted)) {
            // SAFETY: the block is from the system and stays there.
            (false, false) => unsafe { System.realloc(block, layout, size) },
            (true, true) => {
                let flags = libc::MREMAP_MAYMOVE;
                // SAFETY: the mapping is the block's own.
                let moved = unsafe { libc::mremap(block.cast(), layout.size(), size, flags) };
                if moved == libc::MAP_FAILED { ptr::null_mut() } else { moved.cast() }
            }
            _ => {
                // SAFETY: two blocks, neither shorter than what is copied; the
                // old one is not used again.
                unsafe {
                    let fresh = self.alloc(wanted);
                    if !fresh.is_null() {
                        ptr::copy_nonoverlapping(block, fresh, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    fresh
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
