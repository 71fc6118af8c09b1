//! What stands between the guest and smoltcp's TCP: the edge of the window.
//!
//! smoltcp 0.14 advertises a window rounded down to its scale, so that the
//! right edge moves back by up to `2^shift - 1` bytes when the acknowledgement
//! advances by an odd number; and it believes a FIN on a segment that it has
//! cut at that edge, which truncates the stream silently. And when the
//! guest closes its window it stops the clock by which it would send again what
//! is on its way; a guest that has dropped that, as Linux does when its memory
//! is short, waits for it for ever. All are held off here, at the only place
//! that sees every header:
//!
//! - a FIN that is beyond what smoltcp takes is cleared, so that the guest
//!   sends the tail and the FIN again;
//! - the window advertised to the guest is a little smaller than smoltcp's, and the
//!   difference is used to keep the edge from moving back;
//! - smoltcp is told of a closed window only when nothing is on its way. Until
//!   then it is the smallest that is none: nothing new fits into it, and what
//!   is sent again by the clock asks whether it has opened;
//! - what was on its way when the window closed is sent again when it opens:
//!   the clock, of at least a second, is moved to where it strikes.

use super::segment::{ACK, FIN, FLAGS, SYN, Segment, WINDOW, ahead};

/// Bytes kept back of a scaled window. One acknowledgement uses up at most
/// `2^shift - 1` of them, and the host's reading gives them back.
const SLACK: u32 = 1_024;

/// The window of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Guard {
    /// The scale of our windows: 0 until both sides agreed on one.
    shift: u8,
    /// Where smoltcp stops taking.
    taken: Option<u32>,
    /// The right edge of the window advertised to the guest.
    told: Option<u32>,
}

/// How the guest's window relates to the bytes in flight to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Nothing is.
    Open,
    /// Nothing is, and nothing may be.
    Closed,
    /// It has not come yet.
    Owed,
    /// It has not come, and there is no room for it any more: the guest has
    /// dropped it.
    Cut,
}

impl Guard {
    /// A connection whose windows towards the guest are scaled so.
    pub fn new(shift: u8) -> Self {
        Self { shift, taken: None, told: None }
    }

    /// Clears a FIN that smoltcp would believe too early. `tcp` is the segment.
    pub fn check(&self, segment: &Segment, tcp: &mut [u8]) -> bool {
        let end = segment.seq.wrapping_add(u32::try_from(segment.payload).unwrap_or(u32::MAX));
        let beyond = self.taken.is_none_or(|edge| ahead(end, edge) > 0);
        if segment.has(FIN) && beyond {
            if let Some(flags) = tcp.get_mut(FLAGS) {
                *flags &= !FIN;
            }
            return true;
        }
        false
    }

    /// Looks at the guest's window while something before `next` is on its way
    /// to it. One that is closed is opened by one unit.
    pub fn hold_open(segment: &Segment, next: u32, tcp: &mut [u8]) -> Room {
        let owed = segment.has(ACK) && ahead(next, segment.ack) > 0;
        match (segment.window == 0, tcp.get_mut(WINDOW..WINDOW + 2)) {
            (true, Some(field)) if owed => {
                field.copy_from_slice(&1_u16.to_be_bytes());
                Room::Cut
            }
            (true, _) => Room::Closed,
            (false, _) if owed => Room::Owed,
            (false, _) => Room::Open,
        }
    }

    /// Notes the window of a segment to the guest, whose window is unscaled if
    /// it is a SYN, and lowers it if the edge is to stay.
    pub fn note(&mut self, sent: &Segment, tcp: &mut [u8]) {
        let (ack, window) = (sent.ack, sent.window);
        let (syn, acks) = (sent.has(SYN), sent.has(ACK));
        if syn && !acks {
            return;
        }
        if self.shift == 0 || syn {
            let edge = ack.wrapping_add(u32::from(window));
            // smoltcp scales the window of its SYN when it reads it back; its
            // rings are of a size that the result is within them all the same.
            self.taken = Some(ack.wrapping_add(u32::from(window) << self.shift));
            self.told = Some(edge);
            return;
        }
        let units = self.lower(ack, window);
        self.taken = Some(ack.wrapping_add(u32::from(window) << self.shift));
        self.told = Some(ack.wrapping_add(u32::from(units) << self.shift));
        if let Some(field) = tcp.get_mut(WINDOW..WINDOW + 2) {
            field.copy_from_slice(&units.to_be_bytes());
        }
    }

    /// The window to tell, in units of the scale: what is left after the
    /// slack, but never less than what was told, as far as it can be kept.
    fn lower(&self, ack: u32, window: u16) -> u16 {
        let bytes = u32::from(window) << self.shift;
        let target = bytes.saturating_sub(SLACK) >> self.shift;
        let kept = self.told.map_or(0, |told| u32::try_from(ahead(told, ack)).unwrap_or(0));
        let kept = (kept + (1 << self.shift) - 1) >> self.shift;
        u16::try_from(target.max(kept)).map_or(window, |units| units.min(window))
    }
}

#[cfg(test)]
mod tests;
