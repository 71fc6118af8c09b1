use sandbox_netstack::port::{Offload, Port, Received, VNET_HEADER, emit_vnet, parse_vnet};

use super::Drops;
use crate::{Chain, DeviceError, QueueIo};

/// Offset of `num_buffers` in the header before a frame.
const NUM_BUFFERS: usize = 10;

/// Frames that are none, taken in a turn: a guest that sends nothing else must
/// not keep the device for itself.
const BAD_FRAMES: usize = 64;

/// Memory that is kept from turn to turn, so that a frame allocates none.
#[derive(Default)]
pub struct Scratch {
    /// Receive buffers taken for the next frame.
    held: Vec<Chain>,
    /// Those that a frame was written into.
    used: Vec<(u16, u32)>,
}

/// The link as the stack knows it: its two rings, for the length of a call.
pub struct Rings<'a, 'q> {
    rx: &'a mut QueueIo<'q>,
    tx: &'a mut QueueIo<'q>,
    /// Whether a frame may take more than one receive buffer.
    mergeable: bool,
    scratch: &'a mut Scratch,
    drops: &'a mut Drops,
    /// Bytes in `scratch.held`.
    room: usize,
    bad: usize,
    error: Option<DeviceError>,
}

impl<'a, 'q> Rings<'a, 'q> {
    /// The rings of a call. [`finish`](Self::finish) ends it.
    pub fn new(
        rx: &'a mut QueueIo<'q>,
        tx: &'a mut QueueIo<'q>,
        mergeable: bool,
        scratch: &'a mut Scratch,
        drops: &'a mut Drops,
    ) -> Self {
        scratch.held.clear();
        Self { rx, tx, mergeable, scratch, drops, room: 0, bad: 0, error: None }
    }

    /// Gives back what was taken and not used: a queue that is stopped says
    /// how far it is by the buffers that it took. Answers whether the guest's
    /// frames were left for another turn.
    pub fn finish(self) -> Result<bool, DeviceError> {
        for _ in self.scratch.held.drain(..) {
            self.rx.unpop();
        }
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.bad >= BAD_FRAMES),
        }
    }

    /// Takes up to `count` frames that go nowhere; whether there may be more.
    pub fn discard(&mut self, count: usize) -> Result<bool, DeviceError> {
        for _ in 0..count {
            let Some(chain) = pop(self.tx)? else { return Ok(false) };
            self.drops.unconfigured += 1;
            self.tx.push(&chain, 0)?;
        }
        Ok(true)
    }

    fn next_frame(&mut self, buffer: &mut [u8]) -> Result<Option<Received>, DeviceError> {
        while self.bad < BAD_FRAMES {
            let Some(chain) = pop(self.tx)? else { return Ok(None) };
            let taken = take(&chain, self.tx, buffer);
            self.tx.push(&chain, 0)?;
            if taken.is_some() {
                return Ok(taken);
            }
            self.bad += 1;
            self.drops.malformed += 1;
        }
        Ok(None)
    }

    /// Takes receive buffers until a frame of `length` bytes fits; false if
    /// the guest has to give more, and will kick when it has.
    fn reserve(&mut self, length: usize) -> Result<bool, DeviceError> {
        let needed = VNET_HEADER + length;
        while self.room < needed {
            if !self.mergeable && !self.scratch.held.is_empty() {
                return Ok(true);
            }
            let Some(chain) = pop(self.rx)? else { return Ok(false) };
            let bytes = chain.writable_bytes() as usize;
            self.scratch.held.push(chain);
            if bytes < VNET_HEADER {
                return Err(self.rx.bad_request("a receive buffer too small for a header"));
            }
            self.room += bytes;
        }
        Ok(true)
    }

    fn send(&mut self, frame: &[u8], offload: Offload) -> Result<bool, DeviceError> {
        if !self.reserve(frame.len())? {
            return Ok(false);
        }
        if self.room < VNET_HEADER + frame.len() {
            // The one buffer that there may be for it is too small.
            self.drops.too_long += 1;
            return Ok(true);
        }
        self.scatter(frame, offload)?;
        self.rx.push_together(self.scratch.used.drain(..))?;
        Ok(true)
    }

    /// Writes a frame into the buffers that were taken for it. What is left of
    /// them serves the next frame.
    fn scatter(&mut self, frame: &[u8], offload: Offload) -> Result<(), DeviceError> {
        let Scratch { held, used } = &mut *self.scratch;
        let count = buffers(held, VNET_HEADER + frame.len());
        let mut header = emit_vnet(offload);
        // At most as many as the queue is long.
        let number = u16::try_from(count).unwrap_or(u16::MAX);
        header[NUM_BUFFERS..].copy_from_slice(&number.to_le_bytes());
        let (mut header, mut rest) = (&header[..], frame);
        for chain in held.drain(..count) {
            self.room -= chain.writable_bytes() as usize;
            let mut writer = chain.writer(self.rx.memory());
            let piece = rest.split_at(rest.len().min(writer.left() as usize - header.len()));
            let written = writer.write_all(header).and_then(|()| writer.write_all(piece.0));
            let what = "cannot write to the guest's memory";
            written.map_err(|source| DeviceError::Host { what, source })?;
            used.push((chain.head(), writer.written()));
            (header, rest) = (&[], piece.1);
        }
        Ok(())
    }

    /// A ring that breaks the rules has nothing more for the stack; the device
    /// hears of it when the turn is over.
    fn unless_broken<T>(
        &mut self,
        otherwise: T,
        act: impl FnOnce(&mut Self) -> Result<T, DeviceError>,
    ) -> T {
        if self.error.is_some() {
            return otherwise;
        }
        match act(self) {
            Ok(done) => done,
            Err(error) => {
                self.error = Some(error);
                otherwise
            }
        }
    }
}

impl Port for Rings<'_, '_> {
    fn receive(&mut self, buffer: &mut [u8]) -> Option<Received> {
        self.unless_broken(None, |rings| rings.next_frame(buffer))
    }

    fn room(&mut self, length: usize) -> bool {
        self.unless_broken(false, |rings| rings.reserve(length))
    }

    fn transmit(&mut self, frame: &[u8], offload: Offload) -> bool {
        self.unless_broken(false, |rings| rings.send(frame, offload))
    }

    /// The device interrupts the guest at the end of its turn.
    fn end_batch(&mut self) {}
}

/// The next chain. Without one, the guest kicks for the next.
fn pop(queue: &mut QueueIo) -> Result<Option<Chain>, DeviceError> {
    match queue.pop()? {
        // Looked at once more, and no more than that: a guest that takes back
        // what it offers must not keep the device looking.
        None if queue.rearm()? => queue.pop(),
        chain => Ok(chain),
    }
}

/// Copies a frame of the guest, once: what is looked at is the copy.
fn take(chain: &Chain, queue: &QueueIo, buffer: &mut [u8]) -> Option<Received> {
    let mut reader = chain.reader(queue.memory());
    let mut header = [0; VNET_HEADER];
    reader.read_exact(&mut header).ok()?;
    let length = reader.left() as usize;
    let frame = buffer.get_mut(..length)?;
    reader.read_exact(frame).ok()?;
    let offload = parse_vnet(&header, frame).ok()?;
    Some(Received { length, offload })
}

/// How many of these buffers `length` bytes take.
fn buffers(held: &[Chain], length: usize) -> usize {
    let mut left = length;
    let full = held.iter().take_while(|chain| {
        let more = left > 0;
        left = left.saturating_sub(chain.writable_bytes() as usize);
        more
    });
    full.count()
}
