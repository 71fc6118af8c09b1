//! The observer of DNS: which names resolved to which addresses for the pod.
//!
//! Queries to pinned servers and their answers pass here. A query for a name
//! that no rule could ever allow is answered at once; an answer teaches names
//! only if it fits a question that is open, and loses the addresses that the
//! policy denies to its name, before the guest sees it. Nothing here touches a
//! socket: bytes and times go in, bytes and what to do with them come out.
//!
//! Messages are decoded here and not by a library: what is passed on must be
//! the bytes that came, single records are cut out by their places, and a
//! message that can be read in two ways must be refused. The libraries for DNS
//! re-encode, and bring a resolver's dependencies into the process that the
//! guest's frames reach.

mod answer;
mod bindings;
mod message;
mod observer;
mod open;
mod stream;

pub use bindings::{Bindings, MAX_ADDRESSES, MAX_BYTES, MAX_NAMES};
pub use message::{MAX_MESSAGE, MessageError};
pub use observer::{Blocked, Counters, FromGuest, FromServer, Observer};
pub use open::{Channel, MAX_OPEN};
pub use stream::{Passed, Stream};

#[cfg(test)]
mod tests;
