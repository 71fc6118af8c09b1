//! Takes a fuzzer's bytes apart.

/// What is left of the input.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next `len` bytes, or fewer at the end.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// The next byte; `None` at the end.
    #[allow(dead_code)]
    pub fn byte(&mut self) -> Option<u8> {
        self.bytes(1).first().copied()
    }

    /// The next two bytes, zeros at the end.
    pub fn half(&mut self) -> u16 {
        let mut half = [0; 2];
        let bytes = self.bytes(2);
        half[..bytes.len()].copy_from_slice(bytes);
        u16::from_le_bytes(half)
    }

    /// The next four bytes, zeros at the end.
    #[allow(dead_code)]
    pub fn word(&mut self) -> u32 {
        u32::from(self.half()) | u32::from(self.half()) << 16
    }
}
