#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod frames;
mod hostile;
mod life;
mod segments;

use super::mock::*;
use super::*;
use crate::mock::{Driver as Rigged, Part};
