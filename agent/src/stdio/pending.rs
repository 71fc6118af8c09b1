//! Bytes that were read from one side and not yet written to the other.

/// Bytes moved at once: what a pipe holds.
const CHUNK: usize = 64 * 1024;

/// Outlives the connection that broke while they were on their way.
#[derive(Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    written: usize,
}

impl Pending {
    /// The bytes to write.
    pub fn rest(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// Notes that the first `count` of them were written. Nothing moves in
    /// memory: a partial write only counts up.
    pub fn advance(&mut self, count: usize) {
        self.written += count;
        if self.rest().is_empty() {
            self.bytes.clear();
            self.written = 0;
        }
    }

    /// A vector with room for a chunk, to append to.
    pub fn space(&mut self) -> &mut Vec<u8> {
        self.bytes.reserve(CHUNK);
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_writes_keep_the_rest() {
        let mut pending = Pending::default();
        pending.space().extend_from_slice(b"abc");
        pending.advance(2);
        assert_eq!(pending.rest(), b"c");
        pending.space().extend_from_slice(b"d");
        pending.advance(1);
        assert_eq!(pending.rest(), b"d");
        pending.advance(1);
        assert!(pending.rest().is_empty() && pending.space().is_empty());
    }
}
