//! The processes of one sandbox, which start and end together.

mod boot;
mod holdings;
mod launch;
mod progress;
mod verdict;
mod watched;

pub use boot::BootError;
pub(crate) use boot::{Boot, boot};
pub(crate) use holdings::Holdings;
pub use launch::LaunchError;
pub(crate) use launch::{Launched, launch};
pub(crate) use verdict::{Notes, Rank};
