//! What stands between a guest and any network. The guest's kernel is not
//! trusted: all that its link carries is checked here, on the host.

#![forbid(unsafe_code)]

mod gate;

pub use gate::{Admitted, Link, Refused, admit};
