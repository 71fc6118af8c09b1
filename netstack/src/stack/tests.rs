//! The stack as a guest sees it: scripts of segments against a host that does
//! as it is told, by a clock that the script moves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bulk;
mod carrier;
mod datagrams;
mod edges;
mod guest;
mod inbound;
mod limits;
mod listings;
mod names;
mod opening;
mod serving;
mod states;
mod streams;
mod waiting;
mod windows;

use guest::*;
