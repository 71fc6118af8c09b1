#![allow(clippy::unwrap_used)]

use std::cell::Cell;

use super::*;

/// Gives so many blocks and then its end; takes everything.
#[derive(Default)]
struct Blocks {
    left: usize,
    finished: Cell<bool>,
}

impl Read for Blocks {
    fn read(&mut self, block: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(0) };
        self.left = left;
        Ok(block.len())
    }
}

impl Write for Blocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl End for Blocks {
    fn finish(&self) -> io::Result<()> {
        self.finished.set(true);
        Ok(())
    }
}

/// Wherever in a turn the end comes, the pipe is done or waits for something.
#[test]
fn the_end_is_told_wherever_a_turn_ends() {
    for count in 0..=2 * BLOCKS {
        let (mut source, mut sink) =
            (Blocks { left: count, ..Blocks::default() }, Blocks::default());
        let (mut pipe, mut block, mut moved) = (Pipe::default(), vec![0; 16], 0);
        while !pipe.is_done() {
            moved += pipe.pump(&mut source, &mut sink, &mut block).unwrap();
            assert!(pipe.is_done() || pipe.reads() || pipe.writes(), "stuck after {count} blocks");
        }
        assert_eq!(moved, count as u64 * 16);
        assert!(sink.finished.get(), "{count} blocks");
    }
}
