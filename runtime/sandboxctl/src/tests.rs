//! What the tests of several commands share.

pub mod fake;
