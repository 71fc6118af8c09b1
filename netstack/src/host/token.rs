/// Names a socket in the host's events: the protocol that owns it, its slot in
/// the protocol's table, and how often that slot was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// The protocol that owns a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Tcp = 1,
    Listener = 2,
    Udp = 3,
    Echo = 4,
}

impl Owner {
    const ALL: [Self; 4] = [Self::Tcp, Self::Listener, Self::Udp, Self::Echo];
}

impl Token {
    /// The serial tells a socket from the former ones of its slot: their events
    /// may still be in the queue. 24 bits of it are kept.
    pub(crate) fn new(owner: Owner, slot: usize, serial: u32) -> Self {
        let low = u64::try_from(slot).unwrap_or(0) & 0xffff_ffff;
        Self((owner as u64) << 56 | u64::from(serial & 0xff_ffff) << 32 | low)
    }

    pub(crate) fn owner(self) -> Option<Owner> {
        Owner::ALL.into_iter().find(|owner| *owner as u64 == self.0 >> 56)
    }

    pub(crate) fn slot(self) -> usize {
        usize::try_from(self.0 & 0xffff_ffff).unwrap_or(usize::MAX)
    }
}
