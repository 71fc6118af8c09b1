//! Every feature test. `SANDBOX_TEST_RUNTIME=io.containerd.runc.v2` runs those
//! that hold for any runtime against runc: what they ask for is then known to
//! be what users of runc get.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod bootstrap;
mod container;
mod process;
mod stdio;

fn main() -> std::process::ExitCode {
    sandbox_tests::main(&[bootstrap::TESTS, stdio::TESTS, process::TESTS, container::TESTS])
}
