//! Frames of the guest, what the policy says to them, and the host's sockets.
#![forbid(unsafe_code)]
